"""A model with a VACE module on computes, bit for bit, what the file that holds both does; what cannot go together is
refused from headers."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.conditions.vace import Vace
from kinoform.families.transformer_names import DIFFUSERS_NAMES, OFFICIAL_NAMES
from kinoform.loading.own import Modules, save_own
from kinoform.loading.parts import Parts
from kinoform.mini.recipe import mini
from kinoform.models.packed import PackedLinear
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.models.vace_blocks import VaceBlocks, VaceContext
from kinoform.pipelines.fit import sizes_of
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipe import Recipe
from kinoform.recipes.catalogue import RELEASED, base_of, with_vace_blocks
from kinoform.recipes.load import load
from kinoform.types import Conditions, Grid
from tests.support.comfy_files import SINGLE, write_comfy_folders
from tests.support.diffusers_folder import INDEX, transformer_config, write_diffusers_folder
from tests.support.expert_folders import write_expert_folder
from tests.support.official_folder import (
    CONFIG,
    ROWS,
    TEXT,
    TRANSFORMER,
    WORDS,
    official_tensors,
    small_vace,
    tiny_modules,
    write_official_folder,
    write_transformer,
)
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny_of_two, write_tiny_of_two
from tests.weights.gguf_fixtures import write_gguf
from tests.weights.tiny_files import transformer, write_header

BLOCKS = VaceBlocks(layers=(0, 1, 2))
WHOLE = replace(TRANSFORMER, branches=(BLOCKS,))
SINGLE_WHOLE = replace(SINGLE, branches=(BLOCKS,))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A base, the file of a module, and the model that holds both."""

    base: Path
    vace: Path | Mapping[str, Path]
    whole: Path
    options: Mapping[str, Any] = field(default_factory=dict)


