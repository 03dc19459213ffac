"""`kinoform inspect` says what files are and what must be said to tell them apart, from headers alone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kinoform.families.umt5 import LLAMA_CPP_NAMES, OFFICIAL_NAMES
from kinoform.recipes.catalogue import ASSETS
from tests.support.command_line import Run
from tests.support.official_folder import write_official_folder
from tests.weights.gguf_fixtures import write_gguf
from tests.weights.tiny_files import (
    TO_DIFFUSERS,
    TO_HUGGINGFACE,
    Shapes,
    codec21,
    diffusers_codec21,
    lora,
    prefixed,
    renamed,
    text_encoder,
    transformer,
    write_header,
)

BIG: dict[str, Any] = {"dim": 5120, "ffn": 13824, "layers": 40, "text": 4096, "frequencies": 256}


@pytest.fixture
def big(here: Path) -> Path:
    """A transformer of 28.6 GB, which takes no room on the disk."""
    path = write_header(here / "w.safetensors", transformer(**BIG))
    assert path.stat().st_size > 28_000_000_000
    return path


def shards(folder: Path, shapes: Shapes, count: int) -> Iterator[Path]:
    names = sorted(shapes)
    for number in range(count):
        file = folder / f"diffusion_pytorch_model-{number + 1:05d}-of-{count:05d}.safetensors"
        yield write_header(file, {name: shapes[name] for name in names[number::count]})


def test_a_file_of_28_gb_is_told_and_the_missing_word_named(kinoform: Run, big: Path) -> None:
    ran = kinoform("inspect", big)
    assert ran.code == 0
    assert "transformer, wan21-t2v" in ran.out and "dim 5120" in ran.out and "layers 40" in ran.out
    assert "1095 BF16" in ran.out and "28.58 GB" in ran.out and "14,288,491,584" in ran.out
    assert "t2v-14b, t2v-a14b-high, t2v-a14b-low: structure does not tell; say --variant t2v-14b" in ran.out
    assert "missing" not in ran.out and "unknown" not in ran.out
    assert "t2v-a14b-low (by its flag)" in kinoform("inspect", big, "--variant", "t2v-a14b-low").out


def test_a_wrong_variant_is_refused(kinoform: Run, big: Path) -> None:
    for variant, code, named in (
        (
            "ti2v-5b",
            "variant_contradicts_weights",
            "t2v-14b, t2v-a14b-high, t2v-a14b-low, bernini-a14b-high or bernini-a14b-low",
        ),
        ("t2v14b", "unknown_variant", "'t2v-14b'"),
    ):
        ran = kinoform("inspect", big, "--variant", variant)
        assert ran.refusal == code and named in ran.sentence
    write_header(big.with_name("lora.safetensors"), lora("comfy"))
    ran = kinoform("inspect", big.with_name("lora.safetensors"), "--variant", "t2v-14b")
    assert ran.refusal == "variant_ambiguous" and "--variant" in ran.sentence


def test_json_holds_everything(kinoform: Run, here: Path) -> None:
    shapes = transformer()
    del shapes["blocks.1.norm3.bias"]
    path = write_header(here / "w.safetensors", prefixed(shapes | {"extra": (1,)}, "model."), dtype="F16")
    (told,) = kinoform("inspect", path, "--json").told
    assert told["path"] == str(path) and told["refused"] == []
    (part,) = told["parts"]
    assert part["files"] == [str(path)] and part["prefix"] == "model." and part["dtypes"] == {"F16": len(shapes) + 1}
    assert part["missing"] == ["model.blocks.1.norm3.bias"] and part["unknown"] == ["model.extra"]
    assert part["sizes"]["dim"] == 24 and part["chosen"] is None and part["candidates"] == []


def test_any_folder_is_one_row_a_part(kinoform: Run, here: Path) -> None:
    official, diffusers, comfy = here / "official", here / "diffusers", here / "comfy"
    write_official_folder(official, shards=2)
    shapes = renamed(transformer(), TO_DIFFUSERS)
    assert len(list(shards(diffusers / "transformer", shapes, 3))) == 3
    write_header(diffusers / "vae" / "diffusion_pytorch_model.safetensors", diffusers_codec21())
    write_header(diffusers / "text_encoder" / "model.safetensors", renamed(text_encoder(), TO_HUGGINGFACE))
    write_header(comfy / "vae" / "a.safetensors", codec21())
    write_header(comfy / "loras" / "b.safetensors", lora("kohya"))
    for folder, expected in (
        (official, {("transformer", "official"), ("codec", "official"), ("text_encoder", "official")}),
        (diffusers, {("transformer", "diffusers"), ("codec", "diffusers"), ("text_encoder", "huggingface")}),
        (comfy, {("codec", "official"), ("lora", "kohya")}),
        (ASSETS / "mini", {(part, "kinoform") for part in ("transformer", "codec", "text_encoder")}),
    ):
        (told,) = kinoform("inspect", folder, "--json").told
        assert {(part["part"], part["dialect"]) for part in told["parts"]} == expected
        assert all(part["missing"] == part["unknown"] == [] for part in told["parts"])
        assert kinoform("inspect", folder).out.count("\n\n") == len(expected)


def test_one_shard_stands_for_its_set(kinoform: Run, here: Path) -> None:
    first, second, third = shards(here, transformer(), 3)
    (told,) = kinoform("inspect", second, "--json").told
    assert told["parts"][0]["files"] == [str(first), str(second), str(third)]
    assert told["parts"][0]["missing"] == []
    third.unlink()
    ran = kinoform("inspect", first)
    assert ran.refusal == "weights_missing" and str(third) in ran.sentence


def test_gguf_files_are_told_by_either_tool_s_names(kinoform: Run, here: Path) -> None:
    official = {name: torch.zeros(shape) for name, shape in transformer().items()}
    write_gguf(here / "a.gguf", {"model.diffusion_model." + name: value for name, value in official.items()}, {})
    own = {OFFICIAL_NAMES.ours(name) or name: shape for name, shape in text_encoder().items()}
    text = {LLAMA_CPP_NAMES.theirs(name): torch.zeros(shape) for name, shape in own.items()}
    write_gguf(here / "b.gguf", text, {})
    first, second = kinoform("inspect", here, "--json").told[0]["parts"]
    assert (first["family"], first["prefix"], first["storage"]) == ("wan21-t2v", "model.diffusion_model.", "gguf")
    assert (second["family"], second["dialect"], second["storage"]) == ("umt5", "llama.cpp", "gguf")
    assert first["missing"] == first["unknown"] == second["missing"] == second["unknown"] == []


def test_in_a_folder_what_is_refused_is_told_beside_the_rest(kinoform: Run, here: Path) -> None:
    write_header(here / "a.safetensors", codec21())
    (here / "b.safetensors").write_text("<html>log in</html>")
    ran = kinoform("inspect", here, "--json")
    (told,) = ran.told
    assert ran.code == 3 and len(told["parts"]) == 1
    (refused,) = told["refused"]
    assert refused["file"] == str(here / "b.safetensors") and "web page" in refused["reason"]
    assert "codec, vae21" in kinoform("inspect", here).out and "web page" in kinoform("inspect", here).out


def test_what_is_no_weight_file_is_refused_in_a_sentence(kinoform: Run, here: Path) -> None:
    (here / "a.txt").write_text("hello")
    (here / "b.safetensors").write_bytes(b"\xff" * 100)
    (here / "c.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    torch.save([1, 2], here / "d.pth")
    (here / "empty").mkdir()
    for name in ("a.txt", "b.safetensors", "c.gguf", "d.pth", "empty", "absent.safetensors"):
        ran = kinoform("inspect", here / name)
        assert ran.code == 3 and str(here / name) in ran.sentence and ran.out == ""


def test_names_of_strangers_cannot_speak_to_the_terminal(kinoform: Run, here: Path) -> None:
    path = write_header(here / "w.safetensors", transformer() | {"blocks.0.\x1b[2J\nmodel: all well": (1,)})
    out = kinoform("inspect", path).out
    assert "\x1b" not in out and "\nmodel: all well" not in out


def test_what_is_no_model_is_refused_without_pytorch(here: Path) -> None:
    code = (
        "import sys; sys.argv = ['kinoform', 'inspect', sys.argv[1]]\n"
        "from kinoform.cli.app import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'numpy', 'safetensors'} & sys.modules.keys()))"
    )
    path = write_header(here / "w.safetensors", {"double_blocks.0.img_attn.qkv.weight": (4, 4)})
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 3 and ran.stdout.splitlines() == ["[]"]


def test_names_of_models_are_told_as_their_weights_are(
    kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here))
    monkeypatch.setenv("HF_HUB_CACHE", str(here))
    for name in ("mini", "mini:vace"):
        assert kinoform("inspect", name).code == 0 and kinoform("verify", name).code == 0
    for command in ("inspect", "verify"):
        ran = kinoform(command, "t2v-1.3b")
        assert ran.refusal == "weights_missing" and "kinoform download t2v-1.3b" in ran.sentence
        assert kinoform(command, "no_such_weights").refusal == "weights_missing"


def test_whole_parameters_beside_a_lora_are_known(kinoform: Run, here: Path) -> None:
    whole = {"diffusion_model.blocks.0.norm3.weight": (8,), "diffusion_model.patch_embedding.weight": (8, 16, 1, 2, 2)}
    path = write_header(here / "lora.safetensors", lora("comfy") | whole | {"diffusion_model.other.weight": (8,)})
    (told,) = kinoform("inspect", path, "--json").told
    assert told["parts"][0]["unknown"] == ["diffusion_model.other.weight"]
