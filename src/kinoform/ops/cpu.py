"""Products that a CPU runs well where PyTorch would choose another kernel; asked for at the first product.

Figures and alternatives: docs/decisions/011-cpu-kernels.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Product = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def linear(
    x: Float[Tensor, "*b inputs"], weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None
) -> Float[Tensor, "*b outputs"]:
    """x W^T + b. Float32 on a CPU with AVX-512 goes through oneDNN, with its gradients: MKL, PyTorch's own
    choice, takes its AVX2 kernel on processors that Intel did not make, which is half as fast."""
    if x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.numel() and chooses():
        product = _onednn()
        if product is not None and learns(x, weight, bias):
            return cast(Tensor, _LearningProduct.apply(x, weight, bias))  # pyright: ignore[reportUnknownMemberType]
        if product is not None:
            return product(x, weight, bias)
    return F.linear(x, weight, bias)


class _LearningProduct(torch.autograd.Function):
    """The product through oneDNN whose gradients are such products too, and have gradients themselves."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        rows = _rows(gradient)
        for_x = None if weight is None else linear(gradient, weight.t(), None)
        for_weight = None if x is None else linear(rows.t(), _rows(x).t(), None)
        return for_x, for_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


def _rows(x: Float[Tensor, "*b n"]) -> Float[Tensor, "rows n"]:
    return x.flatten(0, -2) if x.dim() > 1 else x[None]


def chooses() -> bool:
    """Return whether this code runs as it stands. Where PyTorch compiles it, the compiler chooses kernels, and would
    break its graph at each question about the processor."""
    return not torch.compiler.is_compiling()


def learns(*tensors: Tensor | None) -> bool:
    """Return whether a gradient will be asked of a function of these."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


@cache
def multiplies(dtype: torch.dtype) -> bool:
    """Return whether matrix products in `dtype` run faster here than PyTorch's fused attention, which computes in
    float32 whatever its inputs."""
    if dtype == torch.bfloat16:
        able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return dtype == torch.float32 and _onednn() is not None


NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""PyTorch's names for the units of a processor that multiply in bfloat16, of x86 and of ARM."""


@cache
def emulates(dtype: torch.dtype) -> bool:
    """Return whether this processor computes products in `dtype` by way of float32, having no units for it: many times
    slower than float32 itself. Where PyTorch does not know the units of a processor, none are assumed."""
    if dtype != torch.bfloat16:
        return False
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return not any(able.get(name) for name in NATIVE)


@cache
def _onednn() -> Product | None:
    """oneDNN's product, if this PyTorch has it, it takes the arguments given here and is right. There is no
    public name for it but the layout `to_mkldnn`, which copies every operand."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return None

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        bias = None if bias is None else bias.contiguous()  # it reads a strided one as if it were not
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    x, weight = (torch.arange(float(n), device="cpu").view(-1, 3) for n in (6, 12))
    try:
        right = torch.equal(product(x, weight, weight[:, 0]), F.linear(x, weight, weight[:, 0]))
    except (AttributeError, RuntimeError, TypeError):
        return None
    return product if right else None
