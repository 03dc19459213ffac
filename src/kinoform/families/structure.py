"""The family and the sizes of a part, and the names that it must then have, read off official names and shapes."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families.official_names import (
    clip_names,
    codec_names,
    huggingface_clip_names,
    openclip_names,
    own_clip_names,
    text_names,
    transformer_names,
)

HEAD_WIDTH = 128
"""Of every released transformer; structure alone does not tell it."""

MOST_LAYERS = 256
"""Names that count further are no layers of this family."""

CHANNELS = {(16, 16): "wan21-t2v", (36, 16): "wan22-i2v", (48, 48): "wan22-ti2v"}
"""(in, out) -> family, of a transformer with neither image branch nor side blocks."""

RESIDUAL_WEIGHTS = ("residual.6.weight", "residual.2.weight")

SELF_ATTENTION = re.compile(r"(vace_)?blocks\.(\d+)\.self_attn\.(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    family: str
    sizes: Mapping[str, int]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The shapes of one part by official name, and the file that they are of."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]

    def length(self, name: str, axis: int) -> int:
        """Raises WeightsError when a tensor that everything depends on is not there."""
        found = self.maybe(name, axis)
        if found is None:
            raise WeightsError(
                f"{self.path} has no usable tensor {name!r}, without which its sizes are not known",
                code="weights_incomplete",
            )
        return found

    def maybe(self, name: str, axis: int) -> int | None:
        shape = self.shapes.get(name, ())
        return shape[axis] if len(shape) > axis and shape[axis] > 0 else None

    def has(self, start: str) -> bool:
        return any(name.startswith(start) for name in self.shapes)

    def count(self, pattern: str) -> int:
        """One more than the highest number that stands at the place of `#`."""
        place = re.compile(re.escape(pattern).replace(r"\#", r"(\d{1,3})"))
        numbers = (int(match[1]) for name in self.shapes if (match := place.match(name)))
        return 1 + max((number for number in numbers if number < MOST_LAYERS), default=-1)

    def sizes(self, **found: int | None) -> dict[str, int]:
        return {name: size for name, size in found.items() if size is not None}


def transformer_structure(given: Shapes) -> Structure:
    """`family` is kinoform for channels that no released model has."""
    layers, side_layers = given.count("blocks.#."), given.count("vace_blocks.#.")
    dim, in_channels = given.length("patch_embedding.weight", 0), given.length("patch_embedding.weight", 1)
    patch = prod(given.shapes["patch_embedding.weight"][2:])
    out_channels = given.length("head.head.weight", 0) // max(patch, 1)
    image = given.has("img_emb.proj.") or "blocks.0.cross_attn.k_img.weight" in given.shapes
    positions = "img_emb.emb_pos" in given.shapes
    sizes = given.sizes(
        dim=dim,
        ffn_dim=given.length("blocks.0.ffn.0.weight", 0),
        heads=dim // HEAD_WIDTH if dim % HEAD_WIDTH == 0 else None,
        layers=layers,
        in_channels=in_channels,
        out_channels=out_channels,
        text_width=given.maybe("text_embedding.0.weight", 1),
        frequency_width=given.maybe("time_embedding.0.weight", 1),
        image_width=given.maybe("img_emb.proj.1.weight", 1),
        image_positions=given.maybe("img_emb.emb_pos", 1),
        side_layers=side_layers or None,
        side_channels=given.maybe("vace_patch_embedding.weight", 1),
    )
    family = CHANNELS.get((in_channels, out_channels), "kinoform")
    if image:
        family = "wan21-flf2v" if positions else "wan21-i2v"
    if side_layers:
        family = "wan21-vace"
    names = transformer_names(layers, image=image, positions=positions, side_layers=side_layers)
    return Structure(family=family, sizes=sizes, names=tuple(names))


def own_transformer_structure(given: Shapes) -> Structure:
    """One of kinoform's own, whose blocks may have a temporal attention beside the official self-attention.

    With other parts that no official model has, its recipe alone says what must be there.
    """
    found = transformer_structure(given)
    if layers := given.count("blocks.#.time_attention."):
        found = replace(found, sizes={**found.sizes, "time_layers": layers}, names=(*found.names, *_times(found.names)))
    if given.shapes.keys() <= set(found.names):
        return found
    return replace(found, family="kinoform", names=tuple(given.shapes))


def text_structure(given: Shapes) -> Structure:
    """Raises WeightsError for a T5 encoder, which has but one table of positions."""
    table = "blocks.#.pos_embedding.embedding.weight"
    layers = given.count("blocks.#.")
    if layers > 1 and given.count(table) == 1:
        raise WeightsError(
            f"{given.path} is a T5 encoder, as other models use it; Wan models need umT5-XXL",
            code="weights_unsupported_model",
        )
    first = table.replace("#", "0")
    sizes = given.sizes(
        vocab=given.maybe("token_embedding.weight", 0),
        dim=given.maybe("token_embedding.weight", 1),
        dim_attention=given.maybe("blocks.0.attn.q.weight", 0),
        dim_ffn=given.maybe("blocks.0.ffn.fc1.weight", 0),
        heads=given.maybe(first, 1),
        layers=layers,
        buckets=given.maybe(first, 0),
    )
    return Structure(family="umt5", sizes=sizes, names=tuple(text_names(layers)))


def codec_structure(given: Shapes) -> Structure:
    """vae22 counts places inside levels, and its encoder and decoder are of different widths."""
    nested = given.count("decoder.upsamples.#.upsamples.") + given.count("encoder.downsamples.#.downsamples.") > 0
    blocks = _blocks(given, "encoder.downsamples", nested=nested)
    blocks = blocks or max(_blocks(given, "decoder.upsamples", nested=nested) - 1, 0)
    levels = given.count("encoder.downsamples.#."), given.count("decoder.upsamples.#.")
    levels = max(levels if nested else ((levels[0] + 1) // (blocks + 1), (levels[1] + 1) // (blocks + 2)))
    down = [given.maybe("encoder.conv1.weight", 0)]
    up = [given.maybe("decoder.conv1.weight", 0)]
    for level in range(levels):
        down.append(_width(given, _places("encoder.downsamples", level, blocks, nested=nested)) or down[-1])
        up.append(_width(given, _places("decoder.upsamples", level, blocks + 1, nested=nested)) or up[-1])
    # Only in Wan 2.1 the resampling before a level of the decoder halves the width.
    entering = up[:-1] if nested else [up[0], *(width // 2 for width in up[1:-1] if width)]
    time = []
    for level in range(levels - 1):
        place = _places("encoder.downsamples", level, blocks, nested=nested)[-1]
        other = _places("decoder.upsamples", levels - 2 - level, blocks + 1, nested=nested)[-1]
        time.append(given.has(f"{place}.time_conv.") or given.has(f"{other}.time_conv."))
    names = codec_names(
        blocks,
        wider_down=[a != b for a, b in pairwise(down)],
        wider_up=[a != b for a, b in zip(entering, up[1:], strict=False)],
        time=time,
        nested=nested,
    )
    sizes = given.sizes(
        dim=down[0],
        decoder_dim=up[-1],
        channels=given.maybe("conv2.weight", 0),
        pixel_channels=given.maybe("encoder.conv1.weight", 1),
        levels=levels,
        residual_blocks=blocks,
    )
    return Structure(family="vae22" if nested else "vae21", sizes=sizes, names=tuple(names))


def own_codec_structure(given: Shapes) -> Structure:
    """As `own_transformer_structure`."""
    if not given.has("shortcut."):
        return codec_structure(given)
    sizes = given.sizes(channels=given.maybe("conv2.weight", 0), decoder_dim=given.maybe("decoder.head.0.gamma", 0))
    return Structure(family="kinoform", sizes=sizes, names=tuple(given.shapes))


def clip_structure(given: Shapes) -> Structure:
    """The visual half under its official names."""
    layers = given.count("transformer.#.")
    sizes = given.sizes(
        dim=given.maybe("patch_embedding.weight", 0),
        layers=layers,
        tokens=given.maybe("pos_embedding", 1),
        patch=given.maybe("patch_embedding.weight", 2),
    )
    return Structure(family="clip", sizes=sizes, names=tuple(clip_names(layers)))


def own_clip_structure(given: Shapes) -> Structure:
    """One of kinoform's own, which lacks what is never used; under official names, q, k and v apart."""
    layers = 1 + given.count("transformer.#.")
    sizes = given.sizes(
        dim=given.maybe("patch_embedding.weight", 0),
        layers=layers,
        tokens=given.maybe("pos_embedding", 0),
        patch=given.maybe("patch_embedding.weight", 2),
    )
    return Structure(family="clip", sizes=sizes, names=tuple(own_clip_names(layers - 1)))


