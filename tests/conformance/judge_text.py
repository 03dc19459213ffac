"""The text encoder, judged on every row of its padded batch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.models.text import TextEncoder, TextSpec
from tests.conformance.golden import Golden


def load_official(spec: TextSpec, weights: Mapping[str, Tensor]) -> TextEncoder:
    """An encoder with the weights of these official names, loaded strictly."""
    encoder = spec.build()
    encoder.load_state_dict({TEXT_ENCODER.ours(name) or name: value for name, value in weights.items()})
    return encoder


@torch.inference_mode()
def judge(golden: Golden) -> dict[str, Tensor]:
    c = golden.config
    spec = TextSpec(
        vocab=c["vocab"], dim=c["dim"], dim_attention=c["dim_attn"], dim_ffn=c["dim_ffn"],
        heads=c["num_heads"], layers=c["num_layers"], buckets=c["num_buckets"], length=c["text_len"],
    )  # fmt: skip
    encoder = load_official(spec, golden.weights)
    return {"out.hidden": encoder(golden.inputs["ids"], golden.inputs["mask"])}


JUDGES = {"t5_encoder": judge}
