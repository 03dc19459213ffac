"""Attention kernels: which run here and agree, and whether bfloat16 is worth its rounding."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kinoform.doctor.report import BAD, GOOD, NOTE, Finding

BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
SHAPE = (1, 2, 128, 64)
"""Batch, heads, tokens, width of a head: small, and legal for every kernel."""

MAX_DISTANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest distance from float64 attention, for values of size 1: several times that of rounding alone."""

SIDE, REPEATS = 512, 5


def device_here() -> torch.device:
    """Return the device that videos are made on by default."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def attention(device: torch.device) -> Iterator[Finding]:
    """Run each kernel in float32 and bfloat16 on the same tensors, and compare it with attention in float64."""
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(torch.randn(SHAPE, generator=generator) for _ in range(3))
    for name, backend in BACKENDS.items():
        results, facts, state = [], {}, NOTE
        for dtype, max_distance in MAX_DISTANCE.items():
            short = str(dtype).removeprefix("torch.")
            distance = facts[short] = _distance(backend, inputs, device, dtype)
            if distance is None:
                results.append(f"{short}: no")
                continue
            wrong = not distance < max_distance
            results.append(f"{short}: {'WRONG, off' if wrong else 'runs, off'} by {distance:.1e}")
            state = BAD if wrong or state == BAD else GOOD
        yield Finding(name=f"{name} on {device.type}", value="; ".join(results), state=state, facts=facts)


def products(device: torch.device) -> Iterator[Finding]:
    """Time matrix products in both precisions, the best of five; a quick look, not a benchmark."""
    speeds = {dtype: 2 * SIDE**3 / _seconds(device, dtype) / 1e9 for dtype in MAX_DISTANCE}
    wide, short = speeds[torch.float32], speeds[torch.bfloat16]
    comparison = f"{short / wide:.1f} times as fast as" if short > wide else f"{wide / short:.1f} times slower than"
    yield Finding(
        name=f"products on {device.type}",
        value=f"bfloat16 is {comparison} float32 ({short:.0f} and {wide:.0f} GFLOP/s)",
        facts={"float32_gflops": wide, "bfloat16_gflops": short},
    )


def _distance(
    backend: SDPBackend, inputs: tuple[Tensor, ...], device: torch.device, dtype: torch.dtype
) -> float | None:  # fmt: skip
    """Return the largest difference from float64 on the same rounded inputs; None where the kernel does not run."""
    q, k, v = (tensor.to(device, dtype) for tensor in inputs)
    exact = F.scaled_dot_product_attention(q.cpu().double(), k.cpu().double(), v.cpu().double())
    try:
        with warnings.catch_warnings(), sdpa_kernel(backend), torch.inference_mode():
            warnings.simplefilter("ignore")  # PyTorch explains at length why a kernel does not run
            output = F.scaled_dot_product_attention(q, k, v)
        return float((output.cpu().double() - exact).abs().max())
    except RuntimeError:
        return None


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    matrix = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(REPEATS):
        start = perf_counter()
        (matrix @ matrix)[0, 0].item()  # which waits for the device
        best = min(best, perf_counter() - start)
    return best
