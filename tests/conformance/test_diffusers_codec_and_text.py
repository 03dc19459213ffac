"""diffusers and transformers read what `convert` writes of autoencoder and text encoder, and compute the same."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.conversion.convert import Conversion, convert
from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.models.vae import VAE
from tests.conformance.against_diffusers import SAME, gap
from tests.support.diffusers_folder import EMBED, SHARED
from tests.support.narrowing import of_type
from tests.support.official_folder import CODEC, TEXT, official_tensors, tiny_modules

WHY = "the judge, {}, is not installed: pip install 'kinoform[conformance]'"
diffusers: Any = pytest.importorskip("diffusers", reason=WHY.format("diffusers"))
transformers: Any = pytest.importorskip("transformers", reason=WHY.format("transformers"))

CLOSE = 1e-5
"""The largest share of the RMS, in float64; the judge upsamples in float32 all the same. Wholly in float32 a few
pixels of a network of random weights lie 1e-4 from that, on either side, and others on each processor."""


@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 9])
def test_the_autoencoder_goes_to_diffusers_and_back(frames: int, tmp_path: Path) -> None:
    """Latents of diffusers are not normalised; its decoder clamps."""
    model = of_type(VAE, tiny_modules().autoencoder)
    tensors = official_tensors(model, VAE21)
    torch.save(tensors, tmp_path / "Wan2.1_VAE.pth")
    convert(tmp_path / "Wan2.1_VAE.pth", tmp_path / "vae", Conversion(to="diffusers"))
    judge, report = diffusers.AutoencoderKLWan.from_pretrained(tmp_path / "vae", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    video = torch.rand(1, 3, frames, 48, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = _gaps(copy.deepcopy(model).double(), copy.deepcopy(judge).eval().double(), video.double())
    print("encode {:.1e}, decode {:.1e}".format(*found))
    assert max(found) < CLOSE
    judge.save_pretrained(tmp_path / "saved")
    convert(tmp_path / "saved", tmp_path / "back.safetensors", Conversion(to="official"))
    assert_equal(load_file(tmp_path / "back.safetensors"), tensors)


def _gaps(model: VAE, judge: Any, video: Tensor) -> tuple[float, float]:
    """Between the latents, and between the videos; the decoder is asked itself, as `decode` takes float32."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (CODEC.mean, CODEC.std))
    latents, _ = model.encode(video)
    mode, plain = judge.encode(video).latent_dist.mode(), latents * std + mean
    decoded, _ = model.decoder(model.expand(plain), None)
    return gap(plain, mode), gap(decoded.clamp(-1, 1), judge.decode(plain).sample)


@torch.inference_mode()
@pytest.mark.parametrize("embeddings", [(SHARED,), (EMBED,), (SHARED, EMBED)])
def test_the_text_encoder_goes_to_transformers_and_back(embeddings: tuple[str, ...], tmp_path: Path) -> None:
    """Whichever of its two names the one embedding has in the file that transformers reads."""
    model = tiny_modules().text_encoder
    tensors = official_tensors(model, TEXT_ENCODER)
    torch.save(tensors, tmp_path / "models_t5_umt5-xxl-enc-bf16.pth")
    convert(tmp_path / "models_t5_umt5-xxl-enc-bf16.pth", tmp_path / "text", Conversion(to="diffusers"))
    file = tmp_path / "text" / "model.safetensors"
    held = load_file(file)
    embedding = held.pop(SHARED)
    save_file(held | {name: embedding.clone() for name in embeddings}, file, metadata={"format": "pt"})
    judge, report = transformers.UMT5EncoderModel.from_pretrained(tmp_path / "text", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = torch.randint(3, TEXT.vocab, (2, 12), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(12) < torch.tensor([[12], [5]])
    found = [each[mask] for each in (model(ids, mask), judge.eval()(ids, mask.long()).last_hidden_state)]
    print(f"text {gap(*found):.1e}")
    assert gap(*found) < SAME
    judge.save_pretrained(tmp_path / "saved")
    for folder in ("text", "saved"):
        convert(tmp_path / folder, tmp_path / f"{folder}.safetensors", Conversion(to="official"))
        assert_equal(load_file(tmp_path / f"{folder}.safetensors"), tensors)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
