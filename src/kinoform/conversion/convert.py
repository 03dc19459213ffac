"""Weights from one dialect to another, tensor by tensor: numbers are never changed but by a dtype that is asked for."""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from kinoform.checkpoints.files import open_file
from kinoform.checkpoints.reader import HeaderReader
from kinoform.checkpoints.write import METADATA, Outgoing, Wrote, write_safetensors, write_set
from kinoform.conversion.layouts import TARGETS, Layout, Target, WeightFile, outgoing, target_named
from kinoform.conversion.lora_files import OutgoingLoRA, check_target, lora_format, lora_of_adapter, lora_of_lora
from kinoform.conversion.merged import with_merged
from kinoform.conversion.model_contents import ModelContents, model_contents, own_contents
from kinoform.errors import KinoformError, UsageError
from kinoform.families.family import TRANSFORMER
from kinoform.families.lora import LoRADialect
from kinoform.files import check_folder_writable, check_writable, whole, whole_folder
from kinoform.loading.adapters import adapter_in
from kinoform.loading.own import MANIFEST, write_manifest
from kinoform.solvers.by_expert import PerExpert

SUFFIX = ".safetensors"
HOLDS = "*.[sjm][aso][fod][en]*"
"""*.safetensors, *.json and *.model: a folder with anything else in it is never replaced."""

ADDRESS = re.compile(r"[\w.]+:\w+")

