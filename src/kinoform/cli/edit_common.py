"""The common part of the commands that change a video: load, plan, make, save with sound, and measure the file."""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from kinoform.cli import console
from kinoform.cli.inputs import InputOptions
from kinoform.cli.latents import check_latents, passes_kept, seed_kept
from kinoform.cli.model_files import with_files
from kinoform.cli.option_groups import EditOptions
from kinoform.cli.options import words_of
from kinoform.cli.output import SaveOptions, check, output_path, save
from kinoform.cli.plan import rehearse
from kinoform.cli.progress import bars
from kinoform.conditions.inputs import InputField
from kinoform.conditions.protocols import readable
from kinoform.conditions.standard_inputs import EXACT_SIZE, FRAMES, STANDARD_INPUTS, VIDEO
from kinoform.editing.passes import Edited, LatentStore, PassPlan
from kinoform.editing.report import MIN_SAVED, SavedReport, saved_report
from kinoform.errors import UsageError
from kinoform.files import check_writable, whole
from kinoform.media.paths import default_name
from kinoform.media.video_writer import evened
from kinoform.pipelines.generate import Callback
from kinoform.pipelines.pipeline import Pipeline, random_seed

Shape: TypeAlias = tuple[int, int, int]
"""Frames, height, width."""


TEXTS = ("prompt", "negative", *(item.key for item in STANDARD_INPUTS if item.kind.private))
"""Options whose values are kept as they are; of all others the folders are left out."""

NOT_REPEATED = {
    "recipe", "seed", "output", "resume", "preview", "dry_run", "force", "as_json", "no_metadata", "contact_sheet",
}  # fmt: skip
"""Options that do not change the video, or that it must not choose for whoever makes it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Command with its model, the file that it changes, and a seed; `words` make the same video, without the seed."""

    pipeline: Pipeline
    file: Path
    prompt: str
    seed: int
    options: EditOptions
    words: tuple[str, ...]

    @property
    def saving(self) -> SaveOptions:
        """Options with which the video is saved."""
        return self.options.output.save_options(1)

    def final(self, shape: Shape) -> Shape:
        """Return the shape of the video that is saved, where one of `shape` is made."""
        frames, height, width = shape
        return (frames, height + height % 2, width + width % 2) if self.options.even else shape

    def name(self, size: tuple[int, int]) -> str:
        """Return the path of a video of this height and width; mp4 takes even sides alone."""
        even = all(side % 2 == 0 for side in size)
        return output_path(self.options.output.output, default_name(self.prompt, self.seed, ".mp4" if even else ".mkv"))


Make: TypeAlias = Callable[[Callback, LatentStore], Edited]


def order(command: str, file: Path, prompt: str, options: EditOptions, *own: object) -> Order:
    """Load the model, as far as that reads no weight; `own` are the command's own groups of options."""
    seed = seed_kept(options.resume) if options.video.seed is None else options.video.seed
    return Order(
        pipeline=options.model.load(options.machine), file=file, prompt=prompt,
        seed=random_seed() if seed is None else seed, options=options,
        words=again(command, file, prompt, options, *own),
    )  # fmt: skip


def again(command: str, file: Path, prompt: str, options: EditOptions, *own: object) -> tuple[str, ...]:
    """Return the words that make the same video again, with names of files but without their folders."""

    def spell(name: str, value: object) -> str:
        return str(value) if name in TEXTS else re.sub(r"[^=]*[/\\]", "", str(value))

    model = with_files(
        str(options.model.model), partial(spell, "model")
    )  # repeated even where it is the default of the command
    groups = (replace(options, model=replace(options.model, model=None)), *own)
    words = (word for group in groups for word in words_of(group, without=NOT_REPEATED, spell=spell))
    return command, file.name, "--prompt", prompt, "--model", model, *words


def inputs_by_name(pipeline: Pipeline, inputs: InputOptions, *made: InputField[Any]) -> dict[str, object]:
    """Return the inputs by the keywords of Python.

    Raises UsageError for one that the model does not know, and for a video, its frames and what else is `made` by the
    command itself.
    """
    known = readable(pipeline.recipe.conditioners)
    return inputs.values(item for item in known if item not in {FRAMES, VIDEO, EXACT_SIZE, *made})


