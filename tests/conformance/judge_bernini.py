"""The files of Bernini-R, whose conditions are tokens of the same sequence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kinoform.conditions.in_context_sizes import in_size, own_size, picked_frames
from kinoform.conditions.protocols import ConditionerOutput
from kinoform.models.dit import DiT
from kinoform.models.segments import SegmentRotation, sequence_phases
from kinoform.ops.patch import grid_of
from kinoform.ops.rope import turn
from kinoform.pipelines.experts import Experts
from kinoform.pipelines.generate import denoise, silent
from kinoform.pipelines.request import request
from kinoform.recipe import Recipe
from kinoform.solvers.field import Stateful, StatefulField
from kinoform.solvers.guidance.bernini import R2V_APG, RV2V, T2V, T2V_APG, V2V, V2V_APG, V2V_CHAIN
from kinoform.solvers.guidance.projected import ProjectedChain
from kinoform.solvers.guidance.rule import CarriesState, Guidance, Scales
from kinoform.solvers.predictions import Predict, Prediction
from kinoform.types import Conditions, InContextSegment, Latents, Level
from tests.conformance.golden import Golden
from tests.conformance.judge_dit import model_of
from tests.conformance.judge_experts import EXPERTS, Noted, NotingSampler, weights_of

MODES: dict[str, Guidance] = {
    "rv2v": RV2V, "v2v": V2V, "v2v_chain": V2V_CHAIN, "t2v": T2V,
    "v2v_apg": V2V_APG, "t2v_apg": T2V_APG, "r2v_apg": R2V_APG,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedRule:
    """A rule that notes what it makes of its predictions."""

    rule: Guidance
    noted: Noted

    @property
    def carries_state(self) -> bool:
        return isinstance(self.rule, CarriesState) and self.rule.carries_state

    def check(self, steps: int) -> None:
        self.rule.check(steps)

    def predictions(self, scales: Scales, levels: tuple[Level, ...]) -> frozenset[Prediction]:
        return self.rule.predictions(scales, levels)

    def guide(self, predict: Predict, scales: Scales, levels: tuple[Level, ...]) -> StatefulField:
        made = self.rule.guide(predict, scales, levels)

        def evaluate(x: Latents, level: Level, state: Any) -> tuple[Tensor, Any]:
            velocity, state = made.evaluate(x, level, state)
            high, timestep = torch.tensor(int(self.noted.expert == 0)), torch.tensor(int(level.timestep))
            self.noted.note(v=velocity[0], expert=high, timesteps=timestep)
            return velocity, state

        return Stateful(evaluate)


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


@torch.inference_mode()
def judge_sampling(golden: Golden) -> dict[str, Tensor | list[Tensor]]:
    """Every mode as a request: two experts, each with its weights of the conditions, by the functions of generation."""
    models = [reading_segments(model_of(replace(golden, weights=weights_of(golden, name)))) for name in EXPERTS]
    inputs, rows = golden.inputs, (golden.inputs["context"][None], golden.inputs["context_null"][None])
    found: dict[str, Tensor | list[Tensor]] = {}
    for mode, (name, source, pictures, eta, threshold, momentum) in golden.config["modes"].items():
        noted = Noted()
        rule = NotedRule(rule=_rule(name, eta, threshold, momentum), noted=noted)
        asked = request(
            _recipe(golden, models), "a cat", seed=0, sampler=NotingSampler(noted=noted), guidance_rule=rule
        )
        experts = Experts([noted.loading(i, model) for i, model in enumerate(models)], torch.device("cpu"))
        given = ConditionerOutput(segments=segments_of(golden, source, pictures))
        denoise(experts, asked, rows, lambda: inputs["noise"][None], silent, given)
        found |= {f"out.{mode}.{key}": torch.stack(values) for key, values in noted.tensors.items()}
        found["out.sigmas"] = torch.tensor([level.sigma for level in asked.levels])
    return found


def _rule(mode: str, eta: float, threshold: float, momentum: float) -> Guidance:
    """The rule of a mode; only those that project have numbers of their own."""
    rule = MODES[mode]
    numbers = {"eta": eta, "threshold": threshold, "momentum": momentum}
    return replace(rule, **numbers) if isinstance(rule, ProjectedChain) else rule


def _recipe(golden: Golden, models: list[DiT]) -> Recipe:
    """A recipe of the file's numbers, whose weights of the conditions are smaller for low noise."""
    c = golden.config
    frames, height, width = c["target"]
    video, images, text = c["omega_vid_img_txt"]
    high = {"text": text, "images": images, "video": video}
    low = {name: value * c["omega_scale"] for name, value in high.items()}
    return Recipe(
        name=golden.name, transformers=tuple(model.spec for model in models), boundaries=(c["boundary"],),
        width=8 * width, height=8 * height, num_frames=1 + 4 * (frames - 1), steps=c["steps"],
        shift=float(c["shift"]), guidance_scale={"high": high, "low": low},
    )  # fmt: skip


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


JUDGES = {"bernini_forward": judge_forward, "bernini_inputs": judge_inputs, "bernini_sampling": judge_sampling}