def divided(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the base, and those of the module."""
    module = {name: value for name, value in tensors.items() if name.startswith("vace_")}
    return {name: value for name, value in tensors.items() if name not in module}, module


def official(root: Path) -> Pair:
    write_official_folder(root / "base")
    shutil.copytree(root / "base", root / "whole")
    tensors = official_tensors(tiny_modules(transformer=WHOLE).transformer, OFFICIAL_NAMES)
    base, module = divided(tensors)
    write_transformer(root / "base", base, shards=1)
    write_transformer(root / "whole", tensors, shards=1)
    more = {"_class_name": "VaceWanModel", "model_type": "vace", "vace_layers": [0, 1, 2], "vace_in_dim": 96}
    (root / "whole" / "config.json").write_text(json.dumps(CONFIG | more))
    save_file(module, root / "module.safetensors")
    return Pair(base=root / "base", vace=root / "module.safetensors", whole=root / "whole")


def diffusers(root: Path) -> Pair:
    """With a module in the names of diffusers, behind a prefix."""
    base, whole = root / "base", root / "whole"
    write_diffusers_folder(base)
    shutil.copytree(base, whole)
    tensors = official_tensors(tiny_modules(transformer=WHOLE).transformer, DIFFUSERS_NAMES)
    held, module = divided(tensors)
    write_transformer(base / "transformer", held, shards=1)
    write_transformer(whole / "transformer", tensors, shards=1)
    config = transformer_config("vace") | {"vace_layers": [0, 1, 2]}
    (whole / "transformer" / "config.json").write_text(json.dumps(config))
    (whole / "model_index.json").write_text(json.dumps(INDEX | {"_class_name": "WanVACEPipeline"}))
    save_file({f"model.diffusion_model.{name}": value for name, value in module.items()}, root / "m.safetensors")
    return Pair(base=base, vace=root / "m.safetensors", whole=whole)


def single(root: Path) -> Pair:
    """Files as ComfyUI keeps them, the base in float8 beside a module in bfloat16."""
    base, module = divided(official_tensors(tiny_modules(transformer=SINGLE_WHOLE).transformer, OFFICIAL_NAMES))
    fp8 = {name: value.to(torch.float8_e4m3fn) if value.dim() == 2 else value for name, value in base.items()}
    module = {name: value.bfloat16() for name, value in module.items()}
    file = write_comfy_folders(root / "models")
    save_file(fp8, file)
    save_file({f"diffusion_model.{name}": value for name, value in module.items()}, root / "module.safetensors")
    save_file({name: value.float() for name, value in (fp8 | module).items()}, file.with_name("whole.safetensors"))
    return Pair(base=file, vace=root / "module.safetensors", whole=file.with_name("whole.safetensors"))


def packed(root: Path) -> Pair:
    """GGUF, both in eight bits."""
    tensors = official_tensors(tiny_modules(transformer=SINGLE_WHOLE).transformer, OFFICIAL_NAMES)
    eight = {name: "Q8_0" for name, value in tensors.items() if value.dim() == 2 and value.shape[1] % 32 == 0}
    home = write_comfy_folders(root / "models").parent
    base, module = divided(tensors)
    write_gguf(home / "base.gguf", base, {name: kind for name, kind in eight.items() if name in base})
    write_gguf(root / "module.gguf", module, {name: kind for name, kind in eight.items() if name in module})
    write_gguf(home / "whole.gguf", tensors, eight)
    return Pair(base=home / "base.gguf", vace=root / "module.gguf", whole=home / "whole.gguf")


def whole_recipe() -> Recipe:
    return replace(small_vace(), transformers=(WHOLE,))


def own(root: Path) -> Pair:
    pair, modules = official(root), tiny_modules(transformer=WHOLE)
    base = TRANSFORMER.build()
    base.load_state_dict({name: modules.transformer.state_dict()[name] for name in base.state_dict()})
    words = build_word_tokenizer(WORDS).to_str()
    address = "kinoform.recipes.wan21:t2v_1_3b"
    held = Modules(transformer=base, autoencoder=modules.autoencoder, text_encoder=modules.text_encoder)
    save_own(root / "own", held, tokenizer_json=words, recipe=address, made={}, dtype=torch.float32)
    return replace(pair, base=root / "own", options={"recipe": f"{__name__}:whole_recipe"})


SIZE = {"width": 32, "height": 32, "num_frames": 5}
LAYOUTS = (official, diffusers, single, packed, own)


def velocity(parts: Parts, width: int = TEXT.dim, rows: int = ROWS) -> list[Tensor]:
    """The velocity of each transformer under one text and one control video."""
    generator = torch.Generator().manual_seed(5)
    x, control = (torch.randn(1, channels, 2, 4, 6, generator=generator) for channels in (16, 96))
    text = torch.randn(1, rows, width, generator=generator)
    told = Conditions(context={"text": text}, branches={"vace": VaceContext(latents=control, scale=0.8)})
    found = []
    for load_transformer in parts.transformers:
        model = load_transformer(torch.float32, torch.device("cpu"))
        found.append(model(x, torch.tensor([700.0]), model.prepare(told, Grid(frames=2, height=2, width=3))))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_its_module_a_model_computes_what_the_merged_one_does(
    layout: Callable[[Path], Pair], tmp_path: Path
) -> None:
    pair, told = layout(tmp_path), list[str]()
    joined = load(pair.base, vace=pair.vace, device="cpu", report=told.append, **pair.options)
    whole = load(pair.whole, device="cpu")
    specs = joined.parts.transformer_specs
    assert specs == whole.parts.transformer_specs == joined.recipe.transformers
    assert any("3 VACE blocks" in line for line in told)
    (ours,), (theirs,) = velocity(joined.parts), velocity(whole.parts)
    assert torch.equal(ours, theirs) and ours.std() > 0.01
    settings = ("name", "shift", "steps", "conditioners", "guidance_scale", "boundaries")
    assert [getattr(joined.recipe, name) for name in settings] == [getattr(whole.recipe, name) for name in settings]


def test_a_packed_module_stays_packed(tmp_path: Path) -> None:
    pair = packed(tmp_path)
    for keep, count in ((None, True), (False, False)):
        parts = load(pair.base, vace=pair.vace, keep_packed=keep, device="cpu").parts
        branch = parts.transformer(torch.float32, torch.device("cpu")).branches["vace"]
        assert any(isinstance(layer, PackedLinear) for layer in branch.modules()) is count


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return official(tmp_path)


def test_the_plan_counts_the_blocks_and_the_fingerprint_tells_modules_apart(pair: Pair, tmp_path: Path) -> None:
    bare, joined = load(pair.base, device="cpu"), load(pair.base, vace=pair.vace, device="cpu")
    assert sizes_of(joined.parts).transformers == (WHOLE,) and sizes_of(bare.parts).transformers == (TRANSFORMER,)
    other = tmp_path / "other.safetensors"
    assert isinstance(pair.vace, Path)
    save_file({name: value + 1 for name, value in load_file(pair.vace).items()}, other)
    prints = [load(pair.base, vace=vace, device="cpu").parts.fingerprint() for vace in (None, pair.vace, other)]
    assert len(set(prints)) == 3


def resized(root: Path, **sizes: int) -> Path:
    shapes = transformer("wan21-vace", **sizes)
    file = root / f"{'-'.join(f'{name}{size}' for name, size in sizes.items())}.safetensors"
    return write_header(file, {name: shape for name, shape in shapes.items() if name.startswith("vace_")})


def test_what_does_not_go_together_is_refused_from_headers(pair: Pair, tmp_path: Path) -> None:
    write_official_folder(tmp_path / "i2v", kind="i2v")
    assert isinstance(pair.vace, Path)
    lacking = load_file(pair.vace)
    del lacking["vace_blocks.1.after_proj.bias"]
    save_file(lacking, tmp_path / "lacking.safetensors")
    fitting = {"ffn": TRANSFORMER.ffn_dim}
    for base, vace, code, named in (
        (pair.base, resized(tmp_path, dim=1536, side_layers=15), "module_wrong_model", ["1536 wide", "vace-1.3b"]),
        (pair.base, resized(tmp_path, ffn=72), "module_wrong_model", ["72"]),
        (pair.base, resized(tmp_path, side_layers=6, **fitting), "module_wrong_model", ["6 VACE blocks"]),
        (pair.base, resized(tmp_path, side_layers=2, **fitting), "module_wrong_model", ["2 VACE blocks"]),
        (pair.base, tmp_path / "lacking.safetensors", "weights_incomplete", ["vace_blocks.1.after_proj.bias"]),
        (pair.base, pair.whole, "weights_wrong_part", [str(pair.whole), "--model"]),
        (pair.base, pair.base / "Wan2.1_VAE.pth", "weights_wrong_part", ["codec"]),
        (pair.base, tmp_path / "absent.safetensors", "weights_missing", ["absent.safetensors"]),
        (pair.whole, pair.vace, "module_not_taken", [str(pair.whole)]),
        (tmp_path / "i2v", pair.vace, "module_not_taken", ["text-to-video"]),
        ("mini", pair.vace, "module_wrong_model", ["mini is 192 wide"]),
        (pair.base, {"high": pair.vace}, "one_transformer", ["high"]),
    ):
        with refused(code, *named):
            load(base, vace=vace, device="cpu")


def test_models_without_a_released_vace_model_take_no_module() -> None:
    for recipe in (mini(), *(made() for name, made in RELEASED.items() if not name.startswith("t2"))):
        with refused("module_not_taken", recipe.name, "t2v-1.3b or t2v-14b"):
            with_vace_blocks(recipe)
    pairs = {"t2v-1.3b": "vace-1.3b", "t2v-14b": "vace-14b", "t2i-14b": "vace-14b", "t2v-a14b": "vace-a14b"}
    assert {name: with_vace_blocks(RELEASED[name]()).name for name in pairs} == pairs
    assert [base_of(name) for name in pairs.values()] == ["t2v-1.3b", "t2v-14b", "t2v-14b", "t2v-a14b"]


def test_a_recipe_without_the_inputs_of_the_blocks_is_refused(pair: Pair) -> None:
    with refused("weights_of_other_recipe", "branch vace"):
        load(pair.base, vace=pair.vace, recipe="kinoform.recipes.wan21:t2v_1_3b", device="cpu")


def test_the_variant_of_the_base_says_which_recipe_is_taken(pair: Pair) -> None:
    for variant, name in (("t2v-14b", "vace-14b"), ("t2i-14b", "vace-14b"), ("t2v-1.3b", "vace-1.3b")):
        assert load(pair.base, vace=pair.vace, variant=variant, device="cpu").recipe.name == name


def params(pipe: Pipeline, **sizes: int) -> dict[str, Any]:
    return pipe.params(pipe.request("a cat", seed=1, steps=2, **sizes))


def test_a_video_tells_the_file_of_the_module(pair: Pair) -> None:
    told = params(load(pair.base, vace=pair.vace, device="cpu"), **SIZE)
    assert told["vace"] == ["vace:0"] and told["inputs"]["vace:0"]["file"] == "module.safetensors"
    assert told["model"]["name"] == "vace-1.3b" and params(load(pair.whole, device="cpu"), **SIZE)["vace"] == []


def tiny_of_two_with_vace() -> Recipe:
    recipe = tiny_of_two()
    spec = replace(recipe.transformers[0], branches=(TINY_BLOCKS,))
    return replace(recipe, transformers=(spec, spec), conditioners=(Vace(),))


TINY_BLOCKS = VaceBlocks(layers=(0,), channels=12)
ADDRESS = f"{__name__}:tiny_of_two_with_vace"


def tiny_module(file: Path, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    spec = tiny_of_two_with_vace().transformers[0]
    shapes = {name: value.shape for name, value in spec.build().named_parameters() if name.startswith("branches.")}
    tensors = {OFFICIAL_NAMES.theirs(name): torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(tensors, file)
    return file


@pytest.fixture
def of_two(tmp_path: Path) -> Pair:
    modules = {name: tiny_module(tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate(("low", "high"))}
    base = write_tiny_of_two(tmp_path / "two")
    return Pair(base=base, vace=modules, whole=base, options={"recipe": ADDRESS, "device": "cpu"})


def test_each_of_two_experts_has_its_own_module(of_two: Pair) -> None:
    assert isinstance(of_two.vace, dict)
    joined = load(of_two.base, vace=of_two.vace, **of_two.options)
    bare = load(of_two.base, recipe="tests.support.tiny_recipe:tiny_of_two", device="cpu")
    assert joined.recipe.boundaries == (0.6,) and [path.stem for path in joined.parts.module_files] == ["high", "low"]
    for index, name in enumerate(("high", "low")):
        device = torch.device("cpu")
        model, base = (pipe.parts.transformers[index](torch.float32, device) for pipe in (joined, bare))
        held = dict(model.named_parameters())
        module = {OFFICIAL_NAMES.ours(key): value for key, value in load_file(of_two.vace[name]).items()}
        assert held.keys() == dict(base.named_parameters()).keys() | module.keys()
        for own, value in {**dict(base.named_parameters()), **module}.items():
            assert torch.equal(held[str(own)], value)
    told = params(joined, width=16, height=16, num_frames=3)
    assert [told["inputs"][name]["file"] for name in told["vace"]] == ["high.safetensors", "low.safetensors"]


def test_modules_of_two_experts_are_said_by_name(of_two: Pair, tmp_path: Path) -> None:
    assert isinstance(of_two.vace, dict)
    high = of_two.vace["high"]
    big = {"dim": 5120, "ffn": 8, "side_layers": 8}
    swapped = resized(tmp_path, **big).rename(tmp_path / "Wan2_2_Fun_VACE_module_A14B_HIGH_bf16.safetensors")
    for vace, code, named in (
        (high, "expert_not_said", ["--vace high=FILE --vace low=FILE"]),
        ({"high": high}, "expert_missing", ["--vace low=FILE"]),
        ({"high": high, "low": high}, "experts_same_file", [str(high)]),
        ({"first": high, "low": high}, "unknown_expert", ["first", "high, low"]),
        ({"high": high, "low": swapped}, "experts_swapped", [str(swapped)]),
    ):
        with refused(code, *named):
            load(of_two.base, vace=vace, **of_two.options)


def test_with_modules_two_experts_are_vace_fun(tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "official", "t2v")
    modules = {}
    for seed, name in enumerate(("high", "low")):
        _, module = divided(official_tensors(tiny_modules(seed, WHOLE).transformer, OFFICIAL_NAMES))
        save_file(module, modules.setdefault(name, tmp_path / f"{name}.safetensors"))
    pipe = load(folder, vace=modules, device="cpu")
    recipe = pipe.recipe
    assert (recipe.name, recipe.boundaries, recipe.shift, recipe.steps) == ("vace-a14b", (0.875,), 12.0, 50)
    assert recipe.transformers == (WHOLE, WHOLE) and recipe.conditioners == (Vace(),)
    high, low = velocity(pipe.parts)
    assert not torch.equal(high, low)


def test_settings_that_videox_fun_saves_are_read(tmp_path: Path) -> None:
    folder = write_expert_folder(tmp_path / "model", "official", "vace")
    more = {"patch_size": [1, 2, 2], "window_size": [-1, -1], "qk_norm": True, "cross_attn_norm": True, "text_dim": 24}
    for place in ("high_noise_model", "low_noise_model"):
        file = folder / place / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | more | {"_class_name": "VaceWanTransformer3DModel"}))
    assert load(folder, device="cpu").recipe.name == "vace-a14b"
