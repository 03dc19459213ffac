"""Tiny models with random weights in exactly the official layout: the same names, files and config."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kinoform.families.names import Names
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.families.vae22 import official_names as VAE22
from kinoform.loading.own import Modules
from kinoform.models import text
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.models.vae import VAESpec
from kinoform.models.vae22 import VAE22Spec
from kinoform.models.vision import VisionSpec
from kinoform.recipe import Recipe
from kinoform.recipes.wan21 import vace_1_3b
from tests.support.narrowing import some
from tests.support.tower_files import official_tower, tower_of

WORDS = (
    "a",
    "the",
    "red",
    "blue",
    "ball",
    "cat",
    "dog",
    "moves",
    "runs",
    "left",
    "right",
    "slowly",
    ",",
    ".",
)
ROWS = 24
TEXT = TextSpec(vocab=3 + len(WORDS), dim=24, dim_attention=16, dim_ffn=40, heads=2, layers=2, buckets=8,
                length=ROWS)  # fmt: skip
TRANSFORMER = DiTSpec(dim=24, ffn_dim=56, heads=2, layers=3, context=(TextContext(width=TEXT.dim, length=ROWS),))
CODEC = VAESpec(dim=4)
CODEC_22 = VAE22Spec(dim=4, decoder_dim=4)
VISION = VisionSpec(image=28, dim=80, heads=1, layers=3, dim_ffn=320)


def _seeing(positions: int) -> DiTSpec:
    streams = (*TRANSFORMER.context, ImageContext(width=VISION.dim, positions=positions))
    return replace(TRANSFORMER, in_channels=36, context=streams)


TRANSFORMERS = {
    "t2v": TRANSFORMER,
    "i2v": _seeing(0),
    "flf2v": _seeing(2 * VISION.tokens),
    "vace": replace(TRANSFORMER, branches=(VaceBlocks(layers=(0, 2)),)),
    "ti2v": replace(TRANSFORMER, in_channels=48, out_channels=48),
}
"""By the official `model_type`."""

CONFIG = {
    "_class_name": "WanModel",
    "_diffusers_version": "0.30.0",
    "dim": TRANSFORMER.dim,
    "eps": 1e-06,
    "ffn_dim": TRANSFORMER.ffn_dim,
    "freq_dim": TRANSFORMER.frequency_width,
    "in_dim": TRANSFORMER.in_channels,
    "model_type": "t2v",
    "num_heads": TRANSFORMER.heads,
    "num_layers": TRANSFORMER.layers,
    "out_dim": TRANSFORMER.out_channels,
    "text_len": ROWS,
}

SINGLE = "diffusion_pytorch_model.safetensors"
INDEX = f"{SINGLE}.index.json"
TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
CODEC_FILE, CODEC_22_FILE = "Wan2.1_VAE.pth", "Wan2.2_VAE.pth"
IMAGE_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"


def small_vace() -> Recipe:
    """For the folder of the kind `vace`: videos of 64x32."""
    return replace(
        vace_1_3b(), transformers=(TRANSFORMERS["vace"],), codec=CODEC, text=TEXT, width=64, height=32, num_frames=5
    )


def tiny_modules(seed: int = 0, transformer: DiTSpec = TRANSFORMER) -> Modules:
    """The modules whose weights `write_official_folder` writes, in float32; none of their outputs is zero.

    There is an image encoder where the transformer reads images.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder = TEXT.build()
    text.initialise(encoder, generator)
    return Modules(
        transformer=_filled(transformer.build(), generator),
        autoencoder=_filled(codec_of(transformer).build(), generator),
        text_encoder=encoder.requires_grad_(False).eval(),
        image_encoder=tower_of(VISION, tower(seed)) if len(transformer.context) > 1 else None,
    )


def codec_of(transformer: DiTSpec) -> VAESpec | VAE22Spec:
    """The autoencoder whose latents a transformer makes."""
    return CODEC if transformer.out_channels == CODEC.channels else CODEC_22


def tower(seed: int = 0) -> dict[str, Tensor]:
    """Every official tensor of the tiny vision tower, in numbers that float16 holds exactly."""
    tensors = official_tower(dim=VISION.dim, layers=VISION.layers, image=VISION.image, seed=seed)
    return {name: value.half().float() for name, value in tensors.items()}


def official_config(kind: str) -> dict[str, object]:
    """config.json of one of TRANSFORMERS."""
    spec = TRANSFORMERS[kind]
    config = CONFIG | {"model_type": kind, "in_dim": spec.in_channels, "out_dim": spec.out_channels}
    if kind == "vace":
        config |= {"_class_name": "VaceWanModel", "vace_layers": [0, 2], "vace_in_dim": 96}
    return config


def write_official_folder(path: Path, *, shards: int = 1, seed: int = 0, kind: str = "t2v") -> None:
    """Write the folder at `path`; with more than one shard the transformer comes in files with an index.

    `kind` is one of TRANSFORMERS.
    """
    modules = tiny_modules(seed, TRANSFORMERS[kind])
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(official_config(kind), indent=2) + "\n")
    write_transformer(path, official_tensors(modules.transformer, DIT), shards=shards)
    encoder = official_tensors(modules.text_encoder, TEXT_ENCODER)
    torch.save({name: value.bfloat16() for name, value in encoder.items()}, path / TEXT_FILE)
    names, file = (VAE22(), CODEC_22_FILE) if kind == "ti2v" else (VAE21, CODEC_FILE)
    torch.save(official_tensors(some(modules.autoencoder), names), path / file)
    if modules.image_encoder is not None:
        other = {"textual.norm.weight": torch.ones(6), "log_scale": torch.ones(())}
        torch.save({name: value.half() for name, value in (tower(seed) | other).items()}, path / IMAGE_FILE)
    tokenizer = path / "google" / "umt5-xxl"
    tokenizer.mkdir(parents=True)
    build_word_tokenizer(WORDS).save(str(tokenizer / "tokenizer.json"))


def official_tensors(module: nn.Module, names: Names) -> dict[str, Tensor]:
    return {names.theirs(name): value.detach().clone() for name, value in module.named_parameters()}


def write_transformer(path: Path, tensors: dict[str, Tensor], *, shards: int) -> None:
    if shards == 1:
        save_file(tensors, path / SINGLE)
        return
    weight_map = {}
    for number in range(shards):
        file = f"diffusion_pytorch_model-{number + 1:05d}-of-{shards:05d}.safetensors"
        held = {name: tensors[name] for name in sorted(tensors)[number::shards]}
        save_file(held, path / file)
        weight_map |= dict.fromkeys(held, file)
    total = sum(value.nbytes for value in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (path / INDEX).write_text(json.dumps(index, indent=2))


def _filled(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Matrices and convolutions with unit gain, scales about 1, the rest small."""
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(("gamma", "norm.weight", "norm_q.weight", "norm_k.weight")):
            noise = 1 + 0.1 * noise
        else:
            noise = noise * (parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1)
        parameter.data = noise
    return module.requires_grad_(False).eval()
