"""Loading: a pipeline from a model's name, folder or file; nothing heavy is read yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import cast

from kinoform.checkpoints.hashes import file_hash
from kinoform.checkpoints.hub import is_hub_id
from kinoform.checkpoints.hub_cache import snapshot_at
from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import UsageError, WeightsError, nearest
from kinoform.families.relatives import distillation_of, notes_on_names
from kinoform.families.released import names_of
from kinoform.files import check_no_link, missing
from kinoform.loading.adapters import AdapterFile, adapter_in, with_adapter
from kinoform.loading.additions import with_additions
from kinoform.loading.experts import ExpertPaths, expert_paths
from kinoform.loading.lora import with_loras
from kinoform.loading.own import MANIFEST
from kinoform.loading.sources import Opening, Overrides
from kinoform.loading.vace_module import ModulePaths, with_vace
from kinoform.media.types import Origin
from kinoform.pipelines.few_step import DistilledFile
from kinoform.pipelines.machine import choose_machine
from kinoform.pipelines.pipeline import Lora, Pipeline
from kinoform.recipe import Recipe, returned
from kinoform.recipes.catalogue import (
    ADAPTERS,
    ASSETS,
    EMBEDDED,
    RELEASED,
    UNSHIPPED,
    adapter_asset,
    cached,
    resolve,
    takers,
    trusted,
)
from kinoform.recipes.few_step import FewStep
from kinoform.recipes.named import RecipeChange, recipe_at
from kinoform.recipes.new_inputs import NEW_INPUTS, NewInput
from kinoform.recipes.opened import LoadOptions, own_model, released_model
from kinoform.solvers.by_expert import PerExpert, expert_names

INCOMPLETE = ("weights_missing", "weights_incomplete", "part_missing", "tokenizer_missing", "config_missing",
              "model_missing", "expert_alone")  # fmt: skip
"""Codes of what a download that broke off leaves behind."""

PathLike = str | os.PathLike[str]


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
    adapter: PathLike | None = None,
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
    folder that holds both. An adapter file, as `kinoform train` writes it, stands for the model that it names with the
    adapter on. `variant` is the released model that the weights are, for files whose structure leaves several or whose
    names contradict it. `recipe` ("module:function") replaces the defaults, and the sizes where weights do not state
    their own; or it is the name of a few-step recipe, such as "lightx2v-4step", which changes those of the model for
    distilled weights or the LoRA beside them (docs/few_step.md). With `keep_packed` weights of eight bits or fewer stay
    so in memory and are unpacked layer by layer as they are used: slower, smaller; by default those of GGUF files do.
    `vace` is the file of a VACE module, or {"high": FILE, "low": FILE} for two experts; a text-to-video model with it
    is its VACE model, and has the recipe of that. `adapter` is an adapter file for the model, in
    place of the one that the file names.
    `loras` are files and strengths, put on the transformer in order. Of two experts a strength is {"high": 1.0} or
    {"high": 1.0, "low": 0.8}; a number alone is for those that the file tells. Unknown names in one are refused but
    with `ignore_unknown`. `report` gets a line for each, and one where the name of weights calls for settings or
    inputs.
    `device` is auto, cpu, cuda or mps; `dtype` is auto, float32, bfloat16 or float16. Headers are checked
    now: raises WeightsError for weights that are missing or of another model, UsageError for unknown names
    and for a device that is not there.
    """
    machine = choose_machine(device, dtype)
    if not isinstance(model, str | os.PathLike | Mapping):
        raise UsageError(
            f"model is {str(model)[:40]!r}, no name and no path; two experts are {{'high': FILE, 'low': FILE}}",
            code="wrong_type",
        )
    experts = _experts(model) if isinstance(model, Mapping) else None
    name = str(experts) if isinstance(model, Mapping) else resolve(os.path.expanduser(os.fspath(model)))
    named = None if recipe is None else recipe_at(recipe)
    few, chosen = named if isinstance(named, FewStep) else None, named if isinstance(named, Recipe) else None
    changes = () if named is None or isinstance(named, Recipe) else (named,)
    if variant is not None and variant not in RELEASED:
        raise UsageError(f"no variant {variant!r}; {nearest(variant, RELEASED)}", code="unknown_variant")
    reader = HeaderReader()
    overrides = Overrides(
        text_encoder=_existing(text_encoder),
        codec=_existing(codec),
        tokenizer=_existing(tokenizer),
        image_encoder=_existing(image_encoder),
    )
    files = [_lora(item) for item in loras]
    name, worn = _adapted(name, None if experts else _adapter(name, reader), adapter, reader)
    if worn is not None and chosen is None and worn.claims.recipe != NEW_INPUTS.get(str(recipe), recipe):
        chosen, changes = _told_by(worn, changes)
    module = None
    if vace is not None:
        opening = Opening(reader=reader, overrides=overrides)
        module = partial(
            with_vace, modules=_modules(vace), place=name, opening=opening, report=report, keep_packed=keep_packed
        )
    options = LoadOptions(
        recipe=chosen,
        change=partial(_changed, changes=changes),
        overrides=overrides,
        keep_packed=keep_packed,
        reader=reader,
        module=module,
        additions=with_additions if worn is None else partial(with_adapter, file=worn),
        loras=partial(with_loras, loras=files, report=report, ignore_unknown=ignore_unknown),
        adapted=worn is not None,
    )
    if experts is not None:
        made, parts = released_model(experts, variant, options)
    elif name in EMBEDDED:
        made, parts = own_model(ASSETS / name, options)
    elif name in RELEASED:
        with _fetched_again(name):
            made, parts = released_model(cached(name), variant or name, options)
    elif os.path.isfile(Path(name, MANIFEST)):
        made, parts = own_model(Path(name), options)
    elif os.path.exists(name):  # unlike Path, it knows that "" is nothing
        made, parts = released_model(Path(name), variant, options)
    else:
        check_no_link(name)
        known = [*EMBEDDED, *ADAPTERS, *RELEASED]
        fetch = f", or fetch it: kinoform download {name}" if is_hub_id(name) else ""
        raise UsageError(
            f"no model, folder or file {name!r}; {nearest(name, known)}, or a path to weights{fetch}",
            code="unknown_model",
        )
    for line in _notes(name, parts.notes, [file for file, _ in files], few):
        report(line)
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
        distilled=(*_distilled(model if experts else name, made), *_distilled_loras(applied, len(made.transformers))),
        address=recipe if few is None else None,
        takers=takers,
    )


