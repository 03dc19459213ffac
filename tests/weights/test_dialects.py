"""Each table between dialects is a bijection over real models, and the places that invite a mix-up are right."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kinoform.checkpoints.files import open_checkpoint
from kinoform.families.names import Names
from kinoform.families.transformer_names import DIFFUSERS_NAMES as DIFFUSERS_DIT
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.families.umt5 import HUGGINGFACE_NAMES as HUGGINGFACE_TEXT_ENCODER
from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.families.umt5 import TIED, untied
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.families.vae21 import diffusers_names
from kinoform.families.vae22 import diffusers_names as diffusers_names_22
from kinoform.families.vae22 import official_names
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.meta import on_meta
from kinoform.models.text import TextSpec
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.models.vae import VAESpec
from kinoform.models.vae22 import VAE22Spec
from tests.support.refusals import refused
from tests.weights.tiny_files import (
    TO_DIFFUSERS,
    TO_HUGGINGFACE,
    codec21,
    codec22,
    diffusers_codec21,
    diffusers_codec22,
    renamed,
    text_encoder,
    transformer,
)

DIT_SPEC = DiTSpec(dim=24, ffn_dim=40, heads=2, layers=3, frequency_width=16, context=(TextContext(width=20),))
IMAGE = ImageContext(width=28)
MODELS: Mapping[str, tuple[Callable[[], nn.Module], Names, Names, Mapping[str, tuple[int, ...]]]] = {
    "t2v": (DIT_SPEC.build, DIT, DIFFUSERS_DIT, transformer()),
    "i2v": (
        replace(DIT_SPEC, in_channels=36, context=(TextContext(width=20), IMAGE)).build,
        DIT, DIFFUSERS_DIT, transformer("wan21-i2v"),
    ),
    "flf2v": (
        replace(DIT_SPEC, in_channels=36, context=(TextContext(width=20), replace(IMAGE, positions=514))).build,
        DIT, DIFFUSERS_DIT, transformer("wan21-flf2v"),
    ),
    "vace": (
        replace(DIT_SPEC, branches=(VaceBlocks(layers=(0, 2)),)).build, DIT, DIFFUSERS_DIT, transformer("wan21-vace"),
    ),
    "2.2 i2v": (replace(DIT_SPEC, in_channels=36).build, DIT, DIFFUSERS_DIT, transformer("wan22-i2v")),
    "ti2v": (
        replace(DIT_SPEC, in_channels=48, out_channels=48).build, DIT, DIFFUSERS_DIT, transformer("wan22-ti2v"),
    ),
    "codec": (VAESpec(dim=4).build, VAE21, diffusers_names(), codec21()),
    "codec 2.2": (VAE22Spec(dim=4, decoder_dim=6).build, official_names(), diffusers_names_22(), codec22()),
    "codec of single blocks": (
        VAESpec(dim=4, residual_blocks=1).build, VAE21, diffusers_names(residual_blocks=1), codec21(blocks=1),
    ),
    "text": (
        TextSpec(vocab=50, dim=24, dim_attention=16, dim_ffn=40, heads=2, layers=2).build,
        TEXT_ENCODER, HUGGINGFACE_TEXT_ENCODER, text_encoder(),
    ),
}  # fmt: skip
OTHERS = {
    "t2v": renamed(transformer(), TO_DIFFUSERS),
    "i2v": renamed(transformer("wan21-i2v"), TO_DIFFUSERS),
    "flf2v": renamed(transformer("wan21-flf2v"), TO_DIFFUSERS),
    "vace": renamed(transformer("wan21-vace"), TO_DIFFUSERS),
    "2.2 i2v": renamed(transformer("wan22-i2v"), TO_DIFFUSERS),
    "ti2v": renamed(transformer("wan22-ti2v"), TO_DIFFUSERS),
    "codec": diffusers_codec21(),
    "codec 2.2": diffusers_codec22(),
    "codec of single blocks": diffusers_codec21(blocks=1),
    "text": renamed(text_encoder(), TO_HUGGINGFACE),
}


@pytest.mark.parametrize("model", MODELS)
def test_each_dialect_names_every_parameter_once_there_and_back(model: str) -> None:
    build, official, other, shapes = MODELS[model]
    own = {name: tuple(parameter.shape) for name, parameter in on_meta(build).named_parameters()}
    assert {official.theirs(name): shape for name, shape in own.items()} == shapes
    assert {other.theirs(name): shape for name, shape in own.items()} == OTHERS[model]
    assert [other.ours(other.theirs(name)) for name in own] == list(own)


def test_names_that_invite_a_mix_up_go_where_they_belong() -> None:
    assert DIFFUSERS_DIT.ours("blocks.3.norm2.weight") == "blocks.3.cross_norm.weight"
    assert DIFFUSERS_DIT.ours("blocks.3.norm3.weight") is None
    assert DIFFUSERS_DIT.ours("scale_shift_table") == "head.modulation"
    assert DIFFUSERS_DIT.ours("blocks.3.scale_shift_table") == "blocks.3.modulation"
    assert DIFFUSERS_DIT.ours("blocks.3.attn2.to_k.bias") == "blocks.3.cross_attention.streams.text.k.bias"
    assert DIFFUSERS_DIT.ours("blocks.3.attn2.add_k_proj.bias") == "blocks.3.cross_attention.streams.image.k.bias"
    assert DIFFUSERS_DIT.ours("proj_out.bias") == "head.linear.bias"
    assert DIFFUSERS_DIT.ours("vace_blocks.1.proj_out.bias") == "branches.vace.after.1.bias"
    assert DIFFUSERS_DIT.ours("vace_blocks.0.proj_in.bias") == "branches.vace.before.bias"
    assert DIFFUSERS_DIT.ours("vace_blocks.1.proj_in.bias") is None
    assert diffusers_names().ours("quant_conv.weight") == "moments.weight"
    assert diffusers_names().ours("post_quant_conv.weight") == "expand.weight"
    assert diffusers_names().ours("encoder.down_blocks.4.conv1.bias") == "encoder.downsamples.4.conv1.bias"
    assert diffusers_names().ours("decoder.up_blocks.1.resnets.0.conv1.bias") == "decoder.upsamples.4.conv1.bias"
    assert diffusers_names().ours("decoder.up_blocks.3.resnets.3.conv1.bias") is None
    wi = "encoder.block.1.layer.1.DenseReluDense.wi_"
    assert HUGGINGFACE_TEXT_ENCODER.ours(f"{wi}0.weight") == "blocks.1.feed_forward.gate.weight"
    assert HUGGINGFACE_TEXT_ENCODER.ours(f"{wi}1.weight") == "blocks.1.feed_forward.up.weight"


@pytest.mark.parametrize("held", [TIED[:1], TIED[1:], TIED])
def test_the_token_embedding_is_found_under_either_name_or_both(held: tuple[str, ...], tmp_path: Path) -> None:
    value = torch.arange(6.0)
    save_file({name: value.clone() for name in held} | {"other": torch.ones(1)}, tmp_path / "w.safetensors")
    checkpoint = untied(open_checkpoint(tmp_path / "w.safetensors"))
    assert set(checkpoint.tensors) == {TIED[0], "other"}
    assert torch.equal(checkpoint.read(TIED[0]), value)


def test_two_token_embeddings_that_differ_are_refused(tmp_path: Path) -> None:
    values = (torch.zeros(3), torch.tensor([0.0, 0.0, 1e-3]))
    save_file(dict(zip(TIED, values, strict=True)), tmp_path / "w.safetensors")
    checkpoint = untied(open_checkpoint(tmp_path / "w.safetensors"))
    with refused("weights_damaged"):
        checkpoint.read(TIED[0])
