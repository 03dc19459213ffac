"""The released models, and which of those that fit a file's structure the file's name speaks for.

Structure does not tell 480P from 720P, Wan 2.1 from an expert of Wan 2.2, or one expert from the other.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinoform.errors import UsageError, nearest
from kinoform.weights.storage.headers import WEIGHT_SUFFIXES


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """`noise` is high or low for the experts of Wan 2.2, `height` the size that a model was trained for."""

    name: str
    family: str
    dim: int
    layers: int
    version: str = "2.1"
    noise: str = ""
    height: int = 0


RELEASED = (
    Released(name="t2v-1.3b", family="wan21-t2v", dim=1536, layers=30),
    Released(name="t2v-14b", family="wan21-t2v", dim=5120, layers=40),
    Released(name="t2v-a14b-high", family="wan21-t2v", dim=5120, layers=40, version="2.2", noise="high"),
    Released(name="t2v-a14b-low", family="wan21-t2v", dim=5120, layers=40, version="2.2", noise="low"),
    Released(name="i2v-14b-480p", family="wan21-i2v", dim=5120, layers=40, height=480),
    Released(name="i2v-14b-720p", family="wan21-i2v", dim=5120, layers=40, height=720),
    Released(name="flf2v-14b", family="wan21-flf2v", dim=5120, layers=40),
    Released(name="vace-1.3b", family="wan21-vace", dim=1536, layers=30),
    Released(name="vace-14b", family="wan21-vace", dim=5120, layers=40),
    Released(name="i2v-a14b-high", family="wan22-i2v", dim=5120, layers=40, version="2.2", noise="high"),
    Released(name="i2v-a14b-low", family="wan22-i2v", dim=5120, layers=40, version="2.2", noise="low"),
    Released(name="ti2v-5b", family="wan22-ti2v", dim=3072, layers=30, version="2.2"),
)

FOLDERS = 2
"""How many folders above a file may speak for it; those further up are the user's own."""

METADATA = ("modelspec.title", "modelspec.architecture", "general.name", "general.basename", "ss_base_model_version")
LONGEST = 256

FACTS = {
    "version": (("2.1", r"wan[ _.-]?2[ _.-]?1(?!\d)"), ("2.2", r"wan[ _.-]?2[ _.-]?2(?!\d)|(?<![a-z])a14b")),
    "noise": (
        ("high", r"high[ _.-]?noise|(?<![a-z])high(?![a-z])"),
        ("low", r"low[ _.-]?noise|(?<![a-z])low(?![a-z])"),
    ),
    "height": ((480, r"(?<!\d)480(?!\d)"), (720, r"(?<!\d)720(?!\d)")),
}
"""What a name may say: the value, and the pattern that says it."""


def fitting(family: str, sizes: Mapping[str, int]) -> tuple[Released, ...]:
    """The released models of a family at the sizes that are known; none has blocks with a temporal attention."""
    return tuple(
        model
        for model in RELEASED
        if model.family == family
        and not sizes.get("time_layers")
        and sizes.get("dim", model.dim) == model.dim
        and sizes.get("layers", model.layers) == model.layers
    )


def choose(
    fits: Iterable[Released], family: str, *, path: Path, metadata: Mapping[str, str], flag: str | None
) -> tuple[str | None, str]:
    """(name, evidence); the name is None when more than one model is left.

    Evidence in this order: the flag, the structure alone, the names of the folders, that of the file, the
    metadata. Each narrows what the one before left; what contradicts it is not heard. Raises UsageError when
    the flag names no released model, or one that the structure rules out.
    """
    left = tuple(fits)
    if flag is not None:
        return _flagged(left, family, path, flag), "flag"
    if len(left) == 1:
        return left[0].name, "structure"
    is_file = path.suffix.lower() in WEIGHT_SUFFIXES
    above = path.parents if is_file else (path, *path.parents)
    for evidence, text in (
        ("folder", _spoken(above[:FOLDERS])),
        ("file name", path.name if is_file else ""),
        ("metadata", " ".join(metadata.get(key, "")[:LONGEST] for key in METADATA)),
    ):
        narrowed = _narrowed(left, text)
        if len(narrowed) == 1:
            return narrowed[0].name, evidence
        left = narrowed or left
    return None, ""


def _flagged(fits: tuple[Released, ...], family: str, path: Path, flag: str) -> str:
    known = {model.name: model for model in RELEASED}
    if flag not in known:
        raise UsageError(f"no released model {flag!r}; {nearest(flag, known)}", code="unknown_model")
    fitting_names = [model.name for model in fits]
    if flag in fitting_names or (not fits and known[flag].family == family):
        return flag
    fit = f"; it may be {_either(fitting_names)}" if fits else ""
    raise UsageError(
        f"{path} is not {flag}: its structure is that of {family}{fit}", code="variant_contradicts_weights"
    )


def _spoken(folders: Sequence[Path]) -> str:
    """The folders' names. In a diffusers folder of two experts `transformer` is the one for high noise."""
    names = [folder.name for folder in folders]
    if names and names[0] == "transformer_2":
        names.append("low noise")
    elif names and names[0] == "transformer" and (folders[0].parent / "transformer_2").is_dir():
        names.append("high noise")
    return " ".join(names)


def _narrowed(models: tuple[Released, ...], text: str) -> tuple[Released, ...]:
    """The models that no fact in the text speaks against; a text that says both of two things says neither."""
    lower = text.lower()
    for fact, values in FACTS.items():
        said = [value for value, pattern in values if re.search(pattern, lower)]
        if len(said) == 1 and any(getattr(model, fact) for model in models):
            models = tuple(model for model in models if getattr(model, fact) == said[0])
    return models


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
