"""Products by another kernel are the same products, with the same gradients."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinoform.models.linear import Linear
from kinoform.ops import cpu
from kinoform.ops.attention import MANY, attend
from kinoform.ops.flops import count_flops
from tests.models.recorded import gap

SIDES = [(256, 256), (300, 1000), (1000, 300), (257, 2**10 + 1)]  # queries, keys: whole parts, and a rest
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 1e-2}


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def heads(queries: int, keys: int, dtype: torch.dtype, width: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (drawn(seed, 2, rows, 3, width, dtype=dtype) for seed, rows in enumerate((queries, keys, keys)))
    return q, k, v


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention in float64 by PyTorch's own function."""
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


@pytest.fixture
def without_onednn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor on which oneDNN's product is not the faster one."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    forget()
    yield
    forget()


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention by products on whatever processor runs this test."""
    monkeypatch.setattr("kinoform.ops.attention.multiplies", lambda dtype: True)


def forget() -> None:
    cpu._onednn.cache_clear()
    cpu.multiplies.cache_clear()


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("queries", "keys"), SIDES)
def test_attention_in_parts_is_attention(queries: int, keys: int, dtype: torch.dtype):
    q, k, v = heads(queries, keys, dtype)
    assert queries * keys >= MANY
    found = attend(q, k, v)
    assert found.dtype == dtype
    assert gap(found.double(), fused(q, k, v)) < ROUNDING[dtype]
    assert torch.equal(attend(q, k, v), found), "the same twice"


@pytest.mark.usefixtures("everywhere")
def test_no_more_than_a_part_of_the_scores_is_held(monkeypatch: pytest.MonkeyPatch):
    sizes = []

    def watched(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = F.linear(x, weight, bias)
        sizes.append(y.numel())
        return y

    monkeypatch.setattr("kinoform.ops.attention.linear", watched)
    for queries in (512, 2048):
        attend(*heads(queries, 600, torch.bfloat16))
        assert max(sizes) == 256 * 600, "however many queries there are"


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("sizes", [(300, 300, 24), (600, 1000, 64), (512, 50, 64)])
def test_what_learns_gets_gradients_of_the_same_attention(sizes: tuple[int, int, int], dtype: torch.dtype):
    given = heads(sizes[0], sizes[1], dtype, sizes[2])
    learning = [x.clone().requires_grad_() for x in given]
    exact = [x.double().requires_grad_() for x in given]
    weight = drawn(9, *given[0].shape)
    (attend(*learning) * weight).sum().backward()
    (fused(*exact) * weight).sum().backward()
    for ours, theirs in zip(learning, exact, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert gap(ours.grad.double(), theirs.grad) < 2 * ROUNDING[dtype]


@pytest.mark.usefixtures("everywhere")
def test_what_learns_from_many_keys_keeps_no_scores():
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    inputs = [x.requires_grad_() for x in heads(600, 1000, torch.float32, 64)]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = attend(*inputs)
    assert sum(kept.values()) == sum(x.numel() for x in inputs) + result.numel() + 2 * 3 * 600, "and a sum for each row"


@pytest.mark.usefixtures("everywhere")
def test_a_mask_hides_keys():
    q, k, v = heads(300, 300, torch.float32)
    mask = (torch.arange(300) < 200).expand(2, 1, 300, 300)
    assert gap(attend(q, k, v, mask), attend(q, k[:, :200], v[:, :200])) < 2e-6


@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_is_the_same_product_with_and_without_gradients(bias: bool):
    layer = Linear(40, 24, bias=bias)
    x = drawn(1, 2, 30, 40)
    learned = layer(x)
    assert learned.requires_grad
    with torch.inference_mode():
        assert gap(layer(x), learned.detach()) < 2e-6
    assert layer(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(0, 8), (8,), (1, 8), (3, 5, 8)])
def test_every_shape_of_input_is_taken(shape: tuple[int, ...]):
    x, weight, bias = drawn(1, *shape), drawn(2, 5, 8), drawn(3, 5)
    assert torch.allclose(cpu.linear(x, weight, bias), F.linear(x, weight, bias), atol=1e-5)
    strided = drawn(6, 5, 2)[:, 0]
    assert torch.allclose(cpu.linear(x, weight, strided), F.linear(x, weight, strided), atol=1e-5)
    turned = drawn(4, 8, 7).T
    assert torch.allclose(cpu.linear(turned, drawn(5, 8, 3).T, None), turned @ drawn(5, 8, 3), atol=1e-5)


@pytest.mark.parametrize("learning", ["x", "weight", "bias", "all"])
@pytest.mark.parametrize("shape", [(0, 8), (8,), (30, 8), (3, 5, 8)])
def test_gradients_and_their_gradients_are_those_of_pytorchs_product(shape: tuple[int, ...], learning: str):
    inputs = {"x": drawn(1, *shape), "weight": drawn(2, 5, 8), "bias": drawn(3, 5)}
    learn = [value.requires_grad_() for name, value in inputs.items() if learning in (name, "all")]

    def gradients(product: cpu.Product) -> list[Tensor]:
        result = product(*inputs.values())
        # A slice gives a gradient with gaps, a sum one whose numbers are all the same in memory.
        loss = result[..., 1:3].square().sum() + result.sum()
        first = torch.autograd.grad(loss, learn, create_graph=True)
        return [*first, *torch.autograd.grad(sum(value.square().sum() for value in first) + loss, learn)]

    for found, expected in zip(gradients(cpu.linear), gradients(F.linear), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_products_count_the_same_by_any_kernel():
    x, weight, bias = drawn(1, 3, 30, 8).requires_grad_(), drawn(2, 5, 8).requires_grad_(), drawn(3, 5)
    counted = [
        count_flops(lambda product=product: product(x, weight, bias).square().sum().backward())
        for product in (cpu.linear, F.linear)
    ]
    assert counted == 2 * [3 * 2 * 90 * 8 * 5]


@pytest.mark.usefixtures("without_onednn")
def test_without_the_kernel_pytorchs_own_is_used():
    x, weight, bias = drawn(1, 30, 8), drawn(2, 5, 8), drawn(3, 5)
    assert not cpu.multiplies(torch.float32)
    assert torch.equal(cpu.linear(x, weight, bias), F.linear(x, weight, bias))
    q, k, v = heads(300, 300, torch.float32)
    assert gap(attend(q, k, v).double(), fused(q, k, v)) < 2e-6


def test_a_kernel_that_is_wrong_or_gone_is_not_used(monkeypatch: pytest.MonkeyPatch):
    def gone(*given: object) -> Tensor:
        raise RuntimeError("no such argument")

    for kernel in (gone, lambda x, weight, *rest: F.linear(x, weight)):
        forget()
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", kernel)
        assert not cpu.multiplies(torch.float32)
    forget()


def test_the_kernel_is_found_where_it_pays():
    """Falling back is silent, so that it is in use must be seen somewhere."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch's own product is used on this processor")
    forget()
    assert cpu.multiplies(torch.float32)
