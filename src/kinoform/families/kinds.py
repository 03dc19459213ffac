"""The parts that a file may hold, each in every dialect, and the names by which each is known."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from kinoform.errors import WeightsError
from kinoform.families.dialects import (
    DIFFUSERS_TO_OFFICIAL,
    HUGGINGFACE_TO_OFFICIAL,
    TIED,
    vae21_to_official,
    vae22_to_official,
)
from kinoform.families.names import DIT, IMAGE_ENCODER, TEXT_ENCODER, VAE21, Names
from kinoform.families.structure import (
    Shapes,
    Structure,
    clip_structure,
    codec_structure,
    huggingface_clip_structure,
    openclip_structure,
    own_clip_structure,
    own_codec_structure,
    own_transformer_structure,
    text_structure,
    transformer_structure,
)

TRANSFORMER, CODEC, TEXT, IMAGE = "transformer", "codec", "text_encoder", "image_encoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One part in one dialect: `needed` of `marks` must be there; names that begin as `unused` are not read."""

    part: str
    dialect: str
    marks: frozenset[str]
    needed: int
    structure: Callable[[Shapes], Structure]
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """`official(name in the file)`, None when it has none; `theirs(official name)` as the file would spell it."""

    official: Callable[[str], str | None]
    theirs: Callable[[str], str]


def kinds(names: Iterable[str]) -> dict[Kind, tuple[str, ...]]:
    """What the names speak for, with the prefixes under which it stands; the transformer first."""
    known: dict[str, list[Kind]] = {}
    for kind in KINDS:
        for mark in kind.marks:
            known.setdefault(mark, []).append(kind)
    counts: Counter[tuple[Kind, str]] = Counter()
    deepest = max(mark.count(".") for mark in known) + 1
    for name in names:
        words = name.rsplit(".", deepest)
        for first in range(len(words)):
            mark = ".".join(words[first:])
            counts.update((kind, name.removesuffix(mark)) for kind in known.get(mark, ()))
    found = {kind: tuple(sorted(p for k, p in counts if k == kind and counts[k, p] >= kind.needed)) for kind in KINDS}
    return {kind: prefixes for kind, prefixes in found.items() if prefixes}


def kind_of(part: str, dialect: str) -> Kind | None:
    """None for what is no part of a model, such as a LoRA."""
    return next((kind for kind in KINDS if (kind.part, kind.dialect) == (part, dialect)), None)


def translation(kind: Kind, names: Iterable[str]) -> Translation:
    """`names` are those of the part, without its prefix."""
    if kind.dialect == "kinoform":
        table = {TRANSFORMER: DIT, CODEC: VAE21, TEXT: TEXT_ENCODER, IMAGE: IMAGE_ENCODER}[kind.part]
        own = {ours: theirs for theirs, ours in table.rows}
        back = Names(rows=tuple(own.items()))
        # A model of kinoform's own may have parts that no official name is for; they keep theirs.
        return Translation(
            official=lambda name: back.ours(name) or name,
            theirs=lambda name: table.ours(name) or name,
        )
    if kind.dialect == "diffusers":
        table = DIFFUSERS_TO_OFFICIAL if kind.part == TRANSFORMER else _codec_table(names)
        return Translation(official=table.ours, theirs=partial(_spelled, table))
    if kind is HUGGINGFACE_TEXT:
        table = HUGGINGFACE_TO_OFFICIAL
        return Translation(
            official=lambda name: table.ours(TIED[0] if name in TIED else name),
            theirs=table.theirs,
        )
    return Translation(official=lambda name: name, theirs=lambda name: name)


def _codec_table(names: Iterable[str]) -> Names:
    """diffusers counts the decoder's blocks inside levels, so the table depends on how many there are."""
    up = r"decoder\.up_blocks\.(\d)\.resnets\.(\d)\."
    held = tuple(names)
    places = [(int(match[1]), int(match[2])) for name in held if (match := re.match(up, name))]
    levels = 1 + max((level for level, _ in places), default=0)
    blocks = max((block for _, block in places), default=0)
    nested = any(name.startswith("encoder.down_blocks.0.resnets.") for name in held)
    return (vae22_to_official if nested else vae21_to_official)(blocks, levels)


def _spelled(table: Names, official: str) -> str:
    """The name in the file, or the official one where a damaged file led to a table that lacks it."""
    try:
        return table.theirs(official)
    except WeightsError:
        return official


def _both_halves(*names: str) -> frozenset[str]:
    return frozenset(f"{half}.{name}" for half in ("encoder", "decoder") for name in names)


