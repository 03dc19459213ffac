"""Loading: a pipeline from a model's name, folder or file; nothing heavy is read yet."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch

from kinoform.checkpoints.hashes import file_hash
from kinoform.checkpoints.hub import is_hub_id
from kinoform.checkpoints.hub_cache import snapshot_at
from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import UsageError, WeightsError, nearest
from kinoform.families import released_for
from kinoform.families.folders import stated_settings
from kinoform.families.relatives import notes_on_names
from kinoform.files import check_no_link, missing
from kinoform.loading.adapters import AdapterFile, adapter_in, with_adapter
from kinoform.loading.additions import Additions, stored_specs, with_additions
from kinoform.loading.detect import stored_block
from kinoform.loading.experts import ExpertPaths, expert_paths
from kinoform.loading.lora import with_loras
from kinoform.loading.own import MANIFEST, open_own
from kinoform.loading.parts import Parts, own_parts, released_parts, repeated
from kinoform.loading.sources import Opening, Overrides
from kinoform.loading.vace_module import ModulePaths, with_vace, without_vace
from kinoform.media.types import Origin
from kinoform.models.dit import DiTSpec
from kinoform.pipelines.generate import Machine
from kinoform.pipelines.part_cache import kept
from kinoform.pipelines.pipeline import Lora, Pipeline
from kinoform.recipe import BySize, Recipe, find
from kinoform.recipes.catalogue import (
    ADAPTERS,
    ASSETS,
    EMBEDDED,
    RELEASED,
    UNSHIPPED,
    adapter_asset,
    addresses,
    cached,
    resolve,
    takers,
    trusted,
    with_vace_blocks,
)
from kinoform.solvers.by_expert import PerExpert

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

INCOMPLETE = ("weights_missing", "weights_incomplete", "part_missing", "tokenizer_missing", "config_missing",
              "model_missing", "expert_alone")  # fmt: skip
"""Codes of what a download that broke off leaves behind."""

PathLike = str | os.PathLike[str]
ApplyLoras = Callable[[Parts], Parts]
"""Puts the LoRA files on that were asked for."""

ApplyAdditions = Callable[[Parts, Additions | None, tuple[DiTSpec, ...]], Parts]
"""Puts a recipe's additions onto transformers of these specs: as they begin, or as they were trained."""

ApplyModule = Callable[..., Parts]
"""Puts the VACE modules that were asked for onto parts; messages call the model `place`."""


