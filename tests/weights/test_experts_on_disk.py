"""Two experts are found in every layout, told apart by what says so, and refused in a sentence where nothing does."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.checkpoints.reader import HeaderReader
from kinoform.loading.experts import ExpertPaths, expert_paths
from kinoform.loading.opening import usable_model
from kinoform.loading.parts import released_parts
from kinoform.loading.sources import Opening, Overrides
from kinoform.models.dit import DiT
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipes.load import load
from kinoform.recipes.opened import stated_otherwise
from kinoform.recipes.wan22 import t2v_a14b
from tests.support.comfy_files import SINGLE
from tests.support.expert_folders import (
    BOUNDARIES,
    KINDS,
    SEEDS,
    SHIFT,
    comfy_expert,
    comfy_files,
    same_weights,
    tiny_expert,
    write_expert_folder,
)
from tests.support.official_folder import TRANSFORMER
from tests.support.refusals import refused
from tests.weights.gguf_fixtures import write_gguf
from tests.weights.tiny_files import transformer, write_header

CPU = torch.device("cpu")
LAYOUTS = ("official", "diffusers", "comfy")


def loaded(pipeline: Pipeline) -> list[DiT]:
    return [load(torch.float32, CPU) for load in pipeline.parts.transformers]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_both_experts_of_every_layout_are_the_released_model(layout: str, kind: str, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = write_expert_folder(tmp_path / "model", layout, kind)
    pipeline = load(folder, device="cpu", report=lines.append)
    recipe = pipeline.recipe
    assert (recipe.name, recipe.boundaries) == (f"{kind}-a14b", (BOUNDARIES[kind],))
    assert recipe.shift == {"t2v": 12.0, "i2v": 5.0, "vace": 12.0}[kind] and recipe.image is None
    like = SINGLE if layout == "comfy" else TRANSFORMER
    expected = [tiny_expert(noise, kind, like) for noise in SEEDS]
    assert all(map(same_weights, loaded(pipeline), expected)) and not same_weights(*expected)
    assert [f"flow_shift {SHIFT:g}" in line for line in lines] == [True] * (layout == "diffusers")


@pytest.mark.parametrize("layout", ["official", "diffusers"])
def test_shards_are_the_same_model(layout: str, tmp_path: Path) -> None:
    whole, split = (write_expert_folder(tmp_path / str(n), layout, shards=n) for n in (1, 3))
    assert all(map(same_weights, loaded(load(whole, device="cpu")), loaded(load(split, device="cpu"))))


def test_a_boundary_of_the_folder_is_told_and_not_taken(tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "diffusers")
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"boundary_ratio": 0.5}))
    lines: list[str] = []
    assert load(folder, device="cpu", report=lines.append).recipe.boundaries == (0.875,)
    assert sum("boundary_ratio is 0.5" in line for line in lines) == 1
    for unreadable in ("half", [0.5], True, 10**400, float("inf")):
        index.write_text(json.dumps(json.loads(index.read_text()) | {"boundary_ratio": unreadable}))
        (line,) = (note for note in stated_otherwise(folder, t2v_a14b()) if "boundary_ratio" in note)
        assert "no number" in line


def test_two_files_are_given_by_name_whatever_they_are_called(tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "comfy")
    names = {noise: file.rename(folder / name) for (noise, file), name in zip(
        comfy_files(folder).items(), ("a.safetensors", "b.safetensors"), strict=True
    )}  # fmt: skip
    pipeline = load({"low": names["low"], "high": str(names["high"])}, device="cpu")
    assert pipeline.recipe.name == "t2v-a14b"
    assert all(map(same_weights, loaded(pipeline), (tiny_expert(noise, like=SINGLE) for noise in SEEDS)))
    with refused("weights_ambiguous", "--model high=FILE --model low=FILE"):
        load(folder, device="cpu")


def test_the_folders_of_two_experts_are_given_one_by_one(tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "official", "i2v", shards=2)
    places = {noise: folder / f"{noise}_noise_model" for noise in SEEDS}
    pipeline = load(places, device="cpu")
    assert pipeline.recipe.name == "i2v-a14b"
    assert all(map(same_weights, loaded(pipeline), (tiny_expert(noise, "i2v") for noise in SEEDS)))


def test_pairs_of_packed_files_stay_packed_or_not(tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "comfy")
    files = comfy_files(folder)
    for noise, file in comfy_files(folder, ending=".gguf").items():
        write_gguf(file, comfy_expert(noise), {})
        files[noise].unlink()
    assert all(map(same_weights, loaded(load(folder, device="cpu", keep_packed=False)), (
        tiny_expert(noise, like=SINGLE) for noise in SEEDS
    )))  # fmt: skip
    for noise, file in files.items():
        matrices = {name: value.to(torch.float8_e4m3fn) if value.dim() == 2 else value
                    for name, value in comfy_expert(noise).items()}  # fmt: skip
        save_file(matrices, file)
        file.with_suffix(".gguf").unlink()
    first, second = loaded(load(folder, device="cpu"))
    assert not same_weights(first, second)


def test_metadata_tells_where_names_are_silent(tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "comfy")
    for (noise, file), name in zip(comfy_files(folder).items(), "ba", strict=True):
        title = {"modelspec.title": f"Wan2.2 T2V A14B {noise} noise"}
        save_file(load_file(file), folder / f"{name}.safetensors", metadata=title)
        file.unlink()
    assert all(map(same_weights, loaded(load(folder, device="cpu")), (
        tiny_expert(noise, like=SINGLE) for noise in SEEDS
    )))  # fmt: skip
    with refused("experts_swapped"):
        load({"high": folder / "a.safetensors", "low": folder / "b.safetensors"}, device="cpu")


@pytest.mark.parametrize("layout", ["official", "diffusers"])
@pytest.mark.parametrize("noise", SEEDS)
def test_one_expert_alone_is_refused(layout: str, noise: str, tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", layout)
    names = {"official": ("high_noise_model", "low_noise_model"), "diffusers": ("transformer", "transformer_2")}
    gone = names[layout][list(SEEDS).index(noise)]
    (folder / gone).rename(tmp_path / "away")
    with refused("expert_alone", f"{noise} noise"):
        load(folder, device="cpu")
    with refused("expert_missing", f"{noise} noise"):
        load({next(other for other in SEEDS if other != noise): folder}, device="cpu")


def test_pairs_that_are_none_are_refused(tmp_path: Path) -> None:
    folder, images = (write_expert_folder(tmp_path / kind, "comfy", kind) for kind in ("t2v", "i2v"))
    high, low = comfy_files(folder).values()
    with refused("experts_swapped", "low"):
        load({"high": low, "low": high}, device="cpu")
    assert load({"high": low, "low": high}, variant="t2v-a14b", device="cpu").recipe.name == "t2v-a14b"
    with refused("experts_same_file"):
        load({"high": high, "low": high.parent / ".." / high.parent.name / high.name}, device="cpu")
    with refused("experts_differ", "image-to-video"):
        load({"high": high, "low": comfy_files(images, "i2v")["low"]}, device="cpu")
    with refused("variant_contradicts_weights"):
        load({"high": high, "low": low}, variant="t2v-14b", device="cpu")
    with refused("expert_alone"):
        load(high, variant="t2v-a14b", device="cpu")
    with refused("recipe_contradicts_weights"):
        load({"high": high, "low": low}, recipe="kinoform.recipes.wan21:t2v_14b", device="cpu")
    with refused("unknown_expert"):
        expert_paths({"middle": high, "low": low})
    tensors = comfy_expert("low")
    save_file({name: value for name, value in tensors.items() if "blocks.2." not in name}, low)
    with refused("experts_differ", "layers is 3"):
        load(folder, device="cpu")
    low.rename(folder / "wan2.2_t2v_high_noise_other.safetensors")
    with refused("weights_ambiguous", "2 experts for high noise"):
        load(folder, device="cpu")


BIG = {"dim": 5120, "ffn": 13824, "layers": 40, "text": 4096, "frequencies": 256}
PAIRS = {
    "t2v-a14b": ("wan21-t2v", "Wan2_2-T2V-A14B_HIGH_fp8_e4m3fn.safetensors", "Wan2_2-T2V-A14B-LOW_fp8.safetensors"),
    "i2v-a14b": ("wan22-i2v", "a/w.safetensors", "b/w.safetensors"),
    "vace-a14b": ("wan21-vace", "Wan2.2-VACE-Fun-A14B/high_noise_model/w.safetensors", "low/w.safetensors"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_released_sizes_are_their_model_by_their_headers(name: str, tmp_path: Path) -> None:
    family, *files = PAIRS[name]
    more = {"side_layers": 8} if family == "wan21-vace" else {}
    high, low = (write_header(tmp_path / file, transformer(family, **BIG, **more)) for file in files)
    opening = Opening(reader=HeaderReader(), overrides=Overrides())
    assert usable_model(ExpertPaths(high=high, low=low), opening) == name
    with refused("expert_alone" if name == "i2v-a14b" else "weights_ambiguous"):
        usable_model(high.rename(tmp_path / "w.safetensors"), opening)


def test_an_expert_of_released_size_alone_is_refused_before_its_other_parts_are_asked_for(tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "comfy", "i2v")
    file = comfy_files(folder, "i2v")["high"]
    with refused("expert_alone", "i2v-a14b"):
        released_parts(file.rename(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("layout", ["official", "diffusers"])
def test_metadata_is_held_against_the_folder(layout: str, tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", layout)
    home = folder / {"official": "high_noise_model", "diffusers": "transformer"}[layout]
    file = home / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file), file, metadata={"modelspec.title": "Wan2.2 T2V A14B low noise"})
    with refused("experts_swapped", str(file)):
        load(folder, device="cpu")
