"""`kinoform train`: the embedded model, or one of your own, from nothing; and adapters of a finished model."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.clip_options import ClipOptions, clip_plan, forecast_of
from kinoform.cli.engine_options import EngineOptions
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.option_groups import OutputOptions, TrainingOptions
from kinoform.cli.options import command, varied
from kinoform.cli.progress import stages
from kinoform.cli.train_watchers import TRACKERS, sampler, watchers
from kinoform.cli.values import recipe_named
from kinoform.errors import UsageError, nearest

if TYPE_CHECKING:
    from kinoform.loading.parts import Parts
    from kinoform.training.plan import TrainingPlan

LORA = "lora"
PLANS = {
    "mini": "kinoform.mini.plans:mini",
    "mini-factorized": "kinoform.mini.plans:mini_factorized",
    "mini-experts": "kinoform.mini.plans:mini_experts",
    "mini:fast": "kinoform.mini.plans:fast",
    "mini:frames": "kinoform.mini.plans:frames",
    "mini:vace": "kinoform.mini.plans:vace",
    "mini:context": "kinoform.mini.plans:context",
    "mini:reference": "kinoform.mini.plans:reference",
}


@command
def train(
    what: Annotated[
        str,
        typer.Argument(help=f"lora with DATA, {', '.join(PLANS)}, or module:function that returns a TrainingPlan."),
    ] = "mini",
    data: Annotated[
        Path | None,
        typer.Argument(help="For lora: a folder of clips with .txt files, or a .jsonl, .csv, .json, .toml file."),
    ] = None,
    *,
    named: Annotated[ModelOptions, varied(without=("vace", "lora", "lora_ignore_unknown"), default={"model": None})],
    clips: ClipOptions,
    engine: EngineOptions,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; continued if it is there.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the result goes.")] = None,
    snapshot: Annotated[Path | None, typer.Option(help="Folder to write a small copy of the run to, and stop.")] = None,
    from_snapshot: Annotated[Path | None, typer.Option(help="Such a copy, for what has no checkpoint yet.")] = None,
    machine_options: Annotated[MachineOptions, varied(default={"dtype": "auto"})],
    plan_only: Annotated[bool, typer.Option("--plan", help="For lora: say what it would take, and stop.")] = False,
    tflops: Annotated[float | None, typer.Option(help="TFLOP/s of the device, by which --plan tells times.")] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Have PyTorch compile what is trained.")] = False,
    training: TrainingOptions,
    sample_prompt: Annotated[
        list[str] | None, typer.Option(help="For lora: samples of it; else of two captions.")
    ] = None,
    track: Annotated[str | None, typer.Option(help=f"{', '.join(TRACKERS)}; else TensorBoard if it is there.")] = None,
    results: Annotated[OutputOptions, varied(only=("force", "as_json"))],
) -> None:
    """Train a LoRA from your clips, the embedded model, an adapter or your own plan; Ctrl-C saves and stops."""
    threads, processes, sample_every = training.threads, training.processes, training.sample_every
    _check(threads, processes, sample_every, tflops)
    if snapshot is not None and from_snapshot is not None:
        raise UsageError(
            "--snapshot copies a run and --from-snapshot begins one; give one of them", code="options_conflict"
        )
    if (plan_only and what != LORA) or (tflops is not None and not plan_only):
        raise UsageError("--plan is for lora, and --tflops for --plan", code="options_conflict")
    # Imported here because PyTorch takes seconds, which help and completion do without.
    import torch

    from kinoform.pipelines.machine import choose_machine
    from kinoform.training.clip_plan import ClipPlan
    from kinoform.training.devices import check_compiler
    from kinoform.training.plan import TrainingRun
    from kinoform.training.recompute import Recompute
    from kinoform.training.snapshot import read_snapshot
    from kinoform.training.stage import RunOptions

    load_parts, samplers = _parts_of, ()
    if what == LORA:
        if data is None:
            raise UsageError("say what to learn: kinoform train lora clips/ --model FOLDER", code="option_missing")
        named = replace(named, model=named.model or "mini")
        if plan_only:
            rate = _rate(run) if tflops is None else 1e12 * tflops
            told = forecast_of(data, named, machine_options, clips, engine, processes, rate)
            console.result("\n".join(told.lines()), told.as_json(), as_json=results.as_json)
            return
        pipeline, plan = clip_plan(data, named, machine_options, clips, engine, processes)
        load_parts, address = lambda base: pipeline.parts.base or pipeline.parts, plan.address
        samplers = sampler(pipeline, plan, sample_prompt or (), training)
    else:
        if data is not None or named.model is not None:
            raise UsageError(
                f"{what} makes its own data and names its own model; only lora takes them", code="options_conflict"
            )
        plan, address = _plan(what, named.recipe)
    folder = run or Path("runs") / plan.run_name
    if snapshot is not None:
        _copy(folder, snapshot, results)
        return
    machine = choose_machine(machine_options.device or "auto", "auto")
    if compiled:
        check_compiler(machine.device)
    torch.set_num_threads(threads)
    target = output or folder / plan.output_name
    if output is not None or target.exists():
        plan.check_output(target, force=results.force)
    recompute = engine.recompute_for(plan, machine.device) if isinstance(plan, ClipPlan) else Recompute.NONE
    if from_snapshot is not None:
        read_snapshot(from_snapshot)  # damage to any stage is refused before the first begins
    with stages({}, drawn=False) as on_progress:  # the training draws its own bar, with the loss
        options = RunOptions(
            save_every=100, sample_every=sample_every, show_progress=not console.streams(),
            on_progress=on_progress, device=machine.device, compile=compiled, snapshot=from_snapshot,
            observers=(*watchers(plan, track, processes), *samplers), recompute=recompute,
            swap_blocks=engine.swap_blocks if what == LORA else 0,
        )  # fmt: skip
        result = plan.train(TrainingRun(folder=folder, options=options, processes=processes, load_parts=load_parts))
    result.save(target, recipe=address, force=results.force)
    text = f"{target}\n{json.dumps(result.report, indent=2)}"
    console.result(text, {"output": str(target), **result.report}, as_json=results.as_json)


def _check(threads: int, processes: int, sample_every: int, tflops: float | None) -> None:
    """Raise UsageError for numbers out of range."""
    if threads < 1 or processes < 1 or sample_every < 0:
        raise UsageError(
            "--threads and --processes must be 1 or more and --sample-every 0 or more, not "
            f"{threads}, {processes} and {sample_every}",
            code="value_out_of_range",
        )
    if tflops is not None and not 0 < tflops < inf:
        raise UsageError(f"--tflops must be above 0, not {tflops:g}", code="value_out_of_range")


def _rate(run: Path | None) -> float | None:
    """Return the operations a second of a run's largest training, if it has one."""
    from kinoform.training.run_log import read_run

    logs = [] if run is None or not run.exists() else [stage.measurements for stage in read_run(run)]
    last = max((log[-1] for log in logs if log), key=lambda item: item.flops, default=None)
    return None if last is None or not last.seconds else last.flops / last.seconds


