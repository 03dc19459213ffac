"""`kinoform plan`: shapes, parameters, operations and memory of a video, before anything loads."""

from __future__ import annotations

import os
from functools import cache
from typing import Annotated

import torch
import typer

from kinoform.cli import console
from kinoform.cli.inputs import (
    ExactSize,
    Image,
    InputFiles,
    KnownFrame,
    LastImage,
    MaskFile,
    References,
    SourcePrompt,
    SourceVideo,
    Strength,
)
from kinoform.cli.options import (
    MODELS,
    GuidanceRule,
    SamplerName,
    SolverName,
    frames_of,
    guidance_named,
    recipe_named,
    sampler_named,
    size_of,
    solver_named,
)
from kinoform.cli.plan_report import comparison, crossing, report
from kinoform.conditions.protocols import most_of, rate_of
from kinoform.errors import UsageError, nearest
from kinoform.pipelines.fit import work_of
from kinoform.pipelines.request import request
from kinoform.plan.crossover import crossovers
from kinoform.plan.video_plan import VideoPlan, plan_video
from kinoform.plan.work import Sizes, Work
from kinoform.recipe import Recipe, find
from kinoform.recipes.load import ADAPTERS, DEVICES, DTYPES, EMBEDDED, RELEASED, choose_machine, load

FACTORIZED = ("factorized", "factorised")
"""What `--compare` takes besides models and sizes; a folder of that name comes first."""


def plan(
    model: Annotated[str, typer.Option(help=f"{', '.join(MODELS)}, or weights.")] = "mini",
    recipe: Annotated[str | None, typer.Option(help="module:function that returns a Recipe.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Number of frames, 1 + 4n for Wan.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length, to the nearest legal --frames.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 is none.")] = None,
    guidance_rule: GuidanceRule = None,
    solver: SolverName = None,
    sampler: SamplerName = None,
    image: Image = None,
    last_image: LastImage = None,
    frame: KnownFrame = None,
    video: SourceVideo = None,
    mask: MaskFile = None,
    reference: References = None,
    strength: Strength = None,
    source_prompt: SourcePrompt = None,
    exact_size: ExactSize = False,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps; it need not be there.")] = "auto",
    compare: Annotated[
        str | None, typer.Option(help="A model or a size to set beside it, or factorized: both kinds of attention.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Say what a video would take: tensor shapes, parameters, operations, memory. No weight is read."""
    kind, number = machine_of(device, dtype)
    files = InputFiles(
        image=image, last_image=last_image, frames=frame or (), video=video, mask=mask, references=reference or (),
        strength=strength, source_prompt=source_prompt, exact_size=exact_size,
    )  # fmt: skip
    rules = {
        "guidance_rule": guidance_named(guidance_rule),
        "solver": solver_named(solver),
        "sampler": sampler_named(sampler),
    }
    read = cache(files.read)  # once for both sides, unless their rates differ

    def asked_for(name: str, wanted: str | None) -> tuple[Sizes, Work, float]:
        made, kept = recipe_of(name, recipe if name == model else None)
        width, height = size_of(wanted)
        count = frames_of(frames, seconds, made.fps, made.codec.stride[0], made.transformer.patch[0])
        changes = {
            "width": width,
            "height": height,
            "num_frames": count,
            "steps": steps,
            "guidance_scale": guidance_scale,
        }
        most = most_of(made.conditioners, made.num_frames if count is None else count)
        inputs = read(rate_of(made.conditioners, made.fps), most)
        asked = request(made, "any video", 0, inputs=inputs, **changes, **rules)
        sizes = Sizes(
            transformer=made.transformer if made.additions is None else made.additions.to(made.transformer),
            codec=made.codec,
            text=made.text,
            image=made.image,
            kept=kept,
        )
        if inputs.given():  # otherwise the usual case is planned, also of models that cannot do without
            asked = asked.sized(sizes.codec, sizes.transformer)
        return sizes, work_of(asked), made.fps

    def planned(name: str, wanted: str | None) -> VideoPlan:
        sizes, work, _ = asked_for(name, wanted)
        return plan_video(sizes, work, dtype=number, device=kind)

    if compare in FACTORIZED and not os.path.exists(compare):
        sizes, work, fps = asked_for(model, size)
        found = crossovers(sizes, work, fps=fps, dtype=number, device=kind)
        head = {"model": model, "dtype": str(number).removeprefix("torch."), "device": kind}
        console.result(crossing(head, found), {**head, **found.as_json()}, as_json=as_json)
        return
    first = planned(model, size)
    if compare is None:
        told = {"model": model, **first.as_json()}
        console.result(report(model, first), told, as_json=as_json)
        return
    sized = compare[:1].isdigit() and not os.path.exists(compare)
    second = planned(model, compare) if sized else planned(compare, size)
    other = model if sized else compare
    told = {"first": {"model": model, **first.as_json()}, "second": {"model": other, **second.as_json()}}
    console.result(comparison((model, first), (compare, second)), told, as_json=as_json)


def machine_of(device: str, dtype: str) -> tuple[str, torch.dtype]:
    """The type of a device, which this machine may lack, and the dtype of the networks there."""
    if device not in DEVICES:
        raise UsageError(f"no device {device!r}; {nearest(device, DEVICES)}", code="unknown_device")
    chosen = choose_machine("auto" if device == "auto" else "cpu", dtype)
    if device == "auto":
        return chosen.device.type, chosen.dtype
    wide = torch.float32 if device == "cpu" else torch.bfloat16
    return device, wide if dtype == "auto" else DTYPES[dtype]


def recipe_of(model: str, address: str | None) -> tuple[Recipe, bool]:
    """The recipe of a model's name, at an address, or of weights, whose headers are read; whether parts are kept."""
    if os.path.exists(model):
        return load(model, recipe=recipe_named(address), device="cpu").recipe, os.path.isfile(f"{model}/manifest.json")
    if address is not None:
        return find(recipe_named(address) or address), False
    if model in EMBEDDED or model in ADAPTERS:
        return find((EMBEDDED | ADAPTERS)[model]), True
    if model in RELEASED:
        return RELEASED[model](), False
    raise UsageError(
        f"no model, folder or file {model!r}; {nearest(model, [*EMBEDDED, *ADAPTERS, *RELEASED])}, or weights",
        code="unknown_model",
    )
