"""Items of a dataset: the files of each by their role, and its caption."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kinoform.conditions.inputs import InputField
from kinoform.conditions.standard_inputs import FRAMES, MASK, REFERENCE_IMAGES, VIDEO
from kinoform.datasets.asked import NOTHING_ASKED, DatasetSettings
from kinoform.datasets.own_inputs import OwnValue
from kinoform.errors import UsageError

ROLES = ("target", "source", "mask", "references", "first", "last", "caption")
"""Roles that a file or a text of an item can have."""

WITHOUT: Mapping[str, Any] = {"source": None, "mask": None, "references": (), "first": None, "last": None}
"""The roles that an item may be without, and what it has then."""

FIRST, LAST = 0, -1
FRAME_ROLES = {FIRST: "first", LAST: "last"}

SHOWN = 5
"""Names of items in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetItem:
    """A video or an image to learn, the text and the files that ask for it.

    `target` is a video, an image, or a folder of frames. `source` is a video to change or to follow, `mask` where it
    changes; `first` and `last` are images of these frames. `own` are values of inputs that the model has besides, by
    their names. `name` is what messages call it. It counts `repeats` times.
    """

    name: str
    target: Path
    caption: str
    source: Path | None = None
    mask: Path | None = None
    references: tuple[Path, ...] = ()
    first: Path | None = None
    last: Path | None = None
    repeats: int = 1
    own: tuple[tuple[str, OwnValue], ...] = ()

    @property
    def files(self) -> Mapping[str, tuple[Path, ...]]:
        """The files of each role that has any, also of inputs of the model's own."""
        one = {"target": self.target, "source": self.source, "mask": self.mask, "first": self.first, "last": self.last}
        given = {role: (path,) for role, path in one.items() if path is not None}
        given |= {"references": self.references} if self.references else {}
        return given | {name: value for name, value in self.own if isinstance(value, tuple)}

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of all that it is given beside the target and the caption."""
        return (*(role for role in WITHOUT if getattr(self, role)), *(name for name, _ in self.own))

    def without(self, roles: Collection[str]) -> DatasetItem:
        """Return the item without what it is given in these roles; a mask goes with its source."""
        lost = {*roles, "mask"} if "source" in roles else set(roles)
        changes = {role: nothing for role, nothing in WITHOUT.items() if role in lost}
        return replace(self, own=tuple(own for own in self.own if own[0] not in lost), **changes)


INPUT_OF: Mapping[str, InputField[Any]] = {
    "source": VIDEO, "mask": MASK, "references": REFERENCE_IMAGES, "first": FRAMES, "last": FRAMES,
}  # fmt: skip
"""The input of a request that a role becomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Items in the order of their file or folder, and in which `form` they were found.

    `notes` are sentences about what was left out or taken otherwise, `asked` the
    settings that the file makes. Raises UsageError for a dataset without items.
    """

    path: Path
    form: str
    items: tuple[DatasetItem, ...]
    notes: tuple[str, ...] = ()
    asked: DatasetSettings = NOTHING_ASKED

    def __post_init__(self) -> None:
        if not self.items:
            raise UsageError(
                f"{self.path} holds no video and no image to learn; put clips into it, each with a text file of the "
                "same name: clip.mp4 and clip.txt",
                code="dataset_empty",
            )

    def check_captions(self) -> None:
        """Raise UsageError that names the items without a caption."""
        without = [item.name for item in self.items if not item.caption.strip()]
        if without:
            raise UsageError(
                f"{len(without)} of {len(self.items)} items of {self.path} have no caption: {some(without)}; write "
                "one for each, in a .txt file of its name or in the column caption",
                code="captions_missing",
            )

    def check_inputs(self, takes: frozenset[InputField[Any]], model: str) -> None:
        """Raise UsageError for roles that the model has no input for."""
        for item in self.items:
            for role in item.files:
                if role in INPUT_OF and INPUT_OF[role] not in takes:
                    known = sorted({role for role, field in INPUT_OF.items() if field in takes})
                    raise UsageError(
                        f"{item.name} has a {role}, which {model} cannot be given"
                        f"{'; it takes ' + ', '.join(known) if known else ''}; leave it out, or train a model that "
                        "takes it",
                        code="input_not_taken",
                    )


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
