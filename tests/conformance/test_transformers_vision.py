"""transformers reads what `convert` writes of an image encoder, and computes the same.

What disagrees by design: diffusers resizes images by the short side, with antialiasing, and crops the middle;
the official code and kinoform stretch them to a square without antialiasing. The judge gets kinoform's pixels.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.conversion.convert import Conversion, convert
from kinoform.models.vision import preprocess
from tests.conformance.against_diffusers import SAME, gap
from tests.support.official_folder import VISION, tower
from tests.support.tower_files import tower_of

WHY = "the judge, transformers, is not installed: pip install 'kinoform[conformance]'"
transformers: Any = pytest.importorskip("transformers", reason=WHY)


@torch.inference_mode()
def test_the_image_encoder_goes_to_transformers_and_back(tmp_path: Path) -> None:
    save_file(tower(), tmp_path / "tower.safetensors")
    convert(tmp_path / "tower.safetensors", tmp_path / "there", Conversion(to="diffusers"))
    judge, report = transformers.CLIPVisionModel.from_pretrained(tmp_path / "there", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    images = torch.rand(2, 3, 40, 72, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pixels = preprocess(images, VISION.image)
    theirs = judge.eval()(pixels, output_hidden_states=True).hidden_states[-2]
    encoder = tower_of(VISION, tower())
    found = gap(encoder(pixels), theirs)
    print(f"image encoder {found:.1e}")
    assert found < SAME
    encoder.get_parameter("blocks.0.mlp.0.bias")[3] += 0.5
    assert gap(encoder(pixels), theirs) > SAME, "the judge can fail"
    judge.save_pretrained(tmp_path / "saved")
    convert(tmp_path / "saved", tmp_path / "back.safetensors", Conversion(to="official"))
    expected = {name: value for name, value in tower().items() if name != "visual.head"}
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == expected.keys() and all(torch.equal(value, back[name]) for name, value in expected.items())
