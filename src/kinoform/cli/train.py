"""`kinoform train`: the embedded model, or one of your own, from nothing; and adapters of a finished model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.option_groups import MachineOptions, ModelOptions, OutputOptions, TrainingOptions
from kinoform.cli.options import command, varied
from kinoform.cli.progress import stages
from kinoform.cli.values import recipe_named
from kinoform.errors import UsageError, nearest

if TYPE_CHECKING:
    from kinoform.loading.parts import Parts
    from kinoform.mini.training.plan import Plan, TransformerPlan
    from kinoform.training.adapter import AdapterPlan
    from kinoform.training.stage import RunOptions

STAGES = {
    "autoencoder": "autoencoder",
    "text": "text encoder",
    "encoder": "encoder of reference images",
    "transformer": "transformer",
}
ADAPTER_STAGES = {"encoder": "encoder of reference images", "adapter": "adapter"}
PLANS = {
    "mini": "kinoform.mini.plans:mini",
    "mini-factorized": "kinoform.mini.plans:mini_factorized",
    "mini:frames": "kinoform.mini.plans:frames",
    "mini:vace": "kinoform.mini.plans:vace",
    "mini:reference": "kinoform.mini.plans:reference",
}
SHARD_BYTES = 14_000_000


@command
def train(
    model: Annotated[
        str,
        typer.Argument(
            help=f"{', '.join(PLANS)}, or module:function that returns a Plan, a TransformerPlan or an AdapterPlan."
        ),
    ] = "mini",
    *,
    named: Annotated[ModelOptions, varied(only=("recipe",))],
    run: Annotated[Path | None, typer.Option(help="Folder of the run; continued if it is there.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the model or adapter goes.")] = None,
    place: Annotated[MachineOptions, varied(only=("device",))],
    compiled: Annotated[bool, typer.Option("--compile", help="Have PyTorch compile the transformer.")] = False,
    training: TrainingOptions,
    told: Annotated[OutputOptions, varied(only=("force", "as_json"))],
) -> None:
    """Train autoencoder, text encoder and transformer, one after the other, or an adapter; Ctrl-C saves and stops."""
    threads, processes, sample_every = training.threads, training.processes, training.sample_every
    if threads < 1 or processes < 1 or sample_every < 0:
        raise UsageError(
            "--threads and --processes must be 1 or more and --sample-every 0 or more, not "
            f"{threads}, {processes} and {sample_every}",
            code="value_out_of_range",
        )
    # Imported here because PyTorch takes seconds, which help and completion do without.
    import torch

    from kinoform.recipes.load import choose_machine
    from kinoform.training.adapter import AdapterPlan
    from kinoform.training.devices import check_compiler
    from kinoform.training.stage import RunOptions

    plan, address = _plan(model, named.recipe)
    machine = choose_machine(place.device or "auto", "auto")
    if compiled:
        check_compiler(machine.device)
    torch.set_num_threads(threads)
    options = RunOptions(
        save_every=100, sample_every=sample_every, show_progress=not console.streams(),
        device=machine.device, compile=compiled,
    )  # fmt: skip
    if isinstance(plan, AdapterPlan):
        target, report = _adapter(plan, address, run, output, options, processes=processes, force=told.force)
    else:
        target, report = _model(plan, address, run, output, options, processes=processes, force=told.force)
    text = f"{target}\n{json.dumps(report, indent=2)}"
    console.result(text, {"output": str(target), **report}, as_json=told.as_json)


def _plan(model: str, recipe: str | None) -> tuple[Plan | TransformerPlan | AdapterPlan, str]:
    """The plan, and the address of its recipe, by which the model is loaded when it is trained."""
    from kinoform.mini.training.plan import Plan, TransformerPlan
    from kinoform.recipe import find, returned
    from kinoform.recipes.load import ADAPTERS, EMBEDDED
    from kinoform.training.adapter import AdapterPlan

    if model not in PLANS and ":" not in model:
        raise UsageError(
            f"no training plan for {model!r}; {nearest(model, PLANS)}, or module:function", code="unknown_plan"
        )
    plan = returned(PLANS.get(model) or str(recipe_named(model, "MODEL")), Plan, TransformerPlan, AdapterPlan)
    address = recipe_named(recipe) or (EMBEDDED | ADAPTERS).get(model)
    if address is None:
        raise UsageError(
            f"say with --recipe module:function where the recipe of {model} is, to load the model later",
            code="option_missing",
        )
    if find(address) != plan.recipe:
        raise UsageError(
            f"{address} is not the recipe that the plan {model} trains; give the function of that one",
            code="recipe_mismatch",
        )
    return plan, address


def _model(
    plan: Plan | TransformerPlan,
    address: str,
    run: Path | None,
    output: Path | None,
    options: RunOptions,
    *,
    processes: int,
    force: bool,
) -> tuple[Path, Mapping[str, object]]:
    """Train a whole model; return where it went, and its report."""
    from dataclasses import replace
    from functools import partial

    from kinoform.files import check_folder_writable
    from kinoform.loading.own import HOLDS, Modules, save_own
    from kinoform.mini.sample_sheet import show_videos
    from kinoform.mini.training.plan import Plan
    from kinoform.mini.training.train import train_on_base, train_plan
    from kinoform.training.lock import held

    folder = run or Path("runs") / plan.recipe.name
    target = output or folder / "model"
    if output is not None or target.exists():
        check_folder_writable(target, holds=HOLDS, force=force)
    work = partial(train_plan, plan) if isinstance(plan, Plan) else partial(train_on_base, plan, _parts_of(plan.base))
    with held(folder), stages(STAGES, drawn=False) as tell:  # the training draws its own bar, with the loss
        found = work(folder, replace(options, on_progress=tell), show_videos(plan.recipe), processes=processes)
    parts = Modules(transformer=found.transformer, autoencoder=found.codec, text_encoder=found.text_encoder)
    save_own(
        target, parts, tokenizer_json=found.tokenizer_json, recipe=address, made=found.report,
        max_shard_bytes=SHARD_BYTES, force=force,
    )  # fmt: skip
    return target, found.report


def _adapter(
    plan: AdapterPlan,
    address: str,
    run: Path | None,
    output: Path | None,
    options: RunOptions,
    *,
    processes: int,
    force: bool,
) -> tuple[Path, Mapping[str, object]]:
    """Train an adapter; return where it went, and its report."""
    from dataclasses import replace

    from kinoform.files import check_writable
    from kinoform.loading.adapters import save_adapter
    from kinoform.training.adapter import train_adapter
    from kinoform.training.lock import held

    folder = run or Path("runs") / f"{plan.base}-{plan.name}"
    target = output or folder / "adapter.safetensors"
    if output is not None or target.exists():
        check_writable(target, force=force)
    parts = _parts_of(plan.base)
    if parts.transformer_spec != plan.recipe.transformer:
        raise UsageError(
            f"the recipe of the adapter {plan.name} is not for a model like {plan.base}; derive it so",
            code="recipe_mismatch",
        )
    with held(folder), stages(ADAPTER_STAGES, drawn=False) as tell:
        found = train_adapter(plan, parts, folder / "adapter", replace(options, on_progress=tell), processes=processes)
    save_adapter(
        target, found.model, plan.recipe.additions, name=plan.name, base=plan.base, base_hash=parts.fingerprint(),
        recipe=address, made=found.report, force=force,
    )  # fmt: skip
    return target, found.report


def _parts_of(base: str) -> Parts:
    """Load the parts of a model by name alone: an adapter file that names a folder would be loaded nowhere else."""
    from kinoform.recipes.load import EMBEDDED, RELEASED, load

    if base not in {*EMBEDDED, *RELEASED}:
        raise UsageError(
            f"no model {base!r} to train on; {nearest(base, [*EMBEDDED, *RELEASED])}", code="unknown_model"
        )
    return load(base, device="cpu").parts
