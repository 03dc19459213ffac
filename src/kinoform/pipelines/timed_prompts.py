"""Timed prompts: several prompts in one text, each with its span of the video."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kinoform.errors import UsageError
from kinoform.numbers import Number, real

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+|nan|inf(?:inity)?)(?:e[-+]?\d+)?"
UNIT = r"(?:s|sec|seconds|%)"
TAG = re.compile(
    rf"\[\s*(?P<start>{NUMBER})\s*(?P<first_unit>{UNIT})?\s*[-–:]\s*(?P<stop>{NUMBER})\s*(?P<unit>{UNIT})?\s*\]",
    re.IGNORECASE,
)
"""Span of a prompt: [0-2s] and [2s-4s] in seconds, [25%:50%] in shares of the video."""

MAX_SECONDS = 3600.0
MAX_SHOWN = 40
"""Characters of a text that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedPrompt:
    """Prompt of a video from `start` up to `stop`, in seconds or as shares of the video; `said` is its span as told."""

    start: float
    stop: float
    shares: bool
    text: str
    said: str


def is_timed(prompt: str) -> bool:
    """Tell whether a prompt begins with a span of time; one that merely begins with a bracket does not.

    Raises UsageError for a prompt that begins without a span and has one later.
    """
    if TAG.match(prompt.lstrip()):
        return True
    later = TAG.search(prompt)
    if later is not None and later["unit"]:
        raise _refused(
            f"words stand before {later[0]}, the first span of the prompt; begin with a span, such as [0-2s]"
        )
    return False


def timed_prompts(prompt: str) -> tuple[TimedPrompt, ...]:
    """Return the prompts in a text that begins with a span, in the order of time; () for any other prompt.

    Raises UsageError for spans that are no numbers, have no unit or two, are reversed, overlap or have no text, and
    where none begins with the video.
    """
    if not is_timed(prompt):
        return ()
    tags = [*TAG.finditer(prompt)]
    ends = [*(tag.start() for tag in tags[1:]), len(prompt)]
    found = tuple(_read(tag, prompt[tag.end() : end].strip()) for tag, end in zip(tags, ends, strict=True))
    if mixed := [item.said for item in found if item.shares != found[0].shares]:
        raise _refused(f"{found[0].said} and {mixed[0]} have different units; give all in seconds, or all as shares")
    if found[0].start > 0:
        raise _refused(f"{found[0].said} leaves the beginning of the video without a prompt; begin the first span at 0")
    for before, after in pairwise(found):
        if after.start < before.stop:
            raise _refused(f"{after.said} begins before {before.said} has ended; let spans follow each other")
    return found


def seconds_of(prompt: str) -> float | None:
    """Return the end of the last span, where spans are in seconds; None where nothing says how long the video is."""
    found = timed_prompts(prompt)
    return found[-1].stop if found and not found[0].shares else None


def in_seconds(prompt: str, seconds: float, *, slack: float = 0.0) -> tuple[tuple[float, str], ...]:
    """Return the second at which each prompt of a video of so many seconds begins, and its text.

    Each goes on until the next one begins, also through a gap. The last span may end `slack` seconds after the video,
    whose frames are a rounded number. Raises UsageError as `timed_prompts`, and for a span beyond the video.
    """
    found = timed_prompts(prompt)
    if not found:
        return ((0.0, prompt),)
    last = found[-1]
    if not last.shares and last.stop > seconds + slack:
        raise _refused(
            f"{last.said} lies beyond the video, which has {seconds:.4g} seconds; make the video longer, or end sooner"
        )
    return tuple((item.start * seconds if item.shares else item.start, item.text) for item in found)


def rewritten(prompt: str, change: Callable[[str], str]) -> str:
    """Return the prompt with each of its texts changed, between the same spans."""
    found = timed_prompts(prompt)
    return " ".join(f"{item.said} {change(item.text)}" for item in found) if found else change(prompt)


def timed_text(prompts: Sequence[tuple[Number, Number, str]]) -> str:
    """Write prompts (start, stop, text), in seconds, as one text. Raises UsageError as `timed_prompts`."""
    try:
        items = [(start, stop, text.strip()) for start, stop, text in prompts]  # type: ignore[union-attr]
    except (TypeError, ValueError, AttributeError) as error:
        raise _refused('give prompts as [(0, 2, "a ball moves left"), (2, 4, "a ball spins")]') from error
    spans = [
        (real("the start of a prompt", start, 0.0, MAX_SECONDS), real("its end", stop, 0.0, MAX_SECONDS))
        for start, stop, _ in items
    ]
    if within := [text for _, _, text in items if TAG.search(text)]:
        raise _refused(f"the prompt {within[0][:MAX_SHOWN]!r} holds a span of its own; give its span beside it")
    written = " ".join(
        f"[{start:.12g}-{stop:.12g}s] {text}" for (start, stop), (_, _, text) in zip(spans, items, strict=True)
    )
    if not timed_prompts(written):
        raise _refused("there is no prompt among prompts; give one")
    return written


def _read(tag: re.Match[str], text: str) -> TimedPrompt:
    first, unit = (tag["first_unit"] or tag["unit"] or "").lower(), (tag["unit"] or "").lower()
    if not unit:
        raise _refused(f"{tag[0]} has no unit; write seconds as [0-2s], or shares as [0%:50%]")
    if (first == "%") != (unit == "%"):
        raise _refused(f"{tag[0]} has two units; give both ends in seconds, or both as shares")
    start, stop = float(tag["start"]), float(tag["stop"])
    shares = unit == "%"
    most = 100.0 if shares else MAX_SECONDS
    if not (math.isfinite(start) and math.isfinite(stop) and start >= 0 and stop <= most):
        raise _refused(f"{tag[0]} has an end that is not a number from 0 to {most:g}{'%' if shares else ' seconds'}")
    if not start < stop:
        raise _refused(f"{tag[0]} ends before it begins, or is empty; write the start first")
    if not text:
        raise _refused(f"{tag[0]} has no text; say what that part of the video should show")
    scale = 0.01 if shares else 1.0
    return TimedPrompt(start=start * scale, stop=stop * scale, shares=shares, text=text, said=tag[0])


def _refused(sentence: str) -> UsageError:
    return UsageError(sentence, code="prompt_times_invalid")