def load(
    model: PathLike | Mapping[str, PathLike] = "mini",
    *,
    recipe: str | None = None,
    variant: str | None = None,
    text_encoder: PathLike | None = None,
    codec: PathLike | None = None,
    tokenizer: PathLike | None = None,
    image_encoder: PathLike | None = None,
    vace: PathLike | Mapping[str, PathLike] | None = None,
    loras: Sequence[tuple[PathLike, PerExpert]] = (),
    ignore_unknown: bool = False,
    report: Callable[[str], None] = lambda line: None,
    keep_packed: bool | None = None,
    device: str = "auto",
    dtype: str = "auto",
    extend: Callable[[str], str] | None = None,
) -> Pipeline:
    """Open an embedded model (`mini`, `mini:frames`), a released one by name, a folder, or one file, as a pipeline.

    A folder is kinoform's own, an official one, or one of diffusers; a hub id (ORG/NAME) is the one that
    `kinoform download` fetched, or another program into the cache of Hugging Face; a file holds a transformer, and its
    other parts are looked for in ComfyUI's folders and beside it unless `text_encoder`, `codec`, `tokenizer` and, for
    models that read images, `image_encoder` name them. Two files of experts are {"high": FILE, "low": FILE}, or a
    folder that holds both. An adapter file, as `kinoform train` writes it, stands for the
    model that it names with the adapter on. `variant` is the released model that the weights are, for files whose
    structure leaves several or whose names contradict it. `recipe` ("module:function") replaces the defaults, and the
    sizes where weights do not state their own. With `keep_packed` weights of eight bits or fewer stay so in memory and
    are unpacked layer by layer as they are used: slower, smaller; by default those of GGUF files do.
    `vace` is the file of a VACE module, or {"high": FILE, "low": FILE} for two experts; a text-to-video model with it
    is its VACE model, and has the recipe of that.
    `loras` are files and strengths, put on the transformer in order. Of two experts a strength is {"high": 1.0} or
    {"high": 1.0, "low": 0.8}; a number alone is for those that the file tells. Unknown names in one are refused but
    with `ignore_unknown`. `report` gets a line for each, and one where the name of weights calls for settings or
    inputs.
    `device` is auto, cpu, cuda or mps; `dtype` is auto, float32, bfloat16 or float16. Headers are checked
    now: raises WeightsError for weights that are missing or of another model, UsageError for unknown names
    and for a device that is not there.
    """
    machine = choose_machine(device, dtype)
    experts = _experts(model) if isinstance(model, Mapping) else None
    name = str(experts) if isinstance(model, Mapping) else resolve(os.path.expanduser(os.fspath(model)))
    chosen = None if recipe is None else find(recipe)
    if variant is not None and variant not in RELEASED:
        raise UsageError(f"no variant {variant!r}; {nearest(variant, RELEASED)}", code="unknown_variant")
    reader = HeaderReader()
    overrides = Overrides(
        text_encoder=_existing(text_encoder),
        codec=_existing(codec),
        tokenizer=_existing(tokenizer),
        image_encoder=_existing(image_encoder),
    )
    files = [(Path(os.path.expanduser(file)), strength) for file, strength in loras]
    apply_loras = partial(with_loras, loras=files, report=report, ignore_unknown=ignore_unknown)
    opening = Opening(reader=reader, overrides=overrides)
    apply_module = None
    if vace is not None:
        apply_module = partial(
            with_vace, modules=_modules(vace), opening=opening, report=report, keep_packed=keep_packed
        )
    adapter, apply_additions = None if experts else _adapter(name, reader), with_additions
    if adapter is not None:
        chosen = chosen or trusted(adapter.path, adapter.claims.recipe)
        name, apply_additions = _base(adapter), partial(with_adapter, file=adapter)
    released = partial(
        _released,
        recipe=chosen,
        overrides=overrides,
        apply_module=apply_module,
        apply_additions=apply_additions,
        apply_loras=apply_loras,
        keep_packed=keep_packed,
        reader=reader,
        adapted=adapter is not None,
    )
    if experts is not None:
        made, parts = released(experts, variant=variant)
    elif name in EMBEDDED:
        made, parts = _own(
            ASSETS / name, chosen, overrides, apply_module, apply_additions, apply_loras, reader, adapter is not None
        )
    elif name in RELEASED:
        with _fetched_again(name):
            made, parts = released(cached(name), variant=variant or name)
    elif os.path.isfile(Path(name, MANIFEST)):
        made, parts = _own(Path(name), chosen, overrides, apply_module, apply_additions, apply_loras, reader)
    elif os.path.exists(name):  # unlike Path, it knows that "" is nothing
        made, parts = released(Path(name), variant=variant)
    else:
        check_no_link(name)
        known = [*EMBEDDED, *ADAPTERS, *RELEASED]
        fetch = f", or fetch it: kinoform download {name}" if is_hub_id(name) else ""
        raise UsageError(
            f"no model, folder or file {name!r}; {nearest(name, known)}, or a path to weights{fetch}",
            code="unknown_model",
        )
    for place, notes in ((name, parts.notes), *((file, notes_on_names((file.name,))) for file, _ in files)):
        for note in notes:
            report(f"{place}: {note}")
    applied = tuple(
        Lora(origin=Origin(file=file.name, sha256=sha256), strength=strength)
        for (file, _), sha256, strength in zip(files, parts.lora_hashes, parts.lora_strengths, strict=True)
    )
    return Pipeline(
        recipe=made,
        parts=parts,
        machine=machine,
        extend=extend,
        modules=tuple(cache(partial(_origin, file)) for file in parts.module_files),
        loras=applied,
        address=recipe,
        takers=takers,
    )


def _origin(file: Path) -> Origin:
    return Origin(file=file.name, sha256=file_hash(file))


