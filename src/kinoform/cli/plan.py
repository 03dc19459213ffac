"""`kinoform plan`, and the plans that other commands tell: shapes, parameters, operations, memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import torch
import typer

from kinoform.cli import console
from kinoform.cli.model_files import model_of
from kinoform.cli.option_groups import GenerateOptions, MachineOptions, ModelOptions
from kinoform.cli.options import VIDEO, command, option, varied
from kinoform.cli.values import checked_count, lora_of, prompts_of, recipe_named
from kinoform.cli.window_options import windows_in_words
from kinoform.errors import UsageError, nearest
from kinoform.families import released_for
from kinoform.loading.additions import Additions
from kinoform.loading.lora import open_loras
from kinoform.models.lora import LoRARanks
from kinoform.pipelines.fit import memory_of, sizes_of, workload_of
from kinoform.pipelines.machine import DEVICES, DTYPES, choose_machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request, request
from kinoform.plan.crossover import BLOCKS, Crossover, Crossovers, Length, crossovers
from kinoform.plan.video_plan import VideoPlan, plan_video
from kinoform.plan.workload import Sizes, Workload, adapted_specs
from kinoform.recipe import Recipe, find
from kinoform.recipes.catalogue import ADAPTERS, EMBEDDED, RELEASED, UNSHIPPED, takers
from kinoform.recipes.few_step import FewStep, recipe_at
from kinoform.solvers.by_expert import expert_names

if TYPE_CHECKING:
    from kinoform.cli.output import SaveOptions

LoRAs: TypeAlias = tuple[tuple[LoRARanks, ...], ...]
"""LoRAs of each transformer."""

FACTORIZED = ("factorized", "factorised")
"""Words that `--compare` takes besides models and sizes; a folder of that name comes first."""

PARTS = ("text encoder", "image encoder", "transformer", "codec")
STAGES = ("text", "encode", "denoise", "decode")
LABELS = {
    "self_projections": "self q, k, v, o",
    "self_attention": "self-attention",
    "time_projections": "time q, k, v, o",
    "time_attention": "attention in time",
    "cross_projections": "cross q, o",
    "cross_attention": "cross-attention",
    "cross_keys": "cross k, v",
    "feed_forward": "feed-forward",
}
"""Names that people read for the parts of a block; another block's parts are read by their names."""


@command
def plan(
    prompt: Annotated[str | None, typer.Argument(help="As for generate; no plan depends on it.")] = None,
    *,
    options: Annotated[
        GenerateOptions,
        varied(help={"device": "auto, cpu, cuda or mps; it need not be there.", "as_json": "As one JSON object."}),
    ],
    compare: Annotated[
        str | None, option(VIDEO, "A model or a size to set beside it, or factorized: both kinds of attention.")
    ] = None,
) -> None:
    """Say what a video would take: tensor shapes, parameters, operations, memory. No weight is read.

    For example: kinoform plan --model t2v-14b --size 832x480 --seconds 5 --device cuda

    Takes all words of `kinoform generate`; those about the file to come change nothing here.
    """
    options = options.at_speed()
    model, video, inputs, as_json = options.model, options.video, options.inputs, options.output.as_json
    console.keep_private(prompt, video.negative, *inputs.private())
    texts = ["any video"] if prompt is None and video.prompts is None else prompts_of(prompt, video.prompts)
    console.keep_private(*texts)
    others = len(texts) * checked_count(video.count) > 1
    kind, number = machine_of(options.machine)
    read = cache(inputs.read)  # once for both sides, unless their rates differ

    def workload_for(named: ModelOptions, size: str | None) -> tuple[Sizes, Workload, float]:
        recipe, loras, kept = recipe_of(named)
        changes = replace(video, size=size).request_changes(
            recipe, recipe.codec, recipe.transformers[0].patch, read, fit_mask=inputs.fit_mask
        )
        changes |= options.windows.asked(recipe, video.seconds, changes["inputs"])
        planned_request = request(recipe, texts[0], video.seed or 0, **changes)
        add = (recipe.additions or Additions()).to
        sizes = Sizes(
            transformers=adapted_specs([*map(add, recipe.transformers)], loras),
            codec=recipe.codec,
            text=recipe.text,
            image=recipe.image,
            kept=kept,
            token_times=_token_times(recipe),
        )
        if planned_request.inputs:  # otherwise the usual case is planned, also of models that cannot do without
            planned_request = planned_request.sized(sizes.codec, sizes.transformer.patch, takers)
        work = workload_of(planned_request, planned_request.in_windows(sizes.codec))
        return sizes, replace(work, others=others), planned_request.fps

    def planned(named: ModelOptions, size: str | None) -> VideoPlan:
        sizes, workload, _ = workload_for(named, size)
        return plan_video(sizes, workload, dtype=number, device=kind)

    name = str(model.model)
    if compare in FACTORIZED and not os.path.exists(compare):
        sizes, workload, fps = workload_for(model, video.size)
        crossings = crossovers(sizes, workload, fps=fps, dtype=number, device=kind)
        head = {"model": name, "dtype": str(number).removeprefix("torch."), "device": kind}
        console.result(crossing(head, crossings), {**head, **crossings.as_json()}, as_json=as_json)
        return
    first = planned(model, video.size)
    if compare is None:
        console.result(report(name, first), {"model": name, **first.as_json()}, as_json=as_json)
        return
    sized = compare[:1].isdigit() and not os.path.exists(compare)
    beside = model if sized else ModelOptions(model=compare, recipe=model.recipe if compare == name else None)
    second = planned(beside, compare if sized else video.size)
    data = {"first": {"model": name, **first.as_json()}, "second": {"model": beside.model, **second.as_json()}}
    console.result(comparison((name, first), (compare, second)), data, as_json=as_json)


