"""Videos made again: what they take from the first one, and in what they may differ."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, replace
from pathlib import Path
from typing import TypeVar

import torch

from kinoform.cli import console
from kinoform.conditions.coerce import restored
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.protocols import readable
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES
from kinoform.errors import UsageError, WeightsError
from kinoform.loading.additions import Additions
from kinoform.media.video import MAX_UPSCALE, format_of
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.recorded import EncodingRecord, MachineRecord, Recorded
from kinoform.pipelines.request import Request
from kinoform.recipe import Recipe
from kinoform.recipes.catalogue import ADAPTERS, EMBEDDED, RELEASED, UNSHIPPED, base_of
from kinoform.solvers.base import Solver
from kinoform.solvers.by_expert import PerExpert, expert_names, written
from kinoform.solvers.guidance.rule import Guidance
from kinoform.solvers.level_grids import LevelGrid
from kinoform.solvers.names import guidance_of, levels_of, name_of, sampler_of, solver_of
from kinoform.solvers.sampler import Sampler
from kinoform.version import __version__

EARLIER = "t2v"

MAX_CHARS = 60
"""Characters of a stranger's words that are shown."""

Named = TypeVar("Named", Solver, LevelGrid, Sampler, Guidance)


def model_name(record: Recorded) -> str:
    """Return the recorded model if it is a known name, else raise UsageError; with VACE modules on, the one below them.

    A stranger's file must not choose a folder or an address.
    """
    if record.model_name not in {*EMBEDDED, *ADAPTERS, *UNSHIPPED, *RELEASED}:
        name = json.dumps(record.model_name)[:MAX_CHARS]
        raise UsageError(
            f"it was made by the model {name}; say where that is with --model{_trusted(record)}",
            code="model_not_trusted",
        )
    return base_of(record.model_name) if record.vace else record.model_name


def modules(record: Recorded, files: Mapping[str, Path]) -> list[str]:
    """Return the recorded VACE modules, as `--vace` takes them."""
    paths = [str(files[name]) for name in record.vace]
    if len(paths) < 2:
        return paths
    return [f"{name}={path}" for name, path in zip(expert_names(len(paths)), paths, strict=True)]


def loras(record: Recorded, files: Mapping[str, Path]) -> list[str]:
    """Return the recorded LoRA files in order, each with its strength, as `--lora` takes them."""
    return [_lora(files[name], strength) for name, strength in record.loras.items()]


def _lora(file: Path, strength: PerExpert) -> str:
    """Return the word of one file: high=FILE:1 for one of several transformers, else FILE:1 or FILE:high=1,low=1."""
    if isinstance(strength, Mapping) and len(strength) == 1:
        ((name, number),) = strength.items()
        return f"{name}={file}:{written(number)}"
    return f"{file}:{written(strength)}"


def check_model(pipeline: Pipeline, record: Recorded, *, forced: bool) -> None:
    """Raise WeightsError, naming both orders of channels or both hashes, unless this model made the video.

    If `forced`, only print a note.
    """
    sentence = _other_channels(pipeline.recipe, record) or _other_hash(pipeline.parts.fingerprint(), record)
    if sentence is None:
        return
    if not forced:
        raise WeightsError(
            f"{sentence}; pass the right --model{_trusted(record)}, or --force-model to make another video with this "
            "one",
            code="weights_wrong_model",
        )
    console.note(f"note: {sentence}; the video will be another one")


def request(pipeline: Pipeline, record: Recorded, files: Mapping[str, Path]) -> Request:
    """Return the recorded request, checked anew. Raises UsageError for values out of range."""
    recipe, inputs = pipeline.recipe, _inputs(pipeline, record, files)
    with warnings.catch_warnings():
        if FRAMES in inputs:
            warnings.simplefilter("ignore")  # of images that would be cropped if the size were exact
        checked = pipeline.request(
            record.prompt,
            seed=record.seed,
            **record.request,
            solver=_named(record.solver, recipe.solver, solver_of),
            level_grid=_named(record.level_grid, recipe.level_grid or recipe.solver, levels_of),
            sampler=_named(record.sampler, recipe.sampler, sampler_of),
            guidance_rule=_named(record.guidance_rule, recipe.guidance_rule, guidance_of),
            # The recorded size is the one asked for in the proportions of the image; fitted again it would shrink.
            inputs=inputs | {EXACT_SIZE: True} if FRAMES in inputs else inputs,
        )
    return replace(checked, inputs=inputs)


