"""The JSON files that other programs want beside weights, with what shapes tell and what they do not.

Keys and values: folders saved by the official code, diffusers 0.42 and transformers 5.
"""

from dataclasses import dataclass

from kinoform.errors import WeightsError
from kinoform.families.config_file import Config
from kinoform.families.identity import Identity
from kinoform.families.structure import HEAD_WIDTH
from kinoform.models.text import EPSILON, UMT5_XXL
from kinoform.models.tokenizer import END, PAD, UNKNOWN
from kinoform.models.vae import VAESpec
from kinoform.models.vision import MEAN, STD, VisionSpec

MODEL_TYPES = {
    "wan21-t2v": "t2v",
    "wan21-i2v": "i2v",
    "wan21-flf2v": "flf2v",
    "wan21-vace": "vace",
    "wan22-i2v": "i2v",
    "wan22-ti2v": "ti2v",
}
"""By family: what the official config.json calls it. Here are all families whose transformers kinoform builds."""

FLOW_SHIFTS = {"i2v-14b-480p": 3.0, "wan21-flf2v": 16.0, "wan21-vace": 16.0}
FLOW_SHIFT = 5.0
"""Of the released models: by name or family, and of all others."""

PIPELINES = {
    "wan21-i2v": "WanImageToVideoPipeline",
    "wan21-flf2v": "WanImageToVideoPipeline",
    "wan21-vace": "WanVACEPipeline",
}
"""By family; the others have a WanPipeline."""

MADE_FOR = "0.42.1"
"""The version of diffusers whose keys these are."""


T5, AS_IT_IS = "T5TokenizerFast", "PreTrainedTokenizerFast"
"""Classes of transformers: one builds a T5 tokenizer anew from its pieces, the other obeys tokenizer.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """What no shape tells of a transformer or a text encoder; `rows` is the token limit of a prompt.

    `side_layers` are the blocks that VACE's side blocks stand beside.
    """

    heads: int | None = None
    eps: float = 1e-6
    rows: int = UMT5_XXL.length
    max_distance: int = UMT5_XXL.max_distance
    side_layers: tuple[int, ...] = ()


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
    config = {
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
    if not more.side_layers:
        return config
    side = {"vace_in_dim": sizes["side_channels"], "vace_layers": list(more.side_layers)}
    return config | {"_class_name": "VaceWanModel"} | side


def diffusers_transformer(found: Identity, more: Untold) -> dict[str, object]:
    sizes, heads = found.sizes, _heads(found, more)
    image_width = sizes.get("image_width")
    config = {
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
    if not more.side_layers:
        return config
    side = {"vace_in_channels": sizes["side_channels"], "vace_layers": list(more.side_layers)}
    return config | {"_class_name": "WanVACETransformer3DModel"} | side


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


def huggingface_tower(spec: VisionSpec) -> dict[str, object]:
    return {
        "architectures": ["CLIPVisionModel"],
        "attention_dropout": 0.0,
        "hidden_act": "gelu",
        "hidden_size": spec.dim,
        "image_size": spec.image,
        "intermediate_size": spec.dim_ffn,
        "layer_norm_eps": spec.eps,
        "model_type": "clip_vision_model",
        "num_attention_heads": spec.heads,
        "num_channels": 3,
        "num_hidden_layers": spec.layers,
        "patch_size": spec.patch,
    }


def image_processor(spec: VisionSpec) -> dict[str, object]:
    """As diffusers' pipelines prepare images, which is not how the official code does (docs/weights.md)."""
    return {
        "crop_size": {"height": spec.image, "width": spec.image},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(MEAN),
        "image_processor_type": "CLIPImageProcessor",
        "image_std": list(STD),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": spec.image},
    }


def scheduler(found: Identity) -> dict[str, object]:
    """diffusers' nearest relative of the official UniPC; its noise levels differ (docs/weights.md)."""
    return {
        "_class_name": "UniPCMultistepScheduler",
        "_diffusers_version": MADE_FOR,
        "flow_shift": FLOW_SHIFTS.get(found.chosen or "", FLOW_SHIFTS.get(found.family, FLOW_SHIFT)),
        "num_train_timesteps": 1000,
        "predict_x0": True,
        "prediction_type": "flow_prediction",
        "solver_order": 2,
        "solver_type": "bh2",
        "use_flow_sigmas": True,
    }


def pipeline(tokenizer: str, family: str, *, image: bool) -> dict[str, object]:
    """model_index.json; `tokenizer` is the class that reads the tokenizer's files, `image`: with an encoder."""
    vace = family == "wan21-vace"
    seeing = {
        "image_encoder": ["transformers", "CLIPVisionModel"],
        "image_processor": ["transformers", "CLIPImageProcessor"],
    }
    return {
        "_class_name": PIPELINES.get(family, "WanPipeline"),
        "_diffusers_version": MADE_FOR,
        "boundary_ratio": None,
        **({} if vace else {"expand_timesteps": False}),
        **(seeing if image else {}),
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", tokenizer],
        "transformer": ["diffusers", "WanVACETransformer3DModel" if vace else "WanTransformer3DModel"],
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
            "a head); put the config.json that says so beside its weights",
            code="config_missing",
        )
    return heads