HUGGINGFACE_TEXT = Kind(
    part=TEXT,
    dialect="huggingface",
    marks=frozenset(
        f"encoder.block.0.layer.{name}.weight"
        for name in ("0.SelfAttention.q", "0.SelfAttention.relative_attention_bias", "1.DenseReluDense.wi_0")
    ),
    needed=2,
    structure=text_structure,
    unused=("decoder.", "lm_head."),
)

KINDS = (
    Kind(
        part=TRANSFORMER,
        dialect="official",
        marks=frozenset(
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
        structure=transformer_structure,
    ),
    Kind(
        part=TRANSFORMER,
        dialect="diffusers",
        marks=frozenset(
            (
                "condition_embedder.time_proj.weight",
                "condition_embedder.text_embedder.linear_1.weight",
                "condition_embedder.time_embedder.linear_1.weight",
                "scale_shift_table",
                "blocks.0.scale_shift_table",
                "blocks.0.attn1.to_q.weight",
                "blocks.0.attn2.to_q.weight",
                "blocks.0.ffn.net.0.proj.weight",
            )
        ),
        needed=5,
        structure=transformer_structure,
    ),
    Kind(
        part=TRANSFORMER,
        dialect="kinoform",
        marks=frozenset(
            (
                "patch_embedding.weight",
                "time_projection.1.weight",
                "context.text.layers.0.weight",
                "context.text.layers.2.weight",
                "head.linear.weight",
            )
        ),
        needed=4,
        structure=own_transformer_structure,
    ),
    Kind(
        part=TEXT,
        dialect="official",
        marks=frozenset(
            f"blocks.0.{name}.weight" for name in ("ffn.gate.0", "ffn.fc1", "ffn.fc2", "pos_embedding.embedding")
        ),
        needed=3,
        structure=text_structure,
    ),
    HUGGINGFACE_TEXT,
    Kind(
        part=TEXT,
        dialect="kinoform",
        marks=frozenset(
            f"blocks.0.{name}.weight"
            for name in ("feed_forward.gate", "feed_forward.up", "feed_forward.down", "position_bias")
        ),
        needed=3,
        structure=text_structure,
    ),
    Kind(
        part=CODEC,
        dialect="official",
        marks=_both_halves("conv1.weight", "middle.0.residual.0.gamma", "middle.1.to_qkv.weight", "head.0.gamma"),
        needed=4,
        structure=codec_structure,
    ),
    Kind(
        part=CODEC,
        dialect="diffusers",
        marks=_both_halves("norm_out.gamma", "mid_block.resnets.0.norm1.gamma", "mid_block.attentions.0.norm.gamma"),
        needed=3,
        structure=codec_structure,
    ),
    Kind(
        part=CODEC,
        dialect="kinoform",
        marks=frozenset(
            ("expand.weight", "expand.bias", "decoder.middle.0.norm1.gamma", "decoder.middle.0.conv1.weight")
        ),
        needed=3,
        structure=own_codec_structure,
    ),
    Kind(
        part=IMAGE,
        dialect="official",
        marks=frozenset(
            (
                "cls_embedding",
                "pos_embedding",
                "pre_norm.weight",
                "post_norm.weight",
                "transformer.0.attn.to_qkv.weight",
            )
        ),
        needed=3,
        structure=clip_structure,
        unused=("textual.", "log_scale"),
    ),
    Kind(
        part=IMAGE,
        dialect="huggingface",
        marks=frozenset(
            (
                "embeddings.class_embedding",
                "pre_layrnorm.weight",
                "post_layernorm.weight",
                "encoder.layers.0.self_attn.q_proj.weight",
            )
        ),
        needed=3,
        structure=huggingface_clip_structure,
        unused=("embeddings.position_ids", "visual_projection.", "text_model.", "text_projection.", "logit_scale"),
    ),
    Kind(
        part=IMAGE,
        dialect="openclip",
        marks=frozenset(("class_embedding", "conv1.weight", "ln_pre.weight", "ln_post.weight")),
        needed=3,
        structure=openclip_structure,
        unused=(
            "transformer.",
            "token_embedding.",
            "positional_embedding",
            "text_projection",
            "ln_final.",
            "logit_scale",
        ),
    ),
    Kind(
        part=IMAGE,
        dialect="kinoform",
        marks=frozenset(("class_embedding", "patch_embedding", "norm_in.weight", "blocks.0.mlp.0.weight")),
        needed=4,
        structure=own_clip_structure,
    ),
)
