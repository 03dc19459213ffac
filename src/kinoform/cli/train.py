"""`kinoform train`: an embedded model from nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.options import AsJson, Force
from kinoform.cli.progress import stages
from kinoform.errors import UsageError, nearest

STAGES = {"autoencoder": "autoencoder", "text": "text encoder", "transformer": "transformer"}
SHARD_BYTES = 14_000_000


def train(
    model: Annotated[str, typer.Argument(help="Which model to train: mini.")] = "mini",
    run: Annotated[Path | None, typer.Option(help="Folder of the run; continued if it is there.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the model goes.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; one is the most efficient for small models.")] = 1,
    processes: Annotated[int, typer.Option(help="Processes that share the transformer's batches; one a core.")] = 1,
    sample_every: Annotated[int, typer.Option(help="Steps between sheets of sample films; 0 for none.")] = 500,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train autoencoder, text encoder and transformer, one after the other; Ctrl-C saves and stops."""
    # Imported here because PyTorch takes seconds, which help and completion do without.
    import torch

    from kinoform.recipes.load import EMBEDDED
    from kinoform.recipes.mini_training import plan
    from kinoform.recipes.show import show_films
    from kinoform.training.stage import Upkeep
    from kinoform.training.stages import train_plan
    from kinoform.weights.own import Modules, save_own

    plans = {"mini": plan}
    if model not in plans:
        raise UsageError(f"no training plan for {model!r}; {nearest(model, plans)}")
    if threads < 1 or processes < 1 or sample_every < 0:
        raise UsageError(
            "--threads and --processes must be 1 or more and --sample-every 0 or more, not "
            f"{threads}, {processes} and {sample_every}"
        )
    folder = run or Path("runs") / model
    target = output or folder / "model"
    if target.exists() and not force:
        raise UsageError(f"{target} exists; choose another with -o or pass --force to replace it")
    torch.set_num_threads(threads)
    chosen = plans[model]()
    with stages(STAGES, drawn=False) as tell:  # the training draws its own bar, with the loss
        upkeep = Upkeep(save_every=100, sample_every=sample_every, show_progress=not console.streams(), tell=tell)
        found = train_plan(chosen, folder, upkeep, show_films(chosen.recipe), processes=processes)
    parts = Modules(transformer=found.transformer, autoencoder=found.codec, text_encoder=found.text_encoder)
    save_own(
        target, parts, tokenizer_json=found.tokenizer_json, recipe=EMBEDDED[model], made=found.report,
        max_shard_bytes=SHARD_BYTES, force=force,
    )  # fmt: skip
    report = {"output": str(target), **found.report}
    console.result(f"{target}\n{json.dumps(found.report, indent=2)}", report, as_json=as_json)
