"""The work of every command that changes a video: it is made, saved with its sound, measured in its file, told of."""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from PIL import Image

from kinoform.cli import console
from kinoform.cli.latents import check_latents, passes_kept, seed_kept
from kinoform.cli.option_groups import EditOutputOptions, MachineOptions, ModelOptions, OutputOptions, VideoOptions
from kinoform.cli.options import words_of
from kinoform.cli.output import Output, check, placed, save
from kinoform.cli.plan import rehearse
from kinoform.cli.progress import bars
from kinoform.conditions.standard_inputs import STANDARD_INPUTS
from kinoform.editing.edit import Edited
from kinoform.editing.encode_check import PROMISED, Kept, kept
from kinoform.editing.passes import Passes
from kinoform.errors import UsageError
from kinoform.files import check_writable, whole
from kinoform.media.paths import default_name
from kinoform.media.video_writer import evened
from kinoform.pipelines.generate import Callback
from kinoform.pipelines.pipeline import Pipeline, random_seed
from kinoform.pipelines.request import Request

Shape: TypeAlias = tuple[int, int, int]
"""Frames, height, width."""


TEXTS = ("prompt", "negative", *(item.key for item in STANDARD_INPUTS if item.kind.private))
"""Options whose words are kept whole; of all others the folders are left out."""

UNTOLD = (
    "recipe",
    "seed",
    "output",
    "resume",
    "preview",
    "dry_run",
    "force",
    "as_json",
    "no_metadata",
    "contact_sheet",
)
"""Options that say nothing of how a video was made, or that it must not choose for whoever makes it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command to be carried out: with a model, to a file, for a prompt, under a seed, saved somehow.

    `words` make the same video again, without the seed; `seed_given` tells that the user chose that.
    """

    pipeline: Pipeline
    model: str
    file: Path
    prompt: str
    seed: int
    seed_given: bool
    output: str | None
    how: Output
    dry_run: bool
    editing: EditOutputOptions
    words: tuple[str, ...]

    def final(self, shape: Shape) -> Shape:
        """The shape of the video that is saved, where one of `shape` is made."""
        frames, height, width = shape
        return (frames, height + height % 2, width + width % 2) if self.editing.even else shape

    def name(self, size: tuple[int, int]) -> str:
        """The place of a video of this height and width; mp4 takes even sides alone."""
        even = all(side % 2 == 0 for side in size)
        return placed(self.output, default_name(self.prompt, self.seed, ".mp4" if even else ".mkv"))


@runtime_checkable
class Planned(Protocol):
    """A plan of any of these commands."""

    @property
    def passes(self) -> int: ...

    @property
    def beside(self) -> int: ...

    def identity(self) -> str: ...


Make: TypeAlias = Callable[[Callback, Passes], Edited]


def order(
    command: str,
    file: Path,
    prompt: str,
    *own: object,
    model: ModelOptions,
    video: VideoOptions,
    machine: MachineOptions,
    output: OutputOptions,
    editing: EditOutputOptions,
) -> Order:
    """Load the model that is named, as far as that reads no weight; `own` are the command's own groups of options."""
    seed = seed_kept(editing.resume) if video.seed is None else video.seed
    return Order(
        pipeline=model.load(machine), model=str(model.model), file=file, prompt=prompt,
        seed=random_seed() if seed is None else seed, seed_given=video.seed is not None,
        output=output.output, how=output.how(1), dry_run=output.dry_run, editing=editing,
        words=again(command, file, prompt, model, *own, video, machine, output, editing),
    )  # fmt: skip


def again(command: str, file: Path, prompt: str, model: ModelOptions, *groups: object) -> tuple[str, ...]:
    """The words of the command line that make the same video, with names of files but without their folders."""

    def spell(name: str, value: object) -> str:
        before, separator, path = str(value).rpartition("=")
        return str(value) if name in TEXTS else before + separator + re.split(r"[/\\]", path)[-1]

    named = ("--model", spell("model", model.model))
    told = (
        word for group in (replace(model, model=None), *groups) for word in words_of(group, without=UNTOLD, spell=spell)
    )
    return command, file.name, "--prompt", prompt, *named, *told


