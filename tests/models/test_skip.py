"""The noisy latents beside the blocks: gated by channel and level, from nothing on."""

from dataclasses import replace

import torch
from torch import Tensor

from kinoform.models.context import TextContext
from kinoform.models.dit import DiT, DiTSpec, initialise
from kinoform.types import Conditions, Grid
from tests.models.recorded import gap

SPEC = DiTSpec(
    dim=24, ffn_dim=32, heads=2, layers=1, in_channels=4, out_channels=4, frequency_width=16, patch=(1, 2, 2),
    context=(TextContext(width=10, length=8),),
)  # fmt: skip
GRID = Grid(frames=3, height=2, width=2)
X = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
TIMES = torch.tensor([300.0, 800.0])


def model_of(spec: DiTSpec) -> DiT:
    model = spec.build()
    initialise(model, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(model.head.linear.weight, generator=torch.Generator().manual_seed(2))
    return model.eval().requires_grad_(False)


def velocity(model: DiT, times: Tensor) -> Tensor:
    rows = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(3))
    return model(X, times, model.prepare(Conditions(context={"text": rows}), GRID))


def gated() -> DiT:
    """The same weights, and gates as they start."""
    model = model_of(replace(SPEC, skip=True))
    assert set(model.load_state_dict(model_of(SPEC).state_dict(), strict=False).missing_keys) == {
        "head.skip.weight",
        "head.skip.bias",
    }
    return model


def opened(seed: int = 4) -> DiT:
    model = gated()
    assert model.head.skip is not None
    torch.nn.init.normal_(model.head.skip.weight, generator=torch.Generator().manual_seed(seed))
    return model


def test_a_fresh_gate_changes_nothing() -> None:
    assert torch.equal(velocity(model_of(SPEC), TIMES), velocity(gated(), TIMES))


def test_each_channel_is_added_times_what_its_level_says() -> None:
    model, plain = opened(), velocity(model_of(SPEC), TIMES)
    assert model.head.skip is not None
    gates = model.head.skip(model.modulation(TIMES).embedding)[:, 0]
    assert gap(velocity(model, TIMES), plain + gates[:, :, None, None, None] * X) < 1e-6
    assert gap(gates[0], gates[1]) > 1e-3


def test_tokens_have_gates_of_their_own_level() -> None:
    """A video whose frames have two levels is, where nothing mixes tokens, frames of two videos."""
    model = opened()
    model.blocks[0].get_parameter("self_attention.o.weight").zero_()
    model.blocks[0].get_parameter("self_attention.o.bias").zero_()
    early = torch.arange(GRID.tokens) < GRID.height * GRID.width
    mixed = velocity(model, torch.where(early, 300.0, 800.0).expand(2, -1).contiguous())
    low, high = (velocity(model, torch.full((2,), time)) for time in (300.0, 800.0))
    assert gap(mixed, torch.cat([low[:, :, :1], high[:, :, 1:]], dim=2)) < 1e-5


def test_the_gate_learns() -> None:
    model = gated().requires_grad_(True)
    velocity(model, TIMES).square().mean().backward()
    assert model.head.skip is not None and model.head.skip.weight.grad is not None
    assert model.head.skip.weight.grad.abs().sum() > 0
