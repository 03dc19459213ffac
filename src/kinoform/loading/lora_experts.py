"""Experts that a LoRA file goes onto: those that are said, else those that the names in it, or its own name, tell.

Nothing in a file for one expert keeps it off the other; there it changes the video for the worse without an error.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinoform.errors import UsageError
from kinoform.families.lora import LEAVES, piece_of
from kinoform.families.lora_names import FIRST_EXPERT, LoRANames, is_second
from kinoform.families.released import SURE
from kinoform.models.lora import STRONGEST
from kinoform.solvers.by_expert import (
    PerExpert,
    as_json,
    check_per_expert,
    expert_names,
    numbers_by_name,
    written,
)

BARE = re.compile(r"(?<![A-Za-z])(HIGH|LOW)(?![A-Za-z])")
"""Spelling of the experts that counts in names of Wan 2.2 files alone: other names may speak of quality or of light."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Strengths of a file on the transformers of a model, and for each of these whether it gets what the file has for
    the second expert. `notes` are sentences about what was said against the names."""

    strengths: PerExpert
    second: tuple[bool, ...]
    notes: tuple[str, ...] = ()


def check_strength(strength: object, experts: int) -> PerExpert:
    """Return the strength of a file on a model of so many `experts`. Raises UsageError as `check_per_expert` does."""
    return check_per_expert("the strength of a LoRA", strength, experts, -STRONGEST, STRONGEST)


def assigned(path: Path, names: Iterable[str], said: PerExpert, experts: int, known_names: LoRANames) -> Assignment:
    """Find the experts that a file with tensors of these names goes onto, of so many `experts` with `known_names`.

    `said` is a checked strength. Raises UsageError where it is a number alone and neither the names nor that of the
    file tell the expert, or tell different ones.
    """
    if experts == 1:
        return Assignment(strengths=said, second=(False,))
    known = expert_names(experts)
    pieces = [piece for name in names if (piece := piece_of(name)) is not None]
    modules = {piece.module for piece in pieces}
    second = any(map(is_second, modules))
    first = any(
        not is_second(piece.module)
        and known_names.parameter(piece.module, LEAVES.get(piece.role, ("weight",))) is not None
        for piece in pieces
    )
    inside = _told_inside(modules, known, first=first, second=second)
    outside = _told_by_name(path, known)
    told, notes = inside or outside, tuple[str, ...]()
    if isinstance(said, Mapping):
        by = "the names in it say" if inside else "its name says"
        others = [name for name in said if told and name not in told]
        notes = tuple(f"{by} that it is for {told[0]}, and it goes onto {name}, as was said" for name in others)
    else:
        if not told:
            raise _unsaid(path, known, "does not say which transformer it is for")
        if outside and not {*outside} <= {*told}:
            raise _unsaid(path, known, f"is for {outside[0]} by its name, and for {told[0]} by the names in it")
        said = numbers_by_name((name, said) for name in known if name in told)
    return Assignment(
        strengths=said, second=tuple(second and (name == "low" or not first) for name in known), notes=notes
    )


def _told_inside(modules: Iterable[str], known: tuple[str, ...], *, first: bool, second: bool) -> tuple[str, ...]:
    """The experts that the names of modules tell: of both where both are there, of high where the first is numbered."""
    if second:
        told = ("high", "low") if first else ("low",)
    else:
        told = ("high",) if any(FIRST_EXPERT in module for module in modules) else ()
    return tuple(name for name in told if name in known)


def _told_by_name(path: Path, known: tuple[str, ...]) -> tuple[str, ...]:
    """The expert that the name of the file tells, or else that of its folder."""
    of_wan22 = re.search(dict(SURE["version"])["2.2"], path.name.lower())
    bare = [word.lower() for word in BARE.findall(path.name)] if of_wan22 else []
    for text, others in ((path.name, bare), (path.absolute().parent.name, [])):
        sure = [str(noise) for noise, pattern in SURE["noise"] if re.search(pattern, text.lower())]
        told = {name for name in sure or others if name in known}
        if told:
            return tuple(told) if len(told) == 1 else ()
    return ()


def _unsaid(path: Path, known: tuple[str, ...], begin: str) -> UsageError:
    every = numbers_by_name((name, 1) for name in known)
    return UsageError(
        f"{path} {begin}; write {' or '.join(f'--lora {name}={path.name}' for name in known)}, for all "
        f"{path.name}:{written(every)}; in Python give the strength as {as_json(every)}, or with one of the names",
        code="expert_not_said",
    )
