"""`kinoform train`: the embedded model, or one of your own, from nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.options import AsJson, DeviceName, Force, RecipeName, recipe_named
from kinoform.cli.progress import stages
from kinoform.errors import UsageError, nearest

if TYPE_CHECKING:
    from kinoform.training.plan import Plan

STAGES = {"autoencoder": "autoencoder", "text": "text encoder", "transformer": "transformer"}
PLANS = {"mini": "kinoform.recipes.mini_training:plan"}
SHARD_BYTES = 14_000_000


def train(
    model: Annotated[str, typer.Argument(help="mini, or module:function that returns a training Plan.")] = "mini",
    recipe: RecipeName = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; continued if it is there.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the model goes.")] = None,
    device: DeviceName = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Have PyTorch compile the transformer.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads; one is the most efficient for small models.")] = 1,
    processes: Annotated[int, typer.Option(help="Processes that share the transformer's batches; one a core.")] = 1,
    sample_every: Annotated[int, typer.Option(help="Steps between sheets of sample films; 0 for none.")] = 500,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train autoencoder, text encoder and transformer, one after the other; Ctrl-C saves and stops."""
    if threads < 1 or processes < 1 or sample_every < 0:
        raise UsageError(
            "--threads and --processes must be 1 or more and --sample-every 0 or more, not "
            f"{threads}, {processes} and {sample_every}"
        )
    # Imported here because PyTorch takes seconds, which help and completion do without.
    import torch

    from kinoform.files import check_folder_writable
    from kinoform.recipes.load import choose_machine
    from kinoform.recipes.show import show_films
    from kinoform.training.devices import check_compiler
    from kinoform.training.lock import held
    from kinoform.training.stage import Upkeep
    from kinoform.training.stages import train_plan
    from kinoform.weights.own import HOLDS, Modules, save_own

    chosen, address = _plan(model, recipe)
    machine = choose_machine(device, "auto")
    if compiled:
        check_compiler(machine.device)
    folder = run or Path("runs") / chosen.recipe.name
    target = output or folder / "model"
    if output is not None or target.exists():
        check_folder_writable(target, holds=HOLDS, force=force)
    torch.set_num_threads(threads)
    with held(folder), stages(STAGES, drawn=False) as tell:  # the training draws its own bar, with the loss
        upkeep = Upkeep(
            save_every=100, sample_every=sample_every, show_progress=not console.streams(), tell=tell,
            device=machine.device, compile=compiled,
        )  # fmt: skip
        found = train_plan(chosen, folder, upkeep, show_films(chosen.recipe), processes=processes)
    parts = Modules(transformer=found.transformer, autoencoder=found.codec, text_encoder=found.text_encoder)
    save_own(
        target, parts, tokenizer_json=found.tokenizer_json, recipe=address, made=found.report,
        max_shard_bytes=SHARD_BYTES, force=force,
    )  # fmt: skip
    report = {"output": str(target), **found.report}
    console.result(f"{target}\n{json.dumps(found.report, indent=2)}", report, as_json=as_json)


def _plan(model: str, recipe: str | None) -> tuple[Plan, str]:
    """The plan, and the address of its recipe, by which the model is loaded when it is trained."""
    from kinoform.recipe import find, returned
    from kinoform.recipes.load import EMBEDDED
    from kinoform.training.plan import Plan

    if model not in PLANS and ":" not in model:
        raise UsageError(f"no training plan for {model!r}; {nearest(model, PLANS)}, or module:function")
    plan = returned(PLANS.get(model) or str(recipe_named(model, "MODEL")), Plan)
    address = recipe_named(recipe) or EMBEDDED.get(model)
    if address is None:
        raise UsageError(f"say with --recipe module:function where the recipe of {model} is, to load the model later")
    if find(address) != plan.recipe:
        raise UsageError(f"{address} is not the recipe that the plan {model} trains; give the function of that one")
    return plan, address
