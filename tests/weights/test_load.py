"""Loading is strict, casts once, and holds one stored tensor at a time."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kinoform.checkpoints.files import Checkpoint, open_checkpoint
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.loading.load import WHOLE, load_module, match, sample
from kinoform.models.dit import cast_weights, keeps_float32
from kinoform.models.meta import on_meta
from tests.support.official_folder import TRANSFORMER, official_tensors, tiny_modules
from tests.support.refusals import refused

CPU = torch.device("cpu")


def stored(folder: Path, tensors: dict[str, Tensor]) -> Checkpoint:
    save_file(tensors, folder / "w.safetensors")
    return open_checkpoint(folder / "w.safetensors")


def load(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32, unused: tuple[str, ...] = ()) -> nn.Module:
    return load_module(TRANSFORMER.build, checkpoint, names=DIT, dtype_of=lambda name: dtype, device=CPU, unused=unused)


def refusal(code: str, act: Callable[[], object]) -> str:
    with refused(code) as caught:
        act()
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400
    return sentence


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return official_tensors(tiny_modules().transformer, DIT)


def test_the_loaded_module_is_the_saved_one_and_ready_for_inference(tensors, tmp_path) -> None:
    source = tiny_modules().transformer
    loaded = load(stored(tmp_path, tensors))
    expected = source.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.named_parameters():
        assert torch.equal(value, expected[name]) and not value.requires_grad and value.device == CPU
    assert not any(module.training for module in loaded.modules())


def test_each_weight_is_cast_once_to_the_dtype_of_its_name(tensors, tmp_path) -> None:
    loaded = load_module(
        TRANSFORMER.build,
        stored(tmp_path, tensors),
        names=DIT,
        dtype_of=lambda name: torch.float32 if keeps_float32(name) else torch.bfloat16,
        device=CPU,
    )
    expected = cast_weights(tiny_modules().transformer, torch.bfloat16).state_dict()
    assert {value.dtype for value in expected.values()} == {torch.float32, torch.bfloat16}
    for name, value in loaded.state_dict().items():
        assert value.dtype == expected[name].dtype and torch.equal(value, expected[name])


def test_one_stored_tensor_is_alive_at_a_time(tensors, tmp_path) -> None:
    checkpoint = stored(tmp_path, tensors)
    handed: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def watched(read: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def watching() -> Tensor:
            alive.append(sum(ref() is not None for ref in handed))
            value = read()
            handed.append(weakref.ref(value))
            return value

        return watching

    spied = {name: replace(each, read=watched(each.read)) for name, each in checkpoint.tensors.items()}
    load(replace(checkpoint, tensors=spied), torch.bfloat16)
    assert len(alive) == len(tensors) and max(alive) == 0


def test_building_takes_no_memory() -> None:
    assert all(parameter.is_meta for parameter in on_meta(TRANSFORMER.build).parameters())


def test_missing_and_surplus_tensors_are_named(tensors, tmp_path) -> None:
    tensors["blocks.0.norm7.weight"] = tensors.pop("blocks.2.cross_attn.q.bias")
    sentence = refusal("weights_wrong_model", lambda: load(stored(tmp_path, tensors)))
    for part in (
        "w.safetensors",
        "blocks.2.cross_attn.q.bias",
        "blocks.0.norm7",
    ):
        assert part in sentence
    for index in range(50):
        tensors[f"loose.{index}"] = torch.zeros(1)
    sentence = refusal("weights_wrong_model", lambda: load(stored(tmp_path, tensors)))
    assert "51" in sentence and sentence.count("loose.") <= 3


def test_tensors_known_to_be_unused_are_left_alone(tensors, tmp_path) -> None:
    tensors["textual.0.weight"] = torch.full((1,), torch.nan)
    checkpoint = stored(tmp_path, tensors)
    assert "textual" in refusal("weights_unknown_keys", lambda: load(checkpoint))
    load(checkpoint, unused=("textual.*",))


def test_a_wrong_shape_is_named_with_both_shapes(tensors, tmp_path) -> None:
    tensors["head.head.weight"] = tensors["head.head.weight"][:, :-1].contiguous()
    sentence = refusal(
        "weights_wrong_shape", lambda: match(on_meta(TRANSFORMER.build), stored(tmp_path, tensors), names=DIT)
    )
    for part in ("w.safetensors", "head.head.weight", "[64, 23]", "[64, 24]"):
        assert part in sentence


def test_integers_are_refused(tensors, tmp_path) -> None:
    tensors["head.head.weight"] = tensors["head.head.weight"].to(torch.int8)
    sentence = refusal("weights_unsupported_storage", lambda: load(stored(tmp_path, tensors)))
    assert "head.head.weight" in sentence


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_any_non_finite_value_of_a_small_tensor_is_found(tensors, tmp_path, value) -> None:
    tensors["blocks.1.ffn.0.weight"][17, 3] = value
    sentence = refusal("weights_not_finite", lambda: load(stored(tmp_path, tensors)))
    assert "w.safetensors" in sentence and "blocks.1.ffn.0.weight" in sentence


def test_values_too_large_for_the_dtype_are_told_apart_from_damage(tensors, tmp_path) -> None:
    tensors["blocks.1.ffn.0.weight"][0, 0] = 1e6
    checkpoint = stored(tmp_path, tensors)
    assert "torch.float16" in refusal("weights_overflow_dtype", lambda: load(checkpoint, torch.float16))
    load(checkpoint, torch.bfloat16)


def test_a_file_of_zeros_is_refused(tensors, tmp_path) -> None:
    zeros = {name: torch.zeros_like(value) for name, value in tensors.items()}
    refusal("weights_damaged", lambda: load(stored(tmp_path, zeros)))


def test_the_sample_of_a_large_tensor_is_small_and_spread() -> None:
    rows, columns = 1024, 2048
    picked = sample(torch.arange(rows * columns).reshape(rows, columns))
    assert rows * columns > WHOLE and len(picked) < 10_000
    assert picked[0] == 0 and picked[-1] == rows * columns - 1
    assert len(torch.unique(picked // columns)) == rows and len(torch.unique(picked % columns)) > columns // 2
    assert len(sample(torch.zeros(WHOLE))) == WHOLE and len(sample(torch.zeros(0, 3))) == 0