def finish(
    ordered: Order, shape: Shape, plan: Planned, *, draw: Callable[[], Image.Image], first: Callable[[], Request],
    make: Make,
) -> None:  # fmt: skip
    """Do what a command asks for with its plan: draw it, tell what it takes, or make the video of `shape`.

    `first` is the request of the first pass.
    """
    if ordered.editing.preview:
        show(ordered, draw())
    elif ordered.dry_run:
        rehearsed(ordered, first(), shape, plan)
    else:
        carried_out(ordered, shape, plan, make)


def show(ordered: Order, sheet: Image.Image) -> None:
    """Save a preview beside the video to come."""
    named = Path(placed(ordered.output, ordered.file.name))
    target, encoded = named.with_name(f"{named.stem}_preview.png"), io.BytesIO()
    check_writable(target, force=ordered.how.force)
    sheet.save(encoded, format="PNG")
    with whole(target, force=ordered.how.force) as temporary:
        temporary.write_bytes(encoded.getvalue())
    console.result(str(target), {"preview": str(target)}, as_json=ordered.how.as_json)


def rehearsed(ordered: Order, asked: Request, shape: Shape, plan: Planned) -> None:
    """Tell what a video of `shape` takes, of which `asked` is the first request; refuse what `carried_out` does."""
    name = _checked(ordered, shape)
    rehearse(ordered.model, ordered.pipeline, [asked], [name], ordered.how, passes=plan.passes, beside=plan.beside)


def carried_out(ordered: Order, shape: Shape, plan: Planned, make: Make) -> None:
    """Make a video of `shape` (frames, height, width), save it, and tell of it.

    What can be refused about its file is refused first, and what was made is kept until it is saved.
    """
    name, how = _checked(ordered, shape), ordered.how
    check_latents([name], force=how.force, resumed=ordered.editing.resume)
    if not ordered.seed_given:
        console.note(f"seed {ordered.seed}")
    about = {"task": ordered.words[0], "identity": plan.identity(), "seed": ordered.seed}
    again = [*sys.argv[1:], *([] if ordered.seed_given else ["--seed", str(ordered.seed)])]
    with passes_kept(about, name, again, force=how.force, resumed=ordered.editing.resume, total=plan.passes) as passes:
        with bars() as tell:
            edited = make(tell, passes)
        edited = _evened(edited) if ordered.editing.even else edited
        told: Any = edited.video.params.get("edit", {})
        params = {**edited.video.params, "edit": {**told, "command": [*ordered.words, "--seed", str(ordered.seed)]}}
        result = save(replace(edited.video, params=params), name, how)
    found = _kept(name, edited)
    if not how.as_json and not console.streams():
        for sentence in (*edited.report.sentences(), *_said(name, found)):
            console.note(sentence)
    if found is not None and not found.promised:
        console.warn(
            f"{name} keeps what was not to change at {found.psnr_db:.1f} dB, below {PROMISED:g}; pass a lower "
            "--crf, or write a lossless .mkv"
        )
    console.result(name, {**result, "file": None if found is None else found.as_json()}, as_json=how.as_json)


def _checked(ordered: Order, shape: Shape) -> str:
    """The name of the video to come, about which all that can be is refused."""
    shape = ordered.final(shape)
    name = ordered.name(shape[1:])
    try:
        check(name, shape, ordered.how)
    except UsageError as error:
        if error.code != "size_not_multiple":
            raise
        raise UsageError(
            f"{name} takes even sides alone, and what is made is {shape[2]}x{shape[1]}; pass --even to repeat the last "
            "row or column, or write a lossless .mkv or a folder of frames (NAME/)",
            code="size_not_multiple",
        ) from error
    return name


def _evened(edited: Edited) -> Edited:
    video = replace(edited.video, frames=evened(edited.video.frames))
    return replace(edited, video=video, raw=evened(edited.raw), alpha=evened(edited.alpha))


def _kept(name: str, edited: Edited) -> Kept | None:
    """Measure a saved file; None, with a warning, where it is beyond what is read back, since the video is saved."""
    try:
        return kept(name, edited)
    except UsageError as error:
        console.warn(f"what the encoder kept was not measured: {error}")
        return None


def _said(name: str, found: Kept | None) -> Iterator[str]:
    if found is not None and found.psnr_db is not None:
        yield f"there {name} " + ("is equal too" if math.isinf(found.psnr_db) else f"has {found.psnr_db:.1f} dB")
