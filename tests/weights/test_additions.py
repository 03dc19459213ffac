"""What is put onto a model: without effect at first, the same every time, and nothing else may be missing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinoform.checkpoints.hashes import file_hash
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import ConditionerOutput, Encoders, Units, VideoSize
from kinoform.errors import WeightsError
from kinoform.loading.additions import Additions, stored_specs, with_additions
from kinoform.loading.own import Modules, open_own, save_own
from kinoform.loading.parts import own_parts
from kinoform.models.context import ReferenceContext
from kinoform.models.dit import DiT, cast_weights, keeps_float32
from kinoform.models.in_context import InContextImages
from kinoform.models.lora import LoRASpec, adapters_of
from kinoform.models.packed import PackedLinear
from kinoform.models.tokenizer import build_word_tokenizer
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.pipelines.machine import Machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.types import Conditions, Level
from tests.models.recorded import gap
from tests.models.toys import GRID, SIDE, TEXT, TINY, TOLD, noise, random_dit, run, video
from tests.support.narrowing import of_type
from tests.support.refusals import refused
from tests.support.tiny_recipe import ADDRESS, WORDS, tiny, write_tiny_folder

CPU = torch.device("cpu")
DEPTH = Additions(channels={"depth": 4})
STREAM = Additions(context=(ReferenceContext(width=6),))
GUESTS = Additions(branches=(InContextImages(),))
ALL = Additions(channels={"depth": 4, "mask": 2}, context=STREAM.context, branches=GUESTS.branches)
LEVEL = Level(sigma=0.6, timestep=600.0)


def told(additions: Additions, scale: float = 100.0) -> Conditions:
    """Loud material for every added door but guests, which count from the first step."""
    count = sum(additions.channels.values())
    return replace(
        TOLD,
        channels=scale * video(30, channels=count) if count else None,
        context={**TOLD.context, **{stream.name: scale * noise(31, 1, 7, 6) for stream in additions.context}},
    )


# Onto a finished model


@pytest.mark.parametrize("additions", [DEPTH, STREAM, GUESTS, ALL], ids=["channels", "stream", "guests", "all"])
def test_a_widened_model_begins_as_the_base_bit_for_bit(additions: Additions) -> None:
    base = random_dit(TINY)
    wide = additions.apply(base)
    assert wide.spec == additions.to(TINY) and not wide.training
    assert torch.equal(run(wide, video(), told(additions)), run(base, video()))
    shown = told(additions)
    prompts = [shown, replace(shown, context=told(additions, 7.0).context)]
    both = wide.velocities(video(), LEVEL, [wide.prepare(each, GRID) for each in prompts])
    assert all(torch.equal(each, base.velocities(video(), LEVEL, (base.prepare(TOLD, GRID),))[0]) for each in both)


def test_what_is_added_can_count() -> None:
    """So that it is nought by its values alone."""
    base = random_dit(TINY)
    wide = ALL.apply(base)
    for change in ("patch_embedding.weight", "blocks.1.cross_attention.streams.reference.gate"):
        before = run(wide, video(), told(ALL, 1.0))
        parameter = wide.get_parameter(change)
        parameter.add_(noise(41, *parameter.shape))
        assert gap(run(wide, video(), told(ALL, 1.0)), before) > 1e-3


def test_the_base_is_shared_and_stays_as_it_was() -> None:
    base = random_dit(TINY)
    weights = {name: value.clone() for name, value in base.state_dict().items()}
    wide = ALL.apply(base)
    assert base.spec == TINY and base.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in base.state_dict().items())
    shared = wide.get_parameter("blocks.0.feed_forward.0.weight")
    assert shared.data_ptr() == base.get_parameter("blocks.0.feed_forward.0.weight").data_ptr()


def test_what_is_new_begins_alike_every_time_and_by_its_seed() -> None:
    base = random_dit(TINY)
    state = torch.get_rng_state()
    one, again, other = (each.apply(base).state_dict() for each in (ALL, ALL, replace(ALL, seed=1)))
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    name = "blocks.0.cross_attention.streams.reference.k.weight"
    assert one[name].abs().max() > 0 and not torch.equal(one[name], other[name])
    layers = [one[f"blocks.{layer}.cross_attention.streams.reference.k.weight"] for layer in range(TINY.layers)]
    assert not any(torch.equal(*each) for each in pairwise(layers))


@pytest.mark.parametrize("extra", [0, 3])
def test_guests_are_embedded_at_first_as_the_video_is(extra: int) -> None:
    """Also where the base has conditioning channels of its own, for which an image has nothing."""
    base = random_dit(replace(TINY, in_channels=TINY.in_channels + extra))
    weights = GUESTS.apply(base).state_dict()
    own = weights["branches.references.patch_embedding.weight"]
    assert torch.equal(own, weights["patch_embedding.weight"][:, : TINY.out_channels])
    assert own.data_ptr() != weights["patch_embedding.weight"].data_ptr(), "one may learn without the other"


def test_side_blocks_of_the_base_get_the_stream_too() -> None:
    base = random_dit(replace(TINY, branches=(SIDE,)))
    wide = STREAM.apply(base)
    assert wide.get_parameter("branches.vace.blocks.1.cross_attention.streams.reference.gate").item() == 0


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_side_blocks_begin_as_the_blocks_beside_them(packed: bool) -> None:
    """A stream that is added beside them has nothing to copy; a packed weight is copied unpacked."""
    base = random_dit(TINY)
    if packed:
        pack(base, "blocks.2.feed_forward.0")
    side = VaceBlocks(channels=5, layers=(0, 2))
    wide = Additions(context=STREAM.context, branches=(side,)).apply(base)
    of_base = {name for name, _ in random_dit(TINY).blocks[0].named_parameters()}
    for place, layer in enumerate(side.layers):
        beside = dict(wide.get_submodule(f"branches.vace.blocks.{place}").named_parameters())
        assert of_base < beside.keys() and beside["cross_attention.streams.reference.gate"].item() == 0
        for name in of_base:
            owner, _, leaf = name.rpartition(".")
            own = getattr(base.get_submodule(f"blocks.{layer}.{owner}".rstrip(".")), leaf)
            assert torch.equal(beside[name], own) and beside[name].data_ptr() != own.data_ptr()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_new_weights_have_the_dtypes_of_the_rest(dtype: torch.dtype) -> None:
    wide = ALL.apply(of_type(DiT, cast_weights(random_dit(TINY), dtype)))
    assert {name for name, each in wide.named_parameters() if each.dtype == torch.float32} == {
        name for name, _ in wide.named_parameters() if keeps_float32(name)
    }
    assert not any(parameter.requires_grad for parameter in wide.parameters())


def test_packed_layers_stay_packed() -> None:
    base = random_dit(TINY)
    place = "blocks.1.feed_forward.0"
    pack(base, place)
    wide = ALL.apply(base)
    assert wide.get_submodule(place) is base.get_submodule(place)
    assert torch.equal(run(wide, video(), told(ALL)), run(base, video()))


def test_a_model_with_parts_that_its_spec_does_not_know_is_not_widened() -> None:
    """They would be left out without a word."""
    base = random_dit(TINY)
    base.blocks[0].register_parameter("adapter", torch.nn.Parameter(torch.ones(1)))
    with refused("adapted_before_widening", "blocks.0.adapter"):
        ALL.apply(base)


def pack(model: DiT, place: str) -> None:
    linear = model.get_submodule(place)
    assert isinstance(linear, nn.Linear)
    rows = linear.weight.detach().view(torch.uint8)
    model.set_submodule(place, PackedLinear(rows, Plain(), linear.bias, torch.float32))


@dataclass(frozen=True, slots=True)
class Plain:
    """float32 numbers, byte by byte."""

    def unpack(self, rows: Tensor) -> Tensor:
        return rows.contiguous().view(torch.float32)


@pytest.mark.parametrize(
    ("additions", "named"),
    [
        (Additions(context=(TEXT,)), "'text'"),
        (Additions(branches=(InContextImages(), InContextImages(gap=2))), "'references'"),
    ],
)
def test_a_name_that_is_taken_is_refused(additions: Additions, named: str) -> None:
    with refused("name_taken", named):
        additions.to(TINY)


@pytest.mark.parametrize("channels", [{"depth": 0}, {"depth": -1}, {"": 4}, {"latents": 4}, {"a b": 1}])
def test_channels_need_a_name_and_a_number(channels: Mapping[str, int]) -> None:
    with refused("bad_value"):
        Additions(channels=channels)


def test_the_order_of_the_channels_is_plain_data() -> None:
    assert json.dumps(ALL.order(TINY)) == '{"latents": 4, "depth": 4, "mask": 2}'
    assert list(DEPTH.order(replace(TINY, in_channels=9)).items()) == [("latents", 4), ("known", 5), ("depth", 4)]
    for spec in (TINY, replace(TINY, in_channels=9)):
        assert sum(ALL.order(spec).values()) == ALL.to(spec).in_channels


# Learning


def test_only_what_was_added_learns() -> None:
    wide = ALL.apply(random_dit(TINY))
    learning = ALL.mark_trainable(wide)
    own = {name for name in learning if "reference" in name}
    assert learning.keys() - own == {"patch_embedding.weight"}
    assert len(own) == 8 + 6 * TINY.layers + 2, "the stream's embedding, k, v, norm and gate of each block, guests"
    guests = (noise(40, 1, 4, 1, 3, 5),)
    run(wide, video(), replace(told(ALL, 1.0), branches={"references": guests})).square().sum().backward()
    for name, parameter in wide.named_parameters():
        assert (parameter.grad is not None) == (name in learning), name
    patch = learning["patch_embedding.weight"].grad
    assert patch is not None and not patch[:, :4].any() and patch[:, 4:].abs().sum() > 0
    for name in ("blocks.0.cross_attention.streams.reference.gate", "branches.references.patch_embedding.weight"):
        gradient = learning[name].grad
        assert gradient is not None and gradient.abs().sum() > 0


def test_adapters_learn_beside_what_was_added() -> None:
    wide, spec = ALL.apply(random_dit(TINY)), LoRASpec(patterns=("feed_forward.*",), rank=2)
    alone, added = ALL.trainable(wide, None, torch.Generator(), name="frames")
    assert alone is wide and added.keys() == ALL.mark_trainable(wide).keys()
    adapted, both = ALL.trainable(wide, spec, torch.Generator().manual_seed(1), name="frames")
    assert adapters_of(adapted).keys() == {"frames"} and not adapters_of(wide)
    assert len(both) == len(added) + 2 * len(adapters_of(adapted)["frames"]) > len(added)
    assert {name for name, each in adapted.named_parameters() if each.requires_grad} == both.keys()


# Folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


SPEC = tiny().transformer
MADE = Additions(channels={"depth": 4}, context=(ReferenceContext(width=6),))


def pipeline(folder: Path, additions: Additions | None = None, *, loud: float = 0.0) -> Pipeline:
    recipe = replace(tiny(), additions=additions, conditioners=(Loud(scale=loud),) if loud else ())
    parts = own_parts(open_own(folder), stored_specs(open_own(folder), (SPEC,), additions), recipe.codec, recipe.text)
    parts = with_additions(parts, additions, (SPEC,))
    return Pipeline(recipe=recipe, parts=parts, machine=Machine(device=CPU, dtype=torch.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loud:
    """A conditioner that fills the doors of MADE whatever is asked."""

    scale: float
    inputs: tuple[InputField[object], ...] = ()

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        return asked

    def check(self, inputs: Inputs, video: VideoSize) -> None:
        return None

    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        return ConditionerOutput(
            channels=self.scale * noise(1, 1, 4, 2, 8, 8), context={"reference": self.scale * noise(2, 1, 5, 6)}
        )


def latents(pipe: Pipeline) -> Tensor:
    asked = pipe.request("a red ball moves left", seed=7)
    return next(pipe.latents([asked], lambda progress: None))


def trained(folder: Path, out: Path, additions: Additions = MADE, made: Mapping[str, object] | None = None) -> DiT:
    """A model with additions that all count, saved at `out`."""
    parts = pipeline(folder).parts
    wide = additions.apply(parts.transformer(torch.float32, CPU))
    for name, parameter in wide.named_parameters():
        if additions.own(name) or name == "patch_embedding.weight":
            parameter.copy_(0.3 * noise(len(name), *parameter.shape))
    modules = Modules(
        transformer=wide,
        autoencoder=of_type(nn.Module, parts.codec(CPU)),
        text_encoder=parts.text_encoder(torch.float32, CPU),
    )
    words = build_word_tokenizer(WORDS).to_str()
    save_own(out, modules, tokenizer_json=words, recipe=ADDRESS, made=made or {}, dtype=torch.float32)
    return wide


def rewrite(folder: Path, change: Mapping[str, Tensor | None]) -> None:
    """Replace tensors of the transformer, None removes them; the manifest's record follows."""
    file, manifest = folder / "transformer.safetensors", folder / "manifest.json"
    tensors = {name: value for name, value in {**load_file(file), **change}.items() if value is not None}
    save_file(tensors, file)
    told = json.loads(manifest.read_text())
    told["parts"][file.name] = {"sha256": file_hash(file), "bytes": file.stat().st_size}
    manifest.write_text(json.dumps(told))


