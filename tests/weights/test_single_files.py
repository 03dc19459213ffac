"""A single transformer file finds its other parts, or says what it lacks and how to name it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.loading.parts import Parts, released_parts
from kinoform.loading.sources import Overrides
from kinoform.models.meta import on_meta
from kinoform.models.packed import PackedLinear
from kinoform.models.text import TextSpec
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.models.vae import VAESpec
from kinoform.recipes.load import load
from kinoform.recipes.wan21 import t2v_1_3b, t2v_14b
from tests.support.comfy_files import (
    SINGLE,
    comfy_codec,
    comfy_transformer,
    spiece_bytes,
    write_comfy_folders,
    write_sparse,
)
from tests.support.diffusers_folder import huggingface_text, write_diffusers_folder
from tests.support.narrowing import of_type, some
from tests.support.official_folder import CODEC, TEXT, WORDS, tiny_modules, write_official_folder, write_transformer
from tests.support.refusals import refused, refused_briefly
from tests.weights.gguf_fixtures import write_gguf

CPU = torch.device("cpu")
CHECKPOINT = "model.diffusion_model."


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_comfy_folders(tmp_path / "models")


def assert_all_parts(parts: Parts, dtype: torch.dtype = torch.float32) -> None:
    """The weights are those of the source, rounded to `dtype` where the transformer's file was."""
    source = tiny_modules(transformer=SINGLE)
    expected = {name: value.to(dtype).float() for name, value in source.transformer.state_dict().items()}
    for loaded, weights in (
        (parts.transformer(torch.float32, CPU), expected),
        (parts.codec(CPU), some(tiny_modules().autoencoder).state_dict()),
        (parts.text_encoder(torch.float32, CPU), tiny_modules().text_encoder.state_dict()),
    ):
        assert of_type(nn.Module, loaded).state_dict().keys() == weights.keys()
        assert all(torch.equal(value, weights[name]) for name, value in of_type(nn.Module, loaded).state_dict().items())
    assert parts.transformer_spec == SINGLE and parts.codec_spec == CODEC
    assert (parts.text_spec.vocab, parts.text_spec.length) == (TEXT.vocab, 512)


@pytest.mark.parametrize("prefix", ["", CHECKPOINT, "diffusion_model.", "model."])
def test_every_prefix_is_stripped(prefix: str, tmp_path: Path) -> None:
    parts = released_parts(write_comfy_folders(tmp_path / "models", prefix=prefix))
    assert_all_parts(parts)
    assert parts.tokenizer()(["a red"], 30).unknown == ((),)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_dtype_is_widened(dtype: torch.dtype, tmp_path: Path) -> None:
    file = write_comfy_folders(tmp_path / "models", dtype=dtype)
    assert_all_parts(released_parts(file), dtype)
    packed = released_parts(file, keep_packed=True).transformer(torch.float32, CPU)
    assert sum(value.numel() * value.itemsize for value in packed.state_dict().values()) > 0
    full = released_parts(file).transformer(torch.float32, CPU)
    weight = of_type(Tensor, packed.get_submodule("blocks.1.feed_forward.0").weight)
    assert torch.equal(weight, full.get_parameter("blocks.1.feed_forward.0.weight"))


def test_a_gguf_file_makes_the_video_of_its_unpacked_weights(file: Path) -> None:
    """Its matrices stay packed in memory unless asked otherwise; other parts are found as for any single file."""
    tensors = comfy_transformer()
    packed = {name: "Q8_0" for name, value in tensors.items() if value.dim() == 2 and ".ffn." in name}
    packed = {name: kind for name, kind in packed.items() if tensors[name].shape[1] % 32 == 0}
    assert packed
    gguf = write_gguf(file.with_suffix(".gguf"), tensors, packed)
    file.unlink()
    small, large = load(gguf, device="cpu"), load(gguf, device="cpu", keep_packed=False)
    layers = [
        sum(isinstance(module, PackedLinear) for module in pipe.parts.transformer(torch.float32, CPU).modules())
        for pipe in (small, large)
    ]
    assert layers == [len(packed), 0]
    videos = [
        pipe("a red", width=32, height=32, num_frames=5, num_inference_steps=2, seed=1).frames
        for pipe in (small, large)
    ]
    assert (videos[0] == videos[1]).all() and videos[0].std() > 0


