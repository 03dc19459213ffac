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
from kinoform.families.folders import (
    CONFIG,
    DIFFUSERS_EXPERTS,
    INDEX,
    OFFICIAL_EXPERTS,
    RENDERER_EXPERTS,
    has_experts,
    named_folders,
    origins,
    settings_in,
)

TWO_FILES = "--model high=FILE --model low=FILE, or a folder that holds both"
"""The form in which two experts are given."""

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

TUNINGS = (("bernini", r"bernini"),)
"""Trainings of models of Wan's structure beyond Wan's own, each with the pattern of names and settings that tell it."""

WORDING = {"version": "Wan {}", "noise": "the expert for {} noise", "task": "{}", "size": "{}"}

MAX_FOLDERS = 2
"""Folders above a file that may tell of it; those further up are the user's own."""

PART_FOLDERS = frozenset(
    name for folders in (DIFFUSERS_EXPERTS, OFFICIAL_EXPERTS, RENDERER_EXPERTS) for name in folders.values()
)
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
    """Names around weights: `own` is that of the file, `folders` those above it, the nearest first.

    `kinds` are what the settings in and above their folder call the model.
    """

    own: str
    metadata: str
    folders: tuple[str, ...]
    kinds: str = ""

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
    home = path.parent if is_file else path
    kinds = (str(settings_in(folder / CONFIG).get("model_type", "")) for folder in (home, home.parent))
    if folders and (not is_file or path.name.startswith(GENERIC)):
        titles += origins(home)
    return ModelNames(
        own=path.name if is_file else "",
        metadata=" ".join(title[:MAX_LENGTH] for title in titles).strip(),
        folders=tuple(map(_folder_name, folders)),
        kinds=" ".join(kinds),
    )


def of_tuning(models: tuple[Released, ...], names: ModelNames) -> tuple[Released, ...]:
    """The models that were trained further as the names and settings tell; where these tell nothing, Wan's own."""
    told = _values(TUNINGS, " ".join((*names.near, names.kinds)))
    return tuple(model for model in models if model.tuning == (told[0] if told else ""))


def fitting(family: Family, sizes: Mapping[str, int], expert: str = "") -> tuple[Released, ...]:
    """The released models of a family at the sizes that are known; none has blocks with a temporal attention.

    With `expert` only experts for that noise.
    """
    return tuple(
        model
        for model in family.released
        if not sizes.get("time_layers")
        and expert in ("", model.noise)
        and sizes.get("dim", model.dim) == model.dim
        and sizes.get("layers", model.layers) == model.layers
    )


def choose(
    models: tuple[Released, ...], family: Family, *, path: Path, names: ModelNames, flag: str | None, expert: str = ""
) -> Choice:
    """Choose one of the models that fit, if the evidence allows it.

    Evidence in this order: the flag, the structure alone, the name of the file, those of the folders, a bare high or
    low in that of the file, the metadata. Each narrows down what the one before left. `expert` is the noise that the
    file is given for as one of two. Raises UsageError when the flag names no released model, or one that the structure
    rules out.
    """
    kin = tuple(model for model in family.released if model.noise == expert) or family.released
    if flag is not None:
        models = _flagged(models, family, path=path, flag=flag, expert=expert)
        if len(models) == 1:
            return Choice(name=models[0].name, evidence="flag")
    elif doubt := _contradiction(models or kin, names, sized=bool(models)):
        return Choice(doubt=doubt)
    if len(models) == 1:
        return Choice(name=models[0].name, evidence=_evidence(names) if models[0].tuning else "structure")
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


def noise_named(path: Path, metadata: Mapping[str, str], *, bare: bool = True) -> str:
    """The noise, high or low, for which the names around a file say that it is an expert; empty where none does.

    The name of the file comes first, then the metadata; of the folder above it a bare high or low tells nothing, and
    without `bare` nowhere.
    """
    names = names_of(path, metadata)
    folder, facts_here = next(iter(names.folders), ""), DISTINGUISHING if bare else SURE
    for text, facts in ((names.own, facts_here), (names.metadata, facts_here), (folder, SURE)):
        named = _values(facts["noise"], text)
        if named:
            return str(named[0]) if len(named) == 1 else ""
    return ""