def rehearse(
    model: str,
    pipeline: Pipeline,
    requests: list[Request],
    names: list[str],
    saving: SaveOptions,
    *,
    passes: int = 1,
    beside: int = 0,
) -> None:
    """Print which videos would be made, and the plan of the first, which is that of all.

    For an edit this is the first of `passes`; its video takes `beside` bytes of memory more.
    """
    sizes, machine = sizes_of(pipeline.parts, kept=model in {*EMBEDDED, *ADAPTERS}), pipeline.machine
    sizes = replace(sizes, token_times=_token_times(pipeline.recipe))
    workload = workload_of(requests[0], requests[0].in_windows(sizes.codec))
    workload = replace(workload, others=len(requests) > 1)
    plan = plan_video(sizes, workload, dtype=machine.dtype, device=machine.device.type)
    whole = passes * sum(flops.executed for flops in plan.flops.values())
    edit = [
        f"this is the first of {passes} passes, all of one size at most: about {whole / 1e12:.3g} TFLOP in all",
        f"beside it the video itself takes {beside / 1e9:.2f} GB of the machine's memory",
    ]
    lines = [report(model, plan), "", *(edit if beside else []), *(f"would write {name}" for name in names)]
    data = {"outputs": names, "plan": plan.as_json()} | ({"passes": passes, "beside": beside} if beside else {})
    console.result("\n".join(lines), data, as_json=saving.as_json)


def machine_of(machine: MachineOptions) -> tuple[str, torch.dtype]:
    """Return the type of a device, which this machine may lack, and the dtype of the networks there."""
    device, dtype = machine.device or "auto", machine.dtype or "auto"
    if device not in DEVICES:
        raise UsageError(f"no device {device!r}; {nearest(device, DEVICES)}", code="unknown_device")
    chosen = choose_machine("auto" if device == "auto" else "cpu", dtype)
    if device == "auto":
        return chosen.device.type, chosen.dtype
    wide = torch.float32 if device == "cpu" else torch.bfloat16
    return device, wide if dtype == "auto" else DTYPES[dtype]


