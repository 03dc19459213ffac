"""Which blocks a transformer's weights are for: with full attention, or with a temporal attention of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.loading.sources import Source
from kinoform.models.block import FullBlock
from kinoform.models.dit import DiTSpec
from kinoform.models.factorized_block import FactorizedBlock

TIME = ".time_attention."
"""In the names of what only factorized blocks have."""


def has_time(names: Iterable[str]) -> bool:
    """Whether these are names, kinoform's own, of factorized blocks."""
    return any(TIME in name for name in names)


def as_stored(held: Source, spec: DiTSpec) -> DiTSpec:
    """The spec with factorized blocks where weights by own names have them, and it full ones.

    So a model that was converted keeps the recipe of the one it was made from.
    """
    if spec.block != FullBlock() or held.names is not None or not has_time(held.open().tensors):
        return spec
    return replace(spec, block=FactorizedBlock())


def check_blocks(path: Path, spec: DiTSpec, held: Source) -> None:
    """Raise WeightsError, naming the command, where `spec` has factorized blocks and the model at `path` full ones."""
    if isinstance(spec.block, FactorizedBlock) and not has_time(held.open().tensors):
        raise WeightsError(
            f"{path} holds blocks of full attention, the recipe's have a temporal attention of their own; "
            f"make such weights first: kinoform convert --to factorized {path} OUT",
            code="weights_wrong_model",
        )
