"""Whether a video fits this machine: what its plan says before the work, and what PyTorch says during it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from kinoform.errors import FitError
from kinoform.loading.parts import Parts
from kinoform.models.dit import DiTSpec
from kinoform.pipelines.request import Request
from kinoform.plan.memory import Peak, peaks
from kinoform.plan.parameters import transformer_count
from kinoform.plan.uncounted import uncounted
from kinoform.plan.work import Sizes, Work
from kinoform.solvers.experts import of_expert

SIGNS = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
"""How PyTorch's allocators say it where they have no type for it."""

SURE = 0.8
"""The share of a predicted peak that is certain: predictions are within 15 %, and nothing that fits is refused."""

LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much a container may use."""

LESS = "make the video smaller or shorter, or choose another --dtype or --device"


@contextmanager
def fitting(what: str, advice: str = LESS) -> Iterator[None]:
    """Turn running out of memory, for which PyTorch has several errors, into FitError about `what` with this advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in SIGNS):
            raise
        raise FitError(f"{what} does not fit into memory; {advice}", code="out_of_memory") from error


def check_fit(
    asked: Request, parts: Parts, dtype: torch.dtype, device: torch.device, *, others: bool = False, beside: int = 0
) -> None:
    """Raise FitError, before any work, for a video whose plan says that it cannot fit; see `kinoform plan`.

    With `others` more videos follow, so that this one is decoded beside the transformer. Warns where a part of the
    recipe does not tell what it takes, since a video that passes may then be far from fitting.
    `beside` are bytes of the host that a video which is edited takes beside the work.
    """
    host = memory_of(torch.device("cpu"))
    if host is not None and beside > SURE * host:
        raise FitError(
            f"the video itself takes about {beside / 1e9:.1f} GB while it is edited, and this machine has "
            f"{host / 1e9:.1f} GB; edit it in parts (ffmpeg -ss START -t SECONDS -i IN OUT), or make it smaller",
            code="does_not_fit",
        )
    there = memory_of(device)
    if there is None:
        return
    if device.type == "cpu":
        there -= beside
    sizes, work = sizes_of(parts), replace(work_of(asked), others=others)
    refuse_above(there, sizes, work, dtype, device)
    if missing := uncounted(sizes, work):
        warnings.warn(
            f"whether this fits {_name(device)} is not known: nobody counts {', '.join(missing)}", stacklevel=3
        )


def refuse_above(there: int, sizes: Sizes, work: Work, dtype: torch.dtype, device: torch.device) -> None:
    """Raise FitError when the work takes more than `there` bytes: in which stage, and the nearest change that fits."""
    worst = _worst(sizes, work, dtype, device)
    if _fits(worst, there):
        return

    def fits(changed: Work) -> bool:
        return _fits(_worst(sizes, changed, dtype, device), there)

    beside = (
        ", the transformer's for the videos that follow among them" if work.others and worst.stage == "decode" else ""
    )
    raise FitError(
        f"{work.num_frames} frames of {work.width}x{work.height} do not fit: stage {worst.stage} takes about "
        f"{worst.total / 1e9:.1f} GB ({worst.weights / 1e9:.1f} GB of it weights{beside}), {_name(device)} has "
        f"{there / 1e9:.1f} GB; {_advice(sizes, work, fits)}",
        code="does_not_fit",
    )


def largest(specs: Sequence[DiTSpec]) -> DiTSpec:
    """Return the transformer that takes the most memory of those that have turns."""
    return max(specs, key=lambda spec: transformer_count(spec).parameters)


def sizes_of(parts: Parts, *, kept: bool = False) -> Sizes:
    """The sizes of a model's parts; `kept` as in `Sizes`."""
    return Sizes(
        transformer=largest(parts.transformer_specs),
        codec=parts.codec_spec,
        text=parts.text_spec,
        image=parts.image_spec,
        kept=kept,
    )


def work_of(asked: Request) -> Work:
    """The part of a request that decides what it takes."""
    return Work(
        width=asked.width,
        height=asked.height,
        num_frames=asked.num_frames,
        steps=asked.steps,
        guidance_scale=of_expert(asked.guidance_scale, 0),
        shift=asked.shift,
        solver=asked.solver,
        sampler=asked.sampler,
        guidance_rule=asked.guidance_rule,
        inputs=asked.inputs,
        conditioners=asked.conditioners,
    )


def memory_of(device: torch.device) -> int | None:
    """Bytes of the device's memory, or that this container may use; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        return min(there, int(LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return there


def _worst(sizes: Sizes, work: Work, dtype: torch.dtype, device: torch.device) -> Peak:
    return max(peaks(sizes, work, dtype, device.type), key=lambda peak: peak.total)


def _fits(peak: Peak, there: int) -> bool:
    return SURE * peak.total <= there


def _name(device: torch.device) -> str:
    return "this machine" if device.type == "cpu" else f"device {device}"


def _advice(sizes: Sizes, work: Work, fits: Callable[[Work], bool]) -> str:
    if work.others and fits(replace(work, others=False)):
        return "one video at a time does fit: make each by a call or command of its own"
    shorter, smaller = _shorter(sizes, work, fits), _smaller(sizes, work, fits)
    found = []
    if shorter is not None:
        found.append(f"{shorter.num_frames} frames")
    if smaller is not None:
        found.append(f"{smaller.width}x{smaller.height}")
    if found:
        return f"what fits is {' or '.join(found)}, otherwise as asked"
    return "no video of this model does; choose another --dtype, --device or model"


def _shorter(sizes: Sizes, work: Work, fits: Callable[[Work], bool]) -> Work | None:
    """The most frames that fit at this size, fewer than asked for."""
    step = sizes.codec.stride[0] * sizes.transformer.patch[0]
    first = 1 + sizes.codec.stride[0] * (sizes.transformer.patch[0] - 1)

    def changed(count: int) -> Work:
        return replace(work, num_frames=first + step * (count - 1))

    return _largest(changed, 1 + (work.num_frames - first) // step, fits)


def _smaller(sizes: Sizes, work: Work, fits: Callable[[Work], bool]) -> Work | None:
    """The largest size that fits at this length, of nearly the same proportions."""
    rows, columns = (s * p for s, p in zip(sizes.codec.stride[1:], sizes.transformer.patch[1:], strict=True))

    def changed(count: int) -> Work:
        height = rows * count
        width = columns * max(1, round(height * work.width / work.height / columns))
        return replace(work, width=width, height=height)

    return _largest(changed, work.height // rows, fits)


def _largest(changed: Callable[[int], Work], most: int, fits: Callable[[Work], bool]) -> Work | None:
    """The work of the largest count below `most` that fits, found by halving; None when 1 does not."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(changed(middle)) else (low, middle)
    return changed(low) if low else None
