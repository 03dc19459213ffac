"""`kinoform plan`: shapes, parameters, operations and memory of a video, before anything loads."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated

import torch
import typer

from kinoform.cli import console
from kinoform.cli.inputs import InputOptions
from kinoform.cli.option_groups import MachineOptions, ModelOptions, OutputOptions, VideoOptions
from kinoform.cli.options import VIDEO, command, option, varied
from kinoform.cli.plan_report import comparison, crossing, report
from kinoform.cli.values import checked_count, lora_of, prompts_of, recipe_named
from kinoform.errors import UsageError, nearest
from kinoform.loading.additions import Additions
from kinoform.loading.lora import open_loras
from kinoform.pipelines.fit import workload_of
from kinoform.pipelines.request import request
from kinoform.plan.crossover import crossovers
from kinoform.plan.video_plan import VideoPlan, plan_video
from kinoform.plan.workload import Sizes, Workload
from kinoform.recipe import Recipe, find
from kinoform.recipes.load import ADAPTERS, DEVICES, DTYPES, EMBEDDED, RELEASED, choose_machine, takers

FACTORIZED = ("factorized", "factorised")
"""What `--compare` takes besides models and sizes; a folder of that name comes first."""


@command
def plan(
    prompt: Annotated[str | None, typer.Argument(help="As for generate; no plan depends on it.")] = None,
    *,
    model: ModelOptions,
    made: VideoOptions,
    inputs: InputOptions,
    machine: Annotated[MachineOptions, varied(help={"device": "auto, cpu, cuda or mps; it need not be there."})],
    compare: Annotated[
        str | None, option(VIDEO, "A model or a size to set beside it, or factorized: both kinds of attention.")
    ] = None,
    output: Annotated[OutputOptions, varied(help={"as_json": "As one JSON object."})],
) -> None:
    """Say what a video would take: tensor shapes, parameters, operations, memory. No weight is read.

    For example: kinoform plan --model t2v-14b --size 832x480 --seconds 5 --device cuda

    Takes all words of `kinoform generate`; those about the file to come change nothing here.
    """
    console.keep_private(prompt, made.negative, *inputs.private())
    texts = ["any video"] if prompt is None and made.prompts is None else prompts_of(prompt, made.prompts)
    console.keep_private(*texts)
    others = len(texts) * checked_count(made.count) > 1
    kind, number = machine_of(machine)
    read = cache(inputs.read)  # once for both sides, unless their rates differ

    def asked_for(named: ModelOptions, size: str | None) -> tuple[Sizes, Workload, float]:
        recipe, kept = recipe_of(named)
        changes = replace(made, size=size).request_changes(
            recipe, recipe.codec, recipe.transformers[0].patch, read, fit_mask=inputs.fit_mask
        )
        asked = request(recipe, texts[0], made.seed or 0, **changes)
        add = (recipe.additions or Additions()).to
        sizes = Sizes(
            transformers=tuple(add(spec) for spec in recipe.transformers),
            codec=recipe.codec,
            text=recipe.text,
            image=recipe.image,
            kept=kept,
        )
        if asked.inputs:  # otherwise the usual case is planned, also of models that cannot do without
            asked = asked.sized(sizes.codec, sizes.transformer.patch, takers)
        return sizes, replace(workload_of(asked), others=others), asked.fps

    def planned(named: ModelOptions, size: str | None) -> VideoPlan:
        sizes, workload, _ = asked_for(named, size)
        return plan_video(sizes, workload, dtype=number, device=kind)

    name, as_json = str(model.model), output.as_json
    if compare in FACTORIZED and not os.path.exists(compare):
        sizes, workload, fps = asked_for(model, made.size)
        found = crossovers(sizes, workload, fps=fps, dtype=number, device=kind)
        head = {"model": name, "dtype": str(number).removeprefix("torch."), "device": kind}
        console.result(crossing(head, found), {**head, **found.as_json()}, as_json=as_json)
        return
    first = planned(model, made.size)
    if compare is None:
        console.result(report(name, first), {"model": name, **first.as_json()}, as_json=as_json)
        return
    sized = compare[:1].isdigit() and not os.path.exists(compare)
    beside = model if sized else ModelOptions(model=compare, recipe=model.recipe if compare == name else None)
    second = planned(beside, compare if sized else made.size)
    told = {"first": {"model": name, **first.as_json()}, "second": {"model": beside.model, **second.as_json()}}
    console.result(comparison((name, first), (compare, second)), told, as_json=as_json)


def machine_of(machine: MachineOptions) -> tuple[str, torch.dtype]:
    """The type of a device, which this machine may lack, and the dtype of the networks there."""
    device, dtype = machine.device or "auto", machine.dtype or "auto"
    if device not in DEVICES:
        raise UsageError(f"no device {device!r}; {nearest(device, DEVICES)}", code="unknown_device")
    chosen = choose_machine("auto" if device == "auto" else "cpu", dtype)
    if device == "auto":
        return chosen.device.type, chosen.dtype
    wide = torch.float32 if device == "cpu" else torch.bfloat16
    return device, wide if dtype == "auto" else DTYPES[dtype]


def recipe_of(model: ModelOptions) -> tuple[Recipe, bool]:
    """The recipe of a model's name, at an address, or of weights, whose headers are read; whether parts are kept.

    A model by its name alone need not be here, unless other parts or a variant are named, which are compared with it.
    """
    name = str(model.model)
    compared = any((model.text_encoder, model.vae, model.tokenizer, model.image_encoder, model.variant))
    if os.path.exists(name) or compared:
        return model.load(MachineOptions(device="cpu")).recipe, os.path.isfile(f"{name}/manifest.json")
    if model.recipe is not None:
        found = find(recipe_named(model.recipe) or model.recipe), False
    elif name in EMBEDDED or name in ADAPTERS:
        found = find((EMBEDDED | ADAPTERS)[name]), True
    elif name in RELEASED:
        found = RELEASED[name](), False
    else:
        raise UsageError(
            f"no model, folder or file {name!r}; {nearest(name, [*EMBEDDED, *ADAPTERS, *RELEASED])}, or weights",
            code="unknown_model",
        )
    _check_loras(model, found[0])
    return found


def _check_loras(model: ModelOptions, recipe: Recipe) -> None:
    """Tell of each LoRA file. Raises WeightsError where one does not fit the model, as `load` does."""
    files = [(Path(os.path.expanduser(path)), strength) for path, strength in map(lora_of, model.lora or ())]
    open_loras(recipe.transformers, files, console.note, ignore_unknown=model.lora_ignore_unknown)
