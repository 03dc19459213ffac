"""A folder's weights are found under every name that diffusers and transformers give them; two sets are asked about."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.checkpoints.file_sets import weight_sets
from kinoform.checkpoints.files import open_checkpoint
from kinoform.loading.parts import released_parts
from tests.support.comfy_files import SINGLE, comfy_transformer
from tests.support.diffusers_folder import write_diffusers_folder
from tests.support.official_folder import write_official_folder
from tests.support.refusals import refused

PLAIN = {"transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_diffusers_folder(tmp_path / "model")
    return tmp_path / "model"


def in_two(file: Path, names: tuple[str, str], index: str | None) -> None:
    """The tensors of a file in two others, listed or not."""
    tensors = load_file(file)
    held = [dict(list(tensors.items())[start::2]) for start in (0, 1)]
    for name, half in zip(names, held, strict=True):
        save_file(half, file.with_name(name))
    if index is not None:
        listed = {tensor: name for name, half in zip(names, held, strict=True) for tensor in half}
        file.with_name(index).write_text(json.dumps({"weight_map": listed}))
    file.unlink()


@pytest.mark.parametrize("part", PLAIN)
@pytest.mark.parametrize("variant", ["fp16", "non_ema"])
def test_a_variant_is_read_where_there_is_nothing_else(part: str, variant: str, folder: Path) -> None:
    file = folder / part / f"{PLAIN[part]}.safetensors"
    file.rename(file.with_name(f"{PLAIN[part]}.{variant}.safetensors"))
    released_parts(folder)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_a_variant_may_be_numbered(part: str, late: bool, index: bool, folder: Path) -> None:
    stem = PLAIN[part]
    forms = [f"-0000{n}-of-00002.fp16" if late else f".fp16-0000{n}-of-00002" for n in (1, 2)]
    names = f"{stem}{forms[0]}.safetensors", f"{stem}{forms[1]}.safetensors"
    listing = f"{stem}.safetensors.index.fp16.json" if index else None
    in_two(folder / part / f"{stem}.safetensors", names, listing)
    released_parts(folder)
    (folder / part / names[1]).unlink()
    with refused("weights_incomplete"):
        released_parts(folder)


def test_the_plain_files_stand_before_variants_and_two_variants_are_asked_about(folder: Path) -> None:
    plain = folder / "vae" / "diffusion_pytorch_model.safetensors"
    shutil.copy(plain, plain.with_name("diffusion_pytorch_model.fp16.safetensors"))
    save_file({"junk": torch.ones(1)}, plain.with_name("diffusion_pytorch_model.bf16.safetensors"))
    torch.save({"junk": torch.ones(1)}, plain.with_name("diffusion_pytorch_model.bin"))
    released_parts(folder)
    assert len(weight_sets(folder / "vae")) == 1
    plain.unlink()
    with refused("weights_ambiguous"):
        released_parts(folder)


@pytest.mark.parametrize("numbered", [True, False])
def test_a_text_encoder_in_pickles_is_read(numbered: bool, folder: Path) -> None:
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    if numbered:
        halves = [dict(list(tensors.items())[start::2]) for start in (0, 1)]
        for number, half in enumerate(halves, 1):
            torch.save(half, file.with_name(f"pytorch_model-0000{number}-of-00002.bin"))
        listed = {name: f"pytorch_model-0000{n}-of-00002.bin" for n, half in enumerate(halves, 1) for name in half}
        file.with_name("pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": listed}))
    else:
        torch.save(tensors, file.with_name("pytorch_model.bin"))
    torch.save({"lr": 1e-4}, file.with_name("training_args.bin"))
    loaded = released_parts(folder).text_encoder(torch.float32, torch.device("cpu"))
    assert torch.equal(loaded.get_parameter("token_embedding.weight"), tensors["shared.weight"])
    assert len(weight_sets(folder / "text_encoder")) == 1


def single_beside_numbered(folder: Path) -> None:
    save_file({"a": torch.ones(1)}, folder / "diffusion_pytorch_model.safetensors")


def another_transformer(folder: Path) -> None:
    held = open_checkpoint(folder)
    save_file({name: held.read(name) for name in held.tensors}, folder / "my_finetune.safetensors")


def stray_shard(folder: Path) -> None:
    save_file({"a": torch.ones(1)}, folder / "diffusion_pytorch_model-00003-of-00006.safetensors")


@pytest.mark.parametrize("beside", [single_beside_numbered, another_transformer, stray_shard])
@pytest.mark.parametrize("write", [write_official_folder, write_diffusers_folder])
def test_two_sets_of_weights_are_asked_about(
    write: Callable[..., None], beside: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / "model", shards=2)
    folder = tmp_path / "model"
    released_parts(folder)
    beside(folder / "transformer" if (folder / "transformer").is_dir() else folder)
    with refused("weights_ambiguous"):
        released_parts(folder)


def test_one_of_two_transformers_is_taken_by_its_file_as_the_refusal_says(tmp_path: Path) -> None:
    """Beside a transformer's file the other parts are found where diffusers and the official code keep them."""
    for name, write in (("official", write_official_folder), ("diffusers", write_diffusers_folder)):
        write(tmp_path / name)
        inner = tmp_path / name / "transformer" if name == "diffusers" else tmp_path / name
        save_file(comfy_transformer(), inner / "my_finetune.safetensors")
        with refused("weights_ambiguous") as caught:
            released_parts(tmp_path / name)
        assert "--model FILE" in str(caught.value)
        assert released_parts(inner / "my_finetune.safetensors").transformer_spec == SINGLE


def test_loras_and_other_parts_beside_a_transformer_are_no_second_one(folder: Path) -> None:
    inner = folder / "transformer"
    lora = {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 4),
            "diffusion_model.blocks.0.self_attn.q.lora_B.weight": torch.ones(4, 2)}  # fmt: skip
    save_file(lora, inner / "style.safetensors")
    shutil.copy(folder / "vae" / "diffusion_pytorch_model.safetensors", inner / "vae.safetensors")
    (inner / "broken.safetensors").write_bytes(b"no")
    released_parts(folder)


def test_a_second_text_encoder_is_asked_about_too(folder: Path) -> None:
    shutil.copy(folder / "text_encoder" / "model.safetensors", folder / "text_encoder" / "umt5_fp8.safetensors")
    with refused("weights_ambiguous") as caught:
        released_parts(folder)
    assert "--text-encoder" in str(caught.value)
