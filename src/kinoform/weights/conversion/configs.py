"""The JSON files that other programs want beside weights, with what shapes tell and what they do not.

Keys and values: folders saved by the official code, diffusers 0.42 and transformers 5.
"""

from dataclasses import dataclass

from kinoform.errors import WeightsError
from kinoform.models.text import EPSILON, UMT5_XXL
from kinoform.models.tokenizer import END, PAD, UNKNOWN
from kinoform.models.vae import VAESpec
from kinoform.weights.claims import Config
from kinoform.weights.identity.identity import Identity
from kinoform.weights.identity.structure import HEAD_WIDTH

MODEL_TYPES = {
    "wan21-t2v": "t2v",
    "wan21-i2v": "i2v",
    "wan21-flf2v": "flf2v",
    "wan22-i2v": "i2v",
    "wan22-ti2v": "ti2v",
}
"""By family: what the official config.json calls it. Here are all families whose transformers kinoform builds."""

FLOW_SHIFT = 5.0
"""Of the released text-to-video models."""

MADE_FOR = "0.42.1"
"""The version of diffusers whose keys these are."""


T5, AS_IT_IS = "T5TokenizerFast", "PreTrainedTokenizerFast"
"""Classes of transformers: one builds a T5 tokenizer anew from its pieces, the other obeys tokenizer.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """What no shape tells of a transformer or a text encoder; `rows` is the token limit of a prompt."""

    heads: int | None = None
    eps: float = 1e-6
    rows: int = UMT5_XXL.length
    max_distance: int = UMT5_XXL.max_distance


def untold(config: Config) -> Untold:
    """From a config.json of any dialect. Raises WeightsError for values that no model of this family has."""
    known = config.values
    heads = next((key for key in ("num_heads", "num_attention_heads") if key in known), None)
    distance = "relative_attention_max_distance"
    return Untold(
        heads=None if heads is None else config.number(heads),
        eps=config.small("eps", Untold().eps),
        rows=config.number("text_len") if "text_len" in known else Untold().rows,
        max_distance=config.number(distance) if distance in known else Untold().max_distance,
    )


def official_transformer(found: Identity, more: Untold) -> dict[str, object]:
    sizes = found.sizes
    return {
        "_class_name": "WanModel",
        "_diffusers_version": MADE_FOR,
        "dim": sizes["dim"],
        "eps": more.eps,
        "ffn_dim": sizes["ffn_dim"],
        "freq_dim": sizes["frequency_width"],
        "in_dim": sizes["in_channels"],
        "model_type": MODEL_TYPES[found.family],
        "num_heads": _heads(found, more),
        "num_layers": sizes["layers"],
        "out_dim": sizes["out_channels"],
        "text_len": more.rows,
    }


def diffusers_transformer(found: Identity, more: Untold) -> dict[str, object]:
    sizes, heads = found.sizes, _heads(found, more)
    image_width = sizes.get("image_width")
    return {
        "_class_name": "WanTransformer3DModel",
        "_diffusers_version": MADE_FOR,
        "added_kv_proj_dim": None if image_width is None else sizes["dim"],
        "attention_head_dim": sizes["dim"] // heads,
        "cross_attn_norm": True,
        "eps": more.eps,
        "ffn_dim": sizes["ffn_dim"],
        "freq_dim": sizes["frequency_width"],
        "image_dim": image_width,
        "in_channels": sizes["in_channels"],
        "num_attention_heads": heads,
        "num_layers": sizes["layers"],
        "out_channels": sizes["out_channels"],
        "patch_size": [1, 2, 2],
        "pos_embed_seq_len": sizes.get("image_positions"),
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "text_dim": sizes["text_width"],
    }


def diffusers_codec(spec: VAESpec) -> dict[str, object]:
    return {
        "_class_name": "AutoencoderKLWan",
        "_diffusers_version": MADE_FOR,
        "attn_scales": [],
        "base_dim": spec.dim,
        "dim_mult": list(spec.multipliers),
        "dropout": 0.0,
        "latents_mean": list(spec.mean),
        "latents_std": list(spec.std),
        "num_res_blocks": spec.residual_blocks,
        "temperal_downsample": list(spec.time_downsample),
        "z_dim": spec.channels,
    }


def huggingface_text(found: Identity, more: Untold) -> dict[str, object]:
    sizes = found.sizes
    return {
        "architectures": ["UMT5EncoderModel"],
        "d_ff": sizes["dim_ffn"],
        "d_kv": sizes["dim_attention"] // sizes["heads"],
        "d_model": sizes["dim"],
        "decoder_start_token_id": 0,
        "dense_act_fn": "gelu_new",
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": True,
        "is_gated_act": True,
        "layer_norm_epsilon": EPSILON,
        "model_type": "umt5",
        "num_heads": sizes["heads"],
        "num_layers": sizes["layers"],
        "pad_token_id": 0,
        "relative_attention_max_distance": more.max_distance,
        "relative_attention_num_buckets": sizes["buckets"],
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": sizes["vocab"],
    }


def scheduler() -> dict[str, object]:
    """diffusers' nearest relative of the official UniPC; its noise levels differ (docs/weights.md)."""
    return {
        "_class_name": "UniPCMultistepScheduler",
        "_diffusers_version": MADE_FOR,
        "flow_shift": FLOW_SHIFT,
        "num_train_timesteps": 1000,
        "predict_x0": True,
        "prediction_type": "flow_prediction",
        "solver_order": 2,
        "solver_type": "bh2",
        "use_flow_sigmas": True,
    }


def pipeline(tokenizer: str) -> dict[str, object]:
    """model_index.json; `tokenizer` is the class that reads the tokenizer's files."""
    return {
        "_class_name": "WanPipeline",
        "_diffusers_version": MADE_FOR,
        "boundary_ratio": None,
        "expand_timesteps": False,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", tokenizer],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }


def tokenizer_config(tokenizer: str, length: int) -> dict[str, object]:
    """`length` is the token limit of a prompt."""
    specials = {"pad_token": PAD, "eos_token": END, "unk_token": UNKNOWN}
    # Left out, 100 tokens that no released vocabulary has would be added.
    extra = {"extra_ids": 0} if tokenizer == T5 else {}
    return {"tokenizer_class": tokenizer, "model_max_length": length, **specials, **extra}


def _heads(found: Identity, more: Untold) -> int:
    dim = found.sizes["dim"]
    heads = more.heads or found.sizes.get("heads")
    if heads is None or dim % heads:
        raise WeightsError(
            f"a transformer {dim} wide does not tell how many heads it has (released ones have {HEAD_WIDTH} columns "
            "a head); put the config.json that says so beside its weights"
        )
    return heads
