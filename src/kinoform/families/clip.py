"""CLIP ViT-H/14, with which image-to-video models of Wan 2.1 read images; three programs store it.

Sources: the official Wan 2.1 code, transformers, OpenCLIP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isqrt
from typing import TYPE_CHECKING, Any

from kinoform.errors import UsageError, WeightsError
from kinoform.families.family import IMAGE_ENCODER, OWN_NAMES, Config, ConfigForm, Dialect, Family, Shapes
from kinoform.families.names import Names

if TYPE_CHECKING:
    from torch import Tensor

    from kinoform.checkpoints.files import Checkpoint
    from kinoform.checkpoints.formats import Stored
    from kinoform.checkpoints.write import Outgoing
    from kinoform.models.vision import VisionSpec

HEAD_WIDTH = 80
"""Columns of an attention head in ViT-H."""

LARGEST_IMAGE = 2048
"""Pixels a side, above what any CLIP reads."""

FUSED = re.compile(r"(transformer\.(?:resblocks\.)?\d+\.attn\.)(to_qkv\.|in_proj_)(weight|bias)")
APART = {"to_qkv.": "to_{}.", "in_proj_": "in_proj_{}_"}
"""The official name of q, k and v as one tensor and OpenCLIP's, and the name of each of the three here."""

OFFICIAL_APART = re.compile(r"(.*\.attn\.to_)([qkv])(\.(?:weight|bias))")

LONGER = {"cls_embedding": 1, "pos_embedding": 2}
"""Official tensors with leading axes of 1, and how many axes they have without."""


