"""Settings that a dataset file of another trainer makes, in kinoform's terms."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from kinoform.datasets.buckets import ClipLengths
from kinoform.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSettings:
    """Choices of a dataset file, None where it makes none; options of the command line override them.

    `sizes` are (width, height) of the areas of buckets, in each of which a clip is learnt, `one_size` crops all clips
    to them, `lengths` are those of clips, `rule` names the choice of clips as `--clips` does, and `batch` is the
    largest number of clips in a batch.
    """

    sizes: tuple[tuple[int, int], ...] | None = None
    one_size: bool | None = None
    lengths: ClipLengths | None = None
    rule: str | None = None
    batch: int | None = None

    def joined(self, other: DatasetSettings, place: str) -> DatasetSettings:
        """Return both in one. Raises UsageError where they contradict each other."""
        values: dict[str, Any] = {}
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if None not in (mine, theirs) and mine != theirs:
                raise UsageError(
                    f"{place}: its folders ask for different {item.name} ({mine} and {theirs}); give each a file of "
                    "its own, and train on one",
                    code="dataset_settings_differ",
                )
            values[item.name] = theirs if mine is None else mine
        return DatasetSettings(**values)


NOTHING_ASKED = DatasetSettings()
