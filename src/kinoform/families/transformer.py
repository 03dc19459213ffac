"""Wan's transformers: spellings, sizes and settings that all released ones share. The families: wan21.py, wan22.py.

Sources: the official models and folders; the conversion script of diffusers, and strict loading of mapped random
weights into its classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from kinoform.errors import UsageError, WeightsError
from kinoform.families.config_file import Config
from kinoform.families.family import OWN_NAMES, TRANSFORMER, ConfigForm, Dialect, Family, Shapes
from kinoform.families.names import Names

if TYPE_CHECKING:
    from kinoform.models.context import ImageStream
    from kinoform.models.dit import DiTSpec
    from kinoform.models.protocols import ContextSpec
    from kinoform.models.side_blocks import SideBlocks

HEAD_WIDTH = 128
"""Columns of an attention head in every released transformer; structure alone does not tell it."""

FREQUENCY_WIDTH = 256
"""Sines and cosines of a noise level in every released transformer."""

MADE_FOR = "0.42.1"
"""The version of diffusers whose keys these are."""

IMAGE, SIDE, TIME = "context.image", "branches.vace", "time_attention"


def transformer_family(
    *,
    name: str,
    model_type: str = "",
    saved_by: str = "WanModel",
    class_name: str = "WanTransformer3DModel",
    **more: Any,
) -> Family:
    """A family of transformers in all their dialects.

    `model_type` and `saved_by` are what the official config.json calls the model and its class, `class_name` the class
    of diffusers.
    """
    forms = (
        ConfigForm(
            dialect="official",
            key="model_type",
            facts=_official_facts,
            stated=partial(_official_config, model_type),
            constant={"_class_name": saved_by, "_diffusers_version": MADE_FOR},
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
        configs=forms,
        model_type=model_type,
        saved_by=saved_by,
        **more,
    )


def channels(shapes: Shapes) -> tuple[int, int]:
    """The channels that a transformer reads and makes."""
    patch = prod(shapes.length(("patch_embedding.weight", axis)) for axis in (2, 3, 4))
    return shapes.length(("patch_embedding.weight", 1)), shapes.length(("head.linear.weight", 0)) // patch


def is_plain(shapes: Shapes) -> bool:
    """Whether a transformer has neither an image stream nor side blocks."""
    return not has_image(shapes) and not has_side(shapes)


def has_image(shapes: Shapes) -> bool:
    """Whether a transformer reads the tokens of an image encoder."""
    return shapes.has(f"{IMAGE}.") or shapes.has("blocks.0.cross_attention.streams.image.")


def has_positions(shapes: Shapes) -> bool:
    """Whether these tokens have learned positions, as those of a first and a last frame do."""
    return shapes.has(f"{IMAGE}.positions")


def has_side(shapes: Shapes) -> bool:
    """Whether a transformer has VACE's context blocks."""
    return shapes.has(f"{SIDE}.blocks.")


def transformer_spec(
    shapes: Shapes,
    *,
    heads: int | None = None,
    rows: int | None = None,
    eps: float = 1e-6,
    side_layers: tuple[int, ...] | None = None,
) -> DiTSpec:
    """The sizes of a transformer.

    `heads` None: of 128 columns each, as in every released model; `rows` is the token limit of a prompt; `side_layers`
    are the blocks that VACE's context blocks stand beside, None: evenly spread. Raises WeightsError.
    """
    from kinoform.models.block import FullBlock
    from kinoform.models.dit import DiTSpec
    from kinoform.models.factorized_block import FactorizedBlock

    dim, layers = shapes.length(("patch_embedding.weight", 0)), shapes.layers()
    in_channels, out_channels = channels(shapes)
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
            context=_context(shapes, rows),
            block=FactorizedBlock() if shapes.has(f"blocks.0.{TIME}.") else FullBlock(),
            branches=_branches(shapes, layers, side_layers),
        )
    except UsageError as error:
        raise WeightsError(
            f"{shapes.path}: {error}; these are weights of another model", code="weights_wrong_model"
        ) from error


def side_blocks(spec: DiTSpec) -> SideBlocks | None:
    """VACE's context blocks among a transformer's branches."""
    from kinoform.models.side_blocks import SideBlocks

    return next((branch for branch in spec.branches if isinstance(branch, SideBlocks)), None)


def text_rows(spec: DiTSpec) -> int:
    """The token limit of a prompt."""
    return next(getattr(stream, "rows", 0) for stream in spec.context if stream.name == "text")


def _context(shapes: Shapes, rows: int | None) -> tuple[ContextSpec, ...]:
    from kinoform.models.context import ImageStream, TextStream

    usual = TextStream()
    width = shapes.length(("context.text.layers.0.weight", 1), otherwise=usual.width)
    text = TextStream(width=width, rows=rows or usual.rows)
    if not has_image(shapes):
        return (text,)
    positions = shapes.length((f"{IMAGE}.positions", 1)) if has_positions(shapes) else 0
    width = shapes.length(
        (f"{IMAGE}.layers.0.weight", 1), (f"{IMAGE}.norm_in.weight", 0), otherwise=ImageStream().width
    )
    return (text, ImageStream(width=width, positions=positions))


