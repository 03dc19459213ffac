"""Tiny models of the real structure as {name: shape}, in every dialect, and files that hold nothing but headers.

The names are written down here a second time, apart from those that kinoform compares files with.
"""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TypeAlias

Shapes: TypeAlias = dict[str, tuple[int, ...]]

CHANNELS = {"wan21-t2v": (16, 16), "wan21-i2v": (36, 16), "wan21-flf2v": (36, 16), "wan21-vace": (16, 16),
            "wan22-i2v": (36, 16), "wan22-ti2v": (48, 48)}  # fmt: skip
FAMILIES = tuple(CHANNELS)
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}
MULTIPLIERS = (1, 2, 4, 4)


def transformer(
    family: str = "wan21-t2v", *, dim: int = 24, ffn: int = 40, layers: int = 3, text: int = 20, image: int = 28,
    frequencies: int = 16, side_layers: int = 2,
) -> Shapes:  # fmt: skip
    """Official names; `image` is the width of the image encoder's rows, `side_layers` those of VACE."""
    into, out = CHANNELS[family]
    streams = family in ("wan21-i2v", "wan21-flf2v")
    found: Shapes = {"patch_embedding.weight": (dim, into, 1, 2, 2), "patch_embedding.bias": (dim,)}
    for name, shape in (("text_embedding.0", (dim, text)), ("text_embedding.2", (dim, dim)),
                        ("time_embedding.0", (dim, frequencies)), ("time_embedding.2", (dim, dim)),
                        ("time_projection.1", (6 * dim, dim)), ("head.head", (4 * out, dim))):  # fmt: skip
        found |= linear(name, *shape)
    found["head.modulation"] = (1, 2, dim)
    if streams:
        found |= {**norm("img_emb.proj.0", image), **linear("img_emb.proj.1", image, image)}
        found |= {**linear("img_emb.proj.3", dim, image), **norm("img_emb.proj.4", dim)}
    if family == "wan21-flf2v":
        found["img_emb.emb_pos"] = (1, 514, image)
    for layer in range(layers):
        found |= _block(f"blocks.{layer}", dim, ffn, image=streams)
    if family == "wan21-vace":
        found |= {"vace_patch_embedding.weight": (dim, 96, 1, 2, 2), "vace_patch_embedding.bias": (dim,)}
        found |= linear("vace_blocks.0.before_proj", dim, dim)
        for layer in range(side_layers):
            found |= _block(f"vace_blocks.{layer}", dim, ffn, image=False)
            found |= linear(f"vace_blocks.{layer}.after_proj", dim, dim)
    return found


