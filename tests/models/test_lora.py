"""Adapters leave the base as it is until they have learned something, and come off again without a trace."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiT, DiTSpec, cast_weights
from kinoform.models.linear import Linear
from kinoform.models.lora import (
    LoRASpec,
    adapters_of,
    attach,
    bare,
    chosen,
    mark_varying,
    merge,
    set_strength,
    unmerge,
    with_adapters,
)
from kinoform.models.lora_linear import Adapted, AdaptedPacked, Adapter, linear_layers
from kinoform.models.packed import PackedLinear
from kinoform.types import Conditions, Grid
from tests.models.recorded import gap, spread
from tests.support.narrowing import some
from tests.support.refusals import refused

SPEC = DiTSpec(
    dim=24, ffn_dim=40, heads=2, layers=2, context=(TextContext(width=10, length=6), ImageContext(width=8)),
)  # fmt: skip
OF_A_BLOCK = 14
"""q, k, v, o of self-attention; q, o and two times k, v of cross-attention; two of the feed-forward; see below."""

GRID = Grid(frames=2, height=2, width=2)
Q = "blocks.0.self_attention.q"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def base(dtype: torch.dtype = torch.float32) -> DiT:
    model = SPEC.build()
    spread(model, seed=1)
    cast_weights(model, dtype)
    return model.requires_grad_(False).eval()


def learned(model: DiT, spec: LoRASpec, name: str = "lora", seed: int = 7) -> DiT:
    """As after training: no matrix is zero."""
    found = attach(model, spec, name=name, generator=generator(seed))
    for adapter in adapters_of(found)[name].values():
        adapter.up.data.copy_(0.3 * torch.randn(adapter.up.shape, generator=generator(seed + 1)))
    return found


@cache
def question() -> tuple[Tensor, Conditions]:
    draw = generator(2)
    context = {"text": torch.randn(1, 5, 10, generator=draw), "image": torch.randn(1, 7, 8, generator=draw)}
    return torch.randn(1, 16, 2, 4, 4, generator=draw), Conditions(context=context)


@torch.no_grad()
def velocity(model: DiT) -> Tensor:
    """Without gradients: a CPU takes other kernels, which round otherwise, where something learns."""
    return learning(model)


def learning(model: DiT) -> Tensor:
    x, conditions = question()
    return model(x, torch.tensor([400.0]), model.prepare(conditions, GRID))


@dataclass(frozen=True, slots=True)
class Halves:
    """A packing of two bytes a number."""

    def unpack(self, rows: Tensor) -> Tensor:
        return rows.view(torch.float16).float()


def packed(model: DiT) -> DiT:
    for name, layer in linear_layers(model.blocks).items():
        rows = layer.weight.data.half().view(torch.uint8)
        model.blocks.set_submodule(name, PackedLinear(rows, Halves(), layer.bias, torch.float32))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_step_is_the_base_bit_for_bit(dtype: torch.dtype) -> None:
    model = base(dtype)
    fresh = attach(model, LoRASpec(rank=4), generator=generator())
    assert torch.equal(velocity(fresh), velocity(model))
    assert all(adapter.down.any() and not adapter.up.any() for adapter in adapters_of(fresh)["lora"].values())
    assert {p.dtype for a in adapters_of(fresh)["lora"].values() for p in a.parameters()} == {torch.float32}


def test_the_down_matrix_is_drawn_as_a_linear_layer_is() -> None:
    """Kaiming uniform with a = sqrt(5): uniform within 1 / sqrt(in), the same for the same generator."""
    first, again, other = (attach(base(), LoRASpec(rank=128), generator=generator(seed)) for seed in (3, 3, 4))
    down = adapters_of(first)["lora"][Q].down
    bound = 24**-0.5
    assert down.abs().max() <= bound and down.abs().max() > 0.99 * bound
    assert down.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert torch.equal(down, adapters_of(again)["lora"][Q].down)
    assert not torch.equal(down, adapters_of(other)["lora"][Q].down)


def test_a_layer_computes_the_formula() -> None:
    layer = Linear(6, 5)
    draw = generator(5)
    down, up, x = (torch.randn(*shape, generator=draw) for shape in ((3, 6), (5, 3), (2, 4, 6)))
    model = with_adapters(nn.Sequential(layer), "style", {"0": Adapter(down, up, alpha=1.5)})
    set_strength(model, "style", 0.7)
    wanted = x @ layer.weight.T + layer.bias + 0.7 * 1.5 / 3 * (x @ down.T @ up.T)
    assert gap(model(x), wanted) < 1e-6


def test_patterns_choose_layers_by_readable_groups() -> None:
    model = base()
    assert len(chosen(model, LoRASpec().patterns)) == 2 * (OF_A_BLOCK - 2)
    assert chosen(model, ("blocks.1.self_attention.[qk]",)) == [f"blocks.1.self_attention.{name}" for name in "qk"]
    image = [f"blocks.{layer}.cross_attention.streams.image.{name}" for layer in (0, 1) for name in "kv"]
    assert chosen(model, ("streams.image.*",)) == image
    assert chosen(model, ("cross_attention.*", "!streams.*")) == [
        f"blocks.{layer}.cross_attention.{name}" for layer in (0, 1) for name in "qo"
    ]
    assert chosen(model, ("feed_forward.*",)) == [
        f"blocks.{layer}.feed_forward.{n}" for layer in (0, 1) for n in (0, 2)
    ]


@pytest.mark.parametrize("patterns", [("self_attn.*",), ("self_attention.*", "nothing"), ("!blocks.*",), ()])
def test_patterns_that_choose_nothing_are_refused(patterns: tuple[str, ...]) -> None:
    with refused("pattern_matches_nothing", "self_attention"):
        attach(base(), LoRASpec(patterns=patterns), generator=generator())


@pytest.mark.parametrize(
    "values", [{"rank": 0}, {"rank": 5000}, {"alpha": 0.0}, {"alpha": -1.0}, {"alpha": float("nan")}]
)
def test_values_of_a_spec_are_checked(values: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        LoRASpec(**values)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["", "a.b", "items", "1st", "é" * 65, "x" * 65])
def test_names_that_would_not_do_as_parameter_names_are_refused(name: str) -> None:
    with refused("bad_value"):
        attach(base(), LoRASpec(), name=name, generator=generator())


def test_the_model_itself_stays_as_it_was() -> None:
    model = base()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changed = learned(model, LoRASpec(rank=4))
    merge(changed)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not adapters_of(model)


def test_base_weights_keep_their_names_and_their_memory() -> None:
    model = base()
    changed = learned(model, LoRASpec(rank=4))
    held = dict(changed.named_parameters())
    assert all(held[name] is value for name, value in model.named_parameters())
    added = held.keys() - dict(model.named_parameters()).keys()
    assert {name.partition(".adapters.")[2] for name in added} == {"lora.down", "lora.up"}


def test_strength_is_set_at_run_time_and_nothing_is_the_base() -> None:
    model = base()
    changed = learned(model, LoRASpec(rank=4))
    whole = velocity(changed)
    set_strength(changed, "lora", 0.5)
    half = velocity(changed)
    set_strength(changed, "lora", 0.0)
    assert torch.equal(velocity(changed), velocity(model))
    set_strength(changed, "lora", 1.0)
    assert torch.equal(velocity(changed), whole)
    assert gap(whole, velocity(model)) > 0.05 and gap(half, whole) > 0.02


def test_a_compiled_model_keeps_its_graph_where_a_strength_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strength is a tensor that is filled, and 0 takes no other path, while nothing is added to the base."""
    model = base()
    changed = learned(model, LoRASpec(rank=4))
    mark_varying(changed, "lora")
    adapters = adapters_of(changed)["lora"]
    factors = [adapter.factor for adapter in adapters.values()]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    whole, plain = velocity(changed), velocity(model)
    assert not torch.equal(whole, plain)
    for strength, expected in ((0.0, plain), (1.0, whole), (0.0, plain)):
        for adapter, factor in zip(adapters.values(), factors, strict=True):
            factor.fill_(strength * adapter.scale)
            assert adapter.factor is factor
        assert torch.equal(velocity(changed), expected)


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 101.0])
def test_strengths_that_are_no_number_of_use_are_refused(strength: float) -> None:
    with refused("value_out_of_range", str(strength)):
        set_strength(learned(base(), LoRASpec(rank=4)), "lora", strength)


