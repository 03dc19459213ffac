"""The cache of a training: latents and conditions of clips, and text features of captions, each by a key of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.errors import KinoformError
from kinoform.training.cache.store import EntryKind, EntryStore
from kinoform.training.cache.tree import Damaged, checked_condition, narrowed

MOST_ROWS = 2**16
"""Text rows of a prompt that are believed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedClip:
    """A clip as encoders made it: latents of its video, what conditioners make of its inputs, and the words that these
    put before its prompt."""

    latents: Float[Tensor, "c f h w"] = field(repr=False)
    condition: ConditionerOutput = field(repr=False)
    prefix: str = ""


class ExampleCache:
    """Encoded examples in `folder`, a context at whose end all is on disk.

    `clips` and `text` say what encodes them, as `checkpoint.fingerprint` says it: what others encoded is not read. A
    clip's key is the hash of its files, its beginning, size and rate; the caption is no part of it. Latents and
    conditions are kept as `dtype`; text features as they are, without their rows of zeros, which are put back.
    """

    def __init__(
        self, folder: Path, *, clips: Mapping[str, str], text: Mapping[str, str], dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.folder, self.dtype, self.made_by = folder, dtype, dict(clips)
        self.clips = EntryStore(folder, CLIPS, {**clips, "dtype": str(dtype)})
        self.text = EntryStore(folder, TEXT, text)
        self._squares = self._errors = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what opens it again: other processes read its headers themselves."""
        return _opened, (self.folder, self.made_by, self.text.made_by, self.dtype)

    def __enter__(self) -> ExampleCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*(() if error is None else (KinoformError, OSError))):  # that a disk is full was said already
            self.flush()

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the clips that are not there yet, each once, in order."""
        return [key for key in dict.fromkeys(keys) if key not in self.clips]

    def missing_rows(self, prompts: Iterable[str]) -> list[str]:
        """Return the prompts whose features are not there yet, each once, in order."""
        return [prompt for prompt in dict.fromkeys(prompts) if prompt_key(prompt) not in self.text]

    def has(self, key: str) -> bool:
        """Tell whether a clip is there."""
        return key in self.clips

    def has_rows(self, prompt: str) -> bool:
        """Tell whether the features of a prompt are there."""
        return prompt_key(prompt) in self.text

    def write(self, key: str, clip: EncodedClip) -> None:
        """Add a clip. Raises NonFiniteError for NaN, UsageError for a payload that is not kept, KinoformError for a
        full disk."""
        if self.has(key):
            return
        value = {"latents": clip.latents, "condition": clip.condition, "prefix": clip.prefix}
        self.clips.write(key, value, self.dtype)
        exact = clip.latents.double()
        self._squares += float(exact.square().sum())
        self._errors += float((exact - narrowed(clip.latents, self.dtype).double()).square().sum())

    def write_rows(self, prompt: str, rows: Float[Tensor, "n d"]) -> None:
        """Add the features of a prompt. Raises as `write`."""
        self.text.write(prompt_key(prompt), {"length": len(rows), "rows": trimmed(rows)}, rows.dtype)

    def read(self, key: str) -> EncodedClip:
        """Read a clip, in the dtypes that were written. Raises UsageError where it is missing, KinoformError where it
        is damaged."""
        return self.clips.read(key)

    def prefix(self, key: str) -> str:
        """Return the words before the prompt of a clip that is there, of which no tensor is read."""
        return self.clips.peek(key, "prefix")

    def rows(self, prompt: str) -> Float[Tensor, "n d"]:
        """Read the features of a prompt, as they were written, bit for bit. Raises as `read`."""
        return self.text.read(prompt_key(prompt))

    def refresh(self) -> None:
        """Find what other processes have written meanwhile."""
        for store in (self.clips, self.text):
            store.refresh()

    def heal(self) -> None:
        """Hash all that is there, and remove what is damaged, with a warning: before hours that depend on it."""
        for store in (self.clips, self.text):
            store.heal()

    def flush(self) -> None:
        """Write all to disk that is not there yet."""
        for store in (self.clips, self.text):
            store.flush()

    @property
    def rounding(self) -> float:
        """Error of the latents written so far by rounding: its root mean square, relative to theirs."""
        return (self._errors / self._squares) ** 0.5 if self._squares else 0.0

    def stale(self) -> list[str]:
        """Return what other encoders made, as sentences: how much, and how they differ from these."""
        sentences = list[str]()
        for store, noun in ((self.clips, "clips"), (self.text, "captions")):
            if store.stale:
                count = sum(len(shard.nodes) for shard in store.stale.values())
                size = sum(shard.size for shard in store.stale.values()) / 1e6
                sentences.append(
                    f"{count} {noun} ({size:.1f} MB) in {self.folder} were encoded otherwise and are not read: "
                    + "; ".join(store.differences())
                )
        return sentences


def _opened(folder: Path, clips: dict[str, str], text: dict[str, str], dtype: torch.dtype) -> ExampleCache:
    return ExampleCache(folder, clips=clips, text=text, dtype=dtype)


def prompt_key(prompt: str) -> str:
    """Return the key of a prompt's features."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def trimmed(rows: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    """Return the rows without those at the end whose bits are all zero."""
    used = rows.contiguous().view(torch.uint8).any(dim=-1).nonzero()
    return rows[: int(used.max()) + 1 if len(used) else 0]


def _clip(entry: Any) -> EncodedClip:
    match entry:
        case {"latents": Tensor() as latents, "condition": condition, "prefix": str(prefix)} if latents.ndim == 4:
            return EncodedClip(latents=latents, condition=checked_condition(condition), prefix=prefix)
        case _:
            raise Damaged("has an entry that is no clip")


def _rows(entry: Any) -> Tensor:
    match entry:
        case {"length": int(length), "rows": Tensor() as rows} if rows.ndim == 2 and len(rows) <= length <= MOST_ROWS:
            return F.pad(rows, (0, 0, 0, length - len(rows)))
        case _:
            raise Damaged("has an entry that is no text")


CLIPS = EntryKind(name="clips", parse=_clip)
TEXT = EntryKind(name="text", parse=_rows)
