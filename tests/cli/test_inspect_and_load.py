"""`kinoform inspect` and loading give the same answer, to whole models and to odd folders and files alike."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.errors import KinoformError
from kinoform.recipes.catalogue import ASSETS
from kinoform.recipes.load import load
from tests.support.comfy_files import comfy_codec, comfy_transformer, write_comfy_folders
from tests.support.command_line import Run
from tests.support.diffusers_folder import INDEX, write_diffusers_folder
from tests.support.official_folder import write_official_folder
from tests.weights.tiny_files import linear, lora, transformer, write_header

STEM = "diffusion_pytorch_model"


def official(root: Path) -> Path:
    write_official_folder(root / "m", shards=2)
    return root / "m"


def diffusers(root: Path) -> Path:
    write_diffusers_folder(root / "m", shards=2)
    return root / "m"


def comfy(root: Path) -> Path:
    return write_comfy_folders(root / "m")


def shard(root: Path) -> Path:
    return official(root) / f"{STEM}-00002-of-00002.safetensors"


def short_ending(root: Path) -> Path:
    return comfy(root).rename(root / "m" / "diffusion_models" / "w.sft")


def transformer_s_folder(root: Path) -> Path:
    return diffusers(root) / "transformer"


def without_index(root: Path) -> Path:
    folder = diffusers(root)
    (folder / "model_index.json").unlink()
    return folder


def variant(root: Path) -> Path:
    write_diffusers_folder(root / "m")
    for part, stem in (("transformer", STEM), ("vae", STEM), ("text_encoder", "model")):
        file = root / "m" / part / f"{stem}.safetensors"
        file.rename(file.with_name(f"{stem}.fp16.safetensors"))
    return root / "m"


def two_variants(root: Path) -> Path:
    folder = variant(root)
    file = folder / "transformer" / f"{STEM}.fp16.safetensors"
    shutil.copy(file, file.with_name(f"{STEM}.bf16.safetensors"))
    return folder


def stray_shard(root: Path) -> Path:
    folder = diffusers(root)
    save_file({"a": torch.ones(1)}, folder / "transformer" / f"{STEM}-00001-of-00007.safetensors")
    return folder


def shard_missing(root: Path) -> Path:
    folder = official(root)
    (folder / f"{STEM}-00002-of-00002.safetensors").unlink()
    return folder


def index_leads_out(root: Path) -> Path:
    folder = official(root)
    shutil.copy(folder / f"{STEM}-00001-of-00002.safetensors", root / "x.safetensors")
    (folder / f"{STEM}.safetensors.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}')
    return folder


def index_of_other_names(root: Path) -> Path:
    """Files that only the index knows."""
    folder = diffusers(root) / "transformer"
    index = folder / f"{STEM}.safetensors.index.json"
    text = index.read_text()
    for number in (1, 2):
        name = f"{STEM}-0000{number}-of-00002.safetensors"
        (folder / name).rename(folder / f"part{number}.safetensors")
        text = text.replace(name, f"part{number}.safetensors")
    index.write_text(text)
    return folder.parent


def second_transformer(root: Path) -> Path:
    save_file(comfy_transformer(), official(root) / "finetune.safetensors")
    return root / "m"


def second_text_encoder(root: Path) -> Path:
    file = diffusers(root) / "text_encoder" / "model.safetensors"
    shutil.copy(file, file.with_name("umt5_fp8.safetensors"))
    return root / "m"


def half_by_its_index(root: Path) -> Path:
    folder = diffusers(root)
    (folder / "model_index.json").write_text(json.dumps(INDEX | {"boundary_ratio": 0.875}))
    return folder


def half_by_its_folder(root: Path) -> Path:
    (official(root) / "low_noise_model").mkdir()
    return root / "m"


def file_of_half(root: Path) -> Path:
    return half_by_its_index(root) / "transformer" / f"{STEM}-00001-of-00002.safetensors"


def expert_by_name(root: Path) -> Path:
    return comfy(root).rename(root / "m" / "diffusion_models" / "wan2.2_t2v_high_noise.safetensors")


def expert_by_structure(root: Path) -> Path:
    return write_header(root / "w.safetensors", transformer("wan22-i2v"))


def vace_module(root: Path) -> Path:
    shapes = {name: shape for name, shape in transformer("wan21-vace").items() if name.startswith("vace_")}
    return write_header(root / "w.safetensors", shapes)


def module_of_a_relative(root: Path) -> Path:
    return write_header(root / "w.safetensors", linear("audio_proj.proj1", 4, 4))


def codec_alone(root: Path) -> Path:
    save_file(comfy_codec(), root / "w.safetensors")
    return root / "w.safetensors"


def tensor_missing(root: Path) -> Path:
    file = comfy(root)
    save_file({name: value for name, value in load_file(file).items() if name != "blocks.1.norm3.bias"}, file)
    return file


def tensor_unknown(root: Path) -> Path:
    file = comfy(root)
    save_file(load_file(file) | {"blocks.0.stranger": torch.ones(1)}, file)
    return file


def tensor_missing_and_unknown(root: Path) -> Path:
    file = comfy(root)
    tensors = load_file(file)
    save_file(tensors | {"blocks.0.stranger": tensors.pop("blocks.1.norm3.bias")}, file)
    return file


def of_a_trainer(root: Path) -> Path:
    file = comfy(root)
    torch.save({"generator_ema": load_file(file), "step": 9}, file.with_suffix(".pt"))
    file.unlink()
    return file.with_suffix(".pt")


def two_dictionaries(root: Path) -> Path:
    torch.save({"generator": {"a": torch.ones(1)}, "critic": {"a": torch.ones(1)}}, root / "w.pt")
    return root / "w.pt"


def code_in_a_pickle(root: Path) -> Path:
    torch.save({"a": torch.ones(1), "args": Path("x")}, root / "w.pth")
    return root / "w.pth"


def lora_as_model(root: Path) -> Path:
    return write_header(root / "w.safetensors", lora("comfy"))


def raw_peft(root: Path) -> Path:
    return write_header(root / "w.safetensors", lora("peft"))


def lora_of_both_experts(root: Path) -> Path:
    shapes = lora("diffusers")
    both = {name.replace("transformer.", f"transformer_{n}."): shape for n in (1, 2) for name, shape in shapes.items()}
    return write_header(root / "w.safetensors", both)


def no_weights(root: Path) -> Path:
    return root


def only_a_codec(root: Path) -> Path:
    codec_alone(root)
    return root


def web_page(root: Path) -> Path:
    (root / "w.safetensors").write_text("<html>log in</html>")
    return root / "w.safetensors"


def text(root: Path) -> Path:
    (root / "w.txt").write_text("hello")
    return root / "w.txt"


def embedded(root: Path) -> Path:
    return Path(shutil.copytree(ASSETS / "mini", root / "m"))


RUN = (official, diffusers, comfy, shard, short_ending, transformer_s_folder, without_index, variant,
       index_of_other_names, of_a_trainer, embedded)  # fmt: skip


def own_without_text_encoder(here: Path) -> Path:
    copy = Path(shutil.copytree(ASSETS / "mini", here / "half"))
    (copy / "text_encoder.safetensors").unlink()
    return copy


def own_without_tokenizer(here: Path) -> Path:
    copy = Path(shutil.copytree(ASSETS / "mini", here / "half"))
    (copy / "tokenizer.json").unlink()
    return copy


REFUSED = (
    two_variants, stray_shard, shard_missing, index_leads_out, second_transformer, second_text_encoder,
    half_by_its_index, half_by_its_folder, file_of_half, expert_by_name, expert_by_structure, vace_module,
    module_of_a_relative, codec_alone, tensor_missing, tensor_unknown, tensor_missing_and_unknown, two_dictionaries,
    code_in_a_pickle, lora_as_model, raw_peft, lora_of_both_experts, no_weights, only_a_codec, web_page, text,
    own_without_text_encoder, own_without_tokenizer,
)  # fmt: skip


def inspected(kinoform: Run, path: Path) -> tuple[str | None, str | None]:
    """(model, code) as inspect tells: a refusal of the command, or what it says that generate will do."""
    ran = kinoform("inspect", path, "--json")
    if ran.refusal is not None:
        return None, ran.refusal
    (told,) = ran.told
    return told["generate"].get("model"), told["generate"].get("code")


def loaded(path: Path) -> tuple[str | None, str | None]:
    try:
        return load(path, device="cpu").recipe.name, None
    except KinoformError as error:
        return None, error.code


def test_a_folder_of_its_own_that_lacks_a_transformer_is_shown_and_refused(kinoform: Run, here: Path) -> None:
    folder = own_without_text_encoder(here)
    (folder / "transformer.safetensors").unlink()
    ran = kinoform("inspect", folder, "--json")
    assert (ran.code, ran.refusal) == (3, "weights_incomplete")
    assert [part["part"] for part in ran.told[0]["parts"]] == ["codec"] and ran.told[0]["generate"]["code"]


@pytest.mark.parametrize("make", RUN)
def test_what_is_named_as_a_model_loads_as_that(make: Callable[[Path], Path], kinoform: Run, here: Path) -> None:
    path = make(here)
    model, code = inspected(kinoform, path)
    assert code is None and model is not None
    assert loaded(path) == (model.rpartition(":")[2], None)


@pytest.mark.parametrize("make", REFUSED)
def test_what_is_refused_is_refused_with_one_code(make: Callable[[Path], Path], kinoform: Run, here: Path) -> None:
    path = make(here)
    model, code = inspected(kinoform, path)
    assert model is None and code is not None
    assert loaded(path) == (None, code)
