"""Fit of a video to this machine: what its plan says before the workload, and what PyTorch says during it."""

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
from kinoform.pipelines.request import Request
from kinoform.pipelines.windows import LatentWindow
from kinoform.plan.memory import Needs, Peak, needs
from kinoform.plan.workload import Sizes, Workload, adapted_specs

SIGNS = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
"""Messages of PyTorch's allocators where they have no type for it."""

SURE = 0.8
"""The share of a predicted peak that is certain: predictions are within 15 %, and nothing that fits is refused."""

LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Files in which Linux says how much a container may use."""

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
    """Raise FitError, before any workload, for a video whose plan says that it cannot fit; see `kinoform plan`.

    With `others` more videos follow, so that this one is decoded beside the transformer. Warns where a part of the
    recipe does not tell what it takes, since a video that passes may then be far from fitting.
    `beside` are bytes of the host that a video which is edited takes beside the workload.
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
    work = replace(workload_of(asked, asked.in_windows(parts.codec_spec)), others=others)
    found = refuse_above(there, sizes_of(parts), work, dtype, device)
    if missing := found.uncounted:
        warnings.warn(
            f"whether this fits {_name(device)} is not known: there is no estimate of {', '.join(missing)}",
            stacklevel=3,
        )


def refuse_above(there: int, sizes: Sizes, workload: Workload, dtype: torch.dtype, device: torch.device) -> Needs:
    """Return what the video needs. Raise FitError when that is more than `there` bytes: in which stage, and the nearest
    change that fits.
    """
    found = needs(sizes, workload, dtype, device.type)
    worst = found.worst
    if _fits(worst, there):
        return found

    def fits(changed: Workload) -> bool:
        return _fits(needs(sizes, changed, dtype, device.type).worst, there)

    beside = (
        ", the transformer's for the videos that follow among them"
        if workload.others and worst.stage == "decode"
        else ""
    )
    raise FitError(
        f"{workload.num_frames} frames of {workload.width}x{workload.height} do not fit: stage {worst.stage} takes "
        f"about {worst.total / 1e9:.1f} GB ({worst.weights / 1e9:.1f} GB of it weights{beside}), {_name(device)} has "
        f"{there / 1e9:.1f} GB; {_advice(sizes, workload, fits)}",
        code="does_not_fit",
    )


def sizes_of(parts: Parts, *, kept: bool = False) -> Sizes:
    """The sizes of a model's parts; `kept` as in `Sizes`."""
    return Sizes(
        transformers=adapted_specs(parts.transformer_specs, parts.loras),
        codec=parts.codec_spec,
        text=parts.text_spec,
        image=parts.image_spec,
        kept=kept,
    )


def workload_of(asked: Request, windows: Sequence[LatentWindow] = ()) -> Workload:
    """The part of a request that decides what it takes: of its first window, where it is made in `windows`."""
    whole_frames, asked = asked.num_frames if windows else None, asked.at_once()
    return Workload(
        width=asked.width,
        height=asked.height,
        num_frames=asked.num_frames,
        steps=asked.steps,
        guidance_scale=asked.guidance_scale,
        boundaries=asked.boundaries,
        shift=asked.shift,
        solver=asked.solver,
        level_grid=asked.level_grid,
        sampler=asked.sampler,
        guidance_rule=asked.guidance_rule,
        inputs=asked.inputs,
        conditioners=asked.conditioners,
        windows=max(1, len(windows)),
        texts=max(1, len({each.prompt for each in windows})),
        whole_frames=whole_frames,
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


def _fits(peak: Peak, there: int) -> bool:
    return SURE * peak.total <= there


def _name(device: torch.device) -> str:
    return "this machine" if device.type == "cpu" else f"device {device}"


def _advice(sizes: Sizes, workload: Workload, fits: Callable[[Workload], bool]) -> str:
    if workload.others and fits(replace(workload, others=False)):
        return "one video at a time does fit: make each by a call or command of its own"
    shorter, smaller = _shorter(sizes, workload, fits), _smaller(sizes, workload, fits)
    found = []
    if shorter is not None:
        found.append(f"{shorter.num_frames} frames")
    if smaller is not None:
        found.append(f"{smaller.width}x{smaller.height}")
    if found:
        return f"what fits is {' or '.join(found)}, otherwise as asked"
    return "no video of this model does; choose another --dtype, --device or model"


def _shorter(sizes: Sizes, workload: Workload, fits: Callable[[Workload], bool]) -> Workload | None:
    """The most frames that fit at this size, fewer than asked for."""
    step = sizes.codec.stride[0] * sizes.transformer.patch[0]
    first = 1 + sizes.codec.stride[0] * (sizes.transformer.patch[0] - 1)

    def changed(count: int) -> Workload:
        return replace(workload, num_frames=first + step * (count - 1))

    return _largest(changed, 1 + (workload.num_frames - first) // step, fits)


def _smaller(sizes: Sizes, workload: Workload, fits: Callable[[Workload], bool]) -> Workload | None:
    """The largest size that fits at this length, of nearly the same proportions."""
    rows, columns = (s * p for s, p in zip(sizes.codec.stride[1:], sizes.transformer.patch[1:], strict=True))

    def changed(count: int) -> Workload:
        height = rows * count
        width = columns * max(1, round(height * workload.width / workload.height / columns))
        return replace(workload, width=width, height=height)

    return _largest(changed, workload.height // rows, fits)


def _largest(changed: Callable[[int], Workload], most: int, fits: Callable[[Workload], bool]) -> Workload | None:
    """The work of the largest count below `most` that fits, found by halving; None when 1 does not."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(changed(middle)) else (low, middle)
    return changed(low) if low else None
