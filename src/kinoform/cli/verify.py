"""`kinoform verify`: whether weight files are whole."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from kinoform.checkpoints.reader import HeaderReader
from kinoform.cli import console
from kinoform.cli.options import AsJson
from kinoform.cli.progress import megabytes
from kinoform.cli.values import weights_at
from kinoform.errors import WeightsError
from kinoform.families.folders import INDEX, official_transformers
from kinoform.files import missing
from kinoform.loading.verify import FileFault, Verified, verify_path

ADVICE = "fetch it again"
BROKEN = ("expert_alone", "experts_differ", "experts_same_file", "experts_swapped", "weights_missing",
          "config_contradicts_weights", "config_damaged", "parts_mismatch")  # fmt: skip
"""Codes of folders that are not one whole model, though each file in them be sound."""

ADVISED = ("fetch", "git lfs", "give ")
"""Words of sentences that say by themselves what is to be done."""


def verify(
    path: Annotated[Path, typer.Argument(help="A weight file, a folder with weights in it, or the name of a model.")],
    hashes: Annotated[
        Path | None, typer.Option("--hashes", help="Hashes to compare with, as sha256sum writes them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every tensor and compare every recorded hash."""
    path = weights_at(path)
    if not path.exists():
        raise missing(path, weights=True)
    with megabytes("read", "reading") as on_bytes:
        result = verify_path(path, hashes=hashes, tell=on_bytes)
    if (fault := _fault_of_model(path)) is not None and not result.faults:
        result = replace(result, faults=(fault,))
    console.result(_text(path, result), _data(path, result), as_json=as_json)
    if result.faults:
        first, more = str(result.faults[0]), len(result.faults) - 1
        advice = "" if any(word in first for word in ADVISED) else f"; {ADVICE}"
        others = f" (and {more} more {'fault' if more == 1 else 'faults'})" if more else ""
        raise WeightsError(f"{first}{advice}{others}", code=result.faults[0].code)


def _fault_of_model(folder: Path) -> FileFault | None:
    """Return why the transformers of a whole folder, official or diffusers', are not those of one model, if so."""
    # Imported here because PyTorch takes seconds, which files that are refused do without.
    from kinoform.loading.opening import usable_model
    from kinoform.loading.sources import Opening, Overrides

    try:
        if len(official_transformers(folder)) > 1 or (folder / INDEX).is_file():
            usable_model(folder, Opening(reader=HeaderReader(), overrides=Overrides()))
    except WeightsError as error:
        if error.code in BROKEN:
            return FileFault(file=folder, tensor=None, text=str(error).removeprefix(f"{folder} "), code=error.code)
    return None


def _text(path: Path, result: Verified) -> str:
    lines = [f"{'fault':<7} {item}" for item in result.faults] + [f"{'zeros':<7} {item}" for item in result.doubts]
    state = "damaged" if result.faults else "whole"
    lines.append(
        f"{path} is {state}: {result.files} files, {result.tensors} tensors, {result.bytes / 1e9:.3f} GB read, "
        f"{result.hashed} hashes compared"
    )
    return "\n".join(lines)


def _data(path: Path, result: Verified) -> dict[str, object]:
    data = asdict(result)
    faults, doubts = ([_entry(item) for item in group] for group in (result.faults, result.doubts))
    return {"path": str(path), "whole": not result.faults, **data, "faults": faults, "doubts": doubts}


def _entry(finding: FileFault) -> dict[str, object]:
    return {"file": str(finding.file), "tensor": finding.tensor, "text": finding.text, "code": finding.code}
