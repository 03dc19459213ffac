"""The official names of all parameters of each part, given its structure.

Source: the official models. Two-dimensional weights come with a bias but where a list says otherwise.
"""

from collections.abc import Iterable, Iterator, Sequence

WEIGHT_BIAS = ("weight", "bias")


def transformer_names(layers: int, *, image: bool = False, positions: bool = False, side_layers: int = 0) -> list[str]:
    """`image`: with the image branch, whose rows may have learned `positions`; `side_layers`: those of VACE."""
    linears = [
        "patch_embedding",
        *(f"text_embedding.{n}" for n in (0, 2)),
        *(f"time_embedding.{n}" for n in (0, 2)),
        "time_projection.1",
        "head.head",
    ]
    if image:
        linears += [f"img_emb.proj.{n}" for n in (0, 1, 3, 4)]
    if side_layers:
        linears += ["vace_patch_embedding", "vace_blocks.0.before_proj"]
        linears += [f"vace_blocks.{layer}.after_proj" for layer in range(side_layers)]
    names = [*_both(linears), "head.modulation"]
    if positions:
        names.append("img_emb.emb_pos")
    for layer in range(layers):
        names += _block(f"blocks.{layer}", image=image)
    for layer in range(side_layers):
        names += _block(f"vace_blocks.{layer}", image=False)
    return names


def text_names(layers: int) -> list[str]:
    """umT5: no biases, and a table of positions in every block."""
    names = ["token_embedding", "norm"]
    for layer in range(layers):
        block = f"blocks.{layer}"
        names += [f"{block}.norm1", f"{block}.norm2", f"{block}.pos_embedding.embedding"]
        names += [f"{block}.attn.{n}" for n in "qkvo"]
        names += [f"{block}.ffn.{n}" for n in ("gate.0", "fc1", "fc2")]
    return [f"{name}.weight" for name in names]


def codec_names(
    blocks: int, *, wider_down: Sequence[bool], wider_up: Sequence[bool], time: Sequence[bool], nested: bool
) -> list[str]:
    """Both autoencoders: `blocks` residual blocks a level, one more on the way up.

    `wider_down` and `wider_up` say for each level whether its first block changes the width; `time`, for each
    resampling on the way down, whether it halves the time as well. `nested`: places count inside levels, as
    in Wan 2.2; else through all levels.
    """
    names = [*_both(["conv1", "conv2"]), *_half("encoder"), *_half("decoder")]
    for half, levels, count, times in (
        ("encoder.downsamples", wider_down, blocks, time),
        ("decoder.upsamples", wider_up, blocks + 1, time[::-1]),
    ):
        inner = half.partition(".")[2]
        for level, wider in enumerate(levels):
            places = [f"{half}.{level}.{inner}.{n}" if nested else f"{half}.{level * (count + 1) + n}"
                      for n in range(count + 1)]  # fmt: skip
            for place in places[:count]:
                names += _residual(place, shortcut=wider and place == places[0])
            if level < len(times):
                names += _both([f"{places[count]}.resample.1"])
                names += _both([f"{places[count]}.time_conv"]) if times[level] else []
    return names


def clip_names(layers: int) -> list[str]:
    """The visual half of the official two-tower file, without its prefix."""
    names = ["cls_embedding", "pos_embedding", "head", "patch_embedding.weight", *_both(["pre_norm", "post_norm"])]
    for layer in range(layers):
        parts = ("norm1", "attn.to_qkv", "attn.proj", "norm2", "mlp.0", "mlp.2")
        names += _both(f"transformer.{layer}.{part}" for part in parts)
    return names


def own_clip_names(layers: int) -> list[str]:
    """What kinoform keeps of it: neither head nor last norm, and q, k and v apart."""
    names = ["cls_embedding", "pos_embedding", "patch_embedding.weight", *_both(["pre_norm"])]
    for layer in range(layers):
        parts = ("norm1", *(f"attn.to_{n}" for n in "qkv"), "attn.proj", "norm2", "mlp.0", "mlp.2")
        names += _both(f"transformer.{layer}.{part}" for part in parts)
    return names


def huggingface_clip_names(layers: int) -> list[str]:
    """transformers' CLIPVisionModel, without the prefix that its files may have."""
    names = [f"embeddings.{n}" for n in ("class_embedding", "patch_embedding.weight", "position_embedding.weight")]
    names += _both(["pre_layrnorm", "post_layernorm"])
    for layer in range(layers):
        parts = (*(f"self_attn.{n}_proj" for n in ("q", "k", "v", "out")), "layer_norm1", "layer_norm2",
                 "mlp.fc1", "mlp.fc2")  # fmt: skip
        names += _both(f"encoder.layers.{layer}.{part}" for part in parts)
    return names


def openclip_names(layers: int) -> list[str]:
    """OpenCLIP's visual tower, without its prefix."""
    names = ["class_embedding", "positional_embedding", "proj", "conv1.weight", *_both(["ln_pre", "ln_post"])]
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        names += [f"{block}.attn.in_proj_weight", f"{block}.attn.in_proj_bias"]
        names += _both(f"{block}.{part}" for part in ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj"))
    return names


def _both(modules: Iterable[str]) -> Iterator[str]:
    return (f"{module}.{leaf}" for module in modules for leaf in WEIGHT_BIAS)


def _block(block: str, *, image: bool) -> Iterator[str]:
    linears = [f"{attention}.{n}" for attention in ("self_attn", "cross_attn") for n in "qkvo"]
    norms = [f"{attention}.{n}" for attention in ("self_attn", "cross_attn") for n in ("norm_q", "norm_k")]
    if image:
        linears += ["cross_attn.k_img", "cross_attn.v_img"]
        norms.append("cross_attn.norm_k_img")
    yield f"{block}.modulation"
    yield from _both(f"{block}.{module}" for module in (*linears, "norm3", "ffn.0", "ffn.2"))
    yield from (f"{block}.{norm}.weight" for norm in norms)


def _half(half: str) -> Iterator[str]:
    """What encoder and decoder have around their levels."""
    yield from _both(f"{half}.{module}" for module in ("conv1", "middle.1.to_qkv", "middle.1.proj", "head.2"))
    yield from (f"{half}.middle.1.norm.gamma", f"{half}.head.0.gamma")
    yield from _residual(f"{half}.middle.0", shortcut=False)
    yield from _residual(f"{half}.middle.2", shortcut=False)


def _residual(place: str, *, shortcut: bool) -> Iterator[str]:
    yield from (f"{place}.residual.0.gamma", f"{place}.residual.3.gamma")
    yield from _both(f"{place}.{module}" for module in ("residual.2", "residual.6"))
    if shortcut:
        yield from _both([f"{place}.shortcut"])
