"""The umT5 text encoder, which every Wan model reads its prompt with.

Sources: the official model; transformers' UMT5EncoderModel, and strict loading of mapped random weights; llama.cpp's
names of a T5 encoder, which GGUF files have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kinoform.errors import UsageError, WeightsError
from kinoform.families.family import OWN_NAMES, TEXT_ENCODER, Config, ConfigForm, Dialect, Family, Shapes
from kinoform.families.names import Names

if TYPE_CHECKING:
    from torch import Tensor

    from kinoform.checkpoints.files import Checkpoint
    from kinoform.checkpoints.formats import Stored
    from kinoform.models.text import TextSpec

EPSILON = 1e-6
MAX_DISTANCE = "relative_attention_max_distance"

TIED = ("shared.weight", "encoder.embed_tokens.weight")
"""transformers' two names of the one token embedding: a file holds either, or both with the same numbers."""


def _spec(shapes: Shapes, *, length: int | None = None, max_distance: int | None = None) -> TextSpec:
    """The sizes. `length` is the token limit of a prompt, `max_distance` where the buckets of positions end.

    Raises WeightsError for a T5 encoder, which has but one table of positions.
    """
    from kinoform.models.text import UMT5_XXL, TextSpec

    table, block, layers = "blocks.#.position_bias.weight", "blocks.#", shapes.layers()
    if layers > 1 and sum(name.endswith(".position_bias.weight") for name in shapes.by_name) == 1:
        raise WeightsError(
            f"{shapes.path} is a T5 encoder, as other models use it; Wan models need umT5-XXL",
            code="weights_unsupported_model",
        )
    ffn = f"{block}.feed_forward"
    try:
        return TextSpec(
            vocab=shapes.length(("token_embedding.weight", 0), otherwise=UMT5_XXL.vocab),
            dim=shapes.length(("token_embedding.weight", 1), ("norm.weight", 0), ("blocks.#.norm1.weight", 0)),
            dim_attention=shapes.length((f"{block}.attention.q.weight", 0), (f"{block}.attention.o.weight", 1)),
            dim_ffn=shapes.length((f"{ffn}.up.weight", 0), (f"{ffn}.gate.weight", 0), (f"{ffn}.down.weight", 1)),
            heads=shapes.length((table, 1)),
            layers=layers,
            buckets=shapes.length((table, 0)),
            max_distance=max_distance or UMT5_XXL.max_distance,
            length=length or UMT5_XXL.length,
        )
    except UsageError as error:
        raise WeightsError(
            f"{shapes.path}: {error}; this is not the umT5 encoder", code="weights_wrong_model"
        ) from error


def _sizes(spec: TextSpec) -> Mapping[str, int]:
    return {
        "vocab": spec.vocab,
        "dim": spec.dim,
        "dim_attention": spec.dim_attention,
        "dim_ffn": spec.dim_ffn,
        "heads": spec.heads,
        "layers": spec.layers,
        "buckets": spec.buckets,
    }


def _facts(config: Config, shapes: Shapes) -> Mapping[str, Any]:
    return {"max_distance": config.number(MAX_DISTANCE)} if MAX_DISTANCE in config.values else {}


def _config(spec: TextSpec) -> Mapping[str, object]:
    return {
        "d_ff": spec.dim_ffn,
        "d_kv": spec.dim_attention // spec.heads,
        "d_model": spec.dim,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": EPSILON,
        "num_heads": spec.heads,
        "num_layers": spec.layers,
        MAX_DISTANCE: spec.max_distance,
        "relative_attention_num_buckets": spec.buckets,
        "vocab_size": spec.vocab,
    }


def untied(checkpoint: Checkpoint) -> Checkpoint:
    """transformers' two names of the token embedding as the first of them.

    Where a file holds both, they are compared when the embedding is read: WeightsError when they differ.
    """
    name, alias = TIED
    tensors = {key: stored for key, stored in checkpoint.tensors.items() if key not in TIED}
    first, second = checkpoint.tensors.get(name), checkpoint.tensors.get(alias)
    if first is not None:
        tensors[name] = first if second is None else replace(first, read=_compared(first, second))
    elif second is not None:
        tensors[name] = second
    return replace(checkpoint, tensors=tensors)


def _compared(first: Stored, second: Stored) -> Callable[[], Tensor]:
    def read() -> Tensor:
        value = first.read()
        if not value.equal(second.read()):
            raise WeightsError(
                f"{second.file}: {TIED[1]} and {TIED[0]} differ, though they are one tensor; get the file again",
                code="weights_damaged",
            )
        return value

    return read


OFFICIAL_NAMES = Names(
    rows=(
        ("token_embedding.weight", "token_embedding.weight"),
        ("norm.weight", "norm.weight"),
        ("blocks.#.norm1.weight", "blocks.#.norm1.weight"),
        ("blocks.#.norm2.weight", "blocks.#.norm2.weight"),
        ("blocks.#.attn.*", "blocks.#.attention.*"),
        ("blocks.#.ffn.gate.0.weight", "blocks.#.feed_forward.gate.weight"),
        ("blocks.#.ffn.fc1.weight", "blocks.#.feed_forward.up.weight"),
        ("blocks.#.ffn.fc2.weight", "blocks.#.feed_forward.down.weight"),
        ("blocks.#.pos_embedding.embedding.weight", "blocks.#.position_bias.weight"),
    )
)

