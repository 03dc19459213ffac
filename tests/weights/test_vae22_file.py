"""Files of Wan 2.2's autoencoder: both spellings are one codec, and no part of a Wan 2.1 model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.checkpoints.reader import HeaderReader
from kinoform.conversion.convert import Conversion, convert
from kinoform.families.vae22 import VAE22, diffusers_names, official_names
from kinoform.loading.detect import detect_part
from kinoform.loading.load import load_module
from kinoform.loading.parts import released_parts
from kinoform.loading.sources import Opening, Overrides, opened
from kinoform.models.vae22 import VAE22Spec
from tests.support.comfy_files import write_comfy_folders
from tests.support.official_folder import official_tensors
from tests.support.refusals import refused

SPEC = VAE22Spec(dim=4, decoder_dim=6, residual_blocks=1)
TABLES = {
    "official": official_names(residual_blocks=1),
    "diffusers": diffusers_names(),
}


def tensors(spelling: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return official_tensors(SPEC.build(), TABLES[spelling])


@pytest.mark.parametrize("spelling", TABLES)
def test_either_spelling_is_the_same_codec(spelling: str, tmp_path: Path) -> None:
    save_file(tensors(spelling), tmp_path / "vae.safetensors")
    part = opened(
        detect_part(tmp_path / "vae.safetensors", "codec", Opening(reader=HeaderReader(), overrides=Overrides()))
    )
    assert part.file.family is VAE22 and part.spec == SPEC
    module = load_module(
        part.spec.build,
        part.file.checkpoint(),
        names=part.file.names,
        dtype_of=lambda name: torch.float32,
        device=torch.device("cpu"),
    )
    torch.manual_seed(0)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in SPEC.build().state_dict().items())


def test_it_goes_to_diffusers_with_its_settings_and_back(tmp_path: Path) -> None:
    save_file(tensors("official"), tmp_path / "vae.safetensors")
    convert(tmp_path / "vae.safetensors", tmp_path / "vae", Conversion(to="diffusers"))
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    assert config["is_residual"] is True and (config["base_dim"], config["decoder_base_dim"]) == (4, 6)
    convert(tmp_path / "vae", tmp_path / "back.safetensors", Conversion(to="official"))
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors("official").keys()
    assert all(torch.equal(value, back[name]) for name, value in tensors("official").items())


def test_a_model_of_wan_2_1_takes_its_own(tmp_path: Path) -> None:
    file = write_comfy_folders(tmp_path / "models")
    vae = next((tmp_path / "models" / "vae").iterdir())
    save_file(tensors("official"), vae)
    with refused("part_missing"):
        released_parts(file)
    with refused("parts_mismatch"):
        released_parts(file, Overrides(codec=vae))