Tell = Callable[[int, int], None]
"""Called with the bytes that are written and those to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """Settings of a conversion.

    `to` is the name of a target. `dtype` None leaves numbers as they are stored (those with scales become
    float32). With `shard_bytes` no weight file holds more bytes of numbers. `prefix` stands before the names
    of a transformer for ComfyUI. `recipe` (module:function) is what a folder of kinoform's own is loaded by.
    `loras` are merged into the transformers, each with its strength; `ignore_unknown`: though some of their names are
    unknown.
    """

    to: str
    dtype: torch.dtype | None = None
    shard_bytes: int | None = None
    prefix: str = ""
    recipe: str | None = None
    loras: tuple[tuple[Path, PerExpert], ...] = ()
    ignore_unknown: bool = False

    def __post_init__(self) -> None:
        target = self.target
        if self.prefix and not target.prefix:
            raise UsageError(
                f"--prefix stands before ComfyUI's names only, not those of {self.to}; leave it out",
                code="options_conflict",
            )
        if self.recipe is not None and not ADDRESS.fullmatch(self.recipe):
            raise UsageError(f"recipe {self.recipe!r} is not an address; write module:function", code="recipe_invalid")
        if self.shard_bytes is not None and (self.shard_bytes < 1 or not target.shards):
            sharded = ", ".join(target.name for target in TARGETS if target.shards)
            raise UsageError(
                f"--shard-size must be positive, and is for {sharded}; leave it out",
                code="value_out_of_range" if self.shard_bytes < 1 else "options_conflict",
            )

    @property
    def target(self) -> Target:
        """The layout. Raises UsageError for a name that none has."""
        return target_named(self.to)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionResult:
    """`files` are what was written, in the order of their names; `bytes` are those of the tensors."""

    files: tuple[Path, ...]
    tensors: int
    bytes: int


def convert(
    source: Path,
    target: Path,
    wanted: Conversion,
    *,
    variant: str | None = None,
    force: bool = False,
    tell: Tell = lambda done, total: None,
    report: Callable[[str], None] = lambda line: None,
) -> ConversionResult:
    """Write the model or the part at `source` as `target`, whole or not at all.

    A whole model becomes a folder, a part a file that
    ends in .safetensors, or, where the dialect has such a thing, a folder with its config.json. At most one tensor of
    the source is in memory at a time.
    `variant` is the released model that a transformer is; `report` gets a line for each LoRA that is merged. Raises
    WeightsError for a source that kinoform cannot read or build, UsageError for a target that exists (see
    `kinoform.files` for `force`), lies around the source or has no place for it, KinoformError when the disk is full.
    """
    if source.is_file() and adapter_in(source, HeaderReader()) is not None:
        raise UsageError(
            f"{source} is an adapter, which becomes a LoRA file: give --format comfy, diffusers or kohya, and no --to",
            code="options_conflict",
        )
    own = wanted.target.grow is not None and (source / MANIFEST).is_file()
    contents = own_contents(source) if own else model_contents(source, variant)
    _check_apart(contents.path, (*contents.files, *(path for path, _ in wanted.loras)), target)
    contents = with_merged(contents, wanted.loras, report, ignore_unknown=wanted.ignore_unknown)
    tensors = {
        name: outgoing(part, wanted.target, dtype=wanted.dtype, prefix=wanted.prefix)
        for name, part in contents.parts.items()
    }
    if wanted.target.grow is not None:
        tensors = _grown(contents, tensors, wanted.target.grow)
    if target.suffix.lower() == SUFFIX:
        return _to_file(contents, target, wanted, tensors, force=force, tell=tell)
    layout = _layout(contents, target, wanted, tensors)
    check_folder_writable(target, holds=HOLDS, force=force, deep=True)
    meter = _Meter(layout.weights, target, tell)
    with whole_folder(target, holds=HOLDS, force=force, deep=True) as temporary:
        _write(temporary, layout, wanted.shard_bytes, meter.wrote)
        if wanted.target.own:
            write_manifest(temporary, str(wanted.recipe), {"by": "kinoform convert"})
        files = sorted(file.relative_to(temporary) for file in temporary.rglob("*") if file.is_file())
    return ConversionResult(files=tuple(target / file for file in files), tensors=meter.tensors, bytes=meter.total)


def convert_lora(
    source: Path,
    target: Path,
    format: str,
    *,
    dtype: torch.dtype | None = None,
    force: bool = False,
    tell: Tell = lambda done, total: None,
) -> ConversionResult:
    """Write a LoRA file of any dialect, or an adapter that adds nothing to its model, as a LoRA file in a format.

    `format` is comfy, diffusers or kohya; `dtype` None leaves numbers as they are stored, but for those that a scale is
    multiplied into. Raises UsageError and WeightsError as `convert` does.
    """
    dialect = lora_format(format)
    check_target(source, target)
    made = _lora(source, dialect, dtype)
    _check_apart(source, (source,), target)
    return _one_file(target, made.tensors, made.metadata, force=force, tell=tell)


def _lora(source: Path, dialect: LoRADialect, dtype: torch.dtype | None) -> OutgoingLoRA:
    adapter = adapter_in(source, HeaderReader()) if source.is_file() else None
    if adapter is not None:
        return lora_of_adapter(adapter, dialect, dtype)
    return lora_of_lora(source, open_file(source), dialect, dtype)


def _grown(
    contents: ModelContents,
    tensors: dict[str, tuple[Outgoing, ...]],
    grow: Callable[[Path, Iterable[Outgoing]], tuple[Outgoing, ...]],
) -> dict[str, tuple[Outgoing, ...]]:
    if contents.tokenizer is None or TRANSFORMER not in tensors:
        raise UsageError(
            f"{contents.path} is one part of a model; a factorized one is a folder: give the whole model",
            code="part_not_model",
        )
    return {**tensors, **{name: grow(contents.path, tensors[name]) for name in contents.transformers}}


def _to_file(
    contents: ModelContents,
    target: Path,
    wanted: Conversion,
    tensors: dict[str, tuple[Outgoing, ...]],
    *,
    force: bool,
    tell: Tell,
) -> ConversionResult:
    if len(tensors) > 1:
        raise UsageError(
            f"{contents.path} is a whole model, which becomes a folder; give a name without {SUFFIX}",
            code="model_not_part",
        )
    if wanted.shard_bytes is not None:
        raise UsageError(
            f"{target} is one file; leave out --shard-size, or give a name without {SUFFIX}", code="options_conflict"
        )
    ((_, written),) = tensors.items()
    return _one_file(target, written, METADATA, force=force, tell=tell)


def _one_file(
    target: Path, tensors: tuple[Outgoing, ...], metadata: Mapping[str, str], *, force: bool, tell: Tell
) -> ConversionResult:
    check_writable(target, force=force)
    meter = _Meter((WeightFile(path=target, tensors=tensors),), target, tell)
    with whole(target, force=force) as temporary:
        write_safetensors(temporary, tensors, meter.wrote, metadata)
    return ConversionResult(files=(target,), tensors=meter.tensors, bytes=meter.total)


def _layout(
    contents: ModelContents, target: Path, wanted: Conversion, tensors: dict[str, tuple[Outgoing, ...]]
) -> Layout:
    if contents.tokenizer is not None:
        if wanted.target.own and wanted.recipe is None:
            raise UsageError(
                f"{contents.path} may be several models, or none that was released; say which by --variant or --recipe",
                code="model_ambiguous",
            )
        return wanted.target.model(contents, tensors)
    ((name, part),) = contents.parts.items()
    layout = wanted.target.part(part, tensors[name])
    if layout is None:
        raise UsageError(
            f"{contents.path} is one part of a model, for which {wanted.to} has no folder; "
            f"give a file: {target.name}{SUFFIX}",
            code="part_not_model",
        )
    return layout


def _check_apart(source: Path, files: tuple[Path, ...], target: Path) -> None:
    """Check that the source outlives its conversion. Raises UsageError."""
    resolved = target.resolve()
    for file in (source, *files):
        if resolved == file.resolve() or resolved in file.resolve().parents:
            raise UsageError(
                f"{target} would replace {file}, which is read; choose another name", code="would_replace_source"
            )
    if source.resolve() in resolved.parents:
        raise UsageError(
            f"{target} lies in {source}, which would then hold two models; choose another folder",
            code="target_in_source",
        )


class _Meter:
    """Counter of the bytes written of those to write, for which the disk must have room."""

    def __init__(self, weights: tuple[WeightFile, ...], target: Path, tell: Tell) -> None:
        self.tensors = sum(len(file.tensors) for file in weights)
        self.total = sum(tensor.bytes for file in weights for tensor in file.tensors)
        self.done, self.tell = 0, tell
        free = shutil.disk_usage(target.absolute().parent).free
        if free < self.total:
            raise KinoformError(
                f"no room to write {target}: it needs {self.total / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
                "free some space or choose another disk",
                code="disk_full",
            )

    def wrote(self, count: int) -> None:
        self.done += count
        self.tell(self.done, self.total)


def _write(folder: Path, layout: Layout, limit: int | None, wrote: Wrote) -> None:
    for weights in layout.weights:
        path = folder / weights.path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_set(path.parent, path.name, weights.tensors, limit if weights.shards else None, wrote)
    for name in (*layout.documents, *layout.copies, *layout.raw):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name, document in layout.documents.items():
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    for name, file in layout.copies.items():
        shutil.copyfile(file, folder / name)
    for name, stored in layout.raw.items():
        (folder / name).write_bytes(stored.read().numpy().tobytes())