def check_task(record: Recorded, made: Request, *, forced: bool) -> None:
    """Raise UsageError where the task is not the recorded one, unless `forced`.

    All videos of earlier versions say t2v.
    """
    if not forced and record.task not in (EARLIER, made.task):
        task = json.dumps(record.task)[:MAX_CHARS]
        raise UsageError(
            f"its parameters call it {task}, and what they make now is {made.task}; pass --force-model to make that",
            code="task_differs",
        )


def _other_channels(recipe: Recipe, record: Recorded) -> str | None:
    """Return a sentence if the channels have another order: the shapes are the same, but the video would be noise."""
    order = (recipe.additions or Additions()).order(recipe.transformers[0])
    if record.channels is None or list(record.channels.items()) == list(order.items()):
        return None
    shown = json.dumps(record.channels)[:MAX_CHARS]
    return f"the video was made by a model that reads the channels {shown}, this one reads {json.dumps(order)}"


def _other_hash(fingerprint: str, record: Recorded) -> str | None:
    if fingerprint == record.model_hash:
        return None
    return f"the video was made by a model with hash {record.model_hash[:64]!r}, this one has {fingerprint!r}"


def _trusted(record: Recorded) -> str:
    """Return advice for a video whose recipe is not of the package: a stranger's file must not choose code."""
    return "" if record.recipe is None else f", and --recipe {json.dumps(record.recipe)[:MAX_CHARS]} if you trust it"


def _named(name: str | None, own: Named, read: Callable[[str], Named]) -> Named | None:
    """Return the recipe's value if it has this name, since values of idea files cannot be looked up; else read it."""
    if name is None:
        return None
    return own if name_of(own) == name else read(name)


def _inputs(pipeline: Pipeline, record: Recorded, files: Mapping[str, Path]) -> Inputs:
    """Read the recorded inputs from their files. Raises UsageError for an input that the model does not take."""
    options = pipeline.read_options(
        fps=record.request["fps"],  # type: ignore[arg-type]
        num_frames=record.request["num_frames"],  # type: ignore[arg-type]
        fit_mask=True,  # as it was then, since the files are the same
    )
    own = {name: path for name, path in files.items() if name not in record.loras and name not in record.vace}
    return restored(readable(pipeline.recipe.conditioners), own, record.conditions, options)


def wishes(record: Recorded, video: Path, name: str) -> EncodingRecord:
    """Return how `video` was saved; its codec only if the file to come, `name`, is of the same kind and takes it.

    Raises UsageError for an `upscale` out of range.
    """
    saved = record.encoding
    if not 1 <= saved.upscale <= MAX_UPSCALE:
        raise UsageError(f"its upscale must be from 1 to {MAX_UPSCALE}, not {saved.upscale}", code="value_out_of_range")
    if Path(name).suffix.lower() != video.suffix.lower():
        return EncodingRecord(upscale=saved.upscale)
    try:
        format_of(video, codec=saved.codec, crf=saved.crf)
    except UsageError as error:  # another program has put the video into this kind of file
        console.note(f"note: {error}; the codec of {video.suffix} by default is taken")
        return EncodingRecord(upscale=saved.upscale)
    return saved


def differences(pipeline: Pipeline, record: Recorded) -> Iterator[str]:
    """Yield the differences that may change the last bits of the numbers."""
    if record.version != __version__:
        yield f"the video was made by kinoform {record.version[:40]}, this is {__version__}; the result may differ"
    dtype = str(pipeline.machine.dtype).removeprefix("torch.")
    if record.dtype != dtype:
        yield f"the video was made in {record.dtype}, this is {dtype}; the result may differ"
    here = MachineRecord(device=pipeline.machine.device.type, threads=torch.get_num_threads(), torch=torch.__version__)
    for name, then, now in zip(("device", "threads", "PyTorch"), astuple(record.machine), astuple(here), strict=True):
        if then is not None and then != now:
            yield f"the video was made with {name} {str(then)[:40]}, this is {now}; its last bits may differ"
