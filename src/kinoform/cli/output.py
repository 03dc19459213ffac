"""Videos are made one after the other and saved: under which names, and what can be refused of these early."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinoform.cli import console
from kinoform.cli.latents import latents_kept
from kinoform.cli.progress import bars
from kinoform.errors import UsageError
from kinoform.files import check_writable
from kinoform.media.contact_sheet import save_contact_sheet
from kinoform.media.metadata import FRAME_PATTERN
from kinoform.media.paths import default_name
from kinoform.media.video import MAX_UPSCALE, Video, check_output
from kinoform.pipelines.generate import Progress
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """Options with which videos are saved and reported."""

    upscale: int
    force: bool
    metadata: bool
    sheet: bool
    as_json: bool
    codec: str | None = None
    crf: int | None = None


def output_path(output: str | None, default: str) -> str:
    """Return the path of a video: `output`, or the `default` name in that folder if it exists.

    A folder that holds frames and nothing else is itself a video, to be replaced with `--force`.
    """
    if not output:
        return default if output is None else output
    if not os.path.isdir(output) or _is_video(Path(output)):  # Path.is_dir raises for names that no system takes
        return output
    return str(Path(output, default)) + ("/" if default.endswith("/") else "")


def video_names(requests: Sequence[Request], output: str | None) -> list[str]:
    """Return the path of each video; several videos get numbers, so that none replaces another."""
    if output is None or output_path(output, "x") != output:
        return [output_path(output, name) for name in _default_names(requests)]
    if len(requests) == 1 or not Path(output).name:  # a nameless path is refused, with reasons, by `check`
        return [output] * len(requests)
    path, folder = Path(output), output.endswith("/")
    stem, suffix = (path.name, "/") if folder else (path.stem, path.suffix)
    digits = len(str(len(requests)))
    return [f"{path.parent / f'{stem}_{n:0{digits}}'}{suffix}" for n in range(1, len(requests) + 1)]


def _is_video(folder: Path) -> bool:
    entries = list(folder.iterdir())
    return bool(entries) and all(entry.match(FRAME_PATTERN) for entry in entries)


def _default_names(requests: Sequence[Request]) -> list[str]:
    suffix = ".mp4" if requests[0].num_frames > 1 else ".png"
    names = [default_name(request.prompt, request.seed, suffix) for request in requests]
    if len(set(names)) < len(names):
        return [f"{n:04}_{name}" for n, name in enumerate(names, start=1)]
    return names


def sheet_path(name: str) -> Path:
    path = Path(name)
    return path.with_name(f"{path.stem}_sheet.png")


def check(name: str, shape: tuple[int, int, int], saving: SaveOptions) -> None:
    """Check the file before the work: `shape` is frames, height, width before `upscale`.

    Raises UsageError, also where no file can be written to the folder, whatever its permissions say.
    """
    if not 1 <= saving.upscale <= MAX_UPSCALE:
        raise UsageError(f"--upscale must be from 1 to {MAX_UPSCALE}, not {saving.upscale}", code="value_out_of_range")
    frames, height, width = shape
    large = (frames, height * saving.upscale, width * saving.upscale)
    check_output(name, shape=large, force=saving.force, codec=saving.codec, crf=saving.crf)
    if saving.sheet:
        check_writable(sheet_path(name), force=saving.force)
    folder = Path(name).parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(
            f"the folder {folder} cannot be written ({error.strerror}); choose another with -o",
            code="folder_not_writable",
        ) from error


def make(
    pipeline: Pipeline, requests: list[Request], names: list[str], saving: SaveOptions, again: Sequence[str]
) -> None:
    """Make and save all videos; those that were saved are reported even if a later one fails.

    `again` are the words that `kinoform decode` needs besides the file of latents that is kept.
    """
    params = [pipeline.params(request) for request in requests]
    words = [*again, *([] if saving.metadata else ["--no-metadata"]), *(["--contact-sheet"] if saving.sheet else [])]
    wishes = {"upscale": saving.upscale, "codec": saving.codec, "crf": saving.crf}
    waiting: list[Mapping[str, object]] = []  # until the bars are gone, among which a line would be lost
    try:
        with bars(len(requests)) as on_progress:
            latents_of_all = pipeline.latents(requests, on_progress)
            videos = zip(requests, names, params, latents_of_all, strict=True)
            for number, (request, name, record, latents) in enumerate(videos):

                def on_video_progress(progress: Progress, number: int = number) -> bool | None:
                    return on_progress(replace(progress, video=number))

                with latents_kept(latents, record | wishes, name, words, force=saving.force):
                    waiting.append(save(pipeline.video(request, latents, on_video_progress), name, saving))
                if console.streams():
                    _show(waiting.pop(), saving)
    finally:
        for result in waiting:
            _show(result, saving)


def save(video: Video, name: str, saving: SaveOptions) -> dict[str, object]:
    """Write the video, and its contact sheet if wanted; return the fields of the result."""
    video.save(
        name, force=saving.force, upscale=saving.upscale, codec=saving.codec, crf=saving.crf, metadata=saving.metadata
    )
    if saving.sheet:
        save_contact_sheet(video, sheet_path(name), force=saving.force)
    params = video.saved_params(name, upscale=saving.upscale, codec=saving.codec, crf=saving.crf)
    return {"output": name, "contact_sheet": str(sheet_path(name)) if saving.sheet else None, **params}


def _show(result: Mapping[str, object], saving: SaveOptions) -> None:
    console.result(str(result["output"]), result, as_json=saving.as_json)
