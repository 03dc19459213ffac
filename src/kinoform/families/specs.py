"""The sizes of a part, read off the shapes of its tensors under kinoform's own names, whatever the file's spelling.

What leaves no trace in any shape (the number of heads, the token limit of a prompt) comes from config.json
where there is one, else it is what all released models share.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from math import isqrt, prod
from pathlib import Path

from kinoform.checkpoints.files import Checkpoint
from kinoform.errors import UsageError, WeightsError
from kinoform.families.config_file import MAX_SIZE
from kinoform.families.names import Names
from kinoform.models.context import ImageStream, TextStream
from kinoform.models.dit import DiTSpec
from kinoform.models.protocols import ContextSpec
from kinoform.models.side_blocks import SideBlocks
from kinoform.models.text import UMT5_XXL, TextSpec
from kinoform.models.vae import WAN21_MEAN, WAN21_STD, VAESpec
from kinoform.models.vision import VisionSpec

MAX_LAYERS = 1000
LARGEST_IMAGE = 2048
"""Pixels a side, above what any CLIP reads."""

HEAD_WIDTH, TOWER_HEAD_WIDTH = 128, 80
"""Columns of an attention head in every released transformer, and in CLIP's ViT-H."""

IMAGE, SIDE = "context.image", "branches.vace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The shapes of a part by own name, and the path to name in errors."""

    path: Path
    by_name: Mapping[str, tuple[int, ...]]

    def length(self, name: str, axis: int) -> int:
        """Raises WeightsError when there is no such tensor or axis, or its length is no size of this family."""
        shape = self.by_name.get(name, ())
        if len(shape) <= axis or not 1 <= shape[axis] <= MAX_SIZE:
            raise WeightsError(
                f"{self.path} has no usable tensor for {name!r}; these are weights of another model",
                code="weights_incomplete",
            )
        return shape[axis]

    def has(self, name: str) -> bool:
        return name in self.by_name

    def blocks(self, under: str = "blocks") -> int:
        """Raises WeightsError for more blocks than any model of this family has."""
        found = (re.match(rf"{re.escape(under)}\.(\d+)\.", name) for name in self.by_name)
        number = len({match[1] for match in found if match})
        if number > MAX_LAYERS:
            raise WeightsError(
                f"{self.path} claims {number} layers; it is not a model of this family", code="weights_wrong_model"
            )
        return number


def shapes_of(checkpoint: Checkpoint, names: Names | None) -> Shapes:
    """Names that the table does not know are left out: the strict load names them."""
    known = ((name if names is None else names.ours(name), each.shape) for name, each in checkpoint.tensors.items())
    return Shapes(path=checkpoint.path, by_name={own: shape for own, shape in known if own is not None})


def transformer_spec(
    shapes: Shapes,
    *,
    heads: int | None = None,
    rows: int = UMT5_XXL.length,
    eps: float = 1e-6,
    side_layers: tuple[int, ...] | None = None,
) -> DiTSpec:
    """`heads` None: of 128 columns each, as in every released model; `side_layers` are the blocks that VACE's
    side blocks stand beside, None: evenly spread, as they are there. Raises WeightsError.
    """
    dim = shapes.length("patch_embedding.weight", 0)
    time, height, width = (shapes.length("patch_embedding.weight", axis) for axis in (2, 3, 4))
    if heads is None and dim % HEAD_WIDTH:
        raise WeightsError(
            f"{shapes.path} is {dim} wide, no multiple of {HEAD_WIDTH}: its config.json must tell more",
            code="config_missing",
        )
    try:
        return DiTSpec(
            dim=dim,
            ffn_dim=shapes.length("blocks.0.feed_forward.0.weight", 0),
            heads=heads or dim // HEAD_WIDTH,
            layers=shapes.blocks(),
            in_channels=shapes.length("patch_embedding.weight", 1),
            out_channels=shapes.length("head.linear.weight", 0) // prod((time, height, width)),
            patch=(time, height, width),
            frequency_width=shapes.length("time_embedding.0.weight", 1),
            eps=eps,
            context=_streams(shapes, rows),
            branches=_branches(shapes, side_layers),
        )
    except UsageError as error:
        raise WeightsError(
            f"{shapes.path}: {error}; these are weights of another model", code="weights_wrong_model"
        ) from error


def side_blocks(spec: DiTSpec) -> SideBlocks | None:
    """Those among a transformer's branches."""
    return next((branch for branch in spec.branches if isinstance(branch, SideBlocks)), None)


def _streams(shapes: Shapes, rows: int) -> tuple[ContextSpec, ...]:
    text = TextStream(width=shapes.length("context.text.layers.0.weight", 1), rows=rows)
    if not shapes.has(f"{IMAGE}.layers.0.weight"):
        return (text,)
    positions = shapes.length(f"{IMAGE}.positions", 1) if shapes.has(f"{IMAGE}.positions") else 0
    return (text, ImageStream(width=shapes.length(f"{IMAGE}.layers.0.weight", 1), positions=positions))


