"""A GGUF file becomes any other layout with the very numbers that the gguf package unpacks from it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.checkpoints.gguf_header import read_gguf_header
from kinoform.conversion.convert import Conversion, convert
from kinoform.families.transformer_names import DIFFUSERS_NAMES
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.families.umt5 import LLAMA_CPP_NAMES
from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.loading.own import open_own
from kinoform.loading.parts import own_parts, released_parts
from kinoform.models.context import TextContext
from kinoform.models.tokenizer import build_word_tokenizer
from tests.support.comfy_files import comfy_codec
from tests.support.official_folder import CODEC, TEXT, TRANSFORMER, WORDS, official_tensors, tiny_modules
from tests.support.refusals import refused
from tests.weights.gguf_fixtures import KINDS, finish, random_blocks

CPU = torch.device("cpu")
SPEC = replace(TRANSFORMER, dim=256, ffn_dim=512, heads=2, layers=1, context=(TextContext(width=TEXT.dim, length=512),))
"""Rows are whole blocks of 256 values."""

STORED = {
    "blocks.0.self_attn.q.weight": "Q4_K", "blocks.0.self_attn.k.weight": "Q5_K", "blocks.0.self_attn.v.weight": "Q6_K",
    "blocks.0.self_attn.o.weight": "Q2_K", "blocks.0.cross_attn.q.weight": "Q3_K", "blocks.0.ffn.0.weight": "Q8_0",
    "blocks.0.ffn.2.weight": "Q8_0", "blocks.0.cross_attn.k.weight": "BF16", "blocks.0.cross_attn.v.weight": "F16",
    "text_embedding.0.weight": "F16", "patch_embedding.weight": "F16",
}  # fmt: skip
"""How matrices lie in the file; all others are F32."""

WIDE = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def write(path: Path, tensors: Mapping[str, Tensor], kinds: Mapping[str, str], architecture: str = "wan") -> Path:
    """K-quants, which the package does not write, are random blocks; five dimensions become two, as in real files."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in tensors.items():
        kind = kinds.get(name, "F32")
        flat = value.flatten(1) if value.dim() > 4 else value
        if value.dim() > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(value.shape))
        if kind.endswith("_K"):
            data = random_blocks(kind, len(flat), flat.shape[1] // 256)
        else:
            data = gguf.quants.quantize(flat.numpy(), KINDS[kind])
        writer.add_tensor(name, data, raw_dtype=KINDS[kind])
    return finish(writer, path)


def unpacked(path: Path, shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the package itself reads from the file, by the names in it."""
    found = {}
    for each in gguf.GGUFReader(path).tensors:
        numbers = gguf.quants.dequantize(each.data, each.tensor_type).astype(np.float32)
        dtype = WIDE.get(each.tensor_type.name, torch.float32)
        found[each.name] = torch.from_numpy(numbers).reshape(shapes[each.name].shape).to(dtype)
    return found


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.fixture(scope="module")
def source() -> dict[str, Tensor]:
    return official_tensors(tiny_modules(transformer=SPEC).transformer, DIT)


@pytest.fixture(scope="module")
def model(source: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model in ComfyUI's folders: transformer and text encoder as GGUF files, each in its own names."""
    root = tmp_path_factory.mktemp("comfy")
    for name in ("diffusion_models", "text_encoders", "vae"):
        (root / name).mkdir()
    write(root / "diffusion_models" / "wan2.1-t2v-Q4_K_M.gguf", source, STORED)
    write(root / "text_encoders" / "umt5-encoder-f16.gguf", *_llama(), architecture="t5encoder")
    build_word_tokenizer(WORDS).save(str(root / "text_encoders" / "tokenizer.json"))
    save_file(comfy_codec(), root / "vae" / "wan_2.1_vae.safetensors")
    return root


def _llama() -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = official_tensors(tiny_modules().text_encoder, LLAMA_CPP_NAMES)
    return tensors, {name: "F16" for name, value in tensors.items() if value.dim() == 2}


@pytest.fixture(scope="module")
def transformer(model: Path) -> Path:
    return next((model / "diffusion_models").iterdir())


@pytest.fixture(scope="module")
def text_encoder(model: Path) -> Path:
    return model / "text_encoders" / "umt5-encoder-f16.gguf"


@pytest.fixture(scope="module")
def numbers(transformer: Path, source: dict[str, Tensor]) -> dict[str, Tensor]:
    return unpacked(transformer, source)


def test_the_file_is_a_mixture(transformer: Path, numbers: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    kinds = {name: entry.dtype for name, entry in read_gguf_header(transformer).entries.items()}
    assert kinds == {name: STORED.get(name, "F32") for name in source}
    assert all(value.isfinite().all() for value in numbers.values())
    assert (numbers["blocks.0.ffn.0.weight"] - source["blocks.0.ffn.0.weight"]).abs().max() < 0.01


@pytest.mark.parametrize("to", ["official", "diffusers", "comfy", "kinoform"])
def test_a_part_has_the_numbers_that_the_package_unpacks(
    to: str, transformer: Path, numbers: dict[str, Tensor], tmp_path: Path
) -> None:
    done = convert(transformer, tmp_path / "out.safetensors", Conversion(to=to))
    spells = {"diffusers": lambda name: DIFFUSERS_NAMES.theirs(DIT.ours(name) or name), "kinoform": DIT.ours}
    spell = spells.get(to, str)
    assert_same(load_file(tmp_path / "out.safetensors"), {spell(name) or name: each for name, each in numbers.items()})
    assert (done.tensors, done.bytes) == (len(numbers), sum(value.nbytes for value in numbers.values()))


def test_a_part_in_a_folder_has_its_config(transformer: Path, numbers: dict[str, Tensor], tmp_path: Path) -> None:
    for to, widths in (("official", {"dim": 256, "num_heads": 2}), ("diffusers", {"attention_head_dim": 128})):
        convert(transformer, tmp_path / to, Conversion(to=to, shard_bytes=2_000_000))
        told = json.loads((tmp_path / to / "config.json").read_text())
        assert told.items() >= {**widths, "ffn_dim": 512, "num_layers": 1}.items()
        convert(tmp_path / to, tmp_path / f"{to}.safetensors", Conversion(to="official"))
        assert_same(load_file(tmp_path / f"{to}.safetensors"), numbers)


def test_numbered_files_are_one_source(source: dict[str, Tensor], numbers: dict[str, Tensor], tmp_path: Path) -> None:
    names = sorted(source)
    for number in (1, 2):
        held = {name: source[name] for name in names[number - 1 :: 2]}
        file = write(tmp_path / f"wan-{number:05d}-of-00002.gguf", held, STORED)
    convert(file, tmp_path / "out.safetensors", Conversion(to="official"))
    assert_same(load_file(tmp_path / "out.safetensors"), numbers)


def test_numbers_are_rounded_once_after_they_are_unpacked(
    transformer: Path, numbers: dict[str, Tensor], tmp_path: Path
) -> None:
    convert(transformer, tmp_path / "out.safetensors", Conversion(to="official", dtype=torch.bfloat16))
    assert_same(load_file(tmp_path / "out.safetensors"), {name: each.bfloat16() for name, each in numbers.items()})


def test_a_text_encoder_in_the_names_of_llama(text_encoder: Path, tmp_path: Path) -> None:
    convert(text_encoder, tmp_path / "out.safetensors", Conversion(to="official"))
    tensors, _ = _llama()
    found = unpacked(text_encoder, tensors)
    assert_same(
        load_file(tmp_path / "out.safetensors"),
        {TEXT_ENCODER.theirs(LLAMA_CPP_NAMES.ours(name) or name): value for name, value in found.items()},
    )


@pytest.mark.parametrize("to", ["official", "diffusers", "kinoform"])
def test_a_whole_model_loads_with_those_numbers(
    to: str, model: Path, numbers: dict[str, Tensor], tmp_path: Path
) -> None:
    convert(
        model,
        tmp_path / "out",
        Conversion(to=to, recipe="tests.support.tiny_recipe:tiny" if to == "kinoform" else None),
    )
    own = to == "kinoform"
    parts = own_parts(open_own(tmp_path / "out"), (SPEC,), CODEC, TEXT) if own else released_parts(tmp_path / "out")
    loaded = parts.transformer(torch.float32, CPU).state_dict()
    assert_same(loaded, {DIT.ours(name) or name: value.float() for name, value in numbers.items()})
    assert parts.text_encoder(torch.float32, CPU).spec.vocab == TEXT.vocab
    assert parts.tokenizer()(["a red cat"], 30).mask.any() and parts.codec_spec == CODEC


def test_a_truncated_file_is_refused_in_one_sentence(transformer: Path, tmp_path: Path) -> None:
    content, cut = transformer.read_bytes(), tmp_path / "wan.gguf"
    start = read_gguf_header(transformer).data_start
    for length in (3, 20, start // 2, start, start + 1, len(content) // 2, len(content) - gguf.GGUF_DEFAULT_ALIGNMENT):
        cut.write_bytes(content[:length])
        for target, to in (("out", "diffusers"), ("out.safetensors", "kinoform")):
            with refused("weights_damaged", "wan.gguf") as caught:
                convert(cut, tmp_path / target, Conversion(to=to))
            assert "\n" not in str(caught.value) and caught.value.exit_code == 3
            assert list(tmp_path.iterdir()) == [cut], "nothing is left behind"


def test_a_file_cut_while_it_is_converted_leaves_nothing(transformer: Path, tmp_path: Path) -> None:
    cut = tmp_path / "wan.gguf"
    cut.write_bytes(transformer.read_bytes())

    def cutting(done: int, total: int) -> None:
        if done > total // 2:
            with cut.open("r+b") as file:
                file.truncate(read_gguf_header(transformer).data_start)

    with refused("weights_changed_meanwhile") as caught:
        convert(cut, tmp_path / "out.safetensors", Conversion(to="official"), tell=cutting)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == [cut]
