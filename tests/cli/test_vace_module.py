"""A VACE module alone is told from headers: its size, the model that it goes onto, and the words that put it there."""

from pathlib import Path

import pytest

from kinoform.conversion.convert import Conversion, convert
from kinoform.families import released_for
from kinoform.families.identify import Identity, inspect_path
from kinoform.loading.verify import verify_path
from kinoform.recipes.load import load
from tests.support.command_line import Run
from tests.support.refusals import refused
from tests.weights.tiny_files import TO_DIFFUSERS, Shapes, prefixed, renamed, transformer, write_header

SIZES = {"1.3b": (1536, 15), "14b": (5120, 8)}


def module_of(size: str) -> Shapes:
    dim, blocks = SIZES[size]
    whole = transformer("wan21-vace", dim=dim, ffn=8, layers=1, side_layers=blocks)
    return {name: shape for name, shape in whole.items() if name.startswith("vace_")}


def told(file: Path) -> Identity:
    (part,) = inspect_path(file)
    return part


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "model.diffusion_model."])
@pytest.mark.parametrize("dialect", ["official", "diffusers"])
def test_it_is_a_part_of_its_own_under_every_prefix(dialect: str, prefix: str, tmp_path: Path) -> None:
    shapes = module_of("1.3b")
    shapes = renamed(shapes, TO_DIFFUSERS) if dialect == "diffusers" else shapes
    part = told(write_header(tmp_path / "w.safetensors", prefixed(shapes, prefix)))
    assert (part.part, part.family, part.dialect, part.prefix) == ("module", "vace-module", dialect, prefix)
    assert dict(part.sizes) == {"dim": 1536, "ffn_dim": 8, "side_layers": 15, "side_channels": 96}
    assert part.missing == part.unknown == () and (part.chosen, part.base) == ("vace-1.3b", "t2v-1.3b")


@pytest.mark.parametrize(
    ("size", "name", "chosen", "base", "advised"),
    [
        ("1.3b", "w.safetensors", "vace-1.3b", "t2v-1.3b", ["--model t2v-1.3b", "--vace {file}"]),
        ("14b", "Wan2_1-VACE_module_14B_bf16.safetensors", "vace-14b", "t2v-14b", ["--model t2v-14b"]),
        ("14b", "w.safetensors", None, "t2v-14b, t2v-a14b-high, t2v-a14b-low",
         ["--model t2v-14b --vace {file}", "--model t2v-a14b", "--vace low={file}"]),
        ("14b", "Wan2_2_Fun_VACE_module_A14B_LOW_bf16.safetensors", "vace-a14b-low", "t2v-a14b-low",
         ["--model t2v-a14b", "--vace high=FILE", "--vace low={file}"]),
        ("14b", "Wan2_2_Fun_VACE_module_A14B_HIGH_fp8_e4m3fn_scaled_KJ.safetensors", "vace-a14b-high",
         "t2v-a14b-high", ["--vace high={file}", "--vace low=FILE"]),
    ],
)  # fmt: skip
def test_its_models_are_told_by_size_and_name_and_a_load_says_how_it_is_used(
    size: str, name: str, chosen: str | None, base: str, advised: list[str], tmp_path: Path
) -> None:
    file = write_header(tmp_path / name, module_of(size))
    part = told(file)
    assert (part.chosen, part.base) == (chosen, base)
    with refused("weights_module_alone") as caught:
        load(file, device="cpu")
    assert all(words.format(file=file) in str(caught.value) for words in advised)
    assert released_for("t2v-a14b") is not None, "what is advised exists"


def test_of_another_size_it_goes_onto_a_model_that_is_not_named(kinoform: Run, here: Path) -> None:
    shapes = transformer("wan21-vace", dim=24, layers=1)
    file = write_header(here / "w.safetensors", {name: s for name, s in shapes.items() if name.startswith("vace_")})
    assert told(file).candidates == () and told(file).base == ""
    (said,) = kinoform("inspect", file, "--json").told
    assert said["generate"]["code"] == "weights_module_alone" and said["parts"][0]["part"] == "module"
    out = kinoform("inspect", file).out
    assert "module, vace-module" in out and f"--vace {file}" in out


def test_blocks_in_the_file_of_a_whole_model_are_a_part_of_that(tmp_path: Path) -> None:
    assert told(write_header(tmp_path / "w.safetensors", transformer("wan21-vace"))).part == "transformer"


def test_what_a_module_lacks_is_told(tmp_path: Path) -> None:
    shapes = module_of("1.3b")
    del shapes["vace_blocks.3.after_proj.bias"]
    file = write_header(tmp_path / "w.safetensors", prefixed(shapes, "diffusion_model."))
    assert told(file).missing == ("diffusion_model.vace_blocks.3.after_proj.bias",)
    codes = {fault.code for fault in verify_path(write_header(tmp_path / "v.safetensors", tiny(without="x"))).faults}
    assert codes == {"weights_damaged"}, "nothing but zeros, and nothing missing"
    (fault, *_) = verify_path(write_header(tmp_path / "v.safetensors", tiny(without="vace_blocks.0.norm3.bias"))).faults
    assert fault.code == "weights_incomplete" and "vace_blocks.0.norm3.bias" in str(fault)


def tiny(*, without: str) -> Shapes:
    shapes = transformer("wan21-vace", dim=24, layers=1)
    return {name: shape for name, shape in shapes.items() if name.startswith("vace_") and name != without}


def test_it_is_not_converted(tmp_path: Path) -> None:
    file = write_header(tmp_path / "w.safetensors", tiny(without=""))
    with refused("weights_unsupported_model", str(file)):
        convert(file, tmp_path / "out", Conversion(to="comfy"))