def _branches(shapes: Shapes, layers: int, side_layers: tuple[int, ...] | None) -> tuple[SideBlocks, ...]:
    if not has_side(shapes):
        return ()
    from kinoform.models.side_blocks import SideBlocks

    count = shapes.layers(f"{SIDE}.blocks")
    if side_layers is None:
        if layers % count and shapes.strict:
            raise WeightsError(
                f"{shapes.path} has {count} side blocks for {layers}: its config.json must tell more",
                code="config_missing",
            )
        side_layers = tuple(range(count)) if layers % count else tuple(range(0, layers, layers // count))
    if len(side_layers) != count:
        raise WeightsError(
            f"{shapes.path} has {count} side blocks, its config.json has places for {len(side_layers)}; "
            "they do not belong together",
            code="config_contradicts_weights",
        )
    inputs = shapes.length((f"{SIDE}.patch_embedding.weight", 1), otherwise=SideBlocks(layers=(0,)).channels)
    return (SideBlocks(channels=inputs, layers=side_layers),)


def _image_stream(spec: DiTSpec) -> ImageStream | None:
    from kinoform.models.context import ImageStream

    return next((stream for stream in spec.context if isinstance(stream, ImageStream)), None)


def _text_width(spec: DiTSpec) -> int:
    return next(getattr(stream, "width", 0) for stream in spec.context if stream.name == "text")


def _sizes(spec: DiTSpec) -> Mapping[str, int]:
    from kinoform.models.factorized_block import FactorizedBlock

    image, side = _image_stream(spec), side_blocks(spec)
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
        "rows": config.number("text_len"),
        "eps": config.small("eps", 1e-6),
        "side_layers": config.rising("vace_layers", shapes.layers()),
    }


def _official_config(model_type: str, spec: DiTSpec) -> Mapping[str, object]:
    side = side_blocks(spec)
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
        "text_len": text_rows(spec),
        **({} if side is None else {"vace_in_dim": side.channels, "vace_layers": list(side.layers)}),
    }


def _diffusers_facts(config: Config, shapes: Shapes) -> Mapping[str, Any]:
    return {
        "heads": config.number("num_attention_heads"),
        "eps": config.small("eps", 1e-6),
        "side_layers": config.rising("vace_layers", shapes.layers()),
    }


def _diffusers_config(spec: DiTSpec) -> Mapping[str, object]:
    image, side = _image_stream(spec), side_blocks(spec)
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