def test_a_whole_video_is_the_base_s_at_first(folder: Path) -> None:
    wide = pipeline(folder, MADE, loud=50.0)
    assert wide.parts.transformer_spec.in_channels == SPEC.in_channels + 4
    assert torch.equal(latents(wide), latents(pipeline(folder)))


def test_a_folder_that_holds_the_additions_is_loaded_as_it_is(folder: Path, tmp_path: Path) -> None:
    saved = trained(folder, tmp_path / "wide")
    wide = pipeline(tmp_path / "wide", MADE, loud=1.0)
    loaded = wide.parts.transformer(torch.float32, CPU).state_dict()
    assert loaded.keys() == saved.state_dict().keys()
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in loaded.items())
    assert not torch.equal(latents(wide), latents(pipeline(folder)))


def test_channels_alone_are_seen_by_the_shape(folder: Path, tmp_path: Path) -> None:
    additions = Additions(channels={"depth": 4})
    saved = trained(folder, tmp_path / "wide", additions)
    assert stored_specs(open_own(tmp_path / "wide"), (SPEC,), additions) == (additions.to(SPEC),)
    loaded = pipeline(tmp_path / "wide", additions).parts.transformer(torch.float32, CPU)
    assert torch.equal(loaded.patch_embedding.weight, saved.patch_embedding.weight)


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"blocks.0.cross_attention.streams.reference.gate": None}, "weights_incomplete", "streams.reference.gate"),
        ({"head.modulation": None}, "weights_incomplete", "head.modulation"),
        ({"loose": torch.ones(1)}, "weights_unknown_keys", "loose"),
        ({"patch_embedding.weight": torch.ones(24, 4, 1, 2, 2)}, "weights_wrong_shape", "[24, 4, 1, 2, 2]"),
        ({"patch_embedding.weight": torch.ones(24, 6, 1, 2, 2)}, "weights_wrong_shape", "[24, 6, 1, 2, 2]"),
    ],
    ids=["half of the additions", "of the base", "unknown", "narrow", "between"],
)
def test_a_folder_that_holds_a_part_of_them_is_refused(
    folder: Path, tmp_path: Path, change: Mapping[str, Tensor | None], code: str, named: str
) -> None:
    trained(folder, tmp_path / "wide")
    rewrite(tmp_path / "wide", change)
    with refused(code, named):
        pipeline(tmp_path / "wide", MADE)


