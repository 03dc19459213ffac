"""VACE modules on a model: blocks from files of their own, which go onto its transformers when these are loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from kinoform.checkpoints.hashes import model_hash
from kinoform.errors import UsageError, WeightsError
from kinoform.families.family import MODULE
from kinoform.families.released import noise_named
from kinoform.families.transformer import vace_blocks
from kinoform.loading.detect import detect_parts
from kinoform.loading.load import load_module
from kinoform.loading.parts import Parts, TransformerLoader
from kinoform.loading.sources import OpenedPart, Opening, PartFile, opened
from kinoform.models.dit import DiT, DiTSpec, keeps_float32
from kinoform.models.meta import on_meta
from kinoform.models.vace_blocks import VaceBlocks, VaceModule
from kinoform.solvers.by_expert import expert_names

ModulePaths: TypeAlias = Path | Mapping[str, Path]
"""The file of a module, or that of each expert by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    """An opened module, and the transformer with it on."""

    module: OpenedPart[VaceModule]
    whole: DiTSpec
    keep_packed: bool | None

    @property
    def files(self) -> tuple[Path, ...]:
        return self.module.file.files.files

    def load(self, base: TransformerLoader, dtype: torch.dtype, device: torch.device) -> DiT:
        """Read the transformer, then the module; all that the transformer has is shared."""
        model, file = base(dtype, device), self.module.file
        packed = self.files[0].suffix.lower() == ".gguf" if self.keep_packed is None else self.keep_packed
        branch = load_module(
            self.module.spec.build,
            file.checkpoint(),
            names=file.names,
            dtype_of=lambda name: torch.float32 if keeps_float32(name) else dtype,
            device=device,
            unused=file.unread(self.module.spec),
            keep_packed=packed,
        )
        return _with_branch(model, self.whole, self.module.spec.blocks.name, branch)


def with_vace(
    parts: Parts,
    modules: ModulePaths,
    place: object,
    opening: Opening,
    report: Callable[[str], None],
    *,
    keep_packed: bool | None = None,
) -> Parts:
    """Parts of a text-to-video model, `place` in messages, whose transformers are loaded with VACE modules on them.

    `modules` is one file, or one for each of several transformers by the name of the expert. Headers are held against
    the model now, and `report` gets a line for each file; numbers are read with the transformer, which then computes
    bit for bit what it computes from a file that holds both. The fingerprint is of the model's and the files'.
    `module_files` are the files in the order of the transformers. Raises UsageError for a model that takes no module,
    and for a file too few or too many, WeightsError for a file that holds no module, one that is for another expert
    by its name, or for a model of another size.
    """
    specs = parts.transformer_specs
    for spec in specs:
        _check_takes(place, spec)
    chosen = _by_expert(place, modules, len(specs))
    files = [_opened(path, expert, opening) for expert, path in chosen.items()]
    joined = [_joined(place, file, spec, keep_packed) for file, spec in zip(files, specs, strict=True)]
    for each in joined:
        blocks = each.module.spec.blocks
        report(f"{each.files[0].name}: {len(blocks.layers)} VACE blocks beside {each.whole.layers} of {place}")

    def fingerprint() -> str:
        told = (parts.fingerprint(), *(model_hash(each.files) for each in joined))
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]

    return replace(
        parts,
        transformers=tuple(partial(each.load, base) for each, base in zip(joined, parts.transformers, strict=True)),
        transformer_specs=tuple(each.whole for each in joined),
        fingerprint=fingerprint,
        module_files=tuple(each.files[0] for each in joined),
    )


def without_vace(spec: DiTSpec) -> DiTSpec:
    """Return the spec without VACE's blocks."""
    return replace(spec, branches=tuple(branch for branch in spec.branches if not isinstance(branch, VaceBlocks)))


