"""bfloat16: what is rounded, how often, and how far that leads; in float32 nothing is."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiT, DiTSpec, cast_weights
from kinoform.models.vision import VisionSpec
from kinoform.ops.patch import grid_of, patches
from kinoform.types import Conditions, Level
from tests.models.recorded import drawn, gap, spread
from tests.support.narrowing import some

SPEC = DiTSpec(
    dim=48, ffn_dim=96, heads=4, layers=2, in_channels=36, frequency_width=16,
    context=(TextContext(width=32, length=8), ImageContext(width=24)),
)  # fmt: skip
X = drawn(1, 1, 16, 3, 8, 12)
GIVEN = Conditions(
    context={"text": drawn(2, 1, 7, 32), "image": drawn(3, 1, 5, 24)}, channels=drawn(4, 1, 20, 3, 8, 12)
)


class Roundings(TorchDispatchMode):
    """Counts how often each tensor is rounded to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and found.dtype == torch.bfloat16 != args[0].dtype:
            self.seen.append(args[0])
        return found

    def most(self) -> int:
        places = [(each.data_ptr(), each.shape, each.stride()) for each in self.seen]
        return max(map(places.count, places))


@pytest.fixture
def wide() -> DiT:
    model = SPEC.build().eval().requires_grad_(False)
    spread(model, seed=1)
    return model


def entered(model: DiT, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The tokens that block 0 gets."""
    seen: list[Tensor] = []
    first = model.blocks[0]
    plain: Any = first.before_context
    with monkeypatch.context() as patched:
        patched.setattr(first, "before_context", lambda stream: (seen.append(stream.tokens), plain(stream))[1])
        model(X, torch.tensor([500.0]), model.prepare(GIVEN, grid_of(X, SPEC.patch)))
    return seen[0]


def test_tokens_are_as_far_off_as_the_weights_alone(wide: DiT, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product in bfloat16 throughout is off by 2.9e-3, and two that are added by 3.6e-3."""
    embedding = wide.patch_embedding
    read = patches(torch.cat([X, some(GIVEN.channels)], dim=1), SPEC.patch).double()
    exact = read @ embedding.weight.flatten(1).double().T + embedding.bias.double()
    half = cast_weights(deepcopy(wide), torch.bfloat16)
    assert isinstance(half, DiT)
    tokens = entered(half, monkeypatch)
    assert tokens.dtype == torch.float32
    assert gap(tokens.double(), exact) < 2.2e-3
    assert gap(entered(wide, monkeypatch).double(), exact) < 1e-6


def test_in_float32_the_sums_are_what_they_were(wide: DiT, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = wide.patch_embedding
    own, rest = embedding.weight[:, :16].flatten(1), embedding.weight[:, 16:].flatten(1)
    wanted = patches(X, SPEC.patch) @ own.T + (patches(some(GIVEN.channels), SPEC.patch) @ rest.T + embedding.bias)
    assert torch.equal(entered(wide, monkeypatch), wanted)


def test_nothing_is_rounded_twice(wide: DiT) -> None:
    half = cast_weights(wide, torch.bfloat16)
    assert isinstance(half, DiT)
    with Roundings() as once:
        prepared = half.prepare(GIVEN, grid_of(X, SPEC.patch))
    assert {each.dtype for keys in prepared.keys for pair in keys.values() for each in pair} == {torch.bfloat16}
    with Roundings() as step:
        half.velocities(X, Level(sigma=0.5, timestep=500.0), [prepared])
    assert step.seen and step.most() == 1
    assert once.seen and once.most() == SPEC.layers, "each block rounds the rows that it makes keys of"


def test_nor_by_the_image_encoder() -> None:
    tower = VisionSpec(image=28, patch=14, dim=16, heads=2, layers=3, dim_ffn=32).build().to(torch.bfloat16)
    with Roundings() as found, torch.no_grad():
        tower(drawn(1, 1, 3, 28, 28))
    assert found.seen and found.most() == 1
