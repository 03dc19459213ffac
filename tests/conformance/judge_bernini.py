"""The files of Bernini-R, whose conditions are tokens of the same sequence."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kinoform.conditions.in_context_sizes import in_size, own_size, picked_frames
from kinoform.models.dit import DiT
from kinoform.models.segments import SegmentRotation, sequence_phases
from kinoform.ops.patch import grid_of
from kinoform.ops.rope import turn
from kinoform.types import Conditions, InContextSegment
from tests.conformance.golden import Golden
from tests.conformance.judge_dit import model_of


def reading_segments(model: DiT) -> DiT:
    """The model of a file, which its config does not tell from one of text alone."""
    model.spec = replace(model.spec, segments=SegmentRotation())
    return model


def segments_of(golden: Golden, source: bool, pictures: int) -> tuple[InContextSegment, ...]:
    """The source and so many pictures of the file, in the order of their numbers."""
    shown = [InContextSegment(latents=golden.inputs[f"picture{n}"][None], group="images") for n in range(pictures)]
    film = [InContextSegment(latents=golden.inputs["source"][None], group="video")] if source else []
    return (*film, *shown)


@torch.inference_mode()
def judge_forward(golden: Golden) -> dict[str, Tensor | list[Tensor]]:
    model, x = reading_segments(model_of(golden)), golden.inputs["target"][None]
    text, grid = golden.inputs["context"][None], grid_of(x, model.spec.patch)
    found: dict[str, Tensor | list[Tensor]] = {}
    for case, (source, pictures, timestep) in golden.config["cases"].items():
        segments = segments_of(golden, source, pictures)
        prepared = model.prepare(Conditions(context={"text": text}, segments=segments), grid)
        times = torch.tensor([float(timestep)])
        found[f"out.{case}"] = model(x, times, prepared)[0]
        if f"mid.rope.{case}" in golden.outputs:
            angles = _target_last(sequence_phases(model.spec, segments, grid), grid.tokens)
            found[f"mid.rope.{case}"] = _modulo(angles, golden.outputs[f"mid.rope.{case}"])
            everything = [x, *(segment.latents for segment in segments)]
            found[f"mid.tokens.{case}"] = _target_last(_embedded(model, everything), grid.tokens)
    for width in golden.config["rotation_dims"]:
        for place, number in enumerate(golden.config["rotation_ids"]):
            name = f"out.rotation{width}.{place}"
            found[name] = _modulo(turn(float(number), width), golden.outputs[name])
    return found


def _embedded(model: DiT, latents: Sequence[Tensor]) -> Tensor:
    return torch.cat([model.patch_embedding(each)[0] for each in latents])


def _target_last(rows: Tensor, tokens: int) -> Tensor:
    """Rows of tokens in the order of the official code, which has those of the video last."""
    return torch.cat([rows[tokens:], rows[:tokens]])


def _modulo(angles: Tensor, near: Tensor) -> Tensor:
    """The angles as near to others as whole turns bring them."""
    return angles + 2 * math.pi * ((near.double() - angles) / (2 * math.pi)).round()


def judge_inputs(golden: Golden) -> dict[str, Tensor | list[Tensor]]:
    """Sizes, frames and pixels of conditions; the file writes sizes as width, height."""
    found: dict[str, Tensor | list[Tensor]] = {}
    for longest, shortest in golden.config["limits"]:
        sizes = [own_size((h, w), longest, shortest)[::-1] for w, h in golden.inputs["sizes.wh"].tolist()]
        found[f"out.sizes.{longest}_{shortest}"] = torch.tensor(sizes)
    for number, (there, fps, wanted, most) in enumerate(golden.config["films"]):
        found[f"out.frames.{number}"] = torch.tensor(picked_frames(there, float(fps), wanted=float(wanted), most=most))
    for number, (width, height, longest, shortest) in enumerate(golden.config["pictures"]):
        picture = golden.inputs[f"picture{number}"].numpy()
        found[f"out.pixels{number}"] = in_size([picture], own_size((height, width), longest, shortest))[0]
    return found


JUDGES = {"bernini_forward": judge_forward, "bernini_inputs": judge_inputs}