_ATTENTION, _DENSE = "encoder.block.#.layer.0", "encoder.block.#.layer.1"
HUGGINGFACE_NAMES = Names(
    rows=(
        (TIED[0], "token_embedding.weight"),
        ("encoder.final_layer_norm.weight", "norm.weight"),
        (f"{_ATTENTION}.layer_norm.weight", "blocks.#.norm1.weight"),
        (f"{_DENSE}.layer_norm.weight", "blocks.#.norm2.weight"),
        (f"{_ATTENTION}.SelfAttention.q.weight", "blocks.#.attention.q.weight"),
        (f"{_ATTENTION}.SelfAttention.k.weight", "blocks.#.attention.k.weight"),
        (f"{_ATTENTION}.SelfAttention.v.weight", "blocks.#.attention.v.weight"),
        (f"{_ATTENTION}.SelfAttention.o.weight", "blocks.#.attention.o.weight"),
        (f"{_ATTENTION}.SelfAttention.relative_attention_bias.weight", "blocks.#.position_bias.weight"),
        (f"{_DENSE}.DenseReluDense.wi_0.weight", "blocks.#.feed_forward.gate.weight"),
        (f"{_DENSE}.DenseReluDense.wi_1.weight", "blocks.#.feed_forward.up.weight"),
        (f"{_DENSE}.DenseReluDense.wo.weight", "blocks.#.feed_forward.down.weight"),
    )
)

LLAMA_CPP_NAMES = Names(
    rows=(
        ("token_embd.weight", "token_embedding.weight"),
        ("enc.output_norm.weight", "norm.weight"),
        ("enc.blk.#.attn_norm.weight", "blocks.#.norm1.weight"),
        ("enc.blk.#.ffn_norm.weight", "blocks.#.norm2.weight"),
        ("enc.blk.#.attn_q.weight", "blocks.#.attention.q.weight"),
        ("enc.blk.#.attn_k.weight", "blocks.#.attention.k.weight"),
        ("enc.blk.#.attn_v.weight", "blocks.#.attention.v.weight"),
        ("enc.blk.#.attn_o.weight", "blocks.#.attention.o.weight"),
        ("enc.blk.#.attn_rel_b.weight", "blocks.#.position_bias.weight"),
        ("enc.blk.#.ffn_gate.weight", "blocks.#.feed_forward.gate.weight"),
        ("enc.blk.#.ffn_up.weight", "blocks.#.feed_forward.up.weight"),
        ("enc.blk.#.ffn_down.weight", "blocks.#.feed_forward.down.weight"),
    )
)

UMT5 = Family(
    name="umt5",
    part=TEXT_ENCODER,
    description="a umT5 text encoder",
    dialects=(
        Dialect(
            name="official",
            signatures=frozenset(
                f"blocks.0.{name}.weight" for name in ("ffn.gate.0", "ffn.fc1", "ffn.fc2", "pos_embedding.embedding")
            ),
            needed=3,
            table=OFFICIAL_NAMES,
        ),
        Dialect(
            name="huggingface",
            signatures=frozenset(
                f"encoder.block.0.layer.{name}.weight"
                for name in ("0.SelfAttention.q", "0.SelfAttention.relative_attention_bias", "1.DenseReluDense.wi_0")
            ),
            needed=2,
            table=HUGGINGFACE_NAMES,
            unused=("decoder.", "lm_head."),
            prepare=untied,
        ),
        Dialect(
            name="llama.cpp",
            signatures=frozenset(
                f"enc.blk.0.{name}.weight" for name in ("attn_q", "attn_rel_b", "ffn_gate", "ffn_up", "ffn_down")
            ),
            needed=3,
            table=LLAMA_CPP_NAMES,
        ),
        Dialect(
            name="kinoform",
            signatures=frozenset(
                f"blocks.0.{name}.weight"
                for name in ("feed_forward.gate", "feed_forward.up", "feed_forward.down", "position_bias")
            ),
            needed=3,
            table=OWN_NAMES,
        ),
    ),
    spec=_spec,
    sizes=_sizes,
    files={"official": "models_t5_umt5-xxl-enc-bf16", "comfy": "umt5_xxl"},
    configs=(
        ConfigForm(
            dialect="huggingface",
            key="d_model",
            facts=_facts,
            stated=_config,
            constant={
                "architectures": ["UMT5EncoderModel"],
                "decoder_start_token_id": 0,
                "dense_act_fn": "gelu_new",
                "dropout_rate": 0.1,
                "eos_token_id": 1,
                "is_encoder_decoder": True,
                "is_gated_act": True,
                "model_type": "umt5",
                "pad_token_id": 0,
                "tie_word_embeddings": True,
                "use_cache": True,
            },
        ),
    ),
)
