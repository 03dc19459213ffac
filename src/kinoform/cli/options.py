"""Options that several commands share, what completes them, and how their words are read."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from kinoform.errors import UsageError

if TYPE_CHECKING:
    from kinoform.solvers.base import Solver
    from kinoform.solvers.guidance import Guidance as GuidanceValue
    from kinoform.solvers.sampler import Sampler

# Help and completion read this file, which therefore repeats these names rather than import PyTorch.
VARIANTS = (
    "t2v-1.3b",
    "t2v-14b",
    "t2i-14b",
    "i2v-14b-480p",
    "i2v-14b-720p",
    "flf2v-14b",
    "vace-1.3b",
    "vace-14b",
)
ADAPTERS = ("mini:frames", "mini:vace", "mini:reference")
MODELS = ("mini", "mini-factorized", *ADAPTERS, *VARIANTS)
DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")
SOLVERS = ("unipc", "dpm++", "euler")
SAMPLERS = ("denoise", "flow-edit")
GUIDANCE_RULES = ("cfg", "interval", "zero-star")
CODECS = ("h264", "vp9", "av1", "ffv1")

MODEL, VIDEO, OUTPUT = "Model", "Video", "Output"
"""Under which heading an option stands in the help."""

WEIGHTS = (".safetensors", ".gguf", ".pth", ".pt")
"""Files that are offered where a model is completed."""


def model_names(incomplete: str) -> list[str]:
    return [*_beginning(MODELS, incomplete), *_paths(incomplete, WEIGHTS)]


def variant_names(incomplete: str) -> list[str]:
    return _beginning(VARIANTS, incomplete)


def device_names(incomplete: str) -> list[str]:
    return _beginning(DEVICES, incomplete)


def dtype_names(incomplete: str) -> list[str]:
    return _beginning(DTYPES, incomplete)


def solver_names(incomplete: str) -> list[str]:
    return _beginning(SOLVERS, incomplete)


def sampler_names(incomplete: str) -> list[str]:
    return _beginning(SAMPLERS, incomplete)


def guidance_names(incomplete: str) -> list[str]:
    return _beginning(GUIDANCE_RULES, incomplete)


def codec_names(incomplete: str) -> list[str]:
    return _beginning(CODECS, incomplete)


def _beginning(names: tuple[str, ...], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _paths(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Folders, with a stroke behind them, and files of these kinds; none where a folder cannot be read."""
    folder, start = os.path.split(incomplete)
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    fitting = [entry for entry in entries if entry.name.startswith(start) and (start or entry.name[0] != ".")]
    return [
        os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")
        for entry in fitting
        if entry.is_dir() or entry.name.endswith(suffixes)
    ]


def option(panel: str, help: str, *names: str, complete: Callable[[str], list[str]] | None = None) -> Any:
    """An option under the heading `panel`; without `names` it is called like its parameter."""
    return typer.Option(*names, help=help, rich_help_panel=panel, autocompletion=complete)


