"""Released models that fit a file's structure, and the one among them that its names speak for.

Structure does not tell 480P from 720P, Wan 2.1 from an expert of Wan 2.2, or one expert from the other. The names of
files, metadata and folders do: the nearest name that tells a fact counts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from kinoform.checkpoints.file_sets import PICKLED, STEMS
from kinoform.checkpoints.headers import WEIGHT_SUFFIXES
from kinoform.errors import UsageError, WeightsError, nearest
from kinoform.families import FAMILIES, released_models
from kinoform.families.family import TRANSFORMER, Family, Released
from kinoform.families.folders import INDEX, has_experts, named_folders, origins, settings_in

Facts: TypeAlias = Mapping[str, tuple[tuple[str | int, str], ...]]
"""Fields of `Released`, and for each its values with the pattern of names that have it."""

HIGH, LOW = r"high[ _.-]?noise", r"low[ _.-]?noise"
SURE: Facts = {
    "version": (("2.1", r"wan[ _.-]?2[ _.-]?1(?!\d)"), ("2.2", r"wan[ _.-]?2[ _.-]?2(?!\d)|(?<![a-z])a14b")),
    "noise": (("high", HIGH), ("low", LOW)),
}
"""Facts that count wherever they stand; a folder without the model's own name may have any other words in it."""

NAMED: Facts = {
    **SURE,
    "task": tuple((task, rf"(?<![a-z]){task}(?![a-z])") for task in ("t2v", "i2v", "ti2v", "flf2v", "vace")),
    "size": (
        ("1.3b", r"(?<!\d)1[._]3 ?b(?![a-z])"),
        ("14b", r"(?<![\d.])14b"),
        ("5b", r"(?<!\d)(?<!\d[._])5b(?![a-z])"),
    ),
}
"""Facts in which names may contradict a structure."""

DISTINGUISHING: Facts = {
    "version": SURE["version"],
    "noise": (
        ("high", rf"{HIGH}|(?<![a-z])high(?![a-z])"),
        ("low", rf"{LOW}|(?<![a-z])low(?![a-z])"),
    ),
    "height": ((480, r"(?<!\d)480(?!\d)"), (720, r"(?<!\d)720(?!\d)")),
}
"""Facts that tell models of one structure apart; here a bare high or low is enough."""

WORDING = {"version": "Wan {}", "noise": "the expert for {} noise", "task": "{}", "size": "{}"}

MAX_FOLDERS = 2
"""Folders above a file that may tell of it; those further up are the user's own."""

PART_FOLDERS = frozenset(("transformer", "transformer_2", "high_noise_model", "low_noise_model"))
"""Folders that are called after a part; the one above is called after the model."""

METADATA = (
    "modelspec.title",
    "modelspec.architecture",
    "general.name",
    "general.basename",
    "ss_base_model_version",
)
MAX_LENGTH = 256

GENERIC = (*STEMS, *PICKLED.values())
"""Beginnings of names that tell nothing; the settings beside such files do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNames:
    """Names around weights: `own` is that of the file, `folders` those above it, the nearest first."""

    own: str
    metadata: str
    folders: tuple[str, ...]

    @property
    def near(self) -> tuple[str, ...]:
        """All names that are certainly meant for this model."""
        in_part = self.folders and self.folders[0].split(" ")[0] in PART_FOLDERS
        return (self.own, self.metadata, *self.folders[: 2 if in_part else 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The released model that was chosen, and the evidence for it; None and "" where more than one is left.

    `doubt` names facts that contradict all models; then nothing is chosen.
    """

    name: str | None = None
    evidence: str = ""
    doubt: str = ""


def names_of(path: Path, metadata: Mapping[str, str]) -> ModelNames:
    """Collect the names around a file or folder of weights."""
    path = path.absolute()
    is_file = path.suffix.lower() in WEIGHT_SUFFIXES
    folders = named_folders(path, is_file=is_file)[:MAX_FOLDERS]
    titles = [metadata.get(key, "") for key in METADATA]
    if folders and (not is_file or path.name.startswith(GENERIC)):
        titles += origins(path.parent if is_file else path)
    return ModelNames(
        own=path.name if is_file else "",
        metadata=" ".join(title[:MAX_LENGTH] for title in titles).strip(),
        folders=tuple(map(_folder_name, folders)),
    )


def fitting(family: Family, sizes: Mapping[str, int]) -> tuple[Released, ...]:
    """The released models of a family at the sizes that are known; none has blocks with a temporal attention."""
    return tuple(
        model
        for model in family.released
        if not sizes.get("time_layers")
        and sizes.get("dim", model.dim) == model.dim
        and sizes.get("layers", model.layers) == model.layers
    )