def _changed(recipe: Recipe, changes: Iterable[RecipeChange]) -> Recipe:
    for change in changes:
        recipe = change.applied(recipe)
    return recipe


def _told_by(adapter: AdapterFile, changes: tuple[RecipeChange, ...]) -> tuple[Recipe | None, tuple[RecipeChange, ...]]:
    """Return the recipe of an adapter, or the changes with the input that its base was taught.

    Raises UsageError for another input among these.
    """
    address = adapter.claims.recipe
    if others := [change.name for change in changes if isinstance(change, NewInput)]:
        raise UsageError(
            f"{adapter.path} is an adapter, and what it is of cannot be taught {others[0]} too; give the model "
            f"{adapter.claims.base}, on which it was trained",
            code="input_taken_already",
        )
    if address in NEW_INPUTS.values():
        return None, (*changes, returned(address, NewInput, "recipe"))
    return trusted(adapter.path, address), changes


def _notes(name: str, notes: Sequence[str], loras: Sequence[Path], few: FewStep | None) -> Iterator[str]:
    """Yield the notes about weights and LoRA files, but for those that advise the few-step recipe which is taken."""
    for place, own in ((name, notes), *((file, notes_on_names((file.name,))) for file in loras)):
        for note in own:
            if few is None or f"--recipe {few.name}" not in note:
                yield f"{place}: {note}"


def _distilled(model: PathLike | Mapping[str, PathLike], recipe: Recipe) -> Iterator[DistilledFile]:
    """Yield the files or folders of the weights that are distilled by their names."""
    experts = expert_names(len(recipe.transformers))
    places = model if isinstance(model, Mapping) else {"": model}
    for name, place in places.items():
        path = Path(os.path.expanduser(place))
        found = distillation_of(" ".join(names_of(path, {}).near)) if os.path.exists(path) else None
        if found is not None:
            on = (experts.index(name),) if name in experts else tuple(range(len(experts)))
            yield DistilledFile(name=path.name, distillation=found, experts=on)


def _distilled_loras(loras: Sequence[Lora], experts: int) -> Iterator[DistilledFile]:
    """Yield the LoRA files that are distilled by their names."""
    for lora in loras:
        if (found := distillation_of(lora.origin.file)) is not None:
            named = lora.strength if isinstance(lora.strength, Mapping) else expert_names(experts)
            on = tuple(index for index, name in enumerate(expert_names(experts)) if name in named)
            yield DistilledFile(name=lora.origin.file, distillation=found, experts=on)


def _origin(file: Path) -> Origin:
    return Origin(file=file.name, sha256=file_hash(file))


def _adapter(name: str, reader: HeaderReader) -> AdapterFile | None:
    """The adapter that a name or a path stands for, if it is one."""
    if name in ADAPTERS or name in UNSHIPPED:
        return adapter_in(adapter_asset(name), reader)
    return adapter_in(Path(name), reader) if os.path.isfile(name) else None


def _adapted(
    model: str, own: AdapterFile | None, path: PathLike | None, reader: HeaderReader
) -> tuple[str, AdapterFile | None]:
    """Return the model to load and the adapter to put onto it: its `own`, if it is one, or that of a path."""
    if path is None:
        return (model, None) if own is None else (_base(own), own)
    place = _existing(path)
    file = None if place is None else adapter_in(place, reader)
    if file is None:
        raise WeightsError(
            f"{path} is no adapter; a LoRA has an option of its own, and a model is given as --model",
            code="adapter_damaged",
        )
    if own is not None:
        raise UsageError(
            f"{model} is an adapter, and {path} another; give the model that {path} was trained on",
            code="options_conflict",
        )
    return model, file


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


def _lora(item: object) -> tuple[Path, PerExpert]:
    """Return the file and the strength of a LoRA. Raises UsageError for what is no pair of these."""
    match item:
        case (str() | os.PathLike() as file, strength):
            return Path(os.path.expanduser(file)), cast("PerExpert", strength)  # which is checked with its file
        case _:
            raise UsageError(
                "loras are pairs of a file and its strength, such as ('style.safetensors', 0.8), not "
                f"{str(item)[:60]!r}",
                code="wrong_type",
            )


def _experts(given: Mapping[str, PathLike]) -> ExpertPaths:
    paths = expert_paths(given)
    for place in paths.by_noise().values():
        _existing(place)
    return paths