def one_model(
    place: object,
    models: Sequence[str],
    *,
    family: Family,
    like: Sequence[Released] = (),
    doubt: str = "",
    whole: bool = False,
    experts: bool = False,
) -> str:
    """The one released model that a transformer is, or two `experts` are; of another size, the smallest of its family,
    or of those that it is `like`.

    `models` are those that structure and names allow, by the names of their files, `doubt` as in `Choice`. A `whole`
    folder has all parts in it, which no expert has alone. Raises WeightsError where names contradict the structure,
    one expert is there without the other, more than one model is left, or none that kinoform makes videos with.
    """
    held = [model for model in family.released if model.name in models]
    kin = [model for model in like or family.released if model.recipes and bool(model.noise) is experts]
    if not experts and all(model.noise for model in held or family.released):
        names = dict.fromkeys(model.model for model in held or family.released)
        raise expert_alone(place, *names, noise=held[0].noise if len(held) == 1 else "")
    if not kin:
        kind = "two experts" if experts else "one transformer"
        raise WeightsError(
            f"{place} is {family.description}; kinoform makes videos with no model of {kind} that is built so",
            code="weights_unsupported_model",
        )
    possible = [model for model in held if bool(model.noise) is experts or not (whole or experts)]
    usable = list(dict.fromkeys(model.model for model in possible if model.recipes))
    if doubt:
        usual = " or ".join(usable) or f"a model like {kin[0].model}"
        raise WeightsError(
            f"{place}: its name says {doubt}, its structure is that of {usual}; if it is that all the same, say "
            f"--variant {(usable or [kin[0].model])[0]}",
            code="name_contradicts_weights",
        )
    if held and not usable:
        raise WeightsError(
            f"{place} is {' or '.join(models)}, with which kinoform makes no videos", code="weights_unsupported_model"
        )
    names = list(dict.fromkeys(model.model for model in possible))
    if len(names) > 1:
        also = f"; experts are given together, as {TWO_FILES}" if any(model.noise for model in possible) else ""
        raise WeightsError(
            f"{place} may be {' or '.join(names)}, which have the same structure; say which with --variant{also}",
            code="weights_ambiguous",
        )
    return names[0] if names else kin[0].model


def expert_alone(place: object, *models: str, noise: str = "") -> WeightsError:
    """The refusal of one expert alone; `noise` is that which it is for, where that is known."""
    other = {"high": "low", "low": "high"}.get(noise)
    which = f"the expert for {noise} noise" if noise else "one of the two experts"
    lacking = f"that for {other} noise" if other else "the other"
    return WeightsError(
        f"{place} is {which} of {' or '.join(models)} alone, and {lacking} is missing; give both as {TWO_FILES}",
        code="expert_alone",
    )


def model_types() -> tuple[str, ...]:
    """The tasks of the transformers that kinoform makes videos with, as the official config.json calls them."""
    kinds = (family.model_type for family in FAMILIES if family.part == TRANSFORMER and family.supported)
    return tuple(dict.fromkeys(kinds))


def _evidence(names: ModelNames) -> str:
    """The place of the name that tells what a model was trained further as."""
    places = (("file name", names.own), ("metadata", names.metadata), ("folder", " ".join(names.folders)))
    return next((evidence for evidence, text in places if _values(TUNINGS, text)), "settings")


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


def _flagged(
    models: tuple[Released, ...], family: Family, *, path: Path, flag: str, expert: str
) -> tuple[Released, ...]:
    """The models that a flag names, by the name of a model or of one of its experts."""
    known = [model for model in released_models() if flag in (model.name, model.model)]
    if not known:
        every = {name: None for model in released_models() for name in (model.model, model.name)}
        raise UsageError(f"no released model {flag!r}; {nearest(flag, every)}", code="unknown_variant")
    names = [model.name for model in models]
    possible = models or family.released
    if fit := tuple(model for model in known if model in possible and expert in ("", model.noise)):
        return fit
    if any(model in possible for model in known):
        given, named = ("one of two experts", "one transformer") if expert else ("one transformer", "two experts")
        raise UsageError(
            f"{path} is given as {given}, and {flag} has {named}; leave out --variant",
            code="variant_contradicts_weights",
        )
    fit = f"; it may be {' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}" if models else ""
    raise UsageError(
        f"{path} is not {flag}: its structure is that of {family.name}{fit}", code="variant_contradicts_weights"
    )
