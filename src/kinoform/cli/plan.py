"""`kinoform plan`: shapes, parameters, operations and memory of a film, before anything loads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
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
    SourceFilm,
    SourcePrompt,
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
from kinoform.errors import UsageError, nearest
from kinoform.pipelines.fit import memory_of, work_of
from kinoform.pipelines.request import request
from kinoform.plan.film import FilmPlan, plan_film
from kinoform.plan.work import Sizes
from kinoform.recipe import Recipe, find
from kinoform.recipes.load import DEVICES, DTYPES, EMBEDDED, RELEASED, choose_machine, load

PARTS = ("text encoder", "image encoder", "transformer", "codec")
STAGES = ("text", "encode", "denoise", "decode")


def plan(
    model: Annotated[str, typer.Option(help=f"{', '.join(MODELS)}, or weights.")] = "mini",
    recipe: Annotated[str | None, typer.Option(help="module:function that returns a Recipe.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="Number of frames, 1 + 4n for Wan.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length, to the nearest legal --frames.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 is none.")] = None,
    guidance_rule: GuidanceRule = None,
    solver: SolverName = None,
    sampler: SamplerName = None,
    image: Image = None,
    last_image: LastImage = None,
    frame: KnownFrame = None,
    film: SourceFilm = None,
    mask: MaskFile = None,
    reference: References = None,
    strength: Strength = None,
    source_prompt: SourcePrompt = None,
    exact_size: ExactSize = False,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps; it need not be there.")] = "auto",
    compare: Annotated[str | None, typer.Option(help="A model or a size to set beside it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Say what a film would take: tensor shapes, parameters, operations, memory. No weight is read."""
    kind, number = machine_of(device, dtype)
    files = InputFiles(
        image=image, last_image=last_image, frames=frame or (), film=film, mask=mask, references=reference or (),
        strength=strength, source_prompt=source_prompt, exact_size=exact_size,
    )  # fmt: skip
    rules = {
        "guidance_rule": guidance_named(guidance_rule),
        "solver": solver_named(solver),
        "sampler": sampler_named(sampler),
    }

    def planned(name: str, wanted: str | None) -> FilmPlan:
        made, kept = recipe_of(name, recipe if name == model else None)
        width, height = size_of(wanted)
        count = frames_of(frames, seconds, made.fps, made.codec.stride[0])
        changes = {"width": width, "height": height, "num_frames": count, "steps": steps, "guidance": guidance}
        inputs = files.read(made.fps)
        asked = request(made, "any film", 0, inputs=inputs, **changes, **rules)
        sizes = Sizes(
            transformer=made.transformer if made.additions is None else made.additions.to(made.transformer),
            codec=made.codec,
            text=made.text,
            image=made.image,
            kept=kept,
        )
        if inputs.given():  # otherwise the usual case is planned, also of models that cannot do without
            asked = asked.sized(sizes.codec, sizes.transformer)
        return plan_film(sizes, work_of(asked), dtype=number, device=kind)

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
        raise UsageError(f"no device {device!r}; {nearest(device, DEVICES)}")
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
    if model in EMBEDDED:
        return find(EMBEDDED[model]), True
    if model in RELEASED:
        return RELEASED[model](), False
    raise UsageError(f"no model, folder or file {model!r}; {nearest(model, [*EMBEDDED, *RELEASED])}, or weights")