def choose_machine(device: str, dtype: str) -> Machine:
    """float32 on a CPU, bfloat16 on an accelerator that has it, unless said otherwise."""
    if device not in DEVICES:
        raise UsageError(f"no device {device!r}; {nearest(device, DEVICES)}", code="unknown_device")
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError(f"no dtype {dtype!r}; {nearest(dtype, ['auto', *DTYPES])}", code="unknown_dtype")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
        if device == "mps":
            warnings.warn(
                "device auto takes mps, Apple's GPU, where no video has been compared with a CPU's yet; cpu is slower",
                stacklevel=3,
            )
    if not present[device]:
        raise UsageError(
            f"this machine has no {device} device that PyTorch can use; pass --device cpu", code="device_missing"
        )
    kind = _usual_dtype(device) if dtype == "auto" else DTYPES[dtype]
    return Machine(device=torch.device(device), dtype=kind)


def _usual_dtype(device: str) -> torch.dtype:
    if device == "mps":
        try:
            torch.ones(1, device=device, dtype=torch.bfloat16)
        except (RuntimeError, TypeError):  # before macOS 14
            return torch.float32
    return torch.float32 if device == "cpu" else torch.bfloat16


def _adapter(name: str, reader: HeaderReader) -> AdapterFile | None:
    """The adapter that a name or a path stands for, if it is one."""
    if name in ADAPTERS or name in UNSHIPPED:
        return adapter_in(adapter_asset(name), reader)
    return adapter_in(Path(name), reader) if os.path.isfile(name) else None


def _base(adapter: AdapterFile) -> str:
    """Follow a name only: a stranger's file must not choose a folder."""
    name = adapter.claims.base
    if name not in {*EMBEDDED, *RELEASED}:
        raise WeightsError(
            f"{adapter.path} is for the model {name!r}; {nearest(name, [*EMBEDDED, *RELEASED])}",
            code="adapter_base_unknown",
        )
    return name


@contextmanager
def _fetched_again(name: str) -> Iterator[None]:
    """Say, of a released model in a cache, which command brings what is missing."""
    try:
        yield
    except WeightsError as error:
        if error.code not in INCOMPLETE or "kinoform download" in str(error):
            raise
        raise WeightsError(
            f"{error}; what is missing is fetched by: kinoform download {name}", code=error.code
        ) from error


def _modules(given: PathLike | Mapping[str, PathLike]) -> ModulePaths:
    if not isinstance(given, Mapping):
        return Path(os.path.expanduser(given))
    return {name: Path(os.path.expanduser(file)) for name, file in given.items()}


def _existing(place: PathLike | None) -> Path | None:
    if place is None:
        return None
    there = os.path.expanduser(place)
    if not os.path.exists(there):
        raise missing(place, weights=True)
    return snapshot_at(Path(there))


def _experts(given: Mapping[str, PathLike]) -> ExpertPaths:
    paths = expert_paths(given)
    for place in paths.by_noise().values():
        _existing(place)
    return paths


def _own(
    folder: Path,
    recipe: Recipe | None,
    overrides: Overrides,
    apply_module: ApplyModule | None,
    apply_additions: ApplyAdditions,
    apply_loras: ApplyLoras,
    reader: HeaderReader,
    adapted: bool = False,
) -> tuple[Recipe, Parts]:
    if overrides != Overrides():
        raise UsageError(
            f"{folder} has all parts of its model; leave out those that are named one by one", code="options_conflict"
        )
    opened = open_own(folder, reader)
    address = opened.manifest.recipe
    made = recipe or trusted(folder, address)
    opened = opened.repeated(len(made.transformers)) if adapted else opened
    specs = made.transformers
    if apply_module is not None and recipe is not None:  # which is that of the model with the module on
        specs = tuple(map(without_vace, specs))
    blocks = tuple(stored_block(file, spec) for file, spec in opened.paired(specs))
    made = replace(made, transformers=blocks)
    held = stored_specs(opened, made.transformers, made.additions)
    parts = own_parts(opened, held, made.codec, made.text, made.image)
    if apply_module is not None:
        parts = apply_module(parts, place=folder)
        whole = recipe or with_vace_blocks(made)
        _check_doors(folder, whole, parts.transformer_specs[0])
        made = replace(whole, transformers=parts.transformer_specs, codec=made.codec, text=made.text, image=made.image)
    parts = apply_loras(apply_additions(parts, made.additions, made.transformers))
    small = address not in addresses(RELEASED.values())
    return made, kept(parts) if small else replace(parts, fingerprint=cache(parts.fingerprint))