def choose(models: tuple[Released, ...], family: Family, *, path: Path, names: ModelNames, flag: str | None) -> Choice:
    """Choose one of the models that fit, if the evidence allows it.

    Evidence in this order: the flag, the structure alone, the name of the file, those of the folders, a bare high or
    low in that of the file, the metadata. Each narrows down what the one before left. Raises UsageError when the flag
    names no released model, or one that the structure rules out.
    """
    if flag is not None:
        return Choice(name=_flagged(models, family, path, flag), evidence="flag")
    kin = tuple(model for model in family.released if model.version == "2.1") or family.released
    if doubt := _contradiction(models or kin, names, sized=bool(models)):
        return Choice(doubt=doubt)
    if len(models) == 1:
        return Choice(name=models[0].name, evidence="structure")
    for evidence, text, facts in (
        ("file name", names.own, SURE),
        ("folder", " ".join(names.folders), DISTINGUISHING),
        ("file name", names.own, DISTINGUISHING),
        ("metadata", names.metadata, DISTINGUISHING),
    ):
        narrowed = _narrowed(models, text, facts)
        if len(narrowed) == 1:
            return Choice(name=narrowed[0].name, evidence=evidence)
        models = narrowed or models
    return Choice()


def one_model(place: object, models: Sequence[str], *, family: Family, doubt: str = "", whole: bool = False) -> str:
    """The one released model that a transformer is; of another size, the smallest of its family.

    `models` are those that structure and names allow, `doubt` as in `Choice`. A `whole` folder has all parts in it,
    which no expert of Wan 2.2 has alone. Raises WeightsError where names contradict the structure, more than one model
    is left, or none that kinoform makes videos with.
    """
    run = {model.name for model in released_models() if model.recipes and not model.noise}
    kin = [model.name for model in family.released if model.name in run]
    if doubt:
        like = " or ".join(name for name in models if name in run) or f"a model like {kin[0]}"
        raise WeightsError(
            f"{place}: its name says {doubt}, its structure is that of {like}; if it is that all the same, say "
            f"--variant {next((name for name in models if name in run), kin[0])}",
            code="name_contradicts_weights",
        )
    possible = [name for name in models if name in run] if whole else list(models)
    if models and not run.intersection(possible):
        raise WeightsError(
            f"{place} is {' or '.join(models)}, with which kinoform makes no videos", code="weights_unsupported_model"
        )
    if len(possible) > 1:
        raise WeightsError(
            f"{place} may be {' or '.join(possible)}, which have the same structure; say which with --variant",
            code="weights_ambiguous",
        )
    return possible[0] if possible else kin[0]


def model_types() -> tuple[str, ...]:
    """The tasks of the transformers that kinoform makes videos with, as the official config.json calls them."""
    return tuple(family.model_type for family in FAMILIES if family.part == TRANSFORMER and family.supported)


def _folder_name(folder: Path) -> str:
    """The folder's name. In a diffusers folder of two experts `transformer` is the one for high noise."""
    if folder.name == "transformer_2":
        return f"{folder.name} low noise"
    twin = (folder.parent / "transformer_2").is_dir() or has_experts(settings_in(folder.parent / INDEX))
    return f"{folder.name} high noise" if folder.name == "transformer" and twin else folder.name


def _contradiction(models: Iterable[Released], names: ModelNames, *, sized: bool) -> str:
    """The facts in which the names contradict all of the models; empty where they agree or tell nothing.

    Without `sized` the models are of other sizes, and names may tell another one.
    """
    facts = {fact: value for fact, value in _named_facts(names).items() if sized or fact != "size"}
    if any(all(getattr(model, fact) == value for fact, value in facts.items()) for model in models):
        return ""
    strange = [fact for fact, value in facts.items() if all(getattr(model, fact) != value for model in models)]
    shown = {fact: value if fact == "noise" else value.upper() for fact, value in facts.items()}
    return ", ".join(WORDING[fact].format(shown[fact]) for fact in strange or facts)


def _named_facts(names: ModelNames) -> dict[str, str]:
    """Each fact as the nearest name has it that tells it; a name with two values of a fact tells neither."""
    result: dict[str, str] = {}
    depth: dict[str, int] = {}
    for fact, values in NAMED.items():
        for index, text in enumerate(names.near):
            is_folder = index >= 2  # behind the own name and the metadata
            if (is_folder and fact not in SURE) or not (named := _values(values, text)):
                continue
            if len(named) == 1:
                result[fact], depth[fact] = str(named[0]), index
            break
    if result.get("version") == "2.1" and depth.get("noise", 0) > depth["version"]:
        del result["noise"]  # a nearer name says that there are no experts
    return result


def _narrowed(models: tuple[Released, ...], text: str, facts: Facts) -> tuple[Released, ...]:
    """The models that no fact in the text contradicts."""
    for fact, values in facts.items():
        named = _values(values, text)
        if len(named) == 1 and any(getattr(model, fact) for model in models):
            models = tuple(model for model in models if getattr(model, fact) == named[0])
    return models


def _values(values: Iterable[tuple[str | int, str]], text: str) -> list[str | int]:
    return [value for value, pattern in values if re.search(pattern, text.lower())]


def _flagged(models: tuple[Released, ...], family: Family, path: Path, flag: str) -> str:
    known = {model.name: model for model in released_models()}
    if flag not in known:
        raise UsageError(f"no released model {flag!r}; {nearest(flag, known)}", code="unknown_variant")
    names = [model.name for model in models]
    if flag in names or (not models and known[flag] in family.released):
        return flag
    fit = f"; it may be {' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}" if models else ""
    raise UsageError(
        f"{path} is not {flag}: its structure is that of {family.name}{fit}", code="variant_contradicts_weights"
    )
