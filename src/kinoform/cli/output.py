"""Where films go: their names, what can be refused about them early, and latents kept until they are saved."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kinoform.cli import console
from kinoform.errors import KinoformError, UsageError
from kinoform.files import check_writable
from kinoform.media.audio import Sound
from kinoform.media.film import Film, check_output
from kinoform.media.names import default_name
from kinoform.media.sheet import save_contact_sheet
from kinoform.pipelines.request import Request
from kinoform.types import Latents
from kinoform.weights.latents import SUFFIX, save_latents

MOST_UPSCALE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How films are saved."""

    upscale: int
    force: bool
    metadata: bool
    sheet: bool
    as_json: bool
    codec: str | None = None
    crf: int | None = None


def film_names(asked: Sequence[Request], output: str | None) -> list[str]:
    """Where each film goes; several films get numbers, so that none replaces another."""
    if output is None:
        return _default_names(asked)
    if len(asked) == 1 or not Path(output).name:  # a nameless path is refused, with reasons, by `check`
        return [output] * len(asked)
    path, folder = Path(output), output.endswith("/")
    stem, suffix = (path.name, "/") if folder else (path.stem, path.suffix)
    digits = len(str(len(asked)))
    return [f"{path.parent / f'{stem}_{n:0{digits}}'}{suffix}" for n in range(1, len(asked) + 1)]


def _default_names(asked: Sequence[Request]) -> list[str]:
    suffix = ".mp4" if asked[0].num_frames > 1 else ".png"
    names = [default_name(each.prompt, each.seed, suffix) for each in asked]
    if len(set(names)) < len(names):
        return [f"{n:04}_{name}" for n, name in enumerate(names, start=1)]
    return names


def sheet_path(name: str) -> Path:
    path = Path(name)
    return path.with_name(f"{path.stem}_sheet.png")


def latents_path(name: str) -> Path:
    path = Path(name)
    return path.with_name(path.name + SUFFIX)


def check(name: str, shape: tuple[int, int, int], how: Output) -> None:
    """Refuse before the work all that can be: `shape` is frames, height, width before `upscale`.

    Raises UsageError, also where a try shows that the folder takes no file, whatever its permissions say.
    """
    if not 1 <= how.upscale <= MOST_UPSCALE:
        raise UsageError(f"--upscale must be from 1 to {MOST_UPSCALE}, not {how.upscale}", code="value_out_of_range")
    frames, height, width = shape
    large = (frames, height * how.upscale, width * how.upscale)
    check_output(name, shape=large, force=how.force, codec=how.codec, crf=how.crf)
    if how.sheet:
        check_writable(sheet_path(name), force=how.force)
    folder = Path(name).parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(
            f"the folder {folder} cannot be written ({error.strerror}); choose another with -o",
            code="folder_not_writable",
        ) from error


def check_latents(name: str, *, force: bool) -> None:
    """Raise UsageError where latents of an earlier run wait beside the film to come, or their name is too long."""
    path = latents_path(name)
    if path.exists() and not force:
        raise UsageError(
            f"{path} waits to be finished; run kinoform decode {path}, or pass --force to replace it",
            code="latents_waiting",
        )
    check_writable(path, force=force)


def save(film: Film, name: str, how: Output, sound: Sound | None = None) -> dict[str, object]:
    """Write the film, and its contact sheet where asked for; return what is to be told of them."""
    film.save(
        name, force=how.force, upscale=how.upscale, codec=how.codec, crf=how.crf, metadata=how.metadata, sound=sound
    )
    if how.sheet:
        save_contact_sheet(film, sheet_path(name), force=how.force)
    params = film.saved_params(name, upscale=how.upscale, codec=how.codec, crf=how.crf)
    return {"output": name, "contact_sheet": str(sheet_path(name)) if how.sheet else None, **params}


@contextmanager
def latents_kept(latents: Latents, params: Mapping[str, object], name: str, again: Sequence[str]) -> Iterator[None]:
    """Hold the latents on disk during the block; if it fails or is interrupted, say how to finish.

    `again` are the words that `kinoform decode` needs besides the file.
    """
    path = _keep(latents, params, name)
    try:
        yield
    except BaseException:
        if path is not None:
            words = ["kinoform", "decode", str(path), *again]
            words += ["-o", name] if path != latents_path(name) else []
            words += ["--force"] if Path(name).exists() else []
            console.note(f"the denoised latents are kept; finish with: {shlex.join(words)}")
        raise
    if path is not None:
        path.unlink(missing_ok=True)


def _keep(latents: Latents, params: Mapping[str, object], name: str) -> Path | None:
    """Beside the film; where that fails, in the folder for temporary files, which may be another disk."""
    beside = latents_path(name)
    try:
        save_latents(beside, latents, params)
        return beside
    except (KinoformError, OSError) as error:
        console.note(f"warning: {error}")
    elsewhere = None
    try:
        handle, unique = tempfile.mkstemp(prefix="kinoform-", suffix=SUFFIX)
        os.close(handle)
        elsewhere = Path(unique)
        save_latents(elsewhere, latents, params)
        return elsewhere
    except (KinoformError, OSError) as error:
        console.note(f"warning: the latents could not be kept while the film is saved: {error}")
        if elsewhere is not None:
            elsewhere.unlink(missing_ok=True)
        return None