def test_folders_below_the_home_of_transformers_are_understood(file: Path) -> None:
    (file.parent / "wan").mkdir()
    assert_all_parts(released_parts(file.rename(file.parent / "wan" / file.name)))


def test_parts_may_lie_beside_the_transformer(file: Path, tmp_path: Path) -> None:
    together = tmp_path / "together"
    together.mkdir()
    for each in (tmp_path / "models").glob("*/*.safetensors"):
        each.rename(together / each.name)
    assert_all_parts(released_parts(together / file.name))


def test_files_that_do_not_fit_are_passed_over(file: Path) -> None:
    vae, text = file.parents[1] / "vae", file.parents[1] / "text_encoders"
    save_file({"quantise.weight": torch.ones(2)}, vae / "sdxl.safetensors")
    (vae / "notes.txt").write_text("mine")
    (vae / "damaged.safetensors").write_bytes(b"")
    save_file({"text_model.weight": torch.ones(2)}, text / "clip_l.safetensors")
    assert_all_parts(released_parts(file))


def test_several_that_fit_are_listed_and_one_may_be_named(file: Path) -> None:
    vae = file.parents[1] / "vae"
    save_file(comfy_codec(), vae / "another.safetensors")
    held = ("another.safetensors", "wan_2.1_vae.safetensors")
    with refused_briefly("weights_ambiguous", *held, "--vae FILE", longest=900):
        released_parts(file)
    assert_all_parts(released_parts(file, Overrides(codec=vae / "another.safetensors")))


@pytest.mark.parametrize(
    ("folder", "called", "option"), [("vae", "autoencoder", "--vae FILE"), ("text_encoders", "umT5", "--text-encoder")]
)
def test_a_part_that_is_nowhere_is_asked_for(folder: str, called: str, option: str, file: Path, tmp_path: Path) -> None:
    (part,) = (tmp_path / "models" / folder).iterdir()
    part.rename(tmp_path / part.name)
    looked = (str(tmp_path / "models" / folder), str(file.parent))
    with refused_briefly("part_missing", *looked, called, option, longest=900):
        released_parts(file)
    given = Overrides(codec=tmp_path / part.name) if folder == "vae" else Overrides(text_encoder=tmp_path / part.name)
    assert_all_parts(released_parts(file, given))


def test_parts_of_other_layouts_may_be_named(file: Path, tmp_path: Path) -> None:
    write_diffusers_folder(tmp_path / "diffusers")
    folder = tmp_path / "diffusers"
    given = Overrides(text_encoder=folder / "text_encoder", codec=folder / "vae", tokenizer=folder / "tokenizer")
    assert_all_parts(released_parts(file, given))
    assert released_parts(file, given).tokenizer()(["a red cat"], 9).mask.sum() == 4


def test_named_parts_replace_those_of_folders(file: Path, tmp_path: Path) -> None:
    write_official_folder(tmp_path / "official", seed=5)
    codec = file.parents[1] / "vae" / "wan_2.1_vae.safetensors"
    parts = released_parts(tmp_path / "official", Overrides(codec=codec))
    expected = some(tiny_modules().autoencoder).state_dict()
    codec = of_type(nn.Module, parts.codec(CPU))
    assert all(torch.equal(value, expected[name]) for name, value in codec.state_dict().items())


def test_a_full_checkpoint_holds_all_parts(tmp_path: Path) -> None:
    text = "text_encoders.umt5xxl."
    tensors = {f"{CHECKPOINT}{name}": value for name, value in comfy_transformer().items()}
    tensors |= {f"vae.{name}": value for name, value in comfy_codec().items()}
    tensors |= {f"{text}transformer.{name}": value for name, value in huggingface_text().items()}
    tensors |= {f"{text}logit_scale": torch.ones(()), "text_encoders.spiece_model": spiece_bytes()}
    file = tmp_path / "wan_all.safetensors"
    save_file(tensors, file)
    parts = released_parts(file)
    assert_all_parts(parts)
    assert parts.tokenizer()(["a red"], 30).unknown == ((),)
    save_file(tensors | {"control.weight": torch.ones(2)}, file)
    with refused_briefly("weights_unknown_keys", "control.weight", longest=900):
        released_parts(file)


