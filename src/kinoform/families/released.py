"""The released models that fit a file's structure, and the one among them that the file's name speaks for.

Structure does not tell 480P from 720P, Wan 2.1 from an expert of Wan 2.2, or one expert from the other.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from kinoform.errors import UsageError, nearest
from kinoform.families import released_models
from kinoform.families.family import Family, Released
from kinoform.families.spoken import FACTS as FACTS_OF_NAMES
from kinoform.families.spoken import HIGH, LOW, SpokenNames, contradiction

SURE = {fact: FACTS_OF_NAMES[fact] for fact in ("version", "noise")}
FACTS = {
    "version": FACTS_OF_NAMES["version"],
    "noise": (
        ("high", rf"{HIGH}|(?<![a-z])high(?![a-z])"),
        ("low", rf"{LOW}|(?<![a-z])low(?![a-z])"),
    ),
    "height": ((480, r"(?<!\d)480(?!\d)"), (720, r"(?<!\d)720(?!\d)")),
}
"""Facts that tell models of one structure apart; here a bare high or low is enough."""

Facts: TypeAlias = Mapping[str, tuple[tuple[str | int, str], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The released model that a name speaks for and what told so; None and "" where more than one is left.

    `doubt` is what the names say that none of the models is: then nothing is chosen.
    """

    name: str | None
    evidence: str
    doubt: str = ""


def fitting(family: Family, sizes: Mapping[str, int]) -> tuple[Released, ...]:
    """The released models of a family at the sizes that are known; none has blocks with a temporal attention."""
    return tuple(
        model
        for model in family.released
        if not sizes.get("time_layers")
        and sizes.get("dim", model.dim) == model.dim
        and sizes.get("layers", model.layers) == model.layers
    )


def choose(fits: Iterable[Released], family: Family, *, path: Path, names: SpokenNames, flag: str | None) -> Choice:
    """Hear what speaks for one of the models that fit, or against all of them.

    Evidence in this order: the flag, the structure alone, the name of the file, those of the folders, a bare high or
    low in that of the file, the metadata. Each narrows what the one before left. What contradicts all models that
    fit leaves nothing chosen.
    Raises UsageError when the flag names no released model, or one that the structure rules out.
    """
    left = tuple(fits)
    if flag is not None:
        return Choice(name=_flagged(left, family, path, flag), evidence="flag")
    kin = [model for model in fitting(family, {}) if model.version == "2.1"] or fitting(family, {})
    if doubt := contradiction(left or tuple(kin), names, sized=bool(left)):
        return Choice(name=None, evidence="", doubt=doubt)
    if len(left) == 1:
        return Choice(name=left[0].name, evidence="structure")
    for evidence, text, facts in (
        ("file name", names.own, SURE),
        ("folder", " ".join(names.folders), FACTS),
        ("file name", names.own, FACTS),
        ("metadata", names.metadata, FACTS),
    ):
        narrowed = _narrowed(left, text, facts)
        if len(narrowed) == 1:
            return Choice(name=narrowed[0].name, evidence=evidence)
        left = narrowed or left
    return Choice(name=None, evidence="")


def _flagged(fits: tuple[Released, ...], family: Family, path: Path, flag: str) -> str:
    known = {model.name: model for model in released_models()}
    if flag not in known:
        raise UsageError(f"no released model {flag!r}; {nearest(flag, known)}", code="unknown_variant")
    fitting_names = [model.name for model in fits]
    if flag in fitting_names or (not fits and known[flag] in family.released):
        return flag
    fit = f"; it may be {_either(fitting_names)}" if fits else ""
    raise UsageError(
        f"{path} is not {flag}: its structure is that of {family.name}{fit}", code="variant_contradicts_weights"
    )


def _narrowed(models: tuple[Released, ...], text: str, facts: Facts) -> tuple[Released, ...]:
    """The models that no fact in the text speaks against; a text that says both of two things says neither."""
    lower = text.lower()
    for fact, values in facts.items():
        said = [value for value, pattern in values if re.search(pattern, lower)]
        if len(said) == 1 and any(getattr(model, fact) for model in models):
            models = tuple(model for model in models if getattr(model, fact) == said[0])
    return models


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