def recipe_of(model: ModelOptions) -> tuple[Recipe, LoRAs, bool]:
    """Return a model's recipe, its LoRAs, and whether parts are kept.

    The recipe is that of a name, at an address, or of weights, whose headers are read.

    Weights of a name need not be present, unless other parts, a variant or a VACE module are given, which are compared
    with them.
    """
    name = str(model.model)
    compared = any((model.text_encoder, model.vae, model.tokenizer, model.image_encoder, model.variant, model.vace))
    if os.path.exists(name) or compared or isinstance(model_of(name), dict):
        pipeline = model.load(MachineOptions(device="cpu"))
        return pipeline.recipe, pipeline.parts.loras, os.path.isfile(f"{name}/manifest.json")
    named = None if model.recipe is None else recipe_at(recipe_named(model.recipe) or model.recipe)
    if isinstance(named, Recipe):
        recipe, kept = named, False
    elif (address := (EMBEDDED | ADAPTERS | UNSHIPPED).get(name)) is not None:
        recipe, kept = find(address), True
    elif name in RELEASED:
        recipe, kept = RELEASED[name](), False
    else:
        raise UsageError(
            f"no model, folder or file {name!r}; {nearest(name, [*EMBEDDED, *ADAPTERS, *RELEASED])}, or weights",
            code="unknown_model",
        )
    recipe = named.applied(recipe) if isinstance(named, FewStep) else recipe
    return recipe, _loras_of(model, recipe), kept


def _token_times(recipe: Recipe) -> bool:
    released = released_for(recipe.name)
    return released is not None and released.token_times


def _loras_of(model: ModelOptions, recipe: Recipe) -> LoRAs:
    """Report each LoRA file, and return all ranks. Raises WeightsError, as `load` does, where one does not fit."""
    files = [(Path(os.path.expanduser(path)), strength) for path, strength in map(lora_of, model.lora or ())]
    return open_loras(recipe.transformers, files, console.note, ignore_unknown=model.lora_ignore_unknown).ranks


def report(name: str, plan: VideoPlan) -> str:
    """Return the whole plan as lines of text."""
    workload, forward = plan.workload, plan.transformer
    dtypes = (torch.float32, torch.bfloat16, plan.dtype)
    whole = max(1, sum(flops.executed for flops in plan.flops.values()))
    lines = [
        f"{name}: {workload.all_frames} frames of {workload.width}x{workload.height}, {workload.steps} steps, "
        f"guidance {workload.scales.written()}, {_dtype(plan.dtype)} on {plan.device}",
        *windows_in_words(plan),
        "",
        *_table(["tensor", "shape", "dtype"], [(t.name, "x".join(map(str, t.shape)), t.dtype) for t in plan.tensors]),
        "",
        *_table(
            ["part", "parameters", "float32 GB", "bfloat16 GB", f"here, {_dtype(plan.dtype)} GB"],
            [
                (part, _whole(count.parameters), *(_giga(count.bytes(dtype)) for dtype in dtypes))
                for part, count in plan.parameters.items()
            ],
        ),
        "",
        f"transformer, one branch of one step: {_tera(forward.forward)} TFLOP for {plan.tokens:,} tokens",
        *_table(
            ["  of it", "TFLOP", "share"],
            [(f"  {label}", _tera(value), f"{value / forward.forward:.1%}") for label, value in _forward(plan)],
        ),
        *_turns(plan),
        *_times(plan),
        "",
        *_table(
            ["stage", "official TFLOP", "here TFLOP", "share"],
            [
                (stage, _tera(flops.official), _tera(flops.executed), f"{flops.executed / whole:.1%}")
                for stage, flops in plan.flops.items()
            ],
        ),
        "",
        *_table(
            ["memory, GB", "weights", "work", "kernels", "process", "peak"],
            [
                (
                    peak.stage,
                    *map(_giga, (peak.weights, peak.activations, peak.kernels, peak.fixed, peak.total)),
                )
                for peak in plan.peaks
            ],
        ),
        "",
        *(f"not counted: {part}" for part in plan.uncounted),
        _verdict(plan),
    ]
    return "\n".join(lines)


