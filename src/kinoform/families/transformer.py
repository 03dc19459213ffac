"""Wan's transformers: sizes and settings that all released ones share. The families: wan21.py, wan22.py.

Source: the official models and folders, and those of diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from kinoform.errors import UsageError, WeightsError
from kinoform.families.family import TRANSFORMER, Config, ConfigForm, Family, Shapes
from kinoform.families.transformer_names import DIALECTS, IMAGE, SIDE, TIME

if TYPE_CHECKING:
    from kinoform.models.context import ImageContext
    from kinoform.models.dit import DiTSpec
    from kinoform.models.protocols import ContextSpec
    from kinoform.models.vace_blocks import VaceBlocks

HEAD_WIDTH = 128
"""Columns of an attention head in every released transformer; structure alone does not tell it."""

FREQUENCY_WIDTH = 256
"""Sines and cosines of a noise level in every released transformer."""

MADE_FOR = "0.42.1"
"""The version of diffusers whose keys these are."""


def transformer_family(
    *,
    name: str,
    channels: tuple[int, int],
    image: bool = False,
    positions: bool = False,
    vace: bool = False,
    model_type: str = "",
    saved_by: tuple[str, ...] = ("WanModel",),
    class_name: str = "WanTransformer3DModel",
    **more: Any,
) -> Family:
    """A family of transformers in all their dialects, told from others by what it reads.

    `channels` are those that it reads and makes; `image`: the tokens of an image encoder too, with learned `positions`
    where these are of two frames; `vace`: it has VACE's context blocks.
    `model_type` and `saved_by` are what the official config.json calls the model and its class (the first of these is
    written), `class_name` the class of diffusers.
    """

    def fits(shapes: Shapes) -> bool:
        if vace or has_side(shapes):
            return vace and has_side(shapes)
        if image or has_image(shapes):
            return image and has_image(shapes) and positions == has_positions(shapes)
        return transformer_channels(shapes) == channels

    forms = (
        ConfigForm(
            dialect="official",
            key="model_type",
            facts=_official_facts,
            stated=partial(_official_config, model_type),
            constant={"_class_name": saved_by[0], "_diffusers_version": MADE_FOR},
        ),
        ConfigForm(
            dialect="diffusers",
            key="num_attention_heads",
            facts=_diffusers_facts,
            stated=_diffusers_config,
            constant={"_class_name": class_name, "_diffusers_version": MADE_FOR, "rope_max_seq_len": 1024},
        ),
    )
    return Family(
        name=name,
        part=TRANSFORMER,
        dialects=DIALECTS,
        spec=transformer_spec,
        sizes=_sizes,
        fits=fits,
        configs=forms,
        channels=channels,
        reads_images=image,
        model_type=model_type,
        saved_by=saved_by,
        **more,
    )


def transformer_channels(shapes: Shapes) -> tuple[int, int]:
    """The channels that a transformer reads and makes."""
    patch = prod(shapes.length(("patch_embedding.weight", axis)) for axis in (2, 3, 4))
    return shapes.length(("patch_embedding.weight", 1)), shapes.length(("head.linear.weight", 0)) // patch


def has_image(shapes: Shapes) -> bool:
    """Return whether a transformer reads the tokens of an image encoder."""
    return shapes.has(f"{IMAGE}.") or shapes.has("blocks.0.cross_attention.streams.image.")


def has_positions(shapes: Shapes) -> bool:
    """Return whether these tokens have learned positions, as those of a first and a last frame do."""
    return shapes.has(f"{IMAGE}.positions")


def has_side(shapes: Shapes) -> bool:
    """Return whether a transformer has VACE's context blocks."""
    return shapes.has(f"{SIDE}.blocks.")


