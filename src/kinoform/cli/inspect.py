"""`kinoform inspect`: what a file or folder of weights is, from its headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from kinoform.checkpoints.file_sets import FileSet, open_set, weight_sets
from kinoform.checkpoints.hub_cache import snapshot_at
from kinoform.checkpoints.reader import HeaderReader
from kinoform.cli import console
from kinoform.cli.options import AsJson
from kinoform.cli.values import weights_at
from kinoform.errors import UsageError, WeightsError
from kinoform.families import FAMILIES
from kinoform.families.family import ADAPTER, TRANSFORMER
from kinoform.families.folders import MANIFEST
from kinoform.families.identify import Identity, detect_opened
from kinoform.families.released import noise_named

MAX_NAMES = 3
MAX_CHARS = 120
NAMES = 12
UNITS = ((1e9, "billion"), (1e6, "million"))
BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def inspect(
    path: Annotated[
        Path, typer.Argument(help="A weight file, one of its shards, a folder of any layout, or the name of a model.")
    ],
    variant: Annotated[
        str | None, typer.Option(help="The released model that this is, where structure is silent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what weights are: part, architecture, dialect, storage, sizes, and what is missing.

    Only headers are read. Exit code 3 when a file is damaged or no part of a Wan model, or a folder of kinoform's own
    lacks a file; in a folder, after all others have been shown.
    """
    path = snapshot_at(weights_at(path))
    sets = weight_sets(path)
    reader = HeaderReader()
    parts, refused = _identified(sets, variant, reader)
    if len(sets) == 1 and refused:
        raise refused[sets[0]]
    _check_variant(parts, variant)
    own, error = (path / MANIFEST).is_file(), None
    try:
        generate = {"model": _model(path, [*chain(*parts.values())], reader, variant=variant)}
    except WeightsError as refusal:
        error, generate = refusal, {"code": refusal.code, "reason": str(refusal)}
    reasons = {weights: str(error) for weights, error in refused.items()}
    used = [f"generate     {generate.get('model') or 'refused: ' + generate['reason']}"]
    text = "\n\n".join(
        [*(_shown(weights, identities, reader) for weights, identities in parts.items()), *reasons.values(), *used]
    )
    data = {
        "path": str(path),
        "parts": [_as_json(weights, part, reader) for weights, identities in parts.items() for part in identities],
        "refused": [
            {"file": str(weights.path), "code": error.code, "reason": str(error)} for weights, error in refused.items()
        ],
        "generate": generate,
    }
    console.result(text, data, as_json=as_json)
    if own and error is not None:
        raise error
    if refused:
        raise typer.Exit(WeightsError.exit_code)


def _model(path: Path, parts: Iterable[Identity], reader: HeaderReader, *, variant: str | None) -> str:
    """Return the model that `kinoform generate` would load. Raises WeightsError as that does."""
    # Imported here because PyTorch takes seconds, which files that are refused do without.
    from kinoform.loading.opening import usable_model
    from kinoform.loading.own import open_own
    from kinoform.loading.sources import Opening, Overrides

    for part in parts:
        if part.part == ADAPTER:
            return part.base
    if (path / MANIFEST).is_file():
        return open_own(path, reader).manifest.recipe
    return usable_model(path, Opening(reader=reader, overrides=Overrides(), variant=variant))


def _identified(
    sets: Iterable[FileSet], variant: str | None, reader: HeaderReader
) -> tuple[dict[FileSet, tuple[Identity, ...]], dict[FileSet, WeightsError]]:
    """Return the parts of each set, or the error that refused it."""
    parts, refused = {}, {}
    for weights in sets:
        try:
            parts[weights] = tuple(part.identity for part in detect_opened(open_set(weights, reader), variant))
        except WeightsError as error:
            refused[weights] = error
    return parts, refused


def _check_variant(parts: dict[FileSet, tuple[Identity, ...]], variant: str | None) -> None:
    transformers = [
        weights.path for weights, identities in parts.items() if any(part.part == TRANSFORMER for part in identities)
    ]
    if variant is not None and len(transformers) != 1:
        raise UsageError(
            f"--variant names one transformer, and here are {len(transformers)}; give the file of one",
            code="variant_ambiguous",
        )


def _shown(weights: FileSet, parts: tuple[Identity, ...], reader: HeaderReader) -> str:
    files = f" and {len(weights.files) - 1} more" if len(weights.files) > 1 else ""
    lines = [f"{weights.path}{files}"]
    for part in parts:
        expert = _expert(weights, part, reader)
        rows = [*_rows(part), *([("expert", f"the one for {expert} noise")] if expert else [])]
        lines += [f"  {name:<{NAMES}} {text}" for name, text in rows]
    return "\n".join(line.replace("\n", "\\n") for line in lines)


def _rows(part: Identity) -> Iterator[tuple[str, str]]:
    yield "part", f"{part.part}, {part.family}"
    yield "names", part.dialect + (f", behind the prefix {part.prefix[:MAX_CHARS]}" if part.prefix else "")
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in part.dtypes.items())
    yield "storage", f"{part.storage}; {part.tensors} tensors ({dtypes}), {_rounded(part.bytes, BYTES)}"
    yield "sizes", ", ".join(f"{name} {size}" for name, size in part.sizes.items()) or "not told"
    yield "parameters", f"{part.parameters:,}" + _about(part.parameters)
    if part.methods:
        yield "not read", ", ".join(part.methods)
    if part.missing:
        yield "missing", _listed(part.missing)
    if part.unknown:
        yield "unknown", _listed(part.unknown)
    if part.base:
        yield "goes onto", part.base[:MAX_CHARS]
    for note in part.notes:
        yield "note", note[:MAX_CHARS]
    if part.part == "lora":
        yield "model", "changes one of " + ", ".join(part.candidates) if part.candidates else "changes no known model"
    elif part.chosen is not None:
        yield "model", f"{part.chosen} (by its {part.evidence})"
    elif part.doubt:
        like = ", ".join(part.candidates) or part.family
        yield "model", f"its name says {part.doubt}, its structure is that of {like}"
    elif part.candidates:
        advice = f"; say --variant {part.candidates[0]}" if part.part == TRANSFORMER else ""
        yield "model", f"{', '.join(part.candidates)}: structure does not tell{advice}"
    elif part.part == TRANSFORMER:
        yield "model", "none that was released has these sizes"


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(name[:MAX_CHARS] for name in names[:MAX_NAMES])
    return f"{len(names)}: {shown}{', ...' if len(names) > MAX_NAMES else ''}"


def _about(count: int) -> str:
    return next((f", {count / unit:.2f} {name}" for unit, name in UNITS if count >= unit), "")


def _rounded(size: int, units: tuple[tuple[float, str], ...]) -> str:
    return next((f"{size / unit:.2f} {name}" for unit, name in units if size >= unit), f"{size} bytes")


def _expert(weights: FileSet, part: Identity, reader: HeaderReader) -> str:
    """Return the noise for which a transformer is one of two experts, as its names tell; empty for all others."""
    models = [model for family in FAMILIES if family.name == part.family for model in family.released]
    if part.chosen is not None:
        return next((model.noise for model in models if model.name == part.chosen), "")
    if part.part != TRANSFORMER or not any(model.noise for model in models):
        return ""
    return noise_named(weights.path, reader.read(weights.path).metadata, bare=False)


def _as_json(weights: FileSet, part: Identity, reader: HeaderReader) -> dict[str, object]:
    expert = _expert(weights, part, reader)
    return {"files": [str(file) for file in weights.files], **asdict(part), "expert": expert or None}