def test_a_base_that_lacks_anything_else_is_refused(tmp_path: Path) -> None:
    base = write_tiny_folder(tmp_path / "base")
    rewrite(base, {"blocks.0.cross_attention.streams.text.k.bias": None})
    with refused("weights_incomplete", "streams.text.k.bias"):
        pipeline(base, MADE)


def test_nothing_is_padded_or_left_out_without_additions(folder: Path, tmp_path: Path) -> None:
    wide = replace(SPEC, in_channels=SPEC.in_channels + 4)
    with refused("weights_wrong_shape", "patch_embedding.weight"):
        own_parts(open_own(folder), (wide,), tiny().codec, tiny().text)
    trained(folder, tmp_path / "wide")
    with refused("weights_unknown_keys", "reference"):
        pipeline(tmp_path / "wide")


def test_channels_in_another_order_are_refused(folder: Path, tmp_path: Path) -> None:
    one, other = Additions(channels={"depth": 4, "mask": 1}), Additions(channels={"mask": 1, "depth": 4})
    trained(folder, tmp_path / "wide", one, made={"channels": one.order(SPEC)})
    assert stored_specs(open_own(tmp_path / "wide"), (SPEC,), one) == (one.to(SPEC),)
    with refused("channels_differ", "depth", "mask"):
        stored_specs(open_own(tmp_path / "wide"), (SPEC,), other)


@pytest.mark.parametrize("damage", [3, [["latents", 4]], "x" * 10_000], ids=["number", "list", "long text"])
def test_a_damaged_order_is_one_sentence(folder: Path, tmp_path: Path, damage: object) -> None:
    trained(folder, tmp_path / "wide", DEPTH, made={"channels": damage})
    with pytest.raises(WeightsError) as caught:
        stored_specs(open_own(tmp_path / "wide"), (SPEC,), DEPTH)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
