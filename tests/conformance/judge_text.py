"""The text encoder, judged on the rows of the whole padded batch."""

from collections.abc import Mapping

from torch import Tensor

from conformance.golden import Golden
from kinoform.models.text import TextEncoder, TextSpec

RENAMED = (
    (".attn.", ".attention."),
    (".ffn.gate.0.", ".feed_forward.gate."),
    (".ffn.fc1.", ".feed_forward.up."),
    (".ffn.fc2.", ".feed_forward.down."),
    (".pos_embedding.embedding.", ".position_bias."),
)


def our_name(official: str) -> str:
    for theirs, ours in RENAMED:
        official = official.replace(theirs, ours)
    return official


def load_official(spec: TextSpec, weights: Mapping[str, Tensor]) -> TextEncoder:
    """An encoder that holds the official weights; every name must find its place."""
    encoder = spec.build()
    encoder.load_state_dict({our_name(name): value for name, value in weights.items()})
    return encoder


def judge_text_encoder(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    spec = TextSpec(
        vocab=config["vocab"],
        dim=config["dim"],
        dim_attention=config["dim_attn"],
        dim_ffn=config["dim_ffn"],
        heads=config["num_heads"],
        layers=config["num_layers"],
        buckets=config["num_buckets"],
    )
    encoder = load_official(spec, golden.weights)
    return {"out.hidden": encoder(golden.inputs["ids"], golden.inputs["mask"]).detach()}
