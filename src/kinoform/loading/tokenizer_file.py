"""The file of a model's tokenizer: tokenizer.json, spiece.model, or a tensor of bytes in a text encoder's file."""

from dataclasses import dataclass
from pathlib import Path

from kinoform.checkpoints.files import stored_in
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.headers import Header
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles, check_unchanged
from kinoform.errors import WeightsError
from kinoform.families.identify import VOCABULARY
from kinoform.models.tokenizer import JSON_FILE, SENTENCEPIECE_FILE, Tokenizer, load_tokenizer, tokenizer_of_bytes

MAX_BYTES = 64_000_000
PLAIN = (".json", ".model")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFile:
    """The file of a tokenizer; where that is one of weights, its `header` and the name of the tensor in it."""

    path: Path
    header: Header | None = None
    tensor: str = ""

    def stored(self) -> Stored | None:
        """The tensor of bytes, None where the file is a tokenizer and nothing else."""
        if self.header is None:
            return None
        check_unchanged(self.header)
        return stored_in(self.header)[self.tensor]

    def read(self) -> Tokenizer:
        """Raises WeightsError when the file holds no tokenizer or has changed, UsageError for a missing package."""
        if (stored := self.stored()) is None:
            return load_tokenizer(self.path)
        return tokenizer_of_bytes(stored.read().numpy().tobytes(), self.path)


def tokenizer_at(place: Path, reader: HeaderReader) -> TokenizerFile:
    """Find the tokenizer that a file is, or that lies in it or in a folder. Raises WeightsError where there is none."""
    if place.is_file():
        if place.suffix.lower() in PLAIN:
            return TokenizerFile(path=place)
        found = tokenizer_in(reader.open(place, (place,)))
        if found is None:
            raise WeightsError(
                f"{place} carries no tokenizer; give {JSON_FILE} or {SENTENCEPIECE_FILE} with --tokenizer",
                code="tokenizer_missing",
            )
        return found
    for name in (JSON_FILE, SENTENCEPIECE_FILE):
        if (place / name).is_file():
            return TokenizerFile(path=place / name)
    raise WeightsError(
        f"no tokenizer in {place}: {JSON_FILE} or {SENTENCEPIECE_FILE} must be there", code="tokenizer_missing"
    )


def tokenizer_in(opened: OpenedFiles) -> TokenizerFile | None:
    """Find the tensor that is a tokenizer, if there is one. Raises WeightsError when it cannot be one."""
    for header in opened.headers:
        for name, entry in header.entries.items():
            if name.rpartition(".")[2] == VOCABULARY:
                if entry.dtype != "U8" or len(entry.shape) != 1 or entry.shape[0] > MAX_BYTES:
                    raise WeightsError(
                        f"{header.path}: {name} is no row of bytes; get the file of another release",
                        code="weights_damaged",
                    )
                return TokenizerFile(path=header.path, header=header, tensor=name)
    return None
