"""Tiny models of two experts, in every layout: weights of seed 0 for high noise, of seed 1 for low."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoform.families.transformer_names import DIFFUSERS_NAMES, OFFICIAL_NAMES
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.vace_blocks import VaceBlocks
from tests.support.comfy_files import SINGLE, write_comfy_folders
from tests.support.diffusers_folder import INDEX, transformer_config, write_diffusers_folder
from tests.support.narrowing import of_type
from tests.support.official_folder import (
    TRANSFORMERS,
    official_config,
    official_tensors,
    tiny_modules,
    write_official_folder,
    write_transformer,
)

SEEDS = {"high": 0, "low": 1}
KINDS = ("t2v", "i2v", "vace")
BOUNDARIES = {"t2v": 0.875, "i2v": 0.9, "vace": 0.875}
PIPELINES = {"t2v": "WanPipeline", "i2v": "WanImageToVideoPipeline", "vace": "WanVACEPipeline"}
SHIFT = 3.0
"""The `flow_shift` that converted folders of diffusers have, and no recipe."""


def expert_spec(kind: str, like: DiTSpec = TRANSFORMERS["t2v"]) -> DiTSpec:
    """The transformer of one of KINDS: those that begin with an image have no image encoder.

    Without a config.json, beside which no single file lies, VACE blocks are known to be evenly spaced.
    """
    blocks = (VaceBlocks(layers=(0,)),) if like is SINGLE and kind == "vace" else TRANSFORMERS[kind].branches
    return replace(like, in_channels=36 if kind == "i2v" else 16, branches=blocks)


def tiny_expert(noise: str, kind: str = "t2v", like: DiTSpec = TRANSFORMERS["t2v"]) -> DiT:
    """The module whose weights stand for an expert in all layouts; those of ComfyUI are like `comfy_files.SINGLE`."""
    return of_type(DiT, tiny_modules(SEEDS[noise], expert_spec(kind, like)).transformer)


def write_expert_folder(path: Path, layout: str, kind: str = "t2v", *, shards: int = 1) -> Path:
    """Write a model in the layout official, diffusers or comfy, and return the folder that is given as the model.

    Of ComfyUI's folders that is `diffusion_models`, which holds both files and nothing else.
    """
    return {"official": _official, "diffusers": _diffusers, "comfy": _comfy}[layout](path, kind, shards)


def comfy_expert(noise: str, kind: str = "t2v") -> dict[str, Tensor]:
    """The tensors of an expert's single file."""
    return official_tensors(tiny_expert(noise, kind, SINGLE), OFFICIAL_NAMES)


def comfy_files(folder: Path, kind: str = "t2v", ending: str = ".safetensors") -> dict[str, Path]:
    """The names that such files have, by the noise that they are for."""
    return {noise: folder / f"wan2.2_{kind}_{noise}_noise_tiny{ending}" for noise in SEEDS}


def _official(path: Path, kind: str, shards: int) -> Path:
    write_official_folder(path)
    for file in (*path.glob("diffusion_pytorch_model*"), path / "config.json"):
        file.unlink()
    for noise in SEEDS:
        (home := path / f"{noise}_noise_model").mkdir()
        (home / "config.json").write_text(json.dumps(official_config(kind)))
        write_transformer(home, official_tensors(tiny_expert(noise, kind), OFFICIAL_NAMES), shards=shards)
    return path


def _diffusers(path: Path, kind: str, shards: int) -> Path:
    write_diffusers_folder(path)
    shutil.rmtree(path / "transformer")
    config: Mapping[str, object] = transformer_config(kind) | {"image_dim": None, "added_kv_proj_dim": None}
    for noise, name in (("high", "transformer"), ("low", "transformer_2")):
        (home := path / name).mkdir()
        (home / "config.json").write_text(json.dumps(config))
        write_transformer(home, official_tensors(tiny_expert(noise, kind), DIFFUSERS_NAMES), shards=shards)
    second = ["diffusers", config["_class_name"]]
    index = INDEX | {"_class_name": PIPELINES[kind], "boundary_ratio": BOUNDARIES[kind], "transformer_2": second}
    (path / "model_index.json").write_text(json.dumps(index))
    (path / "scheduler").mkdir()
    scheduler = {"_class_name": "UniPCMultistepScheduler", "flow_shift": SHIFT}
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return path


def _comfy(path: Path, kind: str, shards: int) -> Path:
    assert shards == 1, "ComfyUI has one file for each"
    write_comfy_folders(path).unlink()
    folder = path / "diffusion_models"
    for noise, file in comfy_files(folder, kind).items():
        save_file(comfy_expert(noise, kind), file)
    return folder


def same_weights(module: DiT, expected: DiT) -> bool:
    """Return whether two modules have the same parameters, bit for bit."""
    held, wanted = module.state_dict(), expected.state_dict()
    return held.keys() == wanted.keys() and all(torch.equal(held[name], wanted[name]) for name in wanted)
