"""Adapter files: what is saved is what is loaded, onto the base that it was trained on and onto no other."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import KinoformError
from kinoform.loading.adapters import AdapterFile, adapter_in, save_adapter, with_adapter
from kinoform.loading.additions import Additions
from kinoform.loading.parts import Parts
from kinoform.models.context import ReferenceContext, ReferenceEncoderSpec
from kinoform.models.dit import DiT
from kinoform.models.lora import LoRASpec, adapters_of, attach, bare, merge
from kinoform.models.packed import PackedLinear
from tests.support.adapter_files import ALL, CPU, LORA, NAME, base_parts, trained
from tests.support.refusals import refused
from tests.support.tiny_recipe import tiny, write_tiny_folder
from tests.weights.fuzz_files import damaged_safetensors

SPEC = tiny().transformer
READING = Additions(
    context=(ReferenceContext(width=6, encoder=ReferenceEncoderSpec(dim=8, heads=2, layers=2, dim_ffn=8)),)
)
DOWN, UP = "blocks.0.feed_forward.0.adapter.down", "blocks.0.feed_forward.0.adapter.up"
GATE = "blocks.0.cross_attention.streams.reference.gate"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Its transformer is always the same object, as in a pipeline that keeps its parts."""
    parts = base_parts(write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny"))
    shared = parts.transformer(torch.float32, CPU)
    return replace(parts, transformers=(lambda dtype, device: shared,))


@pytest.fixture(scope="module")
def model(base: Parts) -> DiT:
    return trained(base.transformer(torch.float32, CPU))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: Parts, model: DiT) -> Path:
    return save(tmp_path_factory.mktemp("adapters") / "whole.safetensors", base, model)


def save(
    path: Path, base: Parts, model: DiT, additions: Additions | None = ALL, dtype: torch.dtype = torch.float32
) -> Path:
    save_adapter(
        path, (model,), additions, name=NAME, base="tiny", base_hash=base.fingerprint(), recipe="ideas:all",
        made={"steps": 7}, dtype=dtype,
    )  # fmt: skip
    return path


def opened(path: Path) -> AdapterFile:
    file = adapter_in(path, HeaderReader())
    assert file is not None
    return file


def put_on(base: Parts, path: Path, additions: Additions | None = ALL) -> Parts:
    return with_adapter(base, additions, (SPEC,), file=opened(path))


def loaded(base: Parts, path: Path, additions: Additions | None = ALL, dtype: torch.dtype = torch.float32) -> DiT:
    return put_on(base, path, additions).transformer(dtype, CPU)


def weights(model: DiT) -> dict[str, Tensor]:
    """With all adapters in them."""
    if adapters_of(model):
        model = bare(_merged(attach(model, LoRASpec(rank=1), name="copy", generator=torch.Generator())))
    return dict(model.named_parameters())


def _merged(model: DiT) -> DiT:
    merge(model)
    return model