def _official_block(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """The rows of one transformer block under a prefix (main blocks, or context blocks of branches)."""
    image = f"{ours}.cross_attention.streams.image"
    text = f"{ours}.cross_attention.streams.text"
    return (
        (f"{theirs}.modulation", f"{ours}.modulation"),
        (f"{theirs}.self_attn.*", f"{ours}.self_attention.*"),
        (f"{theirs}.norm3.*", f"{ours}.cross_norm.*"),
        (f"{theirs}.cross_attn.k_img.*", f"{image}.k.*"),
        (f"{theirs}.cross_attn.v_img.*", f"{image}.v.*"),
        (f"{theirs}.cross_attn.norm_k_img.*", f"{image}.norm_k.*"),
        (f"{theirs}.cross_attn.k.*", f"{text}.k.*"),
        (f"{theirs}.cross_attn.v.*", f"{text}.v.*"),
        (f"{theirs}.cross_attn.norm_k.*", f"{text}.norm_k.*"),
        (f"{theirs}.cross_attn.q.*", f"{ours}.cross_attention.q.*"),
        (f"{theirs}.cross_attn.o.*", f"{ours}.cross_attention.o.*"),
        (f"{theirs}.cross_attn.norm_q.*", f"{ours}.cross_attention.norm_q.*"),
        (f"{theirs}.ffn.*", f"{ours}.feed_forward.*"),
    )


def _diffusers_block(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """The same for diffusers.

    The one norm with weights, which stands before cross-attention, is norm3 in the official model and norm2
    in diffusers; official norm2 and diffusers' norm3 have no weights.
    """
    first, second = f"{theirs}.attn1", f"{theirs}.attn2"
    cross = f"{ours}.cross_attention"
    image, text = f"{cross}.streams.image", f"{cross}.streams.text"
    return (
        (f"{theirs}.scale_shift_table", f"{ours}.modulation"),
        (f"{theirs}.norm2.*", f"{ours}.cross_norm.*"),
        (f"{first}.to_q.*", f"{ours}.self_attention.q.*"),
        (f"{first}.to_k.*", f"{ours}.self_attention.k.*"),
        (f"{first}.to_v.*", f"{ours}.self_attention.v.*"),
        (f"{first}.to_out.0.*", f"{ours}.self_attention.o.*"),
        (f"{first}.norm_q.*", f"{ours}.self_attention.norm_q.*"),
        (f"{first}.norm_k.*", f"{ours}.self_attention.norm_k.*"),
        (f"{second}.to_q.*", f"{cross}.q.*"),
        (f"{second}.to_k.*", f"{text}.k.*"),
        (f"{second}.to_v.*", f"{text}.v.*"),
        (f"{second}.to_out.0.*", f"{cross}.o.*"),
        (f"{second}.norm_q.*", f"{cross}.norm_q.*"),
        (f"{second}.norm_k.*", f"{text}.norm_k.*"),
        (f"{second}.add_k_proj.*", f"{image}.k.*"),
        (f"{second}.add_v_proj.*", f"{image}.v.*"),
        (f"{second}.norm_added_k.*", f"{image}.norm_k.*"),
        (f"{theirs}.ffn.net.0.proj.*", f"{ours}.feed_forward.0.*"),
        (f"{theirs}.ffn.net.2.*", f"{ours}.feed_forward.2.*"),
    )


OFFICIAL_NAMES = Names(
    rows=(
        ("patch_embedding.*", "patch_embedding.*"),
        ("text_embedding.#.*", "context.text.layers.#.*"),
        ("img_emb.emb_pos", f"{IMAGE}.positions"),
        ("img_emb.proj.0.*", f"{IMAGE}.norm_in.*"),
        ("img_emb.proj.1.*", f"{IMAGE}.layers.0.*"),
        ("img_emb.proj.3.*", f"{IMAGE}.layers.2.*"),
        ("img_emb.proj.4.*", f"{IMAGE}.norm_out.*"),
        ("time_embedding.*", "time_embedding.*"),
        ("time_projection.*", "time_projection.*"),
        ("head.modulation", "head.modulation"),
        ("head.head.*", "head.linear.*"),
        *_official_block("blocks.#", "blocks.#"),
        ("vace_patch_embedding.*", f"{SIDE}.patch_embedding.*"),
        ("vace_blocks.0.before_proj.*", f"{SIDE}.before.*"),
        ("vace_blocks.#.after_proj.*", f"{SIDE}.after.#.*"),
        *_official_block("vace_blocks.#", f"{SIDE}.blocks.#"),
    )
)

_EMBEDDER = "condition_embedder"
DIFFUSERS_NAMES = Names(
    rows=(
        ("patch_embedding.*", "patch_embedding.*"),
        (f"{_EMBEDDER}.text_embedder.linear_1.*", "context.text.layers.0.*"),
        (f"{_EMBEDDER}.text_embedder.linear_2.*", "context.text.layers.2.*"),
        (f"{_EMBEDDER}.time_embedder.linear_1.*", "time_embedding.0.*"),
        (f"{_EMBEDDER}.time_embedder.linear_2.*", "time_embedding.2.*"),
        (f"{_EMBEDDER}.time_proj.*", "time_projection.1.*"),
        (f"{_EMBEDDER}.image_embedder.pos_embed", f"{IMAGE}.positions"),
        (f"{_EMBEDDER}.image_embedder.norm1.*", f"{IMAGE}.norm_in.*"),
        (f"{_EMBEDDER}.image_embedder.ff.net.0.proj.*", f"{IMAGE}.layers.0.*"),
        (f"{_EMBEDDER}.image_embedder.ff.net.2.*", f"{IMAGE}.layers.2.*"),
        (f"{_EMBEDDER}.image_embedder.norm2.*", f"{IMAGE}.norm_out.*"),
        ("scale_shift_table", "head.modulation"),
        ("proj_out.*", "head.linear.*"),
        *_diffusers_block("blocks.#", "blocks.#"),
        ("vace_patch_embedding.*", f"{SIDE}.patch_embedding.*"),
        ("vace_blocks.0.proj_in.*", f"{SIDE}.before.*"),
        ("vace_blocks.#.proj_out.*", f"{SIDE}.after.#.*"),
        *_diffusers_block("vace_blocks.#", f"{SIDE}.blocks.#"),
    )
)

DIALECTS = (
    Dialect(
        name="official",
        signatures=frozenset(
            (
                "patch_embedding.weight",
                "text_embedding.0.weight",
                "time_embedding.0.weight",
                "time_projection.1.weight",
                "head.modulation",
                "head.head.weight",
                "blocks.0.modulation",
                "blocks.0.self_attn.q.weight",
                "blocks.0.cross_attn.q.weight",
                "blocks.0.ffn.0.weight",
            )
        ),
        needed=6,
        table=OFFICIAL_NAMES,
    ),
    Dialect(
        name="diffusers",
        signatures=frozenset(
            (
                f"{_EMBEDDER}.time_proj.weight",
                f"{_EMBEDDER}.text_embedder.linear_1.weight",
                f"{_EMBEDDER}.time_embedder.linear_1.weight",
                "scale_shift_table",
                "blocks.0.scale_shift_table",
                "blocks.0.attn1.to_q.weight",
                "blocks.0.attn2.to_q.weight",
                "blocks.0.ffn.net.0.proj.weight",
            )
        ),
        needed=5,
        table=DIFFUSERS_NAMES,
    ),
    Dialect(
        name="kinoform",
        signatures=frozenset(
            (
                "patch_embedding.weight",
                "time_projection.1.weight",
                "context.text.layers.0.weight",
                "context.text.layers.2.weight",
                "head.linear.weight",
            )
        ),
        needed=4,
        table=OWN_NAMES,
    ),
)