def test_the_tokenizer_may_be_any_of_three(file: Path, tmp_path: Path) -> None:
    text = file.parents[1] / "text_encoders" / "umt5.safetensors"
    save_file(huggingface_text(), text)
    with refused_briefly(
        "tokenizer_missing", "tokenizer.json", "spiece.model", str(text.parent), "--tokenizer", longest=900
    ):
        released_parts(file)
    words = text.with_name("tokenizer.json")
    build_word_tokenizer(WORDS).save(str(words))
    assert released_parts(file).tokenizer()(["a red cat"], 9).mask.sum() == 4
    words.rename(tmp_path / "words.json")
    assert released_parts(file, Overrides(tokenizer=tmp_path / "words.json")).tokenizer()(["a cat"], 9).mask.sum() == 3
    (tmp_path / "spiece.model").write_bytes(spiece_bytes().numpy().tobytes())
    for place in (tmp_path / "spiece.model", tmp_path):
        assert released_parts(file, Overrides(tokenizer=place)).tokenizer()(["a red"], 9).unknown == ((),)
    with refused("tokenizer_missing"):
        released_parts(file, Overrides(tokenizer=file))


def test_a_damaged_tokenizer_is_refused(file: Path) -> None:
    text = file.parents[1] / "text_encoders" / "umt5.safetensors"
    save_file(huggingface_text() | {"spiece_model": torch.full((9,), 255, dtype=torch.uint8)}, text)
    parts = released_parts(file)
    with refused("tokenizer_damaged", "umt5.safetensors"):
        parts.tokenizer()
    save_file(huggingface_text() | {"spiece_model": torch.ones(3, 3)}, text)
    with refused_briefly("weights_damaged", "umt5.safetensors", "spiece_model"):
        released_parts(file)


def test_what_is_no_transformer_of_wan_2_1_is_refused(file: Path) -> None:
    vae, text = (file.parents[1] / name for name in ("vae", "text_encoders"))
    with refused_briefly("weights_wrong_part", "wan_2.1_vae.safetensors", "codec"):
        released_parts(vae / "wan_2.1_vae.safetensors")
    with refused_briefly("weights_wrong_part", "umt5.safetensors", "codec"):
        released_parts(file, Overrides(codec=text / "umt5.safetensors"))
    wide = torch.randn(SINGLE.dim, 36, 1, 2, 2)
    save_file(load_file(file) | {"patch_embedding.weight": wide}, file)
    with refused_briefly("expert_alone", str(file), "i2v-a14b"):
        released_parts(file)


def test_a_shard_stands_for_its_set(tmp_path: Path) -> None:
    file = write_comfy_folders(tmp_path / "models")
    file.unlink()
    write_transformer(file.parent, comfy_transformer(), shards=3)
    assert_all_parts(released_parts(sorted(file.parent.glob("*.safetensors"))[1]))


def test_a_file_of_an_official_folder_has_its_config(tmp_path: Path) -> None:
    write_official_folder(tmp_path / "wan")
    folder, single = tmp_path / "wan", tmp_path / "wan" / "diffusion_pytorch_model.safetensors"
    assert released_parts(single).transformer_spec == released_parts(folder).transformer_spec


def test_released_sizes_come_from_structure_and_twins_must_be_told_apart(tmp_path: Path) -> None:
    others: dict[str, Any] = {
        "text_encoder": write_sparse(tmp_path / "text.safetensors", on_meta(TextSpec().build), TEXT_ENCODER),
        "codec": write_sparse(tmp_path / "vae.safetensors", on_meta(VAESpec().build), VAE21),
        "tokenizer": tmp_path / "words.json",
    }
    build_word_tokenizer(WORDS).save(str(others["tokenizer"]))
    small = write_sparse(tmp_path / "small.safetensors", on_meta(t2v_1_3b().transformer.build), DIT)
    assert load(small, **others, device="cpu").recipe == t2v_1_3b()
    large = write_sparse(tmp_path / "large.safetensors", on_meta(t2v_14b().transformer.build), DIT)
    with refused("weights_ambiguous", "t2v-14b", "--variant"):
        load(large, **others, device="cpu")
    assert load(large, **others, variant="t2v-14b", device="cpu").recipe == t2v_14b()
    assert load(large, **others, variant="t2i-14b", device="cpu").recipe.num_frames == 1
    with refused("unknown_variant", "'x'"):
        load(large, **others, variant="x")
    expert = large.rename(tmp_path / "wan2.2_t2v_high_noise_14B_fp16.safetensors")
    with refused("expert_alone", "high"):
        load(expert, **others, device="cpu")