def report(name: str, plan: FilmPlan) -> str:
    """The whole plan as lines of text."""
    work, forward = plan.work, plan.transformer
    dtypes = (torch.float32, torch.bfloat16, plan.dtype)
    lines = [
        f"{name}: {work.num_frames} frames of {work.width}x{work.height}, {work.steps} steps, "
        f"guidance {work.guidance:g}, {_dtype(plan.dtype)} on {plan.device}",
        "",
        *_table(["tensor", "shape", "dtype"], [(t.name, "x".join(map(str, t.shape)), t.dtype) for t in plan.tensors]),
        "",
        *_table(
            ["part", "parameters", "float32 GB", "bfloat16 GB", f"here, {_dtype(plan.dtype)} GB"],
            [
                (part, _whole(count.parameters), *(_giga(count.bytes(each)) for each in dtypes))
                for part, count in plan.parameters.items()
            ],
        ),
        "",
        f"transformer, one branch of one step: {_tera(forward.forward)} TFLOP for {plan.tokens:,} tokens",
        *_table(
            ["  of it", "TFLOP", "share"],
            [(f"  {label}", _tera(value), f"{value / forward.forward:.1%}") for label, value in _forward(plan)],
        ),
        "",
        *_table(
            ["stage", "official TFLOP", "here TFLOP"],
            [(stage, _tera(flops.official), _tera(flops.executed)) for stage, flops in plan.flops.items()],
        ),
        "",
        *_table(
            ["memory, GB", "weights", "work", "process", "peak"],
            [
                (peak.stage, _giga(peak.weights), _giga(peak.activations), _giga(peak.fixed), _giga(peak.total))
                for peak in plan.peaks
            ],
        ),
        "",
        *(f"not counted: {what}" for what in plan.uncounted),
        _verdict(plan),
    ]
    return "\n".join(lines)


def comparison(first: tuple[str, FilmPlan], second: tuple[str, FilmPlan]) -> str:
    """Two plans side by side, with the ratio of the second to the first."""
    (left, one), (right, other) = first, second
    rows: list[tuple[str, Callable[[FilmPlan], int], Callable[[int], str]]] = [
        ("frames", lambda plan: plan.work.num_frames, _whole),
        ("width", lambda plan: plan.work.width, _whole),
        ("height", lambda plan: plan.work.height, _whole),
        ("tokens", lambda plan: plan.tokens, _whole),
        *((f"{part}, parameters", lambda plan, part=part: _parameters(plan, part), _whole) for part in PARTS),
        ("one forward, TFLOP", lambda plan: plan.transformer.forward, _tera),
        *((f"{stage} here, TFLOP", lambda plan, stage=stage: _executed(plan, stage), _tera) for stage in STAGES),
        *((f"{stage} peak, GB", lambda plan, stage=stage: _peak(plan, stage), _giga) for stage in STAGES),
    ]
    cells = []
    for label, value, shown in rows:
        a, b = value(one), value(other)
        if a or b:
            cells.append((label, shown(a), shown(b), f"{b / a:.2f}" if a else ""))
    return "\n".join(_table(["", left, right, "ratio"], cells))


def _parameters(plan: FilmPlan, part: str) -> int:
    return plan.parameters[part].parameters if part in plan.parameters else 0


def _executed(plan: FilmPlan, stage: str) -> int:
    return plan.flops[stage].executed if stage in plan.flops else 0


def _peak(plan: FilmPlan, stage: str) -> int:
    return next((peak.total for peak in plan.peaks if peak.stage == stage), 0)


def _forward(plan: FilmPlan) -> list[tuple[str, int]]:
    forward = plan.transformer
    block, outside = forward.block, forward.outside
    return [
        ("self-attention", forward.layers * block.self_attention),
        ("self q, k, v, o", forward.layers * block.self_projections),
        ("feed-forward", forward.layers * block.feed_forward),
        ("cross q, o", forward.layers * block.cross_projections),
        ("cross-attention", forward.layers * block.cross_attention),
        ("cross k, v", forward.layers * block.cross_keys),
        *((f"branch {name}", branch.total) for name, branch in forward.branches.items()),
        ("outside the blocks", outside.total),
    ]


def _verdict(plan: FilmPlan) -> str:
    worst = plan.worst
    told = f"the most memory: {_giga(worst.total)} GB in stage {worst.stage}"
    if plan.device == "cuda" and not torch.cuda.is_available():
        return told
    there = memory_of(torch.device(plan.device))
    return told if there is None else f"{told}; this machine's {plan.device} has {_giga(there)} GB"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns apart by two spaces; the first to the left, the others to the right."""
    every = [heading, *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(heading))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in every]


def _tera(flops: int) -> str:
    return f"{flops / 1e12:,.1f}" if flops >= 1e14 else f"{flops / 1e12:.4g}"


def _giga(size: int) -> str:
    return f"{size / 1e9:,.2f}"


def _whole(number: int) -> str:
    return f"{number:,.0f}"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
