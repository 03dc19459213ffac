"""Where a model's tokenizer lies: tokenizer.json, spiece.model, or a tensor of bytes in a text encoder's file."""

from pathlib import Path

import torch

from kinoform.checkpoints.files import Checkpoint, open_checkpoint
from kinoform.errors import WeightsError
from kinoform.families.identify import VOCABULARY
from kinoform.models.tokenizer import JSON_FILE, SENTENCEPIECE_FILE, Tokenizer, load_tokenizer, tokenizer_of_bytes

MAX_BYTES = 64_000_000
PLAIN = (".json", ".model")


def vocabulary_file(place: Path) -> Path:
    """The file that `read_vocabulary` will read: `place` itself, or one in that folder. Raises WeightsError."""
    if place.is_file():
        return place
    for name in (JSON_FILE, SENTENCEPIECE_FILE):
        if (place / name).is_file():
            return place / name
    raise WeightsError(
        f"no tokenizer in {place}: {JSON_FILE} or {SENTENCEPIECE_FILE} must be there", code="tokenizer_missing"
    )


def read_vocabulary(file: Path) -> Tokenizer:
    """Raises WeightsError when the file holds no tokenizer, UsageError when reading it needs another package."""
    if file.suffix.lower() in PLAIN:
        return load_tokenizer(file)
    checkpoint = open_checkpoint(file)
    name = held_vocabulary(checkpoint)
    if name is None:
        raise WeightsError(
            f"{file} carries no tokenizer; give {JSON_FILE} or {SENTENCEPIECE_FILE} with --tokenizer",
            code="tokenizer_missing",
        )
    return tokenizer_of_bytes(checkpoint.read(name).numpy().tobytes(), file)


def held_vocabulary(checkpoint: Checkpoint) -> str | None:
    """The name of the tensor that is a tokenizer, if there is one. Raises WeightsError when it cannot be."""
    for name, stored in checkpoint.tensors.items():
        if name.rpartition(".")[2] == VOCABULARY:
            if stored.dtype != torch.uint8 or len(stored.shape) != 1 or stored.shape[0] > MAX_BYTES:
                raise WeightsError(
                    f"{stored.file}: {name} is no row of bytes; get the file of another release", code="weights_damaged"
                )
            return name
    return None