def _spec(shapes: Shapes, *, heads: int | None = None, eps: float = 1e-5) -> VisionSpec:
    """The sizes. `heads` None: of 80 columns each, as in ViT-H. Raises WeightsError."""
    from kinoform.models.vision import VisionSpec

    whole = VisionSpec()
    dim = shapes.length(("class_embedding", 0), ("norm_in.weight", 0), ("patch_embedding", 0))
    patch = shapes.length(("patch_embedding", 2), otherwise=whole.patch)
    side = isqrt(shapes.length(("positions", 0), otherwise=whole.tokens) - 1)
    # kinoform's own files lack the last block, which no model reads.
    layers = shapes.layers() + shapes.own
    if heads is None and dim % HEAD_WIDTH and shapes.strict:
        raise WeightsError(
            f"{shapes.path} is {dim} wide, no multiple of {HEAD_WIDTH}; this is not CLIP ViT-H",
            code="weights_wrong_model",
        )
    if not 1 <= side * patch <= LARGEST_IMAGE:
        raise WeightsError(
            f"{shapes.path} reads images of {side * patch} pixels a side; this is not CLIP ViT-H",
            code="weights_wrong_model",
        )
    if dim == whole.dim and layers != whole.layers and shapes.strict:
        raise WeightsError(
            f"{shapes.path} has {layers} of the {whole.layers} blocks of CLIP ViT-H; get a whole file",
            code="weights_incomplete",
        )
    try:
        return VisionSpec(
            image=side * patch,
            patch=patch,
            dim=dim,
            heads=heads or (1 if dim % HEAD_WIDTH else dim // HEAD_WIDTH),
            layers=layers,
            dim_ffn=shapes.length(("blocks.#.mlp.0.weight", 0), ("blocks.#.mlp.2.weight", 1)),
            eps=eps,
        )
    except UsageError as error:
        raise WeightsError(
            f"{shapes.path}: {error}; this is not a CLIP image encoder", code="weights_wrong_model"
        ) from error


def _sizes(spec: VisionSpec) -> Mapping[str, int]:
    return {"dim": spec.dim, "layers": spec.layers, "tokens": spec.tokens, "patch": spec.patch}


def _unread(spec: VisionSpec) -> tuple[str, ...]:
    """The last block, and everything behind it."""
    return (f"blocks.{spec.layers - 1}.*", "norm_out.*", "projection")


def _facts(config: Config, shapes: Shapes) -> Mapping[str, Any]:
    return {"heads": config.number("num_attention_heads"), "eps": config.small("layer_norm_eps", 1e-5)}


def _config(spec: VisionSpec) -> Mapping[str, object]:
    return {
        "hidden_act": "gelu",
        "hidden_size": spec.dim,
        "image_size": spec.image,
        "intermediate_size": spec.dim_ffn,
        "layer_norm_eps": spec.eps,
        "num_attention_heads": spec.heads,
        "num_hidden_layers": spec.layers,
        "patch_size": spec.patch,
    }


def separated(checkpoint: Checkpoint) -> Checkpoint:
    """Each fused q, k, v as three tensors, and embeddings without leading axes of 1.

    Raises WeightsError when the rows of a fused tensor are not three equal parts.
    """
    tensors: dict[str, Stored] = {}
    for name, stored in checkpoint.tensors.items():
        if match := FUSED.fullmatch(name):
            rows, rest = divmod(stored.shape[0] if stored.shape else 1, 3)
            if rest:
                raise WeightsError(
                    f"{stored.file}: {name} has shape {list(stored.shape)}, which is no q, k and v",
                    code="weights_wrong_shape",
                )
            for index, part in enumerate("qkv"):
                own = match[1] + APART[match[2]].format(part) + match[3]
                read = _rows(stored.read, index * rows, rows)
                tensors[own] = replace(stored, shape=(rows, *stored.shape[1:]), read=read)
        elif name in LONGER and set(stored.shape[: -LONGER[name]]) == {1}:
            shape = stored.shape[-LONGER[name] :]
            tensors[name] = replace(stored, shape=shape, read=_reshaped(stored.read, shape))
        else:
            tensors[name] = stored
    return replace(checkpoint, tensors=tensors)


def fused(tensors: tuple[Outgoing, ...]) -> tuple[Outgoing, ...]:
    """Undo `separated` for the official form: q, k and v as one tensor, embeddings with their leading axes."""
    groups: dict[str, list[Outgoing]] = {}
    for tensor in tensors:
        match = OFFICIAL_APART.fullmatch(tensor.name)
        groups.setdefault(f"{match[1]}qkv{match[3]}" if match else tensor.name, []).append(tensor)
    return tuple(_fused(name, parts) for name, parts in groups.items())


def _fused(name: str, parts: Sequence[Outgoing]) -> Outgoing:
    first = parts[0]
    if len(parts) == 1:
        longer = name.rpartition(".")[2] in LONGER
        return replace(first, shape=(1,) * (3 - len(first.shape)) + first.shape if longer else first.shape)
    ordered = sorted(parts, key=lambda part: "qkv".index(part.name.rpartition(".attn.to_")[2][0]))
    inner = [part.read for part in ordered]
    return replace(first, name=name, shape=(3 * first.shape[0], *first.shape[1:]), read=_joined(inner))


def _rows(read: Callable[[], Tensor], first: int, count: int) -> Callable[[], Tensor]:
    return lambda: read()[first : first + count].clone()


def _reshaped(read: Callable[[], Tensor], shape: tuple[int, ...]) -> Callable[[], Tensor]:
    return lambda: read().reshape(shape)


def _joined(reads: Sequence[Callable[[], Tensor]]) -> Callable[[], Tensor]:
    import torch

    return lambda: torch.cat([read() for read in reads])


OFFICIAL_NAMES = Names(
    rows=(
        ("cls_embedding", "class_embedding"),
        ("pos_embedding", "positions"),
        ("patch_embedding.weight", "patch_embedding"),
        ("pre_norm.*", "norm_in.*"),
        ("transformer.#.norm1.*", "blocks.#.norm1.*"),
        ("transformer.#.norm2.*", "blocks.#.norm2.*"),
        ("transformer.#.attn.to_q.*", "blocks.#.q.*"),
        ("transformer.#.attn.to_k.*", "blocks.#.k.*"),
        ("transformer.#.attn.to_v.*", "blocks.#.v.*"),
        ("transformer.#.attn.proj.*", "blocks.#.o.*"),
        ("transformer.#.mlp.*", "blocks.#.mlp.*"),
        ("post_norm.*", "norm_out.*"),
        ("head", "projection"),
    )
)
"""Names of the visual half, whose fused `to_qkv` `separated` takes apart."""

_LAYER = "encoder.layers.#"
HUGGINGFACE_NAMES = Names(
    rows=(
        ("embeddings.class_embedding", "class_embedding"),
        ("embeddings.position_embedding.weight", "positions"),
        ("embeddings.patch_embedding.weight", "patch_embedding"),
        ("pre_layrnorm.*", "norm_in.*"),
        (f"{_LAYER}.layer_norm1.*", "blocks.#.norm1.*"),
        (f"{_LAYER}.layer_norm2.*", "blocks.#.norm2.*"),
        (f"{_LAYER}.self_attn.q_proj.*", "blocks.#.q.*"),
        (f"{_LAYER}.self_attn.k_proj.*", "blocks.#.k.*"),
        (f"{_LAYER}.self_attn.v_proj.*", "blocks.#.v.*"),
        (f"{_LAYER}.self_attn.out_proj.*", "blocks.#.o.*"),
        (f"{_LAYER}.mlp.fc1.*", "blocks.#.mlp.0.*"),
        (f"{_LAYER}.mlp.fc2.*", "blocks.#.mlp.2.*"),
        ("post_layernorm.*", "norm_out.*"),
    )
)

_BLOCK = "transformer.resblocks.#"
OPENCLIP_NAMES = Names(
    rows=(
        ("class_embedding", "class_embedding"),
        ("positional_embedding", "positions"),
        ("conv1.weight", "patch_embedding"),
        ("ln_pre.*", "norm_in.*"),
        (f"{_BLOCK}.ln_1.*", "blocks.#.norm1.*"),
        (f"{_BLOCK}.ln_2.*", "blocks.#.norm2.*"),
        (f"{_BLOCK}.attn.in_proj_q_*", "blocks.#.q.*"),
        (f"{_BLOCK}.attn.in_proj_k_*", "blocks.#.k.*"),
        (f"{_BLOCK}.attn.in_proj_v_*", "blocks.#.v.*"),
        (f"{_BLOCK}.attn.out_proj.*", "blocks.#.o.*"),
        (f"{_BLOCK}.mlp.c_fc.*", "blocks.#.mlp.0.*"),
        (f"{_BLOCK}.mlp.c_proj.*", "blocks.#.mlp.2.*"),
        ("ln_post.*", "norm_out.*"),
        ("proj", "projection"),
    )
)

CLIP = Family(
    name="clip",
    part=IMAGE_ENCODER,
    description="a CLIP image encoder",
    dialects=(
        Dialect(
            name="official",
            signatures=frozenset(
                (
                    "cls_embedding",
                    "pos_embedding",
                    "pre_norm.weight",
                    "post_norm.weight",
                    "transformer.0.attn.to_qkv.weight",
                )
            ),
            needed=3,
            table=OFFICIAL_NAMES,
            unused=("textual.", "log_scale"),
            prepare=separated,
            restore=fused,
            prefix="visual.",
        ),
        Dialect(
            name="huggingface",
            signatures=frozenset(
                (
                    "embeddings.class_embedding",
                    "pre_layrnorm.weight",
                    "post_layernorm.weight",
                    "encoder.layers.0.self_attn.q_proj.weight",
                )
            ),
            needed=3,
            table=HUGGINGFACE_NAMES,
            unused=("embeddings.position_ids", "visual_projection.", "text_model.", "text_projection.", "logit_scale"),
            prefix="vision_model.",
        ),
        Dialect(
            name="openclip",
            signatures=frozenset(("class_embedding", "conv1.weight", "ln_pre.weight", "ln_post.weight")),
            needed=3,
            table=OPENCLIP_NAMES,
            unused=(
                "transformer.",
                "token_embedding.",
                "positional_embedding",
                "text_projection",
                "ln_final.",
                "logit_scale",
            ),
            prepare=separated,
        ),
        Dialect(
            name="kinoform",
            signatures=frozenset(("class_embedding", "patch_embedding", "norm_in.weight", "blocks.0.mlp.0.weight")),
            needed=4,
            table=OWN_NAMES,
        ),
    ),
    spec=_spec,
    sizes=_sizes,
    files={"official": "models_clip_open-clip-xlm-roberta-large-vit-huge-14", "comfy": "clip_vision_h"},
    unread=_unread,
    configs=(
        ConfigForm(
            dialect="huggingface",
            key="hidden_size",
            facts=_facts,
            stated=_config,
            constant={
                "architectures": ["CLIPVisionModel"],
                "attention_dropout": 0.0,
                "model_type": "clip_vision_model",
                "num_channels": 3,
            },
        ),
    ),
)