def _check_takes(place: object, spec: DiTSpec) -> None:
    """Raise UsageError unless a transformer reads nothing but latents and text."""
    if vace_blocks(spec) is not None:
        raise UsageError(f"{place} has VACE blocks already; leave out the module", code="module_not_taken")
    others = [source.name for source in spec.context if source.name != "text"]
    if spec.in_channels != spec.out_channels or others or spec.branches:
        raise UsageError(
            f"{place} reads more than latents and text, and a VACE module goes onto a text-to-video model; leave the "
            "module out, or give such a model",
            code="module_not_taken",
        )


def _by_expert(place: object, modules: ModulePaths, count: int) -> dict[str, Path]:
    """The files by the names of the experts, that of the highest noise first; "" for the only transformer."""
    names = expert_names(count)
    if isinstance(modules, Path):
        if count > 1:
            form = " ".join(f"--vace {name}=FILE" for name in names)
            raise UsageError(
                f"{modules} is one VACE module, and {place} has {count} transformers, each with its own; give {form}",
                code="expert_not_said",
            )
        return {"": modules}
    if count == 1:
        raise UsageError(
            f"{place} has one transformer, and a VACE module is given for {', '.join(modules)}; give one: --vace FILE",
            code="one_transformer",
        )
    if unknown := [name for name in modules if name not in names]:
        raise UsageError(
            f"a VACE module is given for {unknown[0][:60]!r}, and the transformers of {place} are {', '.join(names)}",
            code="unknown_expert",
        )
    if missing := [name for name in names if name not in modules]:
        raise UsageError(
            f"the VACE module for {missing[0]} is missing; give it too: --vace {missing[0]}=FILE", code="expert_missing"
        )
    if len(set(modules.values())) < count:
        raise WeightsError(
            f"{modules[names[0]]} is given for {' and '.join(names)}; each expert has a VACE module of its own",
            code="experts_same_file",
        )
    return {name: modules[name] for name in names}


def _opened(path: Path, expert: str, opening: Opening) -> PartFile:
    held = detect_parts(path, opening)
    if MODULE not in held:
        parts = " and ".join(held).replace("_", " ")
        advice = "give it as --model, without --vace" if "transformer" in held else "give the file of a VACE module"
        raise WeightsError(f"{path} is a {parts}, no VACE module; {advice}", code="weights_wrong_part")
    file = held[MODULE]
    told = noise_named(file.files.files[0], file.files.metadata)
    if expert and told not in ("", expert):
        raise WeightsError(
            f"{path} is given for {expert} noise, its name or metadata says {told}; give the two the other way round",
            code="experts_swapped",
        )
    return file


def _joined(place: object, file: PartFile, spec: DiTSpec, keep_packed: bool | None) -> _Joined:
    """Put a module beside a transformer. Raises WeightsError unless it is of its size and has all of its tensors."""
    held: VaceModule = opened(file).spec
    path, beside, count = file.files.shown, held.beside, len(held.blocks.layers)
    if (beside.dim, beside.ffn_dim, beside.patch) != (spec.dim, spec.ffn_dim, spec.patch):
        named = f", as {' and '.join(file.models)}" if file.models else ""
        raise WeightsError(
            f"{path} is a VACE module {beside.dim} wide (feed-forward {beside.ffn_dim}){named}; {place} is {spec.dim} "
            f"wide (feed-forward {spec.ffn_dim}): give it to a model of its size",
            code="module_wrong_model",
        )
    if spec.layers % count:
        raise WeightsError(
            f"{path} has {count} VACE blocks, which do not spread evenly beside the {spec.layers} of {place}; give it "
            "to the model that it was made for",
            code="module_wrong_model",
        )
    blocks = replace(held.blocks, layers=tuple(range(0, spec.layers, spec.layers // count)))
    module = OpenedPart(file=file, spec=VaceModule(blocks=blocks, beside=spec))
    module.check_tensors()
    return _Joined(module=module, whole=replace(spec, branches=(blocks,)), keep_packed=keep_packed)


def _with_branch(model: DiT, whole: DiTSpec, name: str, branch: nn.Module) -> DiT:
    wide = on_meta(whole.build)
    for part, module in model.named_children():
        if part != "branches":
            setattr(wide, part, module)
    wide.branches[name] = branch
    return wide.eval()