def _released(
    path: Path | ExpertPaths,
    *,
    recipe: Recipe | None,
    overrides: Overrides,
    variant: str | None,
    apply_module: ApplyModule | None,
    apply_additions: ApplyAdditions,
    apply_loras: ApplyLoras,
    keep_packed: bool | None,
    reader: HeaderReader,
    adapted: bool,
) -> tuple[Recipe, Parts]:
    released = None if variant is None else released_for(variant)
    weights = None if released is None else released.model
    block = None if recipe is None else recipe.transformers[0].block
    parts = released_parts(
        path, overrides, variant=weights, named=recipe is not None, keep_packed=keep_packed, block=block, reader=reader
    )
    assert parts.family is not None, "a family is detected in all weights without a manifest"
    made = recipe or RELEASED[variant or parts.model]()
    parts = repeated(parts, len(made.transformers)) if adapted else parts
    if apply_module is not None:
        parts = apply_module(parts, place=path)
        made = recipe or with_vace_blocks(made)
    _check_number(path, made, parts.transformer_specs)
    _check_doors(path, made, parts.transformer_specs[0])
    if isinstance(path, Path):
        parts = replace(parts, notes=(*parts.notes, *_stated_otherwise(path, made)))
    made = replace(
        made,
        transformers=parts.transformer_specs,
        codec=parts.codec_spec,
        text=parts.text_spec,
        image=parts.image_spec,
    )
    parts = apply_loras(apply_additions(parts, made.additions, made.transformers))
    return made, replace(parts, fingerprint=cache(parts.fingerprint))


def _stated_otherwise(folder: Path, recipe: Recipe) -> Iterator[str]:
    """Yield a note for each setting of a diffusers folder that is not the recipe's, which is taken."""
    stated, shift = stated_settings(folder), recipe.shift
    shifts = (shift.small, shift.large) if isinstance(shift, BySize) else (shift,)
    if stated.flow_shift not in (None, *shifts):
        own = " or ".join(f"{value:g}" for value in shifts)
        yield f"its scheduler has flow_shift {stated.flow_shift:g}; the shift is that of the recipe, {own}"
    if recipe.boundaries and stated.boundary_ratio not in (None, *recipe.boundaries):
        own = ", ".join(f"{value:g}" for value in recipe.boundaries)
        yield f"its boundary_ratio is {stated.boundary_ratio:g}; the boundary is that of the recipe, {own}"


def _check_number(path: object, recipe: Recipe, held: tuple[DiTSpec, ...]) -> None:
    """Raise WeightsError when the recipe describes more or fewer transformers."""
    if len(held) != len(recipe.transformers):
        raise WeightsError(
            f"number of transformers: {len(held)} in {path}, {len(recipe.transformers)} in the recipe {recipe.name}; "
            "leave out --recipe, or derive it from the one for these weights",
            code="recipe_contradicts_weights",
        )


def _check_doors(path: object, recipe: Recipe, held: DiTSpec) -> None:
    """Raises WeightsError when the recipe's inputs would not fill what these weights read beside the text."""
    if list(_doors(recipe.transformers[0])) != list(_doors(held)):
        found, wanted = (", ".join(_doors(spec)) or "text alone" for spec in (held, recipe.transformers[0]))
        raise WeightsError(
            f"{path} reads {found}, the recipe {recipe.name} gives {wanted}; leave out --recipe, or derive it from "
            "the one for these weights",
            code="weights_of_other_recipe",
        )


def _doors(spec: DiTSpec) -> Iterator[str]:
    if extra := spec.in_channels - spec.out_channels:
        yield f"{extra} channels after the latents"
    for stream in spec.context:
        if stream.name != "text":
            yield f"rows of the stream {stream.name}" + (" with places" if getattr(stream, "positions", 0) else "")
    for branch in spec.branches:
        yield f"the branch {branch.name}"