def codec21(*, dim: int = 4, channels: int = 16, blocks: int = 2) -> Shapes:
    """Official names of the Wan 2.1 autoencoder."""
    down, up = [dim * m for m in (1, *MULTIPLIERS)], [dim * m for m in (4, *reversed(MULTIPLIERS))]
    found = _around(channels, 3, down[-1], up[0], (down[0], up[-1]))
    place = 0
    for level, (before, width) in enumerate(pairwise(down)):
        for block in range(blocks):
            found |= _residual(f"encoder.downsamples.{place}", before if block == 0 else width, width)
            place += 1
        if level < 3:
            found |= _resample(f"encoder.downsamples.{place}", width, width, (width, width) if level else None)
            place += 1
    place = 0
    for level, (before, width) in enumerate(pairwise(up)):
        for block in range(blocks + 1):
            entering = before // 2 if level else before
            found |= _residual(f"decoder.upsamples.{place}", entering if block == 0 else width, width)
            place += 1
        if level < 3:
            time = (2 * width, width) if level < 2 else None
            found |= _resample(f"decoder.upsamples.{place}", width // 2, width, time)
            place += 1
    return found


def codec22(*, dim: int = 4, decoder_dim: int = 6, channels: int = 48) -> Shapes:
    """Official names of the Wan 2.2 autoencoder."""
    down, up = [dim * m for m in (1, *MULTIPLIERS)], [decoder_dim * m for m in (4, *reversed(MULTIPLIERS))]
    found = _around(channels, 12, down[-1], up[0], (down[0], up[-1]))
    for level, (before, width) in enumerate(pairwise(down)):
        start = f"encoder.downsamples.{level}.downsamples"
        found |= {**_residual(f"{start}.0", before, width), **_residual(f"{start}.1", width, width)}
        if level < 3:
            found |= _resample(f"{start}.2", width, width, (width, width) if level else None)
    for level, (before, width) in enumerate(pairwise(up)):
        start = f"decoder.upsamples.{level}.upsamples"
        for block in range(3):
            found |= _residual(f"{start}.{block}", before if block == 0 else width, width)
        if level < 3:
            found |= _resample(f"{start}.3", width, width, (2 * width, width) if level < 2 else None)
    return found


def text_encoder(
    *, vocab: int = 50, dim: int = 24, attention: int = 16, ffn: int = 40, heads: int = 2, layers: int = 2
) -> Shapes:
    """Official names of umT5."""
    found: Shapes = {"token_embedding.weight": (vocab, dim), "norm.weight": (dim,)}
    for layer in range(layers):
        block = f"blocks.{layer}"
        found |= {f"{block}.norm1.weight": (dim,), f"{block}.norm2.weight": (dim,)}
        found |= {f"{block}.attn.{name}.weight": (attention, dim) for name in "qkv"}
        found |= {f"{block}.attn.o.weight": (dim, attention), f"{block}.ffn.gate.0.weight": (ffn, dim)}
        found |= {f"{block}.ffn.fc1.weight": (ffn, dim), f"{block}.ffn.fc2.weight": (dim, ffn)}
        found |= {f"{block}.pos_embedding.embedding.weight": (32, heads)}
    return found


def clip(*, dim: int = 16, layers: int = 2, head: int = 12) -> Shapes:
    """Official names of the visual half, with the prefix that they have in the file."""
    found: Shapes = {"cls_embedding": (1, 1, dim), "pos_embedding": (1, 257, dim), "head": (dim, head)}
    found |= {"patch_embedding.weight": (dim, 3, 14, 14), **norm("pre_norm", dim), **norm("post_norm", dim)}
    for layer in range(layers):
        block = f"transformer.{layer}"
        found |= {**norm(f"{block}.norm1", dim), **norm(f"{block}.norm2", dim)}
        found |= {**linear(f"{block}.attn.to_qkv", 3 * dim, dim), **linear(f"{block}.attn.proj", dim, dim)}
        found |= {**linear(f"{block}.mlp.0", 4 * dim, dim), **linear(f"{block}.mlp.2", dim, 4 * dim)}
    return prefixed(found, "visual.")


def prefixed(shapes: Shapes, prefix: str) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def renamed(shapes: Shapes, replacements: tuple[tuple[str, str], ...]) -> Shapes:
    """Every name with each pattern replaced in turn."""
    found = {}
    for name, shape in shapes.items():
        for pattern, replacement in replacements:
            name = re.sub(pattern, replacement, name)
        found[name] = shape
    return found


TO_DIFFUSERS = (
    (r"^time_embedding\.0", "condition_embedder.time_embedder.linear_1"),
    (r"^time_embedding\.2", "condition_embedder.time_embedder.linear_2"),
    (r"^text_embedding\.0", "condition_embedder.text_embedder.linear_1"),
    (r"^text_embedding\.2", "condition_embedder.text_embedder.linear_2"),
    (r"^time_projection\.1", "condition_embedder.time_proj"),
    (r"^head\.modulation", "scale_shift_table"), (r"^head\.head", "proj_out"), (r"modulation$", "scale_shift_table"),
    (r"\.norm3\.", ".norm2."), (r"ffn\.0", "ffn.net.0.proj"), (r"ffn\.2", "ffn.net.2"),
    (r"self_attn\.([qkv])\.", r"attn1.to_\1."), (r"cross_attn\.([qkv])\.", r"attn2.to_\1."),
    (r"self_attn\.o\.", "attn1.to_out.0."), (r"cross_attn\.o\.", "attn2.to_out.0."),
    (r"cross_attn\.norm_k_img", "attn2.norm_added_k"), (r"cross_attn\.([kv])_img", r"attn2.add_\1_proj"),
    (r"self_attn", "attn1"), (r"cross_attn", "attn2"),
    (r"img_emb\.emb_pos", "condition_embedder.image_embedder.pos_embed"),
    (r"img_emb\.proj\.0", "condition_embedder.image_embedder.norm1"),
    (r"img_emb\.proj\.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    (r"img_emb\.proj\.3", "condition_embedder.image_embedder.ff.net.2"),
    (r"img_emb\.proj\.4", "condition_embedder.image_embedder.norm2"),
    (r"before_proj", "proj_in"), (r"after_proj", "proj_out"),
)  # fmt: skip
"""As the conversion script of diffusers replaces words; norm2 has no weights, so it need not step aside."""

TO_HUGGINGFACE = (
    (r"^token_embedding", "shared"), (r"^norm\.", "encoder.final_layer_norm."), (r"^blocks", "encoder.block"),
    (r"norm1", "layer.0.layer_norm"), (r"norm2", "layer.1.layer_norm"), (r"attn\.", "layer.0.SelfAttention."),
    (r"ffn\.gate\.0", "layer.1.DenseReluDense.wi_0"), (r"ffn\.fc1", "layer.1.DenseReluDense.wi_1"),
    (r"ffn\.fc2", "layer.1.DenseReluDense.wo"),
    (r"pos_embedding\.embedding", "layer.0.SelfAttention.relative_attention_bias"),
)  # fmt: skip

RESIDUAL = (
    (r"residual\.0\.", "norm1."), (r"residual\.2\.", "conv1."), (r"residual\.3\.", "norm2."),
    (r"residual\.6\.", "conv2."), (r"\.shortcut\.", ".conv_shortcut."),
)  # fmt: skip
TO_DIFFUSERS_CODEC = (
    (r"^conv1\.", "quant_conv."), (r"^conv2\.", "post_quant_conv."), (r"coder\.conv1\.", "coder.conv_in."),
    (r"head\.0\.", "norm_out."), (r"head\.2\.", "conv_out."), (r"middle\.0\.", "mid_block.resnets.0."),
    (r"middle\.1\.", "mid_block.attentions.0."), (r"middle\.2\.", "mid_block.resnets.1."), *RESIDUAL,
)  # fmt: skip


def diffusers_codec21(*, blocks: int = 2) -> Shapes:
    def up(match: re.Match[str]) -> str:
        level, block = divmod(int(match[1]), blocks + 2)
        return f"up_blocks.{level}." + (f"resnets.{block}" if block <= blocks else "upsamplers.0")

    found = renamed(codec21(blocks=blocks), (*TO_DIFFUSERS_CODEC, ("downsamples", "down_blocks")))
    return {re.sub(r"upsamples\.(\d+)", up, name): shape for name, shape in found.items()}


def diffusers_codec22() -> Shapes:
    return renamed(codec22(), (
        *TO_DIFFUSERS_CODEC,
        (r"downsamples\.(\d)\.downsamples\.2", r"down_blocks.\1.downsampler"),
        (r"downsamples\.(\d)\.downsamples", r"down_blocks.\1.resnets"),
        (r"upsamples\.(\d)\.upsamples\.3", r"up_blocks.\1.upsampler"),
        (r"upsamples\.(\d)\.upsamples", r"up_blocks.\1.resnets"),
    ))  # fmt: skip


def huggingface_clip(*, dim: int = 16, layers: int = 2) -> Shapes:
    found: Shapes = {"embeddings.class_embedding": (dim,), "embeddings.position_embedding.weight": (257, dim)}
    found |= {"embeddings.patch_embedding.weight": (dim, 3, 14, 14), **norm("pre_layrnorm", dim)}
    found |= norm("post_layernorm", dim)
    for layer in range(layers):
        block = f"encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= linear(f"{block}.self_attn.{name}", dim, dim)
        found |= {**norm(f"{block}.layer_norm1", dim), **norm(f"{block}.layer_norm2", dim)}
        found |= {**linear(f"{block}.mlp.fc1", 4 * dim, dim), **linear(f"{block}.mlp.fc2", dim, 4 * dim)}
    return prefixed(found, "vision_model.")


def openclip(*, dim: int = 16, layers: int = 2) -> Shapes:
    found: Shapes = {"class_embedding": (dim,), "positional_embedding": (257, dim), "proj": (dim, 12)}
    found |= {"conv1.weight": (dim, 3, 14, 14), **norm("ln_pre", dim), **norm("ln_post", dim)}
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        found |= {f"{block}.attn.in_proj_weight": (3 * dim, dim), f"{block}.attn.in_proj_bias": (3 * dim,)}
        found |= {**linear(f"{block}.attn.out_proj", dim, dim), **norm(f"{block}.ln_1", dim)}
        found |= {**norm(f"{block}.ln_2", dim), **linear(f"{block}.mlp.c_fc", 4 * dim, dim)}
        found |= linear(f"{block}.mlp.c_proj", dim, 4 * dim)
    return prefixed(found, "visual.")


def write_header(
    path: Path, shapes: Mapping[str, tuple[int, ...]], *, dtype: str = "BF16",
    dtypes: Mapping[str, str] | None = None, metadata: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """A sound safetensors file whose numbers are all a hole in the disk, so that any size takes no room."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, shape in shapes.items():
        kind = (dtypes or {}).get(name, dtype)
        end = position + prod(shape) * WIDTHS[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + position)
    return path


def linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _block(block: str, dim: int, ffn: int, *, image: bool) -> Shapes:
    found: Shapes = {f"{block}.modulation": (1, 6, dim), **norm(f"{block}.norm3", dim)}
    for attention in (f"{block}.self_attn", f"{block}.cross_attn"):
        for name in "qkvo":
            found |= linear(f"{attention}.{name}", dim, dim)
        found |= {f"{attention}.norm_q.weight": (dim,), f"{attention}.norm_k.weight": (dim,)}
    if image:
        found |= {**linear(f"{attention}.k_img", dim, dim), **linear(f"{attention}.v_img", dim, dim)}
        found[f"{attention}.norm_k_img.weight"] = (dim,)
    return found | linear(f"{block}.ffn.0", ffn, dim) | linear(f"{block}.ffn.2", dim, ffn)


def _around(channels: int, pixels: int, inner_down: int, inner_up: int, outer: tuple[int, int]) -> Shapes:
    """Both halves without their levels, and the convolutions between them."""
    found = _conv("conv1", 2 * channels, 2 * channels, (1, 1, 1)) | _conv("conv2", channels, channels, (1, 1, 1))
    for half, inner, first, last in (
        ("encoder", inner_down, (outer[0], pixels), (2 * channels, inner_down)),
        ("decoder", inner_up, (inner_up, channels), (pixels, outer[1])),
    ):
        found |= {**_conv(f"{half}.conv1", *first), **_conv(f"{half}.head.2", *last)}
        found[f"{half}.head.0.gamma"] = (last[1], 1, 1, 1)
        found |= {**_residual(f"{half}.middle.0", inner, inner), **_residual(f"{half}.middle.2", inner, inner)}
        found |= {
            **_conv(f"{half}.middle.1.to_qkv", 3 * inner, inner, (1, 1)),
            f"{half}.middle.1.norm.gamma": (inner, 1, 1),
        }
        found |= _conv(f"{half}.middle.1.proj", inner, inner, (1, 1))
    return found


def _residual(place: str, into: int, out: int) -> Shapes:
    found = {f"{place}.residual.0.gamma": (into, 1, 1, 1), f"{place}.residual.3.gamma": (out, 1, 1, 1)}
    found |= {**_conv(f"{place}.residual.2", out, into), **_conv(f"{place}.residual.6", out, out)}
    return found if into == out else found | _conv(f"{place}.shortcut", out, into, (1, 1, 1))


def _resample(place: str, out: int, into: int, time: tuple[int, int] | None) -> Shapes:
    found = _conv(f"{place}.resample.1", out, into, (3, 3))
    return found if time is None else found | _conv(f"{place}.time_conv", *time, (3, 1, 1))


def _conv(name: str, out: int, into: int, kernel: tuple[int, ...] = (3, 3, 3)) -> Shapes:
    return {f"{name}.weight": (out, into, *kernel), f"{name}.bias": (out,)}


def lora(dialect: str, *, dim: int = 24, rank: int = 4, layers: int = 2) -> Shapes:
    """A LoRA of the self-attention's q and of the feed-forward, as the dialect spells it."""
    return dict(_lora(dialect, dim, rank, layers))


def _lora(dialect: str, dim: int, rank: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    pair = {"down": (rank, dim), "up": (dim, rank)}
    for layer in range(layers):
        q = f"blocks.{layer}.self_attn.q"
        if dialect == "diffusers":
            start = f"transformer.blocks.{layer}.attn1.to_q"
            yield from ((f"{start}.lora_A.weight", pair["down"]), (f"{start}.lora_B.weight", pair["up"]))
        elif dialect == "peft":
            start = f"base_model.model.{q}"
            yield from ((f"{start}.lora_A.weight", pair["down"]), (f"{start}.lora_B.weight", pair["up"]))
        elif dialect == "diffsynth":
            yield from ((f"{q}.lora_A.default.weight", pair["down"]), (f"{q}.lora_B.default.weight", pair["up"]))
        elif dialect == "lycoris":
            start = f"lycoris_{q.replace('.', '_')}"
            yield from ((f"{start}.hada_w1_a", (dim, rank)), (f"{start}.hada_w1_b", (rank, dim)))
            yield from ((f"{start}.hada_w2_a", (dim, rank)), (f"{start}.hada_w2_b", (rank, dim)))
        else:
            start = f"lora_unet_{q.replace('.', '_')}" if dialect == "kohya" else f"diffusion_model.{q}"
            yield from ((f"{start}.lora_down.weight", pair["down"]), (f"{start}.lora_up.weight", pair["up"]))
            yield f"{start}.alpha", ()
            if dialect == "full-delta":
                yield f"diffusion_model.blocks.{layer}.norm3.diff_b", (dim,)
                yield f"diffusion_model.blocks.{layer}.modulation.diff_m", (1, 6, dim)