def _branches(shapes: Shapes, side_layers: tuple[int, ...] | None) -> tuple[SideBlocks, ...]:
    if not shapes.has(f"{SIDE}.patch_embedding.weight"):
        return ()
    layers, count = shapes.blocks(), shapes.blocks(f"{SIDE}.blocks")
    if side_layers is None:
        if count == 0 or layers % count:
            raise WeightsError(
                f"{shapes.path} has {count} side blocks for {layers}: its config.json must tell more",
                code="config_missing",
            )
        side_layers = tuple(range(0, layers, layers // count))
    if len(side_layers) != count:
        raise WeightsError(
            f"{shapes.path} has {count} side blocks, its config.json has places for {len(side_layers)}; "
            "they do not belong together",
            code="config_contradicts_weights",
        )
    return (SideBlocks(channels=shapes.length(f"{SIDE}.patch_embedding.weight", 1), layers=side_layers),)


def text_spec(shapes: Shapes, *, length: int = UMT5_XXL.length, max_distance: int = UMT5_XXL.max_distance) -> TextSpec:
    """`length` is the token limit of a prompt, `max_distance` where the buckets of places end. Raises WeightsError."""
    table = "blocks.0.position_bias.weight"
    try:
        return TextSpec(
            vocab=shapes.length("token_embedding.weight", 0),
            dim=shapes.length("token_embedding.weight", 1),
            dim_attention=shapes.length("blocks.0.attention.q.weight", 0),
            dim_ffn=shapes.length("blocks.0.feed_forward.up.weight", 0),
            heads=shapes.length(table, 1),
            layers=shapes.blocks(),
            buckets=shapes.length(table, 0),
            max_distance=max_distance,
            length=length,
        )
    except UsageError as error:
        raise WeightsError(
            f"{shapes.path}: {error}; this is not the umT5 encoder", code="weights_wrong_model"
        ) from error


def codec_spec(shapes: Shapes) -> VAESpec:
    """From the encoder's layers: residual blocks, and a resampling after each level but the last."""
    dim = shapes.length("encoder.conv_in.weight", 0)
    channels = shapes.length("expand.weight", 0)
    width, blocks = dim, 0
    levels: list[tuple[int, bool]] = []
    for place in count():
        layer = f"encoder.downsamples.{place}"
        if f"{layer}.resample.weight" in shapes.by_name:
            levels.append((width, f"{layer}.time_conv.weight" in shapes.by_name))
        elif f"{layer}.conv2.weight" in shapes.by_name:
            width = shapes.length(f"{layer}.conv2.weight", 0)
            blocks += not levels
        else:
            break
    known = channels == len(WAN21_MEAN)
    return VAESpec(
        dim=dim,
        channels=channels,
        multipliers=(*(size // dim for size, _ in levels), width // dim),
        residual_blocks=blocks,
        time_downsample=tuple(time for _, time in levels),
        mean=WAN21_MEAN if known else (),
        std=WAN21_STD if known else (),
    )


def vision_spec(shapes: Shapes, *, heads: int | None = None, eps: float = 1e-5) -> VisionSpec:
    """`heads` None: of 80 columns each, as in ViT-H. Raises WeightsError."""
    whole, dim = VisionSpec(), shapes.length("class_embedding", 0)
    patch, layers = shapes.length("patch_embedding", 2), shapes.blocks()
    side = isqrt(shapes.length("positions", 0) - 1)
    if heads is None and dim % TOWER_HEAD_WIDTH:
        raise WeightsError(
            f"{shapes.path} is {dim} wide, no multiple of {TOWER_HEAD_WIDTH}; this is not CLIP ViT-H",
            code="weights_wrong_model",
        )
    if not 1 <= side * patch <= LARGEST_IMAGE:
        raise WeightsError(
            f"{shapes.path} reads images of {side * patch} pixels a side; this is not CLIP ViT-H",
            code="weights_wrong_model",
        )
    if dim == whole.dim and layers != whole.layers:
        raise WeightsError(
            f"{shapes.path} has {layers} of the {whole.layers} blocks of CLIP ViT-H; get a whole file",
            code="weights_incomplete",
        )
    try:
        return VisionSpec(
            image=side * patch,
            patch=patch,
            dim=dim,
            heads=heads or dim // TOWER_HEAD_WIDTH,
            layers=layers,
            dim_ffn=shapes.length("blocks.0.mlp.0.weight", 0),
            eps=eps,
        )
    except UsageError as error:
        raise WeightsError(
            f"{shapes.path}: {error}; this is not a CLIP image encoder", code="weights_wrong_model"
        ) from error