def comparison(first: tuple[str, VideoPlan], second: tuple[str, VideoPlan]) -> str:
    """Return two plans side by side, with the ratio of the second to the first."""
    (left, one), (right, other) = first, second
    rows: list[tuple[str, Callable[[VideoPlan], int], Callable[[int], str]]] = [
        ("frames", lambda plan: plan.workload.all_frames, _whole),
        ("width", lambda plan: plan.workload.width, _whole),
        ("height", lambda plan: plan.workload.height, _whole),
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


def crossing(head: Mapping[str, str], crossings: Crossovers) -> str:
    """Return a table for each size: lengths down, full and factorized attention across."""
    full, factorized = (_whole(crossings.parameters[name]) for name in ("full", "factorized"))
    lines = [
        f"{head['model']}: one branch of one step by kind of attention, {head['dtype']} on {head['device']}",
        f"parameters of the transformer: full and alternating {full}, factorized {factorized}",
    ]
    columns = ["TFLOP: full", "factorized", "ratio", "alternating", "GB: full", "factorized"]
    for size in crossings.sizes:
        lines += ["", f"{size.name}, {size.width}x{size.height}: {_turn(size, crossings.fps)}"]
        lines += _table(["seconds", "frames", "tokens", *columns], [_row(length) for length in size.lengths])
    return "\n".join(lines)


def _turn(size: Crossover, fps: float) -> str:
    if size.cheaper_from is None:
        return "factorized is dearer at every length"
    return f"factorized is cheaper from {_whole(size.cheaper_from)} frames ({size.cheaper_from / fps:.1f} s)"


def _row(length: Length) -> list[str]:
    full, factorized, alternating = (length.forwards[name] for name in BLOCKS)
    return [
        f"{length.seconds:.1f}",
        _whole(length.num_frames),
        _whole(length.tokens),
        *(_tera(full.flops), _tera(factorized.flops), f"{factorized.flops / full.flops:.3f}", _tera(alternating.flops)),
        *(_giga(full.peak), _giga(factorized.peak)),
    ]


def _parameters(plan: VideoPlan, part: str) -> int:
    return plan.parameters[part].parameters if part in plan.parameters else 0


def _executed(plan: VideoPlan, stage: str) -> int:
    return plan.flops[stage].executed if stage in plan.flops else 0


def _peak(plan: VideoPlan, stage: str) -> int:
    return next((peak.total for peak in plan.peaks if peak.stage == stage), 0)


def _turns(plan: VideoPlan) -> list[str]:
    """Say how often each of several transformers is evaluated, and which of them are in memory."""
    scales, names = plan.workload.scales, expert_names(len(plan.asked))
    if len(names) == 1:
        return []
    turns = [
        f"expert {names[index]}: {evaluations.together.nfe} evaluations, guidance "
        f"{scales.written_of(index)}, {_tera(run.executed(evaluations))} TFLOP here"
        for index, (run, evaluations) in enumerate(zip(plan.denoising, plan.asked, strict=True))
    ]
    together = plan.parameters["transformer"].bytes(plan.dtype)
    held = next(peak.weights for peak in plan.peaks if peak.stage == "denoise")
    if held < together and all(evaluations.together.nfe for evaluations in plan.asked):
        turns.append(
            f"one expert at a time is in memory, {_giga(held)} of {_giga(together)} GB; "
            "the next is read when its steps begin"
        )
    return turns


def _times(plan: VideoPlan) -> list[str]:
    """Say what is saved by computing the time of tokens once for each noise level among them."""
    if not plan.token_times:
        return []
    saved, number = plan.token_times, sum(2 * asked.together.nfe for asked in plan.asked)
    return [
        f"times of tokens: once for each noise level, which saves {_tera(saved)} TFLOP a forward, "
        f"{_tera(saved * number)} in all"
    ]


def _forward(plan: VideoPlan) -> list[tuple[str, int]]:
    """List the parts of all layers together, the largest first, branches and the rest behind them."""
    forward = plan.transformer
    parts = sorted(forward.parts.items(), key=lambda part: -part[1])
    return [
        *((LABELS.get(name, name.replace("_", " ")), value) for name, value in parts),
        *((f"branch {name}", branch.total) for name, branch in forward.branches.items()),
        ("outside the blocks", sum(forward.outside.values())),
    ]


def _verdict(plan: VideoPlan) -> str:
    worst = plan.worst
    text = f"the most memory: {_giga(worst.total)} GB in stage {worst.stage}"
    if plan.device == "cuda" and not torch.cuda.is_available():
        return text
    there = memory_of(torch.device(plan.device))
    text = text if there is None else f"{text}; this machine's {plan.device} has {_giga(there)} GB"
    return f"{text}; whether that is all is not known" if plan.uncounted else text


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows with two spaces between columns; the first is aligned left, the others right."""
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
