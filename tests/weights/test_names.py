"""Every table is a bijection over the full-size models, whose counts and shapes are the published ones."""

from collections.abc import Callable

import pytest
from torch import nn

from kinoform.families.clip import OFFICIAL_NAMES as IMAGE_ENCODER
from kinoform.families.names import Names
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.families.umt5 import LLAMA_CPP_NAMES
from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.models.meta import on_meta
from kinoform.models.text import TextSpec
from kinoform.models.vae import VAESpec
from kinoform.models.vision import VisionSpec
from kinoform.recipes.wan21 import (
    flf2v_14b,
    i2v_14b_480p,
    i2v_14b_720p,
    t2v_1_3b,
    t2v_14b,
    vace_1_3b,
    vace_14b,
)

MODELS = {
    "t2v-1.3b": (t2v_1_3b().transformer.build, DIT, 1_418_996_800, 825),
    "t2v-14b": (t2v_14b().transformer.build, DIT, 14_288_491_584, 1095),
    "i2v-14b-480p": (i2v_14b_480p().transformer.build, DIT, 16_394_878_784, 1303),
    "i2v-14b-720p": (i2v_14b_720p().transformer.build, DIT, 16_394_878_784, 1303),
    "flf2v-14b": (flf2v_14b().transformer.build, DIT, 16_395_536_704, 1304),
    "vace-1.3b": (vace_1_3b().transformer.build, DIT, 2_153_972_032, 1264),
    "vace-14b": (vace_14b().transformer.build, DIT, 17_337_592_896, 1331),
    "vae": (VAESpec().build, VAE21, 126_892_531, 194),
    "t5": (TextSpec().build, TEXT_ENCODER, 5_680_910_336, 242),
    "t5 in GGUF": (TextSpec().build, LLAMA_CPP_NAMES, 5_680_910_336, 242),
    # 632,076,800 in 392 tensors, without the last block, the last norm and the head, and with q, k, v apart.
    "clip": (VisionSpec().build, IMAGE_ENCODER, 632_076_800 - 19_677_440 - 2_560 - 1_310_720, 5 + 31 * 16),
}


@pytest.mark.parametrize(("build", "names", "count", "keys"), MODELS.values(), ids=MODELS)
def test_counts_are_published_and_names_go_there_and_back(
    build: Callable[[], nn.Module], names: Names, count: int, keys: int
) -> None:
    module = on_meta(build)
    own = [name for name, _ in module.named_parameters()]
    assert sum(parameter.numel() for parameter in module.parameters()) == count
    assert len(module.state_dict()) == len(own) == keys
    theirs = [names.theirs(name) for name in own]
    assert len(set(theirs)) == keys
    assert [names.ours(name) for name in theirs] == own
    assert names.ours("something.else") is None


def shapes(build: Callable[[], nn.Module], names: Names) -> dict[str, tuple[int, ...]]:
    return {names.theirs(name): tuple(p.shape) for name, p in on_meta(build).named_parameters()}


def test_transformer_has_the_official_names_and_shapes() -> None:
    d, f = 1536, 8960
    expected = {
        "patch_embedding.weight": (d, 16, 1, 2, 2), "patch_embedding.bias": (d,),
        "text_embedding.0.weight": (d, 4096), "text_embedding.0.bias": (d,),
        "text_embedding.2.weight": (d, d), "text_embedding.2.bias": (d,),
        "time_embedding.0.weight": (d, 256), "time_embedding.0.bias": (d,),
        "time_embedding.2.weight": (d, d), "time_embedding.2.bias": (d,),
        "time_projection.1.weight": (6 * d, d), "time_projection.1.bias": (6 * d,),
        "head.modulation": (1, 2, d), "head.head.weight": (64, d), "head.head.bias": (64,),
    }  # fmt: skip
    for layer in range(30):
        block = f"blocks.{layer}"
        expected |= {
            f"{block}.modulation": (1, 6, d),
            f"{block}.norm3.weight": (d,), f"{block}.norm3.bias": (d,),
            f"{block}.ffn.0.weight": (f, d), f"{block}.ffn.0.bias": (f,),
            f"{block}.ffn.2.weight": (d, f), f"{block}.ffn.2.bias": (d,),
        }  # fmt: skip
        for attention in ("self_attn", "cross_attn"):
            for layer_name in "qkvo":
                expected[f"{block}.{attention}.{layer_name}.weight"] = (d, d)
                expected[f"{block}.{attention}.{layer_name}.bias"] = (d,)
            expected[f"{block}.{attention}.norm_q.weight"] = (d,)
            expected[f"{block}.{attention}.norm_k.weight"] = (d,)
    assert shapes(t2v_1_3b().transformer.build, DIT) == expected


def test_text_encoder_has_the_official_names_and_shapes() -> None:
    d, f = 4096, 10240
    expected = {"token_embedding.weight": (256384, d), "norm.weight": (d,)}
    for layer in range(24):
        block = f"blocks.{layer}"
        expected |= {f"{block}.norm1.weight": (d,), f"{block}.norm2.weight": (d,)}
        expected |= {f"{block}.attn.{name}.weight": (d, d) for name in "qkvo"}
        expected |= {f"{block}.ffn.gate.0.weight": (f, d), f"{block}.ffn.fc1.weight": (f, d)}
        expected |= {f"{block}.ffn.fc2.weight": (d, f)}
        expected |= {f"{block}.pos_embedding.embedding.weight": (32, 64)}
    assert shapes(TextSpec().build, TEXT_ENCODER) == expected


def test_autoencoder_has_the_official_names_and_shapes_where_they_are_peculiar() -> None:
    found = shapes(VAESpec().build, VAE21)
    expected = {
        "conv1.weight": (32, 32, 1, 1, 1), "conv2.weight": (16, 16, 1, 1, 1),
        "encoder.conv1.weight": (96, 3, 3, 3, 3), "decoder.conv1.weight": (384, 16, 3, 3, 3),
        "encoder.downsamples.3.shortcut.weight": (192, 96, 1, 1, 1),
        "encoder.downsamples.5.time_conv.weight": (192, 192, 3, 1, 1),
        "encoder.downsamples.2.resample.1.weight": (96, 96, 3, 3),
        "encoder.middle.1.to_qkv.weight": (1152, 384, 1, 1), "encoder.middle.1.norm.gamma": (384, 1, 1),
        "encoder.head.0.gamma": (384, 1, 1, 1), "encoder.head.2.weight": (32, 384, 3, 3, 3),
        "decoder.upsamples.3.time_conv.weight": (768, 384, 3, 1, 1),
        "decoder.upsamples.3.resample.1.weight": (192, 384, 3, 3),
        "decoder.upsamples.4.shortcut.weight": (384, 192, 1, 1, 1),
        "decoder.upsamples.11.resample.1.weight": (96, 192, 3, 3),
        "decoder.upsamples.14.residual.6.weight": (96, 96, 3, 3, 3),
        "decoder.head.0.gamma": (96, 1, 1, 1), "decoder.head.2.weight": (3, 96, 3, 3, 3),
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    assert "decoder.upsamples.8.shortcut.weight" not in found
    assert "decoder.upsamples.11.time_conv.weight" not in found