def test_an_unknown_adapter_is_refused_with_those_that_are_there() -> None:
    with refused("unknown_name", "'style'", "ink"):
        set_strength(learned(base(), LoRASpec(rank=4), "ink"), "style", 1.0)


def test_several_adapters_add_up_on_one_layer() -> None:
    first, second = LoRASpec(rank=4, alpha=2.0), LoRASpec(patterns=("self_attention.*",), rank=2)
    both = learned(learned(base(), first, "ink", 10), second, "dusk", 20)
    assert sorted(adapters_of(both)) == ["dusk", "ink"]
    layer = linear_layers(both)[Q]
    assert isinstance(layer, Adapted) and [*layer.named()] == ["ink", "dusk"]
    x = torch.randn(3, 24, generator=generator(1))
    change = sum(adapter.added(layer.weight) for adapter in layer.named().values())
    assert gap(layer(x), x @ (layer.weight + change).T + layer.bias) < 1e-6
    set_strength(both, "dusk", 0.0)
    assert torch.equal(velocity(both), velocity(learned(base(), first, "ink", 10)))
    with refused("name_taken", "'ink'"):
        attach(both, second, name="ink", generator=generator())


def test_copies_have_strengths_of_their_own() -> None:
    ink = learned(base(), LoRASpec(rank=4), "ink")
    both = learned(ink, LoRASpec(rank=4), "dusk")
    before = velocity(ink)
    set_strength(both, "ink", 0.0)
    assert torch.equal(velocity(ink), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_merging_is_undone_bit_for_bit(dtype: torch.dtype) -> None:
    changed = learned(base(dtype), LoRASpec(rank=4))
    before = {name: value.clone() for name, value in changed.state_dict().items()}
    beside = velocity(changed)
    merge(changed)
    assert changed.state_dict().keys() == before.keys()
    assert not torch.equal(changed.state_dict()[f"{Q}.weight"], before[f"{Q}.weight"])
    assert gap(velocity(changed), beside) < {torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}[dtype]
    unmerge(changed)
    assert all(torch.equal(value, before[name]) for name, value in changed.state_dict().items())
    assert torch.equal(velocity(changed), beside)


def test_a_merged_model_refuses_what_would_count_twice() -> None:
    changed = learned(base(), LoRASpec(rank=4))
    merge(changed)
    for act in (
        lambda: merge(changed),
        lambda: set_strength(changed, "lora", 0.5),
        lambda: attach(changed, LoRASpec(), name="other", generator=generator()),
    ):
        with refused("adapters_merged"):
            act()


def test_a_merge_that_overflows_leaves_the_model_as_it_was() -> None:
    changed = learned(base(torch.float16), LoRASpec(patterns=("self_attention.*",), rank=4))
    adapters_of(changed)["lora"]["blocks.1.self_attention.o"].up.data.fill_(1e6)
    with refused("not_finite"):
        merge(changed)
    assert torch.equal(changed.state_dict()[f"{Q}.weight"], base(torch.float16).state_dict()[f"{Q}.weight"])
    assert not any(layer.kept for layer in changed.modules() if isinstance(layer, Adapted))


def test_without_adapters_a_model_is_the_base_or_what_was_merged() -> None:
    model = base()
    changed = learned(model, LoRASpec(rank=4))
    assert torch.equal(velocity(bare(changed)), velocity(model))
    merge(changed)
    plain = bare(changed)
    assert plain.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(velocity(plain), velocity(changed))


def test_adapters_stay_beside_weights_that_are_packed() -> None:
    model = packed(base())
    changed = learned(model, LoRASpec(rank=4))
    layers = linear_layers(changed.blocks)
    assert all(isinstance(layer, AdaptedPacked) for layer in layers.values())
    assert all(torch.equal(layer.weight, linear_layers(model.blocks)[name].weight) for name, layer in layers.items())
    assert not torch.equal(velocity(changed), velocity(model))
    with refused("weights_packed", "keep_packed=False"):
        merge(changed)
    assert torch.equal(velocity(bare(changed)), velocity(model))
    set_strength(changed, "lora", 0.0)
    assert torch.equal(velocity(changed), velocity(model))


def test_only_adapters_learn() -> None:
    changed = learned(base(torch.bfloat16), LoRASpec(rank=4))
    learning(changed).square().mean().backward()
    for name, parameter in changed.named_parameters():
        assert (parameter.grad is not None) == (".adapters." in name), name
        assert ".adapters." not in name or (some(parameter.grad).dtype == torch.float32 and some(parameter.grad).any())


def test_adapters_for_another_place_or_size_are_refused() -> None:
    adapter = Adapter(torch.zeros(2, 24), torch.zeros(24, 2), alpha=2.0)
    with refused("unknown_name", "'blocks.0.q'"):
        with_adapters(base(), "lora", {"blocks.0.q": adapter})
    with refused("adapter_wrong_size", "24", "40"):
        with_adapters(base(), "lora", {"blocks.0.feed_forward.0": adapter})


def test_the_size_of_a_change_is_told_without_making_it() -> None:
    draw = generator(8)
    adapter = Adapter(torch.randn(3, 50, generator=draw), torch.randn(40, 3, generator=draw), alpha=6.0)
    adapter.strength = -0.5
    assert adapter.size() == pytest.approx(adapter.change().norm().item(), rel=1e-5)
