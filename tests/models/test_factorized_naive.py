"""The factorized model against its naive self, in float64; and the golden file, which the naive one wrote."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from kinoform.models.context import ReferenceContext, TextContext
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.ops.patch import Patch, grid_of
from kinoform.types import Conditions
from tests.conformance.golden import DEFAULT_FOLDER, read
from tests.conformance.judge_factorized import ORDERS, cases, sizes_of
from tests.models.naive_factorized import Sizes, velocity

SPEC = DiTSpec(
    dim=24, ffn_dim=40, heads=2, layers=2, in_channels=4, out_channels=4, frequency_width=16,
    context=(TextContext(width=12, length=5), ReferenceContext(width=7)),
)  # fmt: skip
GOLDEN = DEFAULT_FOLDER / "dit_factorized.safetensors"


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model computes in float32 whatever comes in is computed in float64."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(spec: DiTSpec) -> DiT:
    """Random weights under which everything counts, gates included."""
    model = spec.build().double().eval().requires_grad_(False)
    for seed, (name, parameter) in enumerate(model.named_parameters()):
        parameter.copy_(0.3 * drawn(seed, *parameter.shape) + (1.0 if "norm" in name and "weight" in name else 0.0))
    return model


def naive(model: DiT, x: Tensor, times: Tensor, text: Tensor, reference: Tensor | None) -> Tensor:
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    spec, block = model.spec, model.spec.block
    assert isinstance(block, FactorizedBlock)
    sizes = Sizes(heads=spec.heads, layers=spec.layers, patch=spec.patch, rows=5, waves=16,
                  time_first=block.cross == "after")  # fmt: skip
    videos = [
        velocity(weights, sizes, x[n].numpy(), float(times[n]), text[n].numpy(),
                 None if reference is None else reference[n].numpy())
        for n in range(len(x))
    ]  # fmt: skip
    return torch.from_numpy(np.stack(videos))


@pytest.mark.parametrize("order", ["between", "after"])
@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 1, 2)])
@pytest.mark.parametrize("shown", [0, 3])
def test_the_model_equals_loops_over_frames_places_and_heads(wide: None, order: str, patch: Patch, shown: int) -> None:
    model = built(replace(SPEC, patch=patch, block=FactorizedBlock(cross=order)))  # type: ignore[arg-type]
    x = drawn(100, 2, 4, *(n * p for n, p in zip((3, 2, 2), patch, strict=True)))
    times, text = torch.tensor([700.0, 31.0], dtype=torch.float64), drawn(101, 2, 4, 12)
    reference = drawn(102, 2, shown, 7) if shown else None
    context = {"text": text} | ({} if reference is None else {"reference": reference})
    prepared = model.prepare(Conditions(context=context), grid_of(x, patch))
    found, expected = model(x, times, prepared), naive(model, x, times, text, reference)
    assert found.dtype == torch.float64 and expected.abs().mean() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_golden_file_is_what_the_naive_model_writes() -> None:
    assert GOLDEN.stat().st_size < 200_000
    golden = read(GOLDEN)
    weights = {name: value.double().numpy() for name, value in golden.weights.items()}
    judged = set()
    for order in ORDERS:
        for case in cases(golden):
            expected = golden.outputs[f"out.{order}.{case.name}"]
            x, text = case.x.double().numpy(), case.text.double().numpy()
            reference = None if case.reference is None else case.reference.double().numpy()
            found = velocity(weights, sizes_of(golden, order), x, case.timestep, text, reference)
            torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-12)
            judged.add(f"out.{order}.{case.name}")
    assert judged == set(golden.outputs)
