"""Names that speak of a model: its version, task, size and expert, as files, folders and metadata are called.

The nearest name that speaks of a fact counts: the file's own, its metadata, then the folder it lies in.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from kinoform.checkpoints.file_sets import PICKLED, STEMS
from kinoform.checkpoints.headers import WEIGHT_SUFFIXES
from kinoform.families.folders import INDEX, claims, has_experts, named_folders, origins

FOLDERS = 2
"""Folders above a file that may speak for it; those further up are the user's own."""

PART_FOLDERS = frozenset(("transformer", "transformer_2", "high_noise_model", "low_noise_model"))
"""Folders that are called after a part; the one above is called after the model."""

METADATA = (
    "modelspec.title",
    "modelspec.architecture",
    "general.name",
    "general.basename",
    "ss_base_model_version",
)
LONGEST = 256

SILENT = (*STEMS, *PICKLED.values())
"""Files whose names say nothing, and for which the settings beside them speak."""

HIGH, LOW = r"high[ _.-]?noise", r"low[ _.-]?noise"
FACTS = {
    "version": (("2.1", r"wan[ _.-]?2[ _.-]?1(?!\d)"), ("2.2", r"wan[ _.-]?2[ _.-]?2(?!\d)|(?<![a-z])a14b")),
    "noise": (("high", HIGH), ("low", LOW)),
    "task": tuple((task, rf"(?<![a-z]){task}(?![a-z])") for task in ("t2v", "i2v", "ti2v", "flf2v", "vace")),
    "size": (
        ("1.3b", r"(?<!\d)1[._]3 ?b(?![a-z])"),
        ("14b", r"(?<![\d.])14b"),
        ("5b", r"(?<!\d)(?<!\d[._])5b(?![a-z])"),
    ),
}
"""Facts that a name may tell: the value, and the pattern that says it."""

WORDS = {"version": "Wan {}", "noise": "the expert for {} noise", "task": "{}", "size": "{}"}
OF_FOLDERS = ("version", "noise")
"""Facts that are heard of a folder without the model's own name: its owner may have called it anything else."""


@runtime_checkable
class Facts(Protocol):
    """A released model, as far as names speak of it."""

    @property
    def version(self) -> str: ...
    @property
    def noise(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def size(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenNames:
    """`own` is what the file or folder itself is called; `folders` those above it, the nearest first."""

    own: str
    metadata: str
    folders: tuple[str, ...]

    @property
    def near(self) -> tuple[str, ...]:
        """All that speak for this model without doubt."""
        in_part = self.folders and self.folders[0].split(" ")[0] in PART_FOLDERS
        model = self.folders[: 2 if in_part else 1]
        return (self.own, self.metadata, *model)


def names_of(path: Path, metadata: Mapping[str, str]) -> SpokenNames:
    """The names around a file or folder of weights."""
    place = path.absolute()
    is_file = place.suffix.lower() in WEIGHT_SUFFIXES
    folders = named_folders(place, is_file=is_file)[:FOLDERS]
    told = [metadata.get(key, "") for key in METADATA]
    if folders and (not is_file or place.name.startswith(SILENT)):
        told += origins(place.parent if is_file else place)
    return SpokenNames(
        own=place.name if is_file else "",
        metadata=" ".join(each[:LONGEST] for each in told).strip(),
        folders=tuple(map(_called, folders)),
    )


def _called(folder: Path) -> str:
    """The folder's name. In a diffusers folder of two experts `transformer` is the one for high noise."""
    if folder.name == "transformer_2":
        return f"{folder.name} low noise"
    twin = (folder.parent / "transformer_2").is_dir() or has_experts(claims(folder.parent / INDEX))
    return f"{folder.name} high noise" if folder.name == "transformer" and twin else folder.name


def contradiction(models: Sequence[Facts], names: SpokenNames, *, sized: bool = True) -> str:
    """The words in which the names contradict all of the models; empty where they agree or are silent.

    Not `sized`: the models are of other sizes, so what names say of that is not heard.
    """
    heard = {fact: value for fact, value in _heard(names).items() if sized or fact != "size"}
    if not models or any(all(getattr(model, fact) == value for fact, value in heard.items()) for model in models):
        return ""
    strange = [fact for fact, value in heard.items() if all(getattr(model, fact) != value for model in models)]
    return ", ".join(WORDS[fact].format(_shown(heard[fact])) for fact in strange or heard)


def _shown(value: str) -> str:
    return value if value in ("high", "low") else value.upper()


def said_in(fact: str, text: str) -> list[str]:
    """The values of a fact that a text names."""
    return [value for value, pattern in FACTS[fact] if re.search(pattern, text.lower())]


def _heard(names: SpokenNames) -> dict[str, str]:
    """Each fact as the nearest name has it that speaks of it; one that says two things says neither."""
    found: dict[str, str] = {}
    depth: dict[str, int] = {}
    for fact in FACTS:
        for place, text in enumerate(names.near):
            folder = place >= 2  # behind the own name and the metadata
            if (folder and fact not in OF_FOLDERS) or not (said := said_in(fact, text)):
                continue
            if len(said) == 1:
                found[fact], depth[fact] = said[0], place
            break
    if found.get("version") == "2.1" and depth.get("noise", 0) > depth["version"]:
        del found["noise"]  # a nearer name says that there are no experts
    return found
