"""A diffusers folder of a Wan 2.1 pipeline: model_index.json and a folder a part, each with its own config.json.

Source: https://github.com/huggingface/diffusers and the folders that it saves.
"""

from dataclasses import replace
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families.config_file import read_config, shown
from kinoform.families.folders import INDEX, check_folder
from kinoform.families.specs import codec_spec, shapes_of, side_blocks, text_spec, transformer_spec, vision_spec
from kinoform.families.usable import FAMILIES, READ_IMAGES
from kinoform.loading.detect import recognised, settled
from kinoform.loading.sources import Given, Places, Source, Specs
from kinoform.loading.tokenizer_file import vocabulary_file
from kinoform.models.context import ImageStream
from kinoform.models.dit import DiTSpec
from kinoform.models.text import EPSILON, TextSpec
from kinoform.models.vae import VAESpec
from kinoform.models.vision import VisionSpec

PIPELINES = {
    "WanPipeline": ("wan21-t2v",),
    "WanVideoToVideoPipeline": ("wan21-t2v",),
    "WanImageToVideoPipeline": READ_IMAGES,
    "WanVACEPipeline": ("wan21-vace",),
}
"""The families of transformers that a pipeline has; one of another class is read by its parts."""

TRANSFORMER, TEXT_ENCODER, CODEC, TOKENIZER = "transformer", "text_encoder", "vae", "tokenizer"
IMAGE_ENCODER = "image_encoder"
MAX_DISTANCE = "relative_attention_max_distance"


def diffusers_places(folder: Path, given: Given, *, variant: str | None = None, named: bool = False) -> Places:
    """Raises WeightsError when a part is missing or of another model, or not that of its pipeline."""
    made_by = read_config(folder / INDEX).values.get("_class_name") if (folder / INDEX).is_file() else None
    check_folder(folder)
    if not (folder / TRANSFORMER).is_dir():
        raise WeightsError(
            f"{folder} is a folder of {shown(made_by)} without {TRANSFORMER}/; give one of a Wan pipeline, such as "
            f"{next(iter(PIPELINES))}",
            code="config_unsupported",
        )
    transformer = _part(folder / TRANSFORMER, "transformer", None, variant=variant)
    transformer = settled(folder, transformer, whole=given.leaves_parts, named=named or variant is not None)
    if transformer.family not in PIPELINES.get(str(made_by), (transformer.family,)):
        held = FAMILIES[transformer.family]
        raise WeightsError(
            f"{folder} is a {made_by} with {held}; they do not belong together, fetch the folder again",
            code="config_contradicts_weights",
        )
    seeing = transformer.family in READ_IMAGES
    if made_by is not None and made_by not in PIPELINES:
        strange = f"its pipeline is {shown(made_by)}, which kinoform does not know; it is read by its parts"
        transformer = replace(transformer, notes=(*transformer.notes, strange))
    return Places(
        path=folder,
        transformer=transformer,
        text_encoder=_part(folder / TEXT_ENCODER, "text_encoder", given.text_encoder),
        codec=_part(folder / CODEC, "codec", given.codec),
        tokenizer=vocabulary_file(given.tokenizer or folder / TOKENIZER),
        image_encoder=_part(folder / IMAGE_ENCODER, "image_encoder", given.image_encoder) if seeing else None,
    )


def diffusers_specs(places: Places) -> Specs:
    """From the headers. Raises WeightsError when a config.json contradicts them."""
    assert places.codec is not None, "all released models have an autoencoder"
    return Specs(
        path=places.path,
        transformer=diffusers_transformer(places.transformer),
        codec=_codec(places.codec),
        text=_text(places.text_encoder),
        image=None if places.image_encoder is None else _vision(places.image_encoder),
    )


def _part(folder: Path, part: str, given: Path | None, *, variant: str | None = None) -> Source:
    if given is not None:
        return recognised(given, part)
    return recognised(folder, part, config=_config(folder), variant=variant)


def _config(folder: Path) -> Path | None:
    """The settings of a part; one that has none has the sizes of all released models where no shape tells."""
    return folder / "config.json" if (folder / "config.json").is_file() else None


def diffusers_transformer(source: Source) -> DiTSpec:
    """The sizes of a transformer from its headers. Raises WeightsError when its config.json contradicts them."""
    shapes = shapes_of(source.open(), source.names)
    if source.config is None:
        return transformer_spec(shapes)
    config = read_config(source.config)
    spec = transformer_spec(
        shapes,
        heads=config.number("num_attention_heads"),
        eps=config.small("eps", 1e-6),
        side_layers=config.rising("vace_layers", shapes.blocks()),
    )
    image = next((stream for stream in spec.context if isinstance(stream, ImageStream)), None)
    if (side := side_blocks(spec)) is not None:
        config.check({"vace_in_channels": side.channels})
    config.check(
        {
            "attention_head_dim": spec.dim // spec.heads,
            "num_layers": spec.layers,
            "ffn_dim": spec.ffn_dim,
            "in_channels": spec.in_channels,
            "out_channels": spec.out_channels,
            "patch_size": list(spec.patch),
            "text_dim": shapes.length("context.text.layers.0.weight", 1),
            "freq_dim": spec.frequency_width,
            "image_dim": None if image is None else image.width,
            "added_kv_proj_dim": None if image is None else spec.dim,
            "pos_embed_seq_len": None if image is None else image.positions or None,
            "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads",
        }
    )
    return spec


def _text(source: Source) -> TextSpec:
    shapes = shapes_of(source.open(), source.names)
    if source.config is None:
        return text_spec(shapes)
    config = read_config(source.config)
    known = MAX_DISTANCE in config.values
    spec = text_spec(shapes, max_distance=config.number(MAX_DISTANCE)) if known else text_spec(shapes)
    config.check(
        {
            "vocab_size": spec.vocab,
            "d_model": spec.dim,
            "d_kv": spec.dim_attention // spec.heads,
            "d_ff": spec.dim_ffn,
            "num_heads": spec.heads,
            "num_layers": spec.layers,
            "relative_attention_num_buckets": spec.buckets,
            "layer_norm_epsilon": EPSILON,
            "feed_forward_proj": "gated-gelu",
        }
    )
    return spec


def _vision(source: Source) -> VisionSpec:
    shapes = shapes_of(source.open(), source.names)
    if source.config is None:
        return vision_spec(shapes)
    config = read_config(source.config)
    spec = vision_spec(
        shapes, heads=config.number("num_attention_heads"), eps=config.small("layer_norm_eps", VisionSpec().eps)
    )
    config.check(
        {
            "hidden_size": spec.dim,
            "intermediate_size": spec.dim_ffn,
            "num_hidden_layers": spec.layers,
            "image_size": spec.image,
            "patch_size": spec.patch,
            "hidden_act": "gelu",
        }
    )
    return spec


def _codec(source: Source) -> VAESpec:
    spec = codec_spec(shapes_of(source.open(), source.names))
    if source.config is None:
        return spec
    config = read_config(source.config)
    config.check(
        {
            "base_dim": spec.dim,
            "z_dim": spec.channels,
            "dim_mult": list(spec.multipliers),
            "num_res_blocks": spec.residual_blocks,
            "temperal_downsample": list(spec.time_downsample),
        }
    )
    if "latents_mean" not in config.values:
        return spec
    std = config.numbers("latents_std", spec.channels)
    if min(std) <= 0:
        raise WeightsError(
            f"{config.path}: latents_std holds {min(std)}, which is no spread; fetch the file again",
            code="config_damaged",
        )
    return replace(spec, mean=config.numbers("latents_mean", spec.channels), std=std)