def _copy(run: Path, path: Path, results: OutputOptions) -> None:
    from kinoform.training.snapshot import write_snapshot

    steps = {name: progress.step for name, progress in write_snapshot(run, path, force=results.force).items()}
    size = sum(file.stat().st_size for file in path.iterdir())
    stages = ", ".join(f"{name} after {step} steps" for name, step in steps.items())
    value = {"output": str(path), "bytes": size, "steps": steps}
    console.result(f"{path}: {stages}; {size / 1e6:.1f} MB", value, as_json=results.as_json)


def _plan(model: str, recipe: str | None) -> tuple[TrainingPlan, str | None]:
    """Return the plan and the address of its recipe, if it has one, by which the trained model is loaded."""
    from kinoform.recipe import find, returned
    from kinoform.recipes.catalogue import ADAPTERS, EMBEDDED, UNSHIPPED
    from kinoform.training.plan import TrainingPlan

    if model not in PLANS and ":" not in model:
        raise UsageError(
            f"no training plan for {model!r}; {nearest(model, PLANS)}, or module:function", code="unknown_plan"
        )
    plan = returned(PLANS.get(model) or str(recipe_named(model, "MODEL")), TrainingPlan, "plan")
    address = recipe_named(recipe) or (EMBEDDED | ADAPTERS | UNSHIPPED).get(model)
    if address is None and plan.recipe is None:
        return plan, None
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


def _parts_of(base: str) -> Parts:
    """Load the parts of a model by its name: an adapter file that names a folder could not be loaded elsewhere."""
    from kinoform.recipes.catalogue import EMBEDDED, RELEASED
    from kinoform.recipes.load import load

    if base not in {*EMBEDDED, *RELEASED}:
        raise UsageError(
            f"no model {base!r} to train on; {nearest(base, [*EMBEDDED, *RELEASED])}", code="unknown_model"
        )
    return load(base, device="cpu").parts
