"""Survey of a dataset before it is learnt: the size and the frames of each item, and what is wrong with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kinoform.datasets.item import Dataset, DatasetItem
from kinoform.errors import UsageError
from kinoform.media.paths import find_files
from kinoform.media.read import read_clip


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Frames of an item's target at the model's rate, its pixels, and the SHA-256 of all its files, the target first.

    `fps` is the rate in the file, None where it has none; `still` is true of a single image.
    """

    num_frames: int
    height: int
    width: int
    fps: float | None
    still: bool
    hashes: tuple[str, ...]


def survey(
    dataset: Dataset, fps: float, on_item: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Survey | UsageError]:
    """Yield the survey of each item in order, or the error that reading it gives."""
    for number, item in enumerate(dataset.items, start=1):
        try:
            yield _survey(item, fps)
        except UsageError as fault:
            yield fault
        on_item(number, len(dataset.items))


def _survey(item: DatasetItem, fps: float) -> Survey:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are told when it is encoded
        own = read_clip(item.target)
        clip = read_clip(item.target, fps=fps) if own.fps is not None and own.fps != fps else own
    frames, height, width, _ = clip.frames.shape
    hashes = tuple(find_files(path).origin.sha256 for paths in item.files.values() for path in paths)
    return Survey(
        num_frames=frames, height=height, width=width, fps=own.fps, still=frames == 1 and own.fps is None,
        hashes=hashes,
    )  # fmt: skip
