"""`kinoform plan`, and the plans that other commands tell: shapes, parameters, operations, memory."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import torch
import typer

from kinoform.cli import console
from kinoform.cli.model_files import model_of
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.option_groups import GenerateOptions
from kinoform.cli.options import VIDEO, command, option, varied
from kinoform.cli.plan_report import comparison, crossing, report
from kinoform.cli.values import checked_count, lora_of, prompts_of, recipe_named
from kinoform.errors import UsageError, nearest
from kinoform.families import released_for
from kinoform.loading.additions import Additions
from kinoform.loading.lora import open_loras
from kinoform.models.lora import LoRARanks
from kinoform.pipelines.fit import sizes_of, workload_of
from kinoform.pipelines.machine import DEVICES, DTYPES, choose_machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request, request
from kinoform.plan.crossover import crossovers
from kinoform.plan.video_plan import VideoPlan, plan_video
from kinoform.plan.workload import Sizes, Workload, adapted_specs
from kinoform.recipe import Recipe, find
from kinoform.recipes.catalogue import ADAPTERS, EMBEDDED, RELEASED, UNSHIPPED, takers
from kinoform.recipes.named import recipe_at

if TYPE_CHECKING:
    from kinoform.cli.output import SaveOptions

LoRAs: TypeAlias = tuple[tuple[LoRARanks, ...], ...]
"""LoRAs of each transformer."""

FACTORIZED = ("factorized", "factorised")
"""Words that `--compare` takes besides models and sizes; a folder of that name comes first."""


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
    given = (model.text_encoder, model.vae, model.tokenizer, model.image_encoder, model.variant)
    compared = any((*given, model.vace, model.adapter))
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
    recipe = recipe if named is None or isinstance(named, Recipe) else named.applied(recipe)
    return recipe, _loras_of(model, recipe), kept


def _token_times(recipe: Recipe) -> bool:
    released = released_for(recipe.name)
    return released is not None and released.token_times


def _loras_of(model: ModelOptions, recipe: Recipe) -> LoRAs:
    """Report each LoRA file, and return all ranks. Raises WeightsError, as `load` does, where one does not fit."""
    files = [(Path(os.path.expanduser(path)), strength) for path, strength in map(lora_of, model.lora or ())]
    return open_loras(recipe.transformers, files, console.note, ignore_unknown=model.lora_ignore_unknown).ranks
