"""The sizes of a part, from the shapes of its tensors and, where there is one, its config.json."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinoform.errors import WeightsError
from kinoform.families.config_file import Config, shown
from kinoform.families.specs import Shapes, codec_spec, side_blocks, text_spec, transformer_spec, vision_spec
from kinoform.families.usable import FAMILIES
from kinoform.loading.sources import OpenedPart, PartFile
from kinoform.models.block import FullBlock
from kinoform.models.context import ImageStream
from kinoform.models.dit import DiTSpec
from kinoform.models.factorized_block import FactorizedBlock, has_time_attention
from kinoform.models.text import EPSILON, UMT5_XXL, TextSpec
from kinoform.models.vae import VAESpec
from kinoform.models.vision import VisionSpec

MODEL_TYPES = {
    "t2v": ("wan21-t2v", "WanModel"),
    "i2v": ("wan21-i2v", "WanModel"),
    "flf2v": ("wan21-flf2v", "WanModel"),
    "vace": ("wan21-vace", "VaceWanModel"),
}
"""By the model_type of an official config.json: the family of its transformer, and the class that saved it."""

MAX_DISTANCE = "relative_attention_max_distance"


def opened_transformer(file: PartFile) -> OpenedPart[DiTSpec]:
    """Add the sizes. Raises WeightsError when the config.json contradicts the shapes, here and below."""
    shapes, config = file.shapes(), file.config
    if config is None:
        return OpenedPart(file=file, spec=transformer_spec(shapes))
    return OpenedPart(file=file, spec=(_diffusers if _of_diffusers(config) else _official)(file, shapes, config))


def opened_text_encoder(file: PartFile, *, beside: PartFile | None = None) -> OpenedPart[TextSpec]:
    """Add the sizes; the token limit of a prompt is that of the official transformer `beside` it."""
    shapes, config = file.shapes(), file.config
    if config is None:
        return OpenedPart(
            file=file, spec=text_spec(shapes, length=UMT5_XXL.length if beside is None else _rows(beside))
        )
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
    return OpenedPart(file=file, spec=spec)


def opened_codec(file: PartFile) -> OpenedPart[VAESpec]:
    spec, config = codec_spec(file.shapes()), file.config
    if config is None:
        return OpenedPart(file=file, spec=spec)
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
        return OpenedPart(file=file, spec=spec)
    std = config.numbers("latents_std", spec.channels)
    if min(std) <= 0:
        raise WeightsError(
            f"{config.path}: latents_std holds {min(std)}, which is no spread; fetch the file again",
            code="config_damaged",
        )
    return OpenedPart(file=file, spec=replace(spec, mean=config.numbers("latents_mean", spec.channels), std=std))


def opened_image_encoder(file: PartFile) -> OpenedPart[VisionSpec]:
    shapes, config = file.shapes(), file.config
    if config is None:
        return OpenedPart(file=file, spec=vision_spec(shapes))
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
    return OpenedPart(file=file, spec=spec)


OPENED: dict[str, Callable[[PartFile], OpenedPart[Any]]] = {
    "text_encoder": opened_text_encoder,
    "codec": opened_codec,
    "image_encoder": opened_image_encoder,
}
"""By the part beside the transformer."""


def stored_block(file: PartFile, spec: DiTSpec) -> DiTSpec:
    """The spec with factorized blocks where weights by own names have them, and it full ones.

    So a model that was converted keeps the recipe of the one it was made from.
    """
    if spec.block != FullBlock() or file.names is not None or not has_time_attention(file.files.tensors):
        return spec
    return replace(spec, block=FactorizedBlock())


def check_block(path: Path, part: OpenedPart[DiTSpec]) -> None:
    """Raise WeightsError where the spec has factorized blocks and the weights full ones; it names the command."""
    if isinstance(part.spec.block, FactorizedBlock) and not has_time_attention(part.file.files.tensors):
        raise WeightsError(
            f"{path} holds blocks of full attention, the recipe's have a temporal attention of their own; "
            f"make such weights first: kinoform convert --to factorized {path} OUT",
            code="weights_wrong_model",
        )


def _official(file: PartFile, shapes: Shapes, config: Config) -> DiTSpec:
    assert file.identity is not None
    kind = config.values.get("model_type")
    family, _ = MODEL_TYPES.get(str(kind), ("", ""))
    if file.identity.family != family:
        raise WeightsError(
            f"{config.path}: model_type is {shown(kind)}, the weights are {FAMILIES[file.identity.family]}; they do "
            "not belong together",
            code="config_contradicts_weights",
        )
    heads, eps = config.number("num_heads"), config.small("eps", 1e-6)
    sides = config.rising("vace_layers", shapes.blocks())
    spec = transformer_spec(shapes, heads=heads, rows=_rows(file), eps=eps, side_layers=sides)
    if (side := side_blocks(spec)) is not None:
        config.check({"vace_in_dim": side.channels})
    config.check(
        {
            "dim": spec.dim,
            "ffn_dim": spec.ffn_dim,
            "num_layers": spec.layers,
            "in_dim": spec.in_channels,
            "out_dim": spec.out_channels,
            "freq_dim": spec.frequency_width,
        }
    )
    return spec


def _diffusers(file: PartFile, shapes: Shapes, config: Config) -> DiTSpec:
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


def _of_diffusers(config: Config) -> bool:
    """Whether the settings beside a transformer are those of diffusers."""
    return "num_attention_heads" in config.values


def _rows(transformer: PartFile) -> int:
    """The token limit of a prompt, which only an official config.json tells."""
    config = transformer.config
    return UMT5_XXL.length if config is None or _of_diffusers(config) else config.number("text_len")