def gap(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


@pytest.mark.parametrize(
    ("additions", "lora"),
    [(ALL, LORA), (ALL, None), (Additions(channels={"depth": 4}), LORA), (None, LORA), (READING, LORA)],
    ids=["all", "additions alone", "channels", "changes alone", "a stream that is read"],
)
def test_what_is_saved_is_what_is_loaded(
    base: Parts, tmp_path: Path, additions: Additions | None, lora: LoRASpec | None
) -> None:
    made = trained(base.transformer(torch.float32, CPU), additions, lora)
    parts = put_on(base, save(tmp_path / "a.safetensors", base, made, additions), additions)
    found = parts.transformer(torch.float32, CPU)
    assert parts.transformer_spec == found.spec == made.spec and not adapters_of(found) and not found.training
    assert gap(weights(found), weights(made)) < 1e-6
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_the_base_is_shared_and_stays_as_it_was(base: Parts, whole: Path) -> None:
    shared = base.transformer(torch.float32, CPU)
    before = {name: value.clone() for name, value in shared.named_parameters()}
    found = weights(loaded(base, whole))
    assert gap(before, dict(shared.named_parameters())) == 0
    same = {name for name in before if found[name].data_ptr() == shared.get_parameter(name).data_ptr()}
    changed = {f"{name.removesuffix('.adapter.down')}.weight" for name in load_file(whole) if name.endswith(".down")}
    assert before.keys() - same == changed | {"patch_embedding.weight"} and "blocks.0.feed_forward.0.weight" in changed


def test_the_file_holds_nothing_of_the_base(base: Parts, whole: Path) -> None:
    held = load_file(whole)
    assert held["patch_embedding.added"].shape == (SPEC.dim, 3, *SPEC.patch) and "patch_embedding.weight" not in held
    assert {name for name in held if "adapter" in name and (".streams.reference" in name or "side" in name)} == set()
    assert not held.keys() & {name for name, _ in base.transformer(torch.float32, CPU).named_parameters()}
    assert list(held) == sorted(held)


def test_the_same_adapter_is_the_same_bytes_in_half_the_room(
    base: Parts, model: DiT, whole: Path, tmp_path: Path
) -> None:
    files = [save(tmp_path / f"{name}.safetensors", base, model, dtype=torch.bfloat16) for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size < 0.6 * whole.stat().st_size
    assert gap(weights(loaded(base, files[0])), weights(loaded(base, whole))) < 0.02
    with safe_open(files[0], framework="pt") as held:
        told = held.metadata()
    assert told["channels"] == '{"latents": 4, "depth": 2, "pose": 1}' and json.loads(told["made"]) == {"steps": 7}


def test_changes_stay_beside_a_weight_that_is_packed(base: Parts, whole: Path) -> None:
    place, merged = "blocks.0.feed_forward.0", loaded(base, whole)
    packed = Additions().apply(base.transformer(torch.float32, CPU))
    linear = packed.get_submodule(place)
    assert isinstance(linear, nn.Linear)
    rows = linear.weight.detach().view(torch.uint8)
    packed.set_submodule(place, PackedLinear(rows, Plain(), linear.bias, torch.float32))
    found = loaded(replace(base, transformers=(lambda dtype, device: packed,)), whole)
    assert adapters_of(found).keys() == {"adapter"} and adapters_of(found)["adapter"].keys() == {place}
    x = torch.randn(1, 5, SPEC.dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(found.get_submodule(place)(x), merged.get_submodule(place)(x), atol=1e-5)
    assert not adapters_of(packed)


@dataclass(frozen=True, slots=True)
class Plain:
    """float32 numbers, byte by byte."""

    def unpack(self, rows: Tensor) -> Tensor:
        return rows.contiguous().view(torch.float32)


def test_the_fingerprint_is_of_the_base_and_the_file(base: Parts, whole: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other.safetensors", base, trained(base.transformer(torch.float32, CPU), seed=1))
    again = tmp_path / "again.safetensors"
    again.write_bytes(whole.read_bytes())
    hashes = [put_on(base, path).fingerprint() for path in (whole, other, again)]
    assert len({base.fingerprint(), *hashes}) == 3 and hashes[0] == hashes[2]


def test_other_weights_are_no_adapters(base: Parts, tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert (
        adapter_in(tmp_path / "a.safetensors", HeaderReader()) is None
        and adapter_in(tmp_path / "a.gguf", HeaderReader()) is None
    )


# What is refused

Tensors = dict[str, Tensor | None]


def rewritten(source: Path, path: Path, tensors: Tensors | None = None, told: Mapping[str, str | None] | None = None):
    """The file with some tensors and words replaced; None removes them."""
    with safe_open(source, framework="pt") as held:
        words = {**held.metadata(), **(told or {})}
    kept = {name: value for name, value in {**load_file(source), **(tensors or {})}.items() if value is not None}
    save_file(kept, path, metadata={key: word for key, word in words.items() if word is not None})
    return path


@pytest.mark.parametrize(
    ("tensors", "code", "named"),
    [
        ({GATE: None}, "adapter_wrong_recipe", "gate"),
        ({"patch_embedding.added": None}, "adapter_wrong_recipe", "patch_embedding.added"),
        ({"loose": torch.ones(1)}, "adapter_wrong_recipe", "loose"),
        ({"patch_embedding.weight": torch.ones(24, 7, 1, 2, 2)}, "adapter_wrong_recipe", "patch_embedding.weight"),
        ({GATE: torch.ones(2)}, "weights_wrong_shape", "[2]"),
        ({GATE: torch.ones(1, dtype=torch.int32)}, "weights_wrong_shape", "torch.int32"),
        ({"patch_embedding.added": torch.ones(24, 4, 1, 2, 2)}, "weights_wrong_shape", "[24, 4, 1, 2, 2]"),
        ({UP: None}, "adapter_wrong_recipe", "blocks.0.feed_forward.0.adapter.up"),
        ({DOWN: None}, "adapter_wrong_recipe", "blocks.0.feed_forward.0.adapter.up"),
        ({DOWN: torch.ones(3, 25)}, "weights_wrong_shape", "[3, 25]"),
        ({UP: torch.ones(48, 2)}, "weights_wrong_shape", "[48, 2]"),
        ({DOWN: torch.ones(0, 24)}, "weights_damaged", "rank 0"),
        ({DOWN: torch.ones(())}, "weights_damaged", "rank 0"),
        (
            {"blocks.9.feed_forward.0.adapter.down": torch.ones(3, 24)},
            "adapter_wrong_recipe",
            "'blocks.9.feed_forward.0'",
        ),
    ],
)
def test_tensors_of_another_model_are_refused_by_the_header(
    base: Parts, whole: Path, tmp_path: Path, tensors: Tensors, code: str, named: str
) -> None:
    refused_unread(base, rewritten(whole, tmp_path / "a.safetensors", tensors), code, named)


@pytest.mark.parametrize(
    ("told", "code", "named"),
    [
        (
            {"base_hash": "0" * 16},
            "adapter_wrong_base",
            "0" * 16,
        ),
        (
            {"channels": '{"latents": 4, "pose": 1, "depth": 2}'},
            "channels_differ",
            "'pose'",
        ),
        ({"kinoform_adapter": "2"}, "adapter_damaged", "'2'"),
        ({"base": None}, "adapter_damaged", "base"),
        ({"base": "../weights"}, "adapter_damaged", "'../weights'"),
        ({"base_hash": "g" * 16}, "adapter_damaged", "base_hash"),
        ({"recipe": "os.system"}, "adapter_damaged", "'os.system'"),
        ({"recipe": "a" * 300}, "adapter_damaged", "recipe"),
        ({"channels": "[4]"}, "adapter_damaged", "channels"),
        ({"channels": '{"latents": -4}'}, "adapter_damaged", "'latents'"),
        ({"channels": '{"latents": 4e0}'}, "adapter_damaged", "'latents'"),
        ({"made": "[" * 90_000}, "adapter_damaged", "made"),
        ({"made": "x" * 1_000_001}, "adapter_damaged", "made"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value)[:20],
)
def test_words_that_do_not_fit_are_refused(
    base: Parts, whole: Path, tmp_path: Path, told: Mapping[str, str | None], code: str, named: str
) -> None:
    refused_unread(base, rewritten(whole, tmp_path / "a.safetensors", told=told), code, named)


def refused_unread(base: Parts, path: Path, code: str, named: str, additions: Additions | None = ALL) -> None:
    unread = replace(base, transformers=(lambda dtype, device: pytest.fail("weights were read"),))
    with refused(code, named) as caught:
        put_on(unread, path, additions)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_the_additions_of_another_recipe_are_refused(base: Parts, whole: Path) -> None:
    refused_unread(base, whole, "adapter_wrong_recipe", "streams.reference", replace(ALL, context=()))
    refused_unread(base, whole, "adapter_wrong_recipe", "branches.side", replace(ALL, branches=()))
    refused_unread(base, whole, "channels_differ", "'depth': 2", replace(ALL, channels={}))
    refused_unread(base, whole, "channels_differ", "'depth': 2", None)


@pytest.mark.parametrize(
    ("tensors", "dtype", "code", "named"),
    [
        ({GATE: torch.tensor([float("nan")])}, torch.float32, "weights_not_finite", "gate"),
        ({DOWN: torch.full((3, 24), float("inf"))}, torch.float32, "weights_not_finite", "down"),
        (
            {UP: torch.full((48, 3), 1e30), DOWN: torch.full((3, 24), 1e30)},
            torch.float32,
            "weights_overflow_dtype",
            "0.weight",
        ),
        (
            {"branches.side.before.bias": torch.full((24,), 1e6)},
            torch.float16,
            "weights_overflow_dtype",
            "--dtype",
        ),
    ],
    ids=["NaN", "infinity", "too large a sum", "too large for float16"],
)
def test_numbers_that_are_none_are_refused_when_they_are_read(
    base: Parts, whole: Path, tmp_path: Path, tensors: Tensors, dtype: torch.dtype, code: str, named: str
) -> None:
    path = rewritten(whole, tmp_path / "a.safetensors", tensors)
    half = replace(
        base, transformers=(lambda dtype, device: Additions().apply(base.transformer(dtype, device)).to(dtype),)
    )
    with refused(code, named):
        put_on(half, path).transformer(dtype, CPU)


def test_damaged_files_are_read_or_refused_in_words(base: Parts, whole: Path, tmp_path: Path) -> None:
    dice, source, count = random.Random(0), whole.read_bytes(), 0
    for _ in range(150):
        (tmp_path / "broken.safetensors").write_bytes(damaged_safetensors(dice, source))
        try:
            if adapter_in(tmp_path / "broken.safetensors", HeaderReader()) is not None:
                loaded(base, tmp_path / "broken.safetensors")
        except KinoformError as error:
            assert "broken.safetensors" in str(error)
            count += 1
    assert 50 < count < 150


def test_nothing_useless_is_written(base: Parts, model: DiT, tmp_path: Path) -> None:
    path, plain = tmp_path / "a.safetensors", base.transformer(torch.float32, CPU)

    def write(model: DiT = model, additions: Additions | None = ALL, **changes: object) -> Callable[[], None]:
        told = {"name": NAME, "base": "tiny", "base_hash": "0" * 16, "recipe": "a:b", "made": {}, **changes}
        return lambda: save_adapter(path, (model,), additions, **told)  # type: ignore[arg-type]

    broken = trained(plain)
    broken.get_parameter(GATE).data.fill_(float("nan"))
    merged = attach(model, LoRASpec(rank=1), name="other", generator=torch.Generator())
    merge(merged)
    faults: list[tuple[Callable[[], None], tuple[str, ...]]] = [
        (write(broken), ("not_finite", "gate")),
        (write(plain), ("additions_differ",)),
        (write(additions=replace(ALL, channels={"depth": 4})), ("additions_differ",)),
        (write(plain, None), ("nothing_to_save", "'learned'")),
        (write(name="leant"), ("unknown_name", "'learned'")),
        (write(merged), ("adapters_merged", "unmerge")),
        (write(base="runs/tiny"), ("bad_value", "'runs/tiny'")),
        (write(base_hash="tiny"), ("bad_value", "base_hash")),
        (write(recipe="somewhere"), ("bad_value", "'somewhere'")),
        (write(made={"loss": float("nan")}), ("bad_value", "JSON")),
        (write(made={"loss": object()}), ("bad_value", "JSON")),
    ]
    for run, said in faults:
        with refused(*said):
            run()
        assert not list(tmp_path.iterdir())
    path.touch()
    with refused("file_exists"):
        write()()
    with refused("wrong_suffix", ".safetensors"):
        save_adapter(tmp_path / "a.bin", (model,), ALL, name=NAME, base="a", base_hash="0" * 16, recipe="a:b", made={})
