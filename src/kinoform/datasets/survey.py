"""Survey of a dataset before it is learnt: the size and the frames of each item, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kinoform.datasets.item import INPUT_OF, Dataset, DatasetItem
from kinoform.errors import UsageError
from kinoform.media.decoder_client import MediaDecoder
from kinoform.media.paths import find_files
from kinoform.media.read import read_header
from kinoform.media.shared_decoder import SharedDecoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Frames that target, source and mask of an item share at the model's rate, the target's pixels, and the SHA-256 of
    all files, the target first.

    `fps` is the rate in the target's file, None where it has none; `still` is true of a single image.
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
    """Yield the survey of each item in order, or the error that reading it gives; headers are read, not frames."""
    with SharedDecoder() as decoder:
        for number, item in enumerate(dataset.items, start=1):
            try:
                yield _survey(item, fps, decoder)
            except UsageError as fault:
                yield fault
            on_item(number, len(dataset.items))


def _survey(item: DatasetItem, fps: float, decoder: MediaDecoder) -> Survey:
    usual = {"target", *INPUT_OF}
    headers = {
        role: [read_header(path, decoder=decoder) for path in paths]
        for role, paths in item.files.items()
        if role in usual
    }
    ((header, _),) = headers["target"]
    shared = [header.frames_at(fps)]
    shared += [other.frames_at(fps) for other, _ in headers.get("source", ())]
    shared += [mask.frames_at(fps) for mask, _ in headers.get("mask", ()) if mask.num_frames > 1]
    return Survey(
        num_frames=min(shared),
        height=header.height,
        width=header.width,
        fps=None if header.seconds is None else float(header.num_frames / header.seconds),
        still=header.num_frames == 1 and header.seconds is None,
        hashes=(
            *(origin.sha256 for read in headers.values() for _, origin in read),
            *(
                find_files(path).origin.sha256
                for name, paths in item.files.items()
                if name not in usual
                for path in paths
            ),
        ),
    )
