"""Latents of a video, kept until it is saved: each run has a file of its own, so that none loses another's work."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from kinoform.checkpoints.latents import SUFFIX, holds_passes, read_passes, resuming, save_latents, save_passes
from kinoform.cli import console
from kinoform.errors import KinoformError, UsageError
from kinoform.files import check_writable
from kinoform.numbers import whole_of
from kinoform.owners import TAG, at_work, new_tag
from kinoform.types import Latents

KEPT = re.compile(rf"(?P<video>.+?)(\.(?P<tag>{TAG}))?{re.escape(SUFFIX)}", re.DOTALL)
"""The name of kept latents; older versions gave them no tag."""

TAKEN = {"file_exists", "written_meanwhile"}
"""Codes of the error where another run has made a video of the same name."""


def latents_path(name: str) -> Path:
    """Return the path of the latents that a run keeps: beside the video `name`, under a name that no other run has."""
    path = Path(name)
    return path.with_name(f"{path.name}.{new_tag()}{SUFFIX}")


def video_name(latents: Path) -> str | None:
    """Return the name of the video that kept latents are for; None where the file name has another form."""
    match = KEPT.fullmatch(latents.name)
    return None if match is None else str(latents.with_name(match["video"]))


def check_latents(names: Sequence[str], *, force: bool, resumed: Path | None = None) -> None:
    """Raise UsageError where latents for such videos wait already, another run makes one, or a name is too long.

    Those that are `resumed` wait no longer.
    """
    for path in [] if force else _waiting(names):
        if resumed is not None and path.resolve() == resumed.resolve():
            continue
        if _at_work(path):
            raise UsageError(
                f"{video_name(path)} is being made by another run; wait until that has ended, or choose another name "
                "with -o",
                code="output_in_use",
            )
        finish = resuming(path) if holds_passes(path) else f"run kinoform decode {path}"
        raise UsageError(
            f"{path} waits to be finished; {finish}, or pass --force to replace it", code="latents_waiting"
        )
    for name in names:
        check_writable(latents_path(name), force=force)


@contextmanager
def latents_kept(
    latents: Latents, params: Mapping[str, object], name: str, again: Sequence[str], *, force: bool
) -> Iterator[None]:
    """Hold the latents on disk during the block; if it fails or is interrupted, say how to finish.

    `again` are the words that `kinoform decode` needs besides the file. With `force` they replace those of earlier
    runs for the same video, unless these are at work.
    """
    paths: list[Path] = []
    try:
        _keep(partial(save_latents, latents=latents, params=params), name, paths)
        if force and paths[0].exists():
            _replace_former(name, paths[0])
        yield
        for path in paths:
            path.unlink(missing_ok=True)
    except BaseException as error:
        for path in filter(Path.exists, paths):
            words = ["kinoform", "decode", str(path), *again, *_where(path, name, error)]
            console.note(f"the denoised latents are kept; finish with: {shlex.join(words)}")
        raise


class KeptPasses:
    """Passes of an edit on disk, each saved as soon as it is made."""

    def __init__(self, params: Mapping[str, object], name: str, passes: Mapping[int, Latents]) -> None:
        self.paths, self._params, self._name, self._made = list[Path](), params, name, dict(passes)

    def made(self, number: int) -> Latents | None:
        return self._made.get(number)

    def keep(self, number: int, latents: Latents) -> None:
        self._made[number] = latents
        _keep(partial(save_passes, passes=self._made, params=self._params), self._name, self.paths)


@contextmanager
def passes_kept(
    params: Mapping[str, object], name: str, again: Sequence[str], *, force: bool, resumed: Path | None, total: int
) -> Iterator[KeptPasses]:
    """Hold each pass of an edit on disk during the block; if it fails or is interrupted, say how to finish.

    `again` are the words of the command, and `params` tell of its edit. Passes in the file `resumed` are known; it
    goes when the block is done, as does one of an earlier run for the same video with `force`.
    Raises UsageError for a file of another edit.
    """
    kept = KeptPasses(params, name, {} if resumed is None else _resumed(resumed, params))
    try:
        yield kept
        for path in (*kept.paths, *([] if resumed is None else [resumed])):
            path.unlink(missing_ok=True)
        if force:
            _replace_former(name, None)
    except BaseException as error:
        if (path := next(filter(Path.exists, kept.paths), resumed)) is not None:
            replaced = Path(name).exists() and "--force" not in again
            where = ["-o", _free(name)] if _is_taken(error) else ["--force"] * replaced
            words = ["kinoform", *again, "--resume", str(path), *where]
            console.note(f"of {total} passes, those that were made are kept; finish with: {shlex.join(words)}")
        raise


def seed_kept(resumed: Path | None) -> int | None:
    """Return the seed of the edit whose passes a file holds, so that a killed run that drew its seed can go on.

    Raises UsageError for a file that holds no passes.
    """
    recorded = {} if resumed is None else read_passes(resumed)[1]
    seed = whole_of(recorded.get("seed"))
    return seed if seed is not None and seed >= 0 else None


def _resumed(file: Path, params: Mapping[str, object]) -> dict[int, Latents]:
    passes, recorded = read_passes(file)
    if recorded.get("identity") != params["identity"]:
        raise UsageError(
            f"{file} holds passes of another edit: of another video, prompt, seed, model or setting; "
            "leave --resume out to start again",
            code="passes_of_another_edit",
        )
    return passes


def _keep(save: Callable[[Path], None], name: str, paths: list[Path]) -> None:
    """Save beside the video; where that fails, in the folder for temporary files, which may be another disk.

    A path is added to `paths` before it is written, since a signal may come at any time. The last path is written
    again each time, and earlier ones are removed when a later one holds everything.
    """
    if not paths:
        paths.append(latents_path(name))
    try:
        return save(paths[-1])
    except (KinoformError, OSError) as error:
        console.note(f"warning: {error}")
    try:
        paths.append(Path(tempfile.gettempdir()) / f"kinoform-{new_tag()}{SUFFIX}")
        save(paths[-1])
        for path in paths[:-1]:
            path.unlink(missing_ok=True)
    except (KinoformError, OSError) as error:
        console.note(f"warning: the latents could not be kept while the video is saved: {error}")


def _is_taken(error: BaseException) -> bool:
    """Tell whether another run made a video of the same name meanwhile."""
    return isinstance(error, KinoformError) and error.code in TAKEN


def _where(latents: Path, name: str, error: BaseException) -> list[str]:
    """Return the options that name the video, but not one that another run made meanwhile."""
    if _is_taken(error):
        return ["-o", _free(name)]
    output = [] if video_name(latents) == str(Path(name)) else ["-o", name]
    return [*output, *(["--force"] if Path(name).exists() else [])]


def _free(name: str) -> str:
    path, end = Path(name), "/" if name.endswith("/") else ""
    stem, suffix = (path.name, "") if end else (path.stem, path.suffix)
    number = 2
    while (candidate := path.with_name(f"{stem}_{number}{suffix}")).exists():
        number += 1
    return f"{candidate}{end}"


def _waiting(names: Iterable[str]) -> Iterator[Path]:
    """Latents of earlier runs for videos of these names."""
    videos = {str(Path(name)) for name in names}
    for folder in sorted({Path(name).parent for name in videos}):
        with suppress(OSError):  # of which `check` has more to say
            yield from (item for item in sorted(folder.iterdir()) if video_name(item) in videos)


def _replace_former(name: str, own: Path | None) -> None:
    for path in _waiting([name]):
        if path != own and not _at_work(path):
            path.unlink(missing_ok=True)


def _at_work(latents: Path) -> bool:
    match = KEPT.fullmatch(latents.name)
    return match is not None and match["tag"] is not None and at_work(match["tag"])
