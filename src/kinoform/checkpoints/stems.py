"""Files of a folder that hold a part: those of an index, one file, or numbered ones, all called after one stem.

Plain files stand before those of a variant (STEM.fp16.safetensors), and safetensors before pickles (.bin), as in
diffusers and transformers. Read without PyTorch.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kinoform.checkpoints.headers import FETCH, SAFETENSORS, WEIGHT_SUFFIXES, read_json
from kinoform.checkpoints.reader import HeaderReader
from kinoform.checkpoints.shards import MOST_SHARDS, shards_of
from kinoform.errors import WeightsError

STEM, TEXT_STEM = "diffusion_pytorch_model", "model"
"""Names of the weight files in a folder when nothing else is said; the second in those of transformers."""

STEMS = (STEM, TEXT_STEM)
PICKLED = {TEXT_STEM: "pytorch_model"}
"""The stem of pickles, where it is another."""

NUMBERED = r"-(?P<number>\d{5})-of-(?P<total>\d{5})"
LISTED, LONGEST = 3, 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files that belong together, there or not; `index` is the file that lists them, if one does."""

    files: tuple[Path, ...]
    variant: str = ""
    pickled: bool = False
    index: Path | None = None


def stem_of(folder: Path) -> str:
    """The stem after which the weights in a folder are called."""
    return next((stem for stem in STEMS if groups(folder, stem)), STEM)


def files_at(place: Path, reader: HeaderReader) -> tuple[Path, ...]:
    """Find the files that a path means: a shard stands for its set, a folder for the stem that its files are called
    after, and `folder/stem` for the files of that stem. Raises WeightsError as `files_of`.
    """
    if place.is_dir():
        return files_of(place / stem_of(place), reader)
    named = place.is_file() or place.suffix.lower() in WEIGHT_SUFFIXES
    return shards_of(place) if named else files_of(place, reader)


def files_of(place: Path, reader: HeaderReader) -> tuple[Path, ...]:
    """The files that `folder/stem` means. Raises WeightsError where they are missing, incomplete or ambiguous."""
    folder, stem = place.parent, place.name
    left = preferred(groups(folder, stem))
    if not left:
        raise WeightsError(
            f"{folder} holds no {stem}*.safetensors; check the folder, or fetch it", code="weights_missing"
        )
    for each in left:
        if each.index is not None or len(left) == 1:
            checked(each, reader)
    if len(left) > 1:
        names = " and ".join(each.files[0].name for each in left[:LISTED])
        raise WeightsError(
            f"{folder} holds two sets of {stem} files, {names}; give the file of one, or move the other away",
            code="weights_ambiguous",
        )
    return left[0].files


def groups(folder: Path, stem: str) -> list[Group]:
    """Everything in a folder that is called after a stem; what an index lists is one group."""
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    found = [listed(folder / name, variant) for name in names if (variant := _index(name, stem)) is not None]
    taken = {file for each in found for file in each.files}
    numbered: dict[tuple[str, bool, int, str], dict[int, Path]] = {}
    for name in names:
        match = _weights(stem).fullmatch(name)
        if match is None or folder / name in taken:
            continue
        variant, pickled = (match["variant"] or match["late"] or "").lstrip("."), match["ending"].lower() == ".bin"
        if not pickled and match["stem"].lower() != stem.lower():
            continue
        total = int(match["total"] or 0)
        numbered.setdefault((variant, pickled, total, match["ending"]), {})[int(match["number"] or 0)] = folder / name
    for (variant, pickled, total, _), files in numbered.items():
        found.append(Group(files=_whole(files, total), variant=variant, pickled=pickled))
    return found


def preferred(found: Iterable[Group]) -> list[Group]:
    """Groups that are meant: plain ones, else those of variants, else pickles; of more than one a person chooses."""
    held = list(found)
    for wanted in (
        [each for each in held if not each.pickled and not each.variant],
        [each for each in held if not each.pickled],
        [each for each in held if not each.variant],
        held,
    ):
        if wanted:
            return wanted
    return []


def passed_over(folder: Path) -> set[Path]:
    """Files that nobody reads, because others called after the same stem stand before them."""
    found: set[Path] = set()
    for stem in STEMS:
        with suppress(WeightsError):  # of an index, which others tell
            held = groups(folder, stem)
            found |= {file for each in held if each not in preferred(held) for file in each.files}
    return found


def checked(group: Group, reader: HeaderReader) -> tuple[Path, ...]:
    """The files. Raises WeightsError where one is missing, or an index promises what its files lack."""
    for file in group.files:
        if not file.is_file():
            told = "other files of its set are there" if group.index is None else f"{group.index.name} names it"
            raise WeightsError(f"{file} is missing, though {told}; fetch it", code="weights_incomplete")
    if group.index is not None and not group.pickled:
        held = {tensor for file in group.files for tensor in reader.read(file).entries}
        if lacking := sorted(_map(group.index).keys() - held):
            raise WeightsError(
                f"{group.index} promises {len(lacking)} tensors that its files lack, first {lacking[0]!r}; {FETCH}",
                code="weights_incomplete",
            )
    return group.files


def listed(index: Path, variant: str = "") -> Group:
    """The files that an index lists. Raises WeightsError where it is damaged, or names no weight file beside it."""
    pickled = ".bin." in index.name
    names = sorted(set(_map(index).values()))
    for name in names:
        if Path(name).name != name or "\\" in name or not name.lower().endswith((".bin",) if pickled else SAFETENSORS):
            raise WeightsError(
                f"{index} names {name[:LONGEST]!r}, which is no weight file beside it; {FETCH}", code="weights_damaged"
            )
    return Group(files=tuple(index.parent / name for name in names), variant=variant, pickled=pickled, index=index)


def _map(index: Path) -> dict[str, str]:
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise WeightsError(f"{index} has no weight_map from tensors to files; {FETCH}", code="weights_damaged")
    return found


def _whole(files: dict[int, Path], total: int) -> tuple[Path, ...]:
    """The numbered files of a set, spelled as one of them that is there."""
    if not 0 < total <= MOST_SHARDS:
        return tuple(files.values())
    number, given = next(iter(files.items()))
    before, after = given.name.split(f"-{number:05d}-", 1)
    return tuple(files.get(n) or given.with_name(f"{before}-{n:05d}-{after}") for n in range(1, total + 1))


def _index(name: str, stem: str) -> str | None:
    """The variant that an index is of, empty for a plain one; None for any other file."""
    pickled = re.escape(PICKLED.get(stem, stem))
    match = re.fullmatch(rf"({re.escape(stem)}\.safetensors|{pickled}\.bin)\.index(?:\.(?P<variant>\w+))?\.json", name)
    return None if match is None else match["variant"] or ""


def _weights(stem: str) -> re.Pattern[str]:
    """A weight file of a stem; a variant stands before its number, or behind in what older programs wrote."""
    stems = f"(?P<stem>{re.escape(stem)}|{re.escape(PICKLED.get(stem, stem))})"
    numbered = rf"(?:{NUMBERED}(?P<late>\.\w+)?)?"
    return re.compile(rf"{stems}(?P<variant>\.\w+)?{numbered}(?P<ending>\.(?:safetensors|sft|bin))", re.IGNORECASE)
