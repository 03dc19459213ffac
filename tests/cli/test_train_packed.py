"""`kinoform train lora` on a base that stays packed, whose blocks lie in the host's memory: planned, learnt, saved."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.comfy_files import comfy_transformer, write_comfy_folders
from tests.support.command_line import Run
from tests.weights.gguf_fixtures import write_gguf

CLIPS = Path(__file__).parents[2] / "examples" / "clips"
SHORT = ("--clip-frames", 5, "--clip-size", "32x32", "--one-size", "--rank", 2, "--training-steps", 1, "--no-cache")
LINEAR = 3 * (8 * 128 * 128 + 2 * 128 * 56)
"""Numbers of the matrices of three blocks."""


@pytest.fixture
def file(here: Path) -> Path:
    return write_comfy_folders(here)


def matrix_of_a_block(name: str) -> bool:
    return name.startswith("blocks.") and name.endswith("weight") and "norm" not in name


def quantised(file: Path) -> Path:
    """The same weights as a GGUF file; rows of 56 numbers have no whole blocks."""
    tensors = comfy_transformer()
    matrices = [name for name in tensors if matrix_of_a_block(name) and tensors[name].shape[1] % 32 == 0]
    path = write_gguf(file.with_suffix(".gguf"), tensors, dict.fromkeys(matrices, "Q8_0"))
    file.unlink()
    return path


def eight_bits(file: Path) -> Path:
    tensors = {
        name: value.to(torch.float8_e4m3fn) if matrix_of_a_block(name) else value
        for name, value in load_file(file).items()
    }
    save_file(tensors, file)
    return file


def test_a_lora_learns_on_a_packed_base(file: Path, here: Path, kinoform: Run) -> None:
    path = quantised(file)
    words = ("train", "lora", CLIPS, "--model", path, *SHORT, "--sample-every", 0, "--swap-blocks", 2)
    ran = kinoform(*words, "--run", "run", "--dtype", "float32")
    assert not ran.refusal, ran.err
    saved = load_file(here / "run" / "lora.safetensors")
    assert len(saved) == 3 * 10 * 3 and any(value.any() for name, value in saved.items() if "lora_B" in name)


def test_a_plan_counts_what_is_packed_and_what_is_swapped(file: Path, kinoform: Run) -> None:
    def base(*words: object) -> dict[str, int]:
        (told,) = kinoform("train", "lora", CLIPS, "--plan", "--device", "cuda", *SHORT, *words, "--json").told
        bytes_ = told["base"]
        assert told["peaks"]["learning"] > bytes_["device"]
        return bytes_

    eight_bits(file)
    plain, packed = base("--model", file), base("--model", file, "--keep-packed")
    assert plain["packed"] == plain["host"] == packed["host"] == 0
    made = 128 * 128
    assert packed["packed"] == LINEAR and plain["device"] - packed["device"] == LINEAR - 6 * made
    both = base("--model", file, "--swap-blocks", 2, "--keep-packed")
    assert both["host"] * 3 == LINEAR * 2
    assert packed["device"] - both["device"] == both["host"]
    quantised(file)
    assert base("--model", file.with_suffix(".gguf"))["packed"] == (LINEAR - 3 * 128 * 56) * 34 / 32
