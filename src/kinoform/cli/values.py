"""Values of options: how their words are read."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kinoform.cli.options import MODELS
from kinoform.errors import UsageError
from kinoform.numbers import nearest_frames
from kinoform.solvers.by_expert import PerExpert, numbers_by_name, read_written
from kinoform.solvers.scales import ScalesLike, read_scales
from kinoform.solvers.varying_text import looks_written

MAX_VIDEOS = 10_000
"""Most videos that one command makes of a prompt."""

NAMED_FILE = re.compile(r"(\w{1,16})=(.+)", re.DOTALL)
"""The file of one of several transformers."""

SOFT_BREAK = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Marks of web pages, chats and word processors that break a line without ending it: white space in a prompt."""


def recipe_named(address: str | None, option: str = "--recipe") -> str | None:
    """Return the address, and add the current folder to the end of the module search path; a name without colon stays.

    Raises UsageError unless it is module:function.
    """
    if address is None or re.fullmatch(r"[\w.-]+", address):
        return address
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", address):
        raise UsageError(
            f"{option} {address!r} is not an address; write module:function, for example my_idea:video",
            code="recipe_invalid",
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return address


def lora_of(text: str) -> tuple[str, PerExpert]:
    """Return (file, strength) of "style.safetensors:0.8"; what follows the last colon is a strength if it is a number.

    "high=style.safetensors:0.8" is for one of two transformers, "style.safetensors:high=1,low=0.8" for both, and each
    number may be a schedule: "style.safetensors:0@0-0.3,1@0.3-1". A path that exists is a file, whatever follows a
    colon in it. Raises UsageError for strengths without names, a transformer that is said twice, and for a schedule
    with gaps, overlaps or NaN.
    """
    file, colon, number = text.rpartition(":")
    strength: PerExpert = 1.0
    if colon and file and looks_written(number) and not os.path.lexists(text):
        shorter, again, other = file.rpartition(":")
        if again and shorter and looks_written(other) and not os.path.lexists(file):
            raise UsageError(
                f"--lora {text} has two strengths, {other} and {number}; write one, such as {shorter}:{other}",
                code="said_twice",
            )
        text, strength = file, read_written(f"the strength of --lora {file}", number)
    if not text:
        raise UsageError("--lora names no file; write --lora FILE:STRENGTH, or leave it out", code="file_missing")
    match = None if os.path.lexists(text) else NAMED_FILE.fullmatch(text)
    plain = match[2] if match else text
    path, colon, behind = plain.rpartition(":")
    if colon and os.path.isfile(path) and not os.path.lexists(plain):
        raise UsageError(
            f"--lora {text}: {behind[:40]!r} is no strength; write for example {path}:0.8, or {path}:0@0-0.3,1@0.3-1",
            code="bad_value",
        )
    if match is None:
        return text, strength
    name, file = match.groups()
    if isinstance(strength, Mapping):
        raise UsageError(
            f"--lora {text} says twice which transformer it is for; write {name}={file}:1, or {file}:{name}=1",
            code="said_twice",
        )
    return file, numbers_by_name([(name, strength)])


def files_of(option: str, texts: Sequence[str] | None) -> str | dict[str, str] | None:
    """Return the file of ["FILE"], or those of ["high=FILE", "low=FILE"], one for each transformer of a model.

    A file that is there is one, whatever its name. Raises UsageError for several without names, and a name said twice.
    """
    if not texts:
        return None
    if "" in texts:
        raise UsageError(f"{option} names no file; write {option} FILE, or leave it out", code="file_missing")
    named: dict[str, str] = {}
    for text in texts:
        match = None if os.path.exists(text) else NAMED_FILE.fullmatch(text)
        if match is None and len(texts) == 1:
            return text
        if match is None:
            raise UsageError(
                f"{option} is given {len(texts)} times; say which transformer each is for: {option} high=FILE "
                f"{option} low=FILE",
                code="expert_not_said",
            )
        if match[1] in named:
            raise UsageError(f"{option} says {match[1]} twice; say it once", code="said_twice")
        named[match[1]] = match[2]
    return named


def scales_of(text: str | None, option: str = "--guidance") -> ScalesLike | None:
    """Return the scale of "4", or those of "high=4,low=3", "text=4,images=4.5" or "4@0-0.5,1@0.5-1".

    Raises UsageError as `read_scales` does.
    """
    return None if text is None else read_scales(option, text)


def prompts_of(prompt: str | None, file: Path | None) -> list[str]:
    """Return the prompt, or those of a file, one a line.

    Raises UsageError for both, neither, an empty file, and the name of a model in the prompt's place.
    """
    if (prompt is None) == (file is None):
        raise UsageError(
            "give a prompt, or a file of prompts with --prompts; not both",
            code="prompt_missing" if prompt is None else "options_conflict",
        )
    if prompt is not None:
        if prompt in MODELS:
            raise UsageError(
                f"{prompt} is the name of a model, and stands where the prompt does; write --model {prompt}",
                code="prompt_is_model",
            )
        return [prompt]
    assert file is not None
    try:
        # Not splitlines, which would end a prompt at a soft break too.
        lines = [SOFT_BREAK.sub(" ", line).strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as UTF-8 text: {error}", code="file_unreadable") from error
    prompts = [line for line in lines if line]
    if not prompts:
        raise UsageError(f"{file} holds no prompt; write one per line", code="prompt_missing")
    return prompts


def checked_count(count: int) -> int:
    """Return the number of videos per prompt. Raises UsageError where it is out of range."""
    if not 1 <= count <= MAX_VIDEOS:
        raise UsageError(f"--count must be from 1 to {MAX_VIDEOS}, not {count}", code="value_out_of_range")
    return count


MAX_DIGITS = 6
"""Most digits of a side in pixels; the sides that a model can make are checked later."""


def size_of(text: str | None, option: str = "--size") -> tuple[int | None, int | None]:
    """Return (width, height) of "832x480" or, as the official command line has it, "832*480"."""
    if text is None:
        return None, None
    match = re.fullmatch(r"(\d+)[x*×](\d+)", text.strip().lower())
    if match is None:
        raise UsageError(f"{option} {text[:40]!r} is not WIDTHxHEIGHT; write for example 832x480", code="bad_value")
    if max(map(len, match.groups())) > MAX_DIGITS:
        raise UsageError(
            f"{option} {text[:40]} has a side of more than {MAX_DIGITS} digits; write for example 832x480",
            code="value_out_of_range",
        )
    return int(match[1]), int(match[2])


def frames_of(
    frames: int | None, seconds: float | None, fps: float, time_stride: int, time_patch: int = 1
) -> int | None:
    """Return `frames`, or the number nearest to `seconds` at `fps` that `models.codec.check_size` allows."""
    if frames is not None and seconds is not None:
        raise UsageError("--frames and --seconds say the same thing; give one of them", code="options_conflict")
    if seconds is None:
        return frames
    if not 0 < seconds <= 3600:
        raise UsageError(f"--seconds must be between 0 and 3600, not {seconds}", code="value_out_of_range")
    if not math.isfinite(fps):
        raise UsageError(f"fps must be a number from 0.1 to 240, not {fps}", code="value_out_of_range")
    return nearest_frames(seconds * fps, time_stride, time_patch)


def weights_at(path: Path) -> Path:
    """Find the weights that a command names by a path, or by a name as `--model` takes it."""
    there = Path(os.path.expanduser(path))
    if os.path.lexists(there):
        return there
    # Imported here because PyTorch takes seconds, which weights named by a path do without.
    from kinoform.recipes.catalogue import place_of

    return place_of(str(there))
