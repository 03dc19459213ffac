"""Dropout of what clips are given, so that a model also learns to do without, and guidance can tell inputs apart."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from kinoform.conditions.protocols import Conditioner, declared
from kinoform.datasets.clips import Clip
from kinoform.datasets.item import INPUT_OF
from kinoform.datasets.needed import needed_roles
from kinoform.datasets.own_inputs import own_inputs
from kinoform.errors import UsageError, nearest
from kinoform.numbers import real, settle


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDropout:
    """Shares of the samples that lose an input, by its role (`Clip.roles`), each by a draw of its own.

    A mask goes with its source; `known` frames of a clip may be lost as images of its item may. Raises UsageError for a
    share that is not from 0 to 1.
    """

    shares: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        checked = tuple((role, real(f"the dropout of {role[:40]}", share, 0.0, 1.0)) for role, share in self.shares)
        settle(self, shares=checked)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that may be lost."""
        return tuple(role for role, share in self.shares if share)

    def draw(self, count: int, seed: int, step: int) -> list[tuple[str, ...]]:
        """Return the roles that each sample of a step loses; a further role moves no draw of the others."""
        losing = {
            role: np.random.default_rng([seed, step, zlib.crc32(role.encode())]).random(count) < share
            for role, share in self.shares
        }
        return [tuple(role for role, loses in losing.items() if loses[number]) for number in range(count)]

    def variants(self, clip: Clip, known: Collection[int] = ()) -> list[Clip]:
        """Return a clip without each set of roles that it may lose: what has to be encoded beside the clip."""
        roles = [role for role in self.roles if role in clip.roles(known)]
        sets = chain.from_iterable(combinations(roles, count) for count in range(1, len(roles) + 1))
        return list(dict.fromkeys(clip.without(lost, known) for lost in sets))

    def check(self, clips: Iterable[Clip], conditioners: Sequence[Conditioner], known: Sequence[int] = ()) -> None:
        """Raise UsageError for a role that the model does not take or that it needs, and one that no clip is given."""
        inputs, kinds = declared(conditioners), {clip.roles(known): clip for clip in clips}
        taken = {role for role, field in INPUT_OF.items() if field in inputs}.union(own_inputs(inputs))
        given = {role for roles in kinds for role in roles}
        needed = {role for clip in kinds.values() for role in needed_roles(clip, conditioners, known)}
        for role, _ in self.shares:
            if role not in taken:
                raise UsageError(
                    f"--dropout: the model is given no {role[:40]!r}; {nearest(role[:40], taken)}; captions have "
                    "--caption-dropout",
                    code="unknown_name",
                )
            if role in needed:
                raise UsageError(
                    f"--dropout: the model makes no video without {role}, so it need not learn to; leave it out",
                    code="input_missing",
                )
            if role not in given:
                raise UsageError(
                    f"--dropout: no clip has {role}, so there is nothing to leave out", code="pattern_matches_nothing"
                )


def input_dropout_of(text: str) -> InputDropout:
    """Return the dropout of text such as `first=0.1,references=0.2`. Raises UsageError for anything else."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        role, sign, share = (word.strip() for word in part.partition("="))
        try:
            number = float(share)
        except ValueError:
            number = None
        if not role or not sign or number is None or role in shares:
            raise UsageError(
                f"--dropout {text[:80]!r} is no list of inputs and shares; write first=0.1,references=0.2",
                code="bad_value",
            )
        shares[role] = number
    return InputDropout(shares=tuple(shares.items()))
