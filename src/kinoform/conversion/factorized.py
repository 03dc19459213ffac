"""From full attention to factorized blocks, whose temporal attention begins as an exact no-op.

The self-attention of a block stays as it is and becomes the spatial one; the temporal one begins as its copy. The rows
of modulation that scale, shift and gate it, in each block and in the time projection, begin at zero: whatever the
temporal attention finds is multiplied by zero, until training moves the gate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kinoform.checkpoints.write import Outgoing
from kinoform.conversion.source import Holdings, Part, Vocabulary
from kinoform.errors import WeightsError
from kinoform.families.family import IMAGE_ENCODER
from kinoform.families.identify import detect_opened
from kinoform.loading.own import Manifest, open_own, verify
from kinoform.loading.parts import the_only
from kinoform.loading.sources import PartFile
from kinoform.models.block import MODULATION_ROWS
from kinoform.models.factorized_block import ROWS, TIME_ATTENTION, has_time_attention

SPACE = re.compile(r"((?:.+\.)?blocks\.\d+)\.self_attention\.(.+)")
TABLE, PROJECTION = re.compile(r"(?:.+\.)?blocks\.\d+\.modulation"), re.compile(r"time_projection\.1\.(weight|bias)")


def factorized(path: Path, tensors: Iterable[Outgoing]) -> tuple[Outgoing, ...]:
    """The tensors of a transformer by own names, with what factorized blocks have besides.

    Raises WeightsError, naming `path`, when the blocks are not those of full attention.
    """
    held = tuple(tensors)
    if has_time_attention(each.name for each in held):
        raise WeightsError(f"{path} has factorized blocks already; load it as it is", code="factorized_already")
    return tuple(made for each in held for made in _grown(path, each))


def own_holdings(folder: Path) -> Holdings:
    """All parts of a folder of kinoform's own, whatever its recipe; tensors keep their names.

    Raises WeightsError as `open_own` and `verify` do, and for a file that is another part than its name says.
    """
    own = open_own(folder)
    held = {
        "transformer": the_only(own.transformers),
        "text_encoder": own.text_encoder,
        "codec": own.codec,
        IMAGE_ENCODER: own.image_encoder,
    }
    parts = {name: _own_part(name, file, own.manifest) for name, file in held.items() if file is not None}
    files = [file for part in held.values() if part is not None for file in part.files.files]
    verify(own.manifest, [own.tokenizer.path])
    vocabulary = Vocabulary(files=(own.tokenizer.path,))
    return Holdings(path=folder, parts=parts, vocabulary=vocabulary, files=(*files, own.tokenizer.path))


def _own_part(name: str, file: PartFile, manifest: Manifest) -> Part:
    files = file.files.files
    verify(manifest, files)
    found = detect_opened(file.files)
    if [part.identity.part for part in found] != [name]:
        raise WeightsError(
            f"{files[0]} is no {name.replace('_', ' ')}; fetch the folder again", code="weights_wrong_part"
        )
    return Part(identity=found[0].identity, tensors=file.checkpoint().tensors)


def _grown(path: Path, each: Outgoing) -> Iterator[Outgoing]:
    """The tensor itself, with rows of zeros for time where it has a row for each modulation; and its copy for time."""
    if TABLE.fullmatch(each.name):
        yield _with_rows(path, each, 1)
        return
    if PROJECTION.fullmatch(each.name):
        yield _with_rows(path, each, 0)
        return
    yield each
    if match := SPACE.fullmatch(each.name):
        yield replace(each, name=f"{match[1]}{TIME_ATTENTION}{match[2]}")


def _with_rows(path: Path, each: Outgoing, axis: int) -> Outgoing:
    length = each.shape[axis] if len(each.shape) > axis else 0
    if length == 0 or length % MODULATION_ROWS:
        raise WeightsError(
            f"{path}: {each.name} has shape {list(each.shape)}, which full attention has not",
            code="weights_wrong_shape",
        )
    longer = length // MODULATION_ROWS * ROWS
    shape = (*each.shape[:axis], longer, *each.shape[axis + 1 :])

    def read() -> Tensor:
        stored = each.read()
        grown = torch.zeros(shape, dtype=stored.dtype)
        grown.narrow(axis, 0, length).copy_(stored)
        return grown

    return replace(each, shape=shape, read=read)