ModelName: TypeAlias = Annotated[
    str, option(MODEL, f"{', '.join(MODELS)}, a folder or a file of weights.", complete=model_names)
]
RecipeName: TypeAlias = Annotated[str | None, option(MODEL, "module:function that returns a Recipe.")]
TextEncoderFile: TypeAlias = Annotated[str | None, option(MODEL, "A file, where --model is a single file.")]
VAEFile: TypeAlias = Annotated[str | None, option(MODEL, "The same for the autoencoder.")]
TokenizerPath: TypeAlias = Annotated[str | None, option(MODEL, "A tokenizer.json, spiece.model or their folder.")]
ImageEncoderFile: TypeAlias = Annotated[str | None, option(MODEL, "The same for the encoder of images.")]
Loras: TypeAlias = Annotated[
    list[str] | None, option(MODEL, "FILE[:STRENGTH]: a LoRA on the transformer; repeatable.", "--lora")
]
IgnoreUnknown: TypeAlias = Annotated[
    bool, option(MODEL, "Use a LoRA although some of its names are unknown.", "--lora-ignore-unknown")
]
Variant: TypeAlias = Annotated[
    str | None, option(MODEL, "Which released model the weights are.", complete=variant_names)
]
DeviceName: TypeAlias = Annotated[str, option(MODEL, "auto, cpu, cuda or mps.", complete=device_names)]
DtypeName: TypeAlias = Annotated[str, option(MODEL, "auto, float32, bfloat16 or float16.", complete=dtype_names)]
SolverName: TypeAlias = Annotated[str | None, option(VIDEO, "unipc, dpm++ or euler.", complete=solver_names)]
SamplerName: TypeAlias = Annotated[
    str | None, option(VIDEO, "denoise, or flow-edit to change a video.", complete=sampler_names)
]
GuidanceRule: TypeAlias = Annotated[
    str | None, option(VIDEO, "cfg, interval(low=0.2, high=0.9) or zero-star.", complete=guidance_names)
]
Steps: TypeAlias = Annotated[int | None, option(VIDEO, "Denoising steps.")]
Guidance: TypeAlias = Annotated[float | None, option(VIDEO, "Classifier-free guidance; 1 is none.")]
Shift: TypeAlias = Annotated[float | None, option(VIDEO, "Bends the noise levels towards noise.")]
Force: TypeAlias = Annotated[bool, option(OUTPUT, "Replace files that exist.", "--force")]
AsJson: TypeAlias = Annotated[bool, option(OUTPUT, "Results as JSON, one object a line.", "--json")]
NoMetadata: TypeAlias = Annotated[bool, option(OUTPUT, "Keep parameters out of the video.", "--no-metadata/--metadata")]
ContactSheet: TypeAlias = Annotated[
    bool, option(OUTPUT, "Also lay the frames out on a png.", "--contact-sheet/--no-contact-sheet")
]


def solver_named(name: str | None) -> Solver | None:
    """By name, with options if need be: "unipc(order=3)". Raises UsageError for what is unknown."""
    from kinoform.solvers.names import solver_of

    return None if name is None else solver_of(name)


def sampler_named(name: str | None) -> Sampler | None:
    """As `solver_named`, for the algorithm around the solver."""
    from kinoform.solvers.names import sampler_of

    return None if name is None else sampler_of(name)


def guidance_named(name: str | None) -> GuidanceValue | None:
    """As `solver_named`, for what becomes of the negative prompt."""
    from kinoform.solvers.names import guidance_of

    return None if name is None else guidance_of(name)


def recipe_named(address: str | None, said: str = "--recipe") -> str | None:
    """The address, for whose module the current folder is searched too, last of all places.

    Raises UsageError unless it is module:function.
    """
    if address is None:
        return None
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", address):
        raise UsageError(
            f"{said} {address!r} is not an address; write module:function, for example my_idea:video",
            code="recipe_invalid",
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return address


def lora_of(text: str) -> tuple[str, float]:
    """(file, strength) of "style.safetensors:0.8"; what follows the last colon is a strength if it is a number."""
    file, colon, number = text.rpartition(":")
    try:
        return (file, float(number)) if colon and file else (text, 1.0)
    except ValueError:
        return text, 1.0


def size_of(text: str | None, said: str = "--size") -> tuple[int | None, int | None]:
    """(width, height) of "832x480" or, as the official command line has it, "832*480"."""
    if text is None:
        return None, None
    match = re.fullmatch(r"(\d{1,6})[x*×](\d{1,6})", text.strip().lower())
    if match is None:
        raise UsageError(f"{said} {text!r} is not WIDTHxHEIGHT; write for example 832x480", code="bad_value")
    return int(match[1]), int(match[2])


def frames_of(
    frames: int | None, seconds: float | None, fps: float, time_stride: int, time_patch: int = 1
) -> int | None:
    """The number of frames: as said, or the one nearest to `seconds` at `fps` that `models.codec.check_size` allows."""
    if frames is not None and seconds is not None:
        raise UsageError("--frames and --seconds say the same thing; give one of them", code="options_conflict")
    if seconds is None:
        return frames
    if not 0 < seconds <= 3600:
        raise UsageError(f"--seconds must be between 0 and 3600, not {seconds}", code="value_out_of_range")
    if not math.isfinite(fps):
        raise UsageError(f"fps must be a number from 0.1 to 240, not {fps}", code="value_out_of_range")
    fewest, step = 1 + time_stride * (time_patch - 1), time_stride * time_patch
    return fewest + step * max(0, round((seconds * fps - fewest) / step))
