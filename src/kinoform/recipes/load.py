"""From a model's name or folder to a pipeline; nothing heavy is read yet."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from kinoform.errors import UsageError, WeightsError, nearest
from kinoform.pipelines.generate import Machine
from kinoform.pipelines.pipeline import Pipeline, kept
from kinoform.recipe import Recipe, find
from kinoform.recipes.wan21 import t2v_1_3b, t2v_14b
from kinoform.weights.own import read_manifest
from kinoform.weights.parts import Parts, official_parts, own_parts

EMBEDDED = {"mini": "kinoform.recipes.mini:mini"}
RELEASED = {"t2v-1.3b": t2v_1_3b, "t2v-14b": t2v_14b}
ASSETS = Path(__file__).parents[1] / "assets"
DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    model: str | os.PathLike[str] = "mini",
    *,
    recipe: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    extend: Callable[[str], str] | None = None,
) -> Pipeline:
    """A pipeline for an embedded model (`mini`), a released one by name, or a folder of weights.

    `recipe` ("module:function") replaces the defaults, and the sizes where weights do not state their own.
    `device` is auto, cpu, cuda or mps; `dtype` is auto, float32, bfloat16 or float16. Headers are checked
    now: raises WeightsError for weights that are missing or of another model, UsageError for unknown names
    and for a device that is not there.
    """
    machine = choose_machine(device, dtype)
    name = os.fspath(model)
    chosen = None if recipe is None else find(recipe)
    if name in EMBEDDED:
        made, parts = _own(ASSETS / name, chosen or find(EMBEDDED[name]))
    elif name in RELEASED:
        made, parts = _official(_cached(name), chosen or RELEASED[name]())
    elif os.path.isdir(name):  # unlike Path, it knows that "" is no folder
        made, parts = _folder(Path(name), chosen)
    elif os.path.isfile(name):
        raise WeightsError(f"{name} is a file; this version loads folders: name the one that holds it")
    else:
        known = [*EMBEDDED, *RELEASED]
        raise UsageError(f"no model or folder {name!r}; {nearest(name, known)}, or a folder of weights")
    return Pipeline(recipe=made, parts=parts, machine=machine, extend=extend)


def choose_machine(device: str, dtype: str) -> Machine:
    """float32 on a CPU, bfloat16 on an accelerator, unless said otherwise."""
    if device not in DEVICES:
        raise UsageError(f"no device {device!r}; {nearest(device, DEVICES)}")
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError(f"no dtype {dtype!r}; {nearest(dtype, ['auto', *DTYPES])}")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present[device]:
        raise UsageError(f"this machine has no {device} device that PyTorch can use; pass --device cpu")
    kind = (torch.float32 if device == "cpu" else torch.bfloat16) if dtype == "auto" else DTYPES[dtype]
    return Machine(device=torch.device(device), dtype=kind)


def cache_folder() -> Path:
    """Where weights of released models are looked for: $XDG_CACHE_HOME/kinoform, else ~/.cache/kinoform."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "kinoform"


def _cached(name: str) -> Path:
    folder = cache_folder() / name
    if not folder.is_dir():
        raise WeightsError(
            f"the weights of {name} are not in {folder}; put the official folder there, or pass its path as --model"
        )
    return folder


def _folder(folder: Path, chosen: Recipe | None) -> tuple[Recipe, Parts]:
    if (folder / "manifest.json").is_file():
        return _own(folder, chosen or _recipe_of(folder))
    return _official(folder, chosen)


def _recipe_of(folder: Path) -> Recipe:
    """The recipe that a folder names, if it is one of kinoform's own: a weight file must not choose code."""
    address = read_manifest(folder).recipe
    if address not in EMBEDDED.values():
        raise WeightsError(f"{folder} was made by the recipe {address!r}; pass --recipe {address} if you trust it")
    return find(address)


def _own(folder: Path, recipe: Recipe) -> tuple[Recipe, Parts]:
    return recipe, kept(own_parts(folder, recipe.transformer, recipe.codec, recipe.text))


def _official(folder: Path, recipe: Recipe | None) -> tuple[Recipe, Parts]:
    parts = official_parts(folder)
    if recipe is None:
        recipe = t2v_14b() if parts.transformer_spec.dim == t2v_14b().transformer.dim else t2v_1_3b()
    sizes = {"transformer": parts.transformer_spec, "codec": parts.codec_spec, "text": parts.text_spec}
    return replace(recipe, **sizes), replace(parts, fingerprint=cache(parts.fingerprint))
