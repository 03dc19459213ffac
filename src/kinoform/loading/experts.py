"""The transformers of a model, settled: one, or two experts, which no structure tells apart.

The one for high and the one for low noise are told by how they are given, by folder, by the name of the file, by its
metadata, in this order; where none does, they are asked for and never guessed.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import UsageError, WeightsError
from kinoform.families import released_models
from kinoform.families.family import NOISES
from kinoform.families.released import TWO_FILES, expert_alone, names_of, noise_named, of_tuning, one_model
from kinoform.loading.sources import Opening, PartFile

LISTED = 4
BLOCKS, BLOCK_BYTES = 8, 4096
"""Blocks of a file that are compared before all of it, and their size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertPaths:
    """Files or folders of two experts, by the noise that each is for."""

    high: Path
    low: Path

    def __str__(self) -> str:
        return f"{self.high} and {self.low}"

    def by_noise(self) -> dict[str, Path]:
        """Return them by the noise, the high one first."""
        return {"high": self.high, "low": self.low}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Transformers of a model, that of the highest noise first, and its name: "" where only a recipe tells it."""

    files: tuple[PartFile, ...]
    model: str


def expert_paths(given: Mapping[str, str | os.PathLike[str]]) -> ExpertPaths:
    """Check two experts that are given by their noise. Raises UsageError unless they are one path for each."""
    if unknown := [name for name in given if name not in NOISES]:
        raise UsageError(
            f"there is no expert {str(unknown[0])[:40]!r}; give {TWO_FILES}",
            code="unknown_expert",
        )
    for noise, file in given.items():
        if file in {model.model for model in released_models()} and not os.path.lexists(file):
            raise UsageError(
                f"{file} is the name of a whole model, not of the file of its expert for {noise} noise; give the model "
                f"by its name alone, or {TWO_FILES}",
                code="expert_is_model",
            )
    if len(given) != len(NOISES):
        missing = " and ".join(noise for noise in NOISES if noise not in given)
        raise UsageError(f"the expert for {missing} noise is missing; give both as {TWO_FILES}", code="expert_missing")
    for noise in NOISES:
        if not isinstance(given[noise], str | os.PathLike):
            raise UsageError(
                f"the expert for {noise} noise is {str(given[noise])[:40]!r}, no path; give {TWO_FILES}",
                code="wrong_type",
            )
    high, low = (Path(os.path.expanduser(given[noise])) for noise in NOISES)
    return ExpertPaths(high=high, low=low)


def pair_in(folder: Path, files: list[Path], reader: HeaderReader) -> ExpertPaths | None:
    """The two experts among the transformers of a folder, by their names and metadata; None where those tell of none.

    Raises WeightsError for two that are both for high, or both for low noise.
    """
    if len(files) != len(NOISES):
        return None
    told = {file: noise_named(file, reader.read(file).metadata) for file in files}
    by_noise = {noise: [file for file in files if told[file] == noise] for noise in NOISES}
    for noise, held in by_noise.items():
        if len(held) > 1:
            names = " and ".join(file.name for file in held[:LISTED])
            raise WeightsError(
                f"{folder} holds {len(held)} experts for {noise} noise, {names}; give one for each as {TWO_FILES}",
                code="weights_ambiguous",
            )
    return ExpertPaths(high=by_noise["high"][0], low=by_noise["low"][0]) if all(by_noise.values()) else None


def settled(place: object, transformers: Mapping[str, PartFile], opening: Opening, *, whole: bool) -> Settled:
    """The transformers of a model, by the noise that they are given for, of which one model is left; see `one_model`.

    One transformer stands under "". Comes before other parts are looked for, so that what cannot work is not asked for
    more. Raises WeightsError where names and structure do not allow one model, or two experts are not of one.
    """
    files = tuple(transformers.values())
    first, variant = files[0], opening.variant or ""
    assert first.family is not None, "parts of kinoform's own are described by a recipe"
    if experts := len(files) > 1:
        _check_pair(transformers, named=bool(variant))
    elif pairs := [model for model in released_models() if model.noise and variant in (model.model, model.name)]:
        noise = noise_named(first.files.files[0], first.files.metadata)
        raise expert_alone(place, pairs[0].model, noise=noise)
    if opening.named or variant:
        return Settled(files=files, model=variant)
    if not experts:
        _check_whole(place, first)
    model = one_model(
        place,
        tuple(name for file in files for name in file.models),
        family=first.family,
        like=of_tuning(first.family.released, names_of(first.files.files[0], first.files.metadata)),
        doubt=next((file.identity.doubt for file in files if file.identity and file.identity.doubt), ""),
        whole=whole,
        experts=experts,
    )
    chosen = (_chosen(file, f"{model}-{noise}" if experts else model) for noise, file in transformers.items())
    return Settled(files=tuple(chosen), model=model)


def _check_whole(place: object, file: PartFile) -> None:
    """Check that no name says of a transformer of no released size that it is an expert. Raises WeightsError."""
    family, identity = file.family, file.identity
    assert family is not None and identity is not None
    models = dict.fromkeys(model.model for model in family.released if model.noise)
    noise = noise_named(file.files.files[0], file.files.metadata, bare=False)
    if models and noise and identity.doubt and not file.models:
        raise expert_alone(place, *models, noise=noise)


def _check_pair(transformers: Mapping[str, PartFile], *, named: bool) -> None:
    """Check that two experts are two files built alike, and that no name says that they are swapped.

    `named`: it is not heard.
    """
    high, low = transformers.values()
    paths = [file.files.shown for file in (high, low)]
    if high.files.files[0].samefile(low.files.files[0]):
        raise WeightsError(
            f"{paths[0]} is there for high and for low noise; give two files, as {TWO_FILES}", code="experts_same_file"
        )
    if _same_bytes(high.files.files, low.files.files):
        raise WeightsError(
            f"{paths[0]} and {paths[1]} are one expert twice, byte for byte; fetch the other one, and give {TWO_FILES}",
            code="experts_same_file",
        )
    for noise, file in transformers.items():
        told = noise_named(file.files.files[0], file.files.metadata)
        if told not in ("", noise) and not named:
            raise WeightsError(
                f"{file.files.shown} is given for {noise} noise, its name or metadata says {told}; give the two the "
                "other way round, or say --variant if they are right as they are",
                code="experts_swapped",
            )
    assert high.identity is not None and low.identity is not None
    if high.family is not low.family:
        kinds = [file.family.description if file.family else "another part" for file in (high, low)]
        raise WeightsError(
            f"{paths[0]} is {kinds[0]} and {paths[1]} is {kinds[1]}; give two experts of one model",
            code="experts_differ",
        )
    for size, number in high.identity.sizes.items():
        if (other := low.identity.sizes.get(size)) != number:
            raise WeightsError(
                f"{size} is {number} in {paths[0]} and {other} in {paths[1]}; give two experts of one model",
                code="experts_differ",
            )


def _same_bytes(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Return whether files are copies of others: blocks of them are looked at first, which differ in two experts."""
    pairs = [*zip(files, others, strict=False)]
    sizes = len(files) == len(others) and all(one.stat().st_size == other.stat().st_size for one, other in pairs)
    return (
        sizes
        and all(_blocks(one) == _blocks(other) for one, other in pairs)
        and any(any(block) for one in files for block in _blocks(one))  # a download that broke off is told elsewhere
        and all(filecmp.cmp(one, other, shallow=False) for one, other in pairs)
    )


def _blocks(path: Path) -> list[bytes]:
    """Read a few blocks of a file, the last one among them."""
    blocks: list[bytes] = []
    with path.open("rb") as file:
        for part in range(1, BLOCKS + 1):
            file.seek(max(0, path.stat().st_size * part // BLOCKS - BLOCK_BYTES))
            blocks.append(file.read(BLOCK_BYTES))
    return blocks


def _chosen(file: PartFile, name: str) -> PartFile:
    """The same, of which one released model is left; of no released size it is none."""
    detected = file.detected
    assert detected is not None
    if not file.models:
        return file
    return replace(file, detected=replace(detected, identity=replace(detected.identity, chosen=name)))
