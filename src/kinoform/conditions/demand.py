"""What a conditioner will need, in numbers: known before anything is encoded, and what a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.ports import FilmSize, Units


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What `give` encodes, then what it gives; films and frames are of the size of the film to be made.

    `films` and `stills`: whole films and single frames for the codec; `pictures`: for the image encoder;
    `held`: bytes of pixels on the host meanwhile. `rows`: by context stream; `branches`: latent frames by
    branch; `lead`: latent frames before the film; `strength`: that of a film to begin from, None without;
    `with_prompt`: streams and branches of which the negative prompt gets nothing.
    """

    films: int = 0
    stills: int = 0
    pictures: int = 0
    held: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    branches: Mapping[str, int] = field(default_factory=dict)
    lead: int = 0
    strength: float | None = None
    with_prompt: frozenset[str] = frozenset()


@runtime_checkable
class Demanding(Protocol):
    """A conditioner that tells what it will need. `picture_rows` are those of the image encoder for one picture.

    Inputs may be missing, as in a plan without any; then it tells the usual case. A conditioner without this method
    works as well, but plans say that it is not counted.
    """

    def demand(self, inputs: Inputs, film: FilmSize, units: Units, picture_rows: int) -> Demand: ...