def transformer_spec(
    shapes: Shapes,
    *,
    heads: int | None = None,
    length: int | None = None,
    eps: float = 1e-6,
    side_layers: tuple[int, ...] | None = None,
) -> DiTSpec:
    """The sizes of a transformer.

    `heads` None: of 128 columns each, as in every released model; `length` is the token limit of a prompt;
    `side_layers` are the blocks that VACE's context blocks stand beside, None: evenly spread. Raises WeightsError.
    """
    from kinoform.models.block import FullBlock
    from kinoform.models.dit import DiTSpec
    from kinoform.models.factorized_block import FactorizedBlock

    dim, layers = shapes.length(("patch_embedding.weight", 0)), shapes.layers()
    in_channels, out_channels = transformer_channels(shapes)
    first, second, third = (shapes.length(("patch_embedding.weight", axis)) for axis in (2, 3, 4))
    if heads is None and dim % HEAD_WIDTH and shapes.strict:
        raise WeightsError(
            f"{shapes.path} is {dim} wide, no multiple of {HEAD_WIDTH}: its config.json must tell more",
            code="config_missing",
        )
    try:
        return DiTSpec(
            dim=dim,
            ffn_dim=shapes.length(("blocks.#.feed_forward.0.weight", 0), ("blocks.#.feed_forward.2.weight", 1)),
            heads=heads or (1 if dim % HEAD_WIDTH else dim // HEAD_WIDTH),
            layers=layers,
            in_channels=in_channels,
            out_channels=out_channels,
            patch=(first, second, third),
            frequency_width=shapes.length(("time_embedding.0.weight", 1), otherwise=FREQUENCY_WIDTH),
            eps=eps,
            context=_context(shapes, length),
            block=FactorizedBlock() if shapes.has(f"blocks.0.{TIME}.") else FullBlock(),
            branches=_branches(shapes, layers, side_layers),
        )
    except UsageError as error:
        raise WeightsError(
            f"{shapes.path}: {error}; these are weights of another model", code="weights_wrong_model"
        ) from error


def vace_blocks(spec: DiTSpec) -> VaceBlocks | None:
    """VACE's context blocks among a transformer's branches."""
    from kinoform.models.vace_blocks import VaceBlocks

    return next((branch for branch in spec.branches if isinstance(branch, VaceBlocks)), None)


def text_length(spec: DiTSpec) -> int:
    """The token limit of a prompt."""
    return next(getattr(source, "length", 0) for source in spec.context if source.name == "text")


def _context(shapes: Shapes, length: int | None) -> tuple[ContextSpec, ...]:
    from kinoform.models.context import ImageContext, TextContext

    usual = TextContext()
    width = shapes.length(("context.text.layers.0.weight", 1), otherwise=usual.width)
    text = TextContext(width=width, length=length or usual.length)
    if not has_image(shapes):
        return (text,)
    positions = shapes.length((f"{IMAGE}.positions", 1)) if has_positions(shapes) else 0
    width = shapes.length(
        (f"{IMAGE}.layers.0.weight", 1), (f"{IMAGE}.norm_in.weight", 0), otherwise=ImageContext().width
    )
    return (text, ImageContext(width=width, positions=positions))


def _branches(shapes: Shapes, layers: int, side_layers: tuple[int, ...] | None) -> tuple[VaceBlocks, ...]:
    if not has_side(shapes):
        return ()
    from kinoform.models.vace_blocks import VaceBlocks

    count = shapes.layers(f"{SIDE}.blocks")
    if side_layers is None:
        if layers % count and shapes.strict:
            raise WeightsError(
                f"{shapes.path} has {count} VACE blocks for {layers}: its config.json must tell more",
                code="config_missing",
            )
        side_layers = tuple(range(count)) if layers % count else tuple(range(0, layers, layers // count))
    if len(side_layers) != count:
        raise WeightsError(
            f"{shapes.path} has {count} VACE blocks, its config.json has places for {len(side_layers)}; "
            "they do not belong together",
            code="config_contradicts_weights",
        )
    inputs = shapes.length((f"{SIDE}.patch_embedding.weight", 1), otherwise=VaceBlocks(layers=(0,)).channels)
    return (VaceBlocks(channels=inputs, layers=side_layers),)


def _image_context(spec: DiTSpec) -> ImageContext | None:
    from kinoform.models.context import ImageContext

    return next((source for source in spec.context if isinstance(source, ImageContext)), None)


def _text_width(spec: DiTSpec) -> int:
    return next(getattr(source, "width", 0) for source in spec.context if source.name == "text")


def _sizes(spec: DiTSpec) -> Mapping[str, int]:
    from kinoform.models.factorized_block import FactorizedBlock

    image, side = _image_context(spec), vace_blocks(spec)
    sizes = {
        "dim": spec.dim,
        "ffn_dim": spec.ffn_dim,
        "heads": spec.heads if spec.dim % HEAD_WIDTH == 0 else 0,
        "layers": spec.layers,
        "in_channels": spec.in_channels,
        "out_channels": spec.out_channels,
        "text_width": _text_width(spec),
        "frequency_width": spec.frequency_width,
        "image_width": 0 if image is None else image.width,
        "image_positions": 0 if image is None else image.positions,
        "side_layers": 0 if side is None else len(side.layers),
        "side_channels": 0 if side is None else side.channels,
        "time_layers": spec.layers if isinstance(spec.block, FactorizedBlock) else 0,
    }
    return {name: size for name, size in sizes.items() if size}


def _official_facts(config: Config, shapes: Shapes) -> Mapping[str, Any]:
    return {
        "heads": config.number("num_heads"),
        "length": config.number("text_len"),
        "eps": config.small("eps", 1e-6),
        "side_layers": config.rising("vace_layers", shapes.layers()),
    }


def _official_config(model_type: str, spec: DiTSpec) -> Mapping[str, object]:
    side = vace_blocks(spec)
    return {
        "dim": spec.dim,
        "eps": spec.eps,
        "ffn_dim": spec.ffn_dim,
        "freq_dim": spec.frequency_width,
        "in_dim": spec.in_channels,
        "model_type": model_type,
        "num_heads": spec.heads,
        "num_layers": spec.layers,
        "out_dim": spec.out_channels,
        "text_len": text_length(spec),
        **({} if side is None else {"vace_in_dim": side.channels, "vace_layers": list(side.layers)}),
    }


def _diffusers_facts(config: Config, shapes: Shapes) -> Mapping[str, Any]:
    return {
        "heads": config.number("num_attention_heads"),
        "eps": config.small("eps", 1e-6),
        "side_layers": config.rising("vace_layers", shapes.layers()),
    }


def _diffusers_config(spec: DiTSpec) -> Mapping[str, object]:
    image, side = _image_context(spec), vace_blocks(spec)
    return {
        "added_kv_proj_dim": None if image is None else spec.dim,
        "attention_head_dim": spec.dim // spec.heads,
        "cross_attn_norm": True,
        "eps": spec.eps,
        "ffn_dim": spec.ffn_dim,
        "freq_dim": spec.frequency_width,
        "image_dim": None if image is None else image.width,
        "in_channels": spec.in_channels,
        "num_attention_heads": spec.heads,
        "num_layers": spec.layers,
        "out_channels": spec.out_channels,
        "patch_size": list(spec.patch),
        "pos_embed_seq_len": None if image is None else image.positions or None,
        "qk_norm": "rms_norm_across_heads",
        "text_dim": _text_width(spec),
        **({} if side is None else {"vace_in_channels": side.channels, "vace_layers": list(side.layers)}),
    }