def huggingface_clip_structure(given: Shapes) -> Structure:
    layers = given.count("encoder.layers.#.")
    sizes = given.sizes(
        dim=given.maybe("embeddings.patch_embedding.weight", 0),
        layers=layers,
        tokens=given.maybe("embeddings.position_embedding.weight", 0),
        patch=given.maybe("embeddings.patch_embedding.weight", 2),
    )
    return Structure(family="clip", sizes=sizes, names=tuple(huggingface_clip_names(layers)))


def openclip_structure(given: Shapes) -> Structure:
    layers = given.count("transformer.resblocks.#.")
    sizes = given.sizes(
        dim=given.maybe("conv1.weight", 0),
        layers=layers,
        tokens=given.maybe("positional_embedding", 0),
        patch=given.maybe("conv1.weight", 2),
    )
    return Structure(family="clip", sizes=sizes, names=tuple(openclip_names(layers)))


def _times(names: Iterable[str]) -> Iterator[str]:
    """What stands beside each self-attention of main and of side blocks, by own names: no official ones exist."""
    for name in names:
        if match := SELF_ATTENTION.fullmatch(name):
            side, layer, leaf = match.groups()
            yield f"{'branches.vace.' if side else ''}blocks.{layer}.time_attention.{leaf}"


def _blocks(given: Shapes, half: str, *, nested: bool) -> int:
    """Residual blocks of a level: those before the first resampling."""
    inner = half.partition(".")[2]
    start = f"{half}.0.{inner}" if nested else half
    count = given.count(f"{start}.#.")
    return next((place for place in range(count) if given.has(f"{start}.{place}.resample.")), count)


def _places(half: str, level: int, blocks: int, *, nested: bool) -> list[str]:
    """The blocks of a level, and its resampling."""
    inner = half.partition(".")[2]
    start = f"{half}.{level}.{inner}" if nested else half
    first = 0 if nested else level * (blocks + 1)
    return [f"{start}.{first + place}" for place in range(blocks + 1)]


def _width(given: Shapes, places: list[str]) -> int | None:
    lengths = (given.maybe(f"{place}.{weight}", 0) for place in places for weight in RESIDUAL_WEIGHTS)
    return next((length for length in lengths if length), None)