def finish(ordered: Order, plan: PassPlan, *, draw: Callable[[], Image.Image], make: Make) -> None:
    """Draw the preview, print the plan, or make the video, as the options say."""
    if ordered.options.preview:
        _save_preview(ordered, draw())
    elif ordered.options.output.dry_run:
        name, model, passes = _checked(ordered, plan.shape), str(ordered.options.model.model), len(plan.passes)
        first = plan.request(0, plan.source.frames)
        rehearse(model, ordered.pipeline, [first], [name], ordered.saving, passes=passes, beside=plan.beside)
    else:
        _carry_out(ordered, plan, make)


def _save_preview(ordered: Order, sheet: Image.Image) -> None:
    """Save a preview beside the video to come."""
    named, saving = Path(output_path(ordered.options.output.output, ordered.file.name)), ordered.saving
    target, encoded = named.with_name(f"{named.stem}_preview.png"), io.BytesIO()
    check_writable(target, force=saving.force)
    sheet.save(encoded, format="PNG")
    with whole(target, force=saving.force) as temporary:
        temporary.write_bytes(encoded.getvalue())
    console.result(str(target), {"preview": str(target)}, as_json=saving.as_json)


def _carry_out(ordered: Order, plan: PassPlan, make: Make) -> None:
    """Make a video, save it, and report on it.

    Its file is checked before the work, and the passes are kept until it is saved.
    """
    name, saving, resumed = _checked(ordered, plan.shape), ordered.saving, ordered.options.resume
    check_latents([name], force=saving.force, resumed=resumed)
    drawn = [] if ordered.options.video.seed is not None else ["--seed", str(ordered.seed)]
    if drawn:
        console.note(f"seed {ordered.seed}")
    params = {"task": ordered.words[0], "identity": plan.identity(), "seed": ordered.seed}
    words = [*sys.argv[1:], *drawn]
    with passes_kept(params, name, words, force=saving.force, resumed=resumed, total=len(plan.passes)) as passes:
        with bars() as on_progress:
            edited = make(on_progress, passes)
        edited = _evened(edited) if ordered.options.even else edited
        record: Any = edited.video.params.get("edit", {})
        params = {**edited.video.params, "edit": {**record, "command": [*ordered.words, "--seed", str(ordered.seed)]}}
        result = save(replace(edited.video, params=params), name, saving)
    measured = _measured(name, edited)
    if not saving.as_json and not console.streams():
        for sentence in edited.report.sentences():
            console.note(sentence)
        if measured is not None and measured.psnr_db is not None:
            equal = math.isinf(measured.psnr_db)
            console.note(f"there {name} " + ("is equal too" if equal else f"has {measured.psnr_db:.1f} dB"))
    if measured is not None and not measured.good:
        console.warn(
            f"{name} keeps what was not to change at {measured.psnr_db:.1f} dB, below {MIN_SAVED:g}; pass a lower "
            "--crf, or write a lossless .mkv"
        )
    console.result(name, {**result, "file": None if measured is None else measured.as_json()}, as_json=saving.as_json)


def _checked(ordered: Order, shape: Shape) -> str:
    """Return the name of the video to come, after the checks that need no frames."""
    shape = ordered.final(shape)
    name = ordered.name(shape[1:])
    try:
        check(name, shape, ordered.saving)
    except UsageError as error:
        if error.code != "size_not_multiple":
            raise
        raise UsageError(
            f"{name} takes even sides alone, and the video is {shape[2]}x{shape[1]}; pass --even to repeat the last "
            "row or column, or write a lossless .mkv or a folder of frames (NAME/)",
            code="size_not_multiple",
        ) from error
    return name


def _evened(edited: Edited) -> Edited:
    video = replace(edited.video, frames=evened(edited.video.frames))
    return replace(edited, video=video, raw=evened(edited.raw), alpha=evened(edited.alpha))


def _measured(name: str, edited: Edited) -> SavedReport | None:
    """Measure a saved file; None, with a warning, where it is too large to be read back, since the video is saved."""
    try:
        return saved_report(name, edited.video, edited.alpha)
    except UsageError as error:
        console.warn(f"what the encoder kept was not measured: {error}")
        return None
