"""The tiny models of `official_folder` as diffusers saves them: a folder and a config.json for each part."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from kinoform.families.clip import HUGGINGFACE_NAMES, OFFICIAL_NAMES
from kinoform.families.transformer_names import DIFFUSERS_NAMES as DIFFUSERS_DIT
from kinoform.families.umt5 import HUGGINGFACE_NAMES as HUGGINGFACE_TEXT_ENCODER
from kinoform.families.vae21 import diffusers_names
from kinoform.families.vae22 import diffusers_names as diffusers_names_22
from kinoform.models.tokenizer import build_word_tokenizer
from tests.support.narrowing import some
from tests.support.official_folder import (
    CODEC,
    CODEC_22,
    TEXT,
    TRANSFORMER,
    TRANSFORMERS,
    VISION,
    WORDS,
    official_tensors,
    tiny_modules,
    tower,
    write_transformer,
)
from tests.support.tower_files import checkpoint_of

INDEX = {
    "_class_name": "WanPipeline",
    "_diffusers_version": "0.35.0",
    "boundary_ratio": None,
    "expand_timesteps": False,
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "transformer_2": [None, None],
    "vae": ["diffusers", "AutoencoderKLWan"],
}
CONFIGS: Mapping[str, dict[str, object]] = {
    "transformer": {
        "_class_name": "WanTransformer3DModel",
        "added_kv_proj_dim": None,
        "attention_head_dim": TRANSFORMER.dim // TRANSFORMER.heads,
        "cross_attn_norm": True,
        "eps": 1e-06,
        "ffn_dim": TRANSFORMER.ffn_dim,
        "freq_dim": TRANSFORMER.frequency_width,
        "image_dim": None,
        "in_channels": TRANSFORMER.in_channels,
        "num_attention_heads": TRANSFORMER.heads,
        "num_layers": TRANSFORMER.layers,
        "out_channels": TRANSFORMER.out_channels,
        "patch_size": [1, 2, 2],
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "text_dim": TEXT.dim,
    },
    "text_encoder": {
        "architectures": ["UMT5EncoderModel"],
        "d_ff": TEXT.dim_ffn,
        "d_kv": TEXT.dim_attention // TEXT.heads,
        "d_model": TEXT.dim,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-06,
        "num_heads": TEXT.heads,
        "num_layers": TEXT.layers,
        "relative_attention_max_distance": TEXT.max_distance,
        "relative_attention_num_buckets": TEXT.buckets,
        "vocab_size": TEXT.vocab,
    },
    "vae": {
        "_class_name": "AutoencoderKLWan",
        "attn_scales": [],
        "base_dim": CODEC.dim,
        "dim_mult": list(CODEC.multipliers),
        "dropout": 0.0,
        "latents_mean": list(CODEC.mean),
        "latents_std": list(CODEC.std),
        "num_res_blocks": CODEC.residual_blocks,
        "temperal_downsample": list(CODEC.time_downsample),
        "z_dim": CODEC.channels,
    },
}
IMAGE_CONFIG = {
    "architectures": ["CLIPVisionModel"],
    "hidden_act": "gelu",
    "hidden_size": VISION.dim,
    "image_size": VISION.image,
    "intermediate_size": VISION.dim_ffn,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": VISION.heads,
    "num_hidden_layers": VISION.layers,
    "patch_size": VISION.patch,
}
CONFIG_22 = CONFIGS["vae"] | {
    "base_dim": CODEC_22.dim,
    "decoder_base_dim": CODEC_22.decoder_dim,
    "in_channels": 12,
    "is_residual": True,
    "latents_mean": list(CODEC_22.mean),
    "latents_std": list(CODEC_22.std),
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "scale_factor_temporal": 4,
    "z_dim": CODEC_22.channels,
}
PIPELINES = {"i2v": "WanImageToVideoPipeline", "flf2v": "WanImageToVideoPipeline", "vace": "WanVACEPipeline"}
SHARED, EMBED = "shared.weight", "encoder.embed_tokens.weight"


def write_diffusers_folder(
    path: Path, *, shards: int = 1, seed: int = 0, embeddings: tuple[str, ...] = (SHARED,), kind: str = "t2v"
) -> None:
    """`embeddings` are the names under which the text encoder's embedding is stored; `kind` as in TRANSFORMERS."""
    modules = tiny_modules(seed, TRANSFORMERS[kind])
    path.mkdir(parents=True)
    wide = kind == "ti2v"
    index = {"_class_name": PIPELINES.get(kind, "WanPipeline"), "expand_timesteps": wide}
    (path / "model_index.json").write_text(json.dumps(INDEX | index))
    configs = {**CONFIGS, "transformer": transformer_config(kind)} | ({"vae": CONFIG_22} if wide else {})
    for part, config in configs.items():
        (path / part).mkdir()
        (path / part / "config.json").write_text(json.dumps(config))
    write_transformer(path / "transformer", official_tensors(modules.transformer, DIFFUSERS_DIT), shards=shards)
    names = diffusers_names_22() if wide else diffusers_names()
    write_transformer(path / "vae", official_tensors(some(modules.autoencoder), names), shards=1)
    save_file(huggingface_text(seed, embeddings), path / "text_encoder" / "model.safetensors")
    if modules.image_encoder is not None:
        (path / "image_encoder").mkdir()
        (path / "image_encoder" / "config.json").write_text(json.dumps(IMAGE_CONFIG))
        save_file(huggingface_tower(seed), path / "image_encoder" / "model.safetensors")
    (path / "tokenizer").mkdir()
    build_word_tokenizer(WORDS).save(str(path / "tokenizer" / "tokenizer.json"))


def huggingface_text(seed: int = 0, embeddings: tuple[str, ...] = (SHARED,)) -> dict[str, Tensor]:
    """The tensors of the tiny text encoder under the names of transformers."""
    tensors = official_tensors(tiny_modules(seed).text_encoder, HUGGINGFACE_TEXT_ENCODER)
    embedding = tensors.pop(SHARED)
    return tensors | {name: embedding.clone() for name in embeddings}


def transformer_config(kind: str) -> dict[str, object]:
    spec = TRANSFORMERS[kind]
    config = CONFIGS["transformer"] | {"in_channels": spec.in_channels, "out_channels": spec.out_channels}
    if kind == "vace":
        config |= {"_class_name": "WanVACETransformer3DModel", "vace_layers": [0, 2], "vace_in_channels": 96}
    if kind in ("i2v", "flf2v"):
        config |= {"image_dim": VISION.dim, "added_kv_proj_dim": spec.dim}
    if kind == "flf2v":
        config |= {"pos_embed_seq_len": 2 * VISION.tokens}
    return config


def huggingface_tower(seed: int = 0) -> dict[str, Tensor]:
    """The tensors of the tiny vision tower under the names of transformers, but for the head."""
    held = checkpoint_of({name.removeprefix("visual."): value for name, value in tower(seed).items()})
    return {
        f"vision_model.{HUGGINGFACE_NAMES.theirs(OFFICIAL_NAMES.ours(name) or name)}": stored.read()
        for name, stored in held.tensors.items()
        if name != "head"
    }
