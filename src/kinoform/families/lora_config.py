"""Settings that peft keeps of a LoRA beside its matrices: its scale, where no tensor tells it, and how it was trained.

It stands as JSON in the metadata of diffusers, or, beside a file that peft itself saved, in adapter_config.json.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from kinoform.checkpoints.headers import json_object, read_json
from kinoform.errors import WeightsError
from kinoform.families.lora import DIFFUSERS_LORA
from kinoform.families.lora_names import SECOND_EXPERT, without_prefix

PEFT = "lora_adapter_metadata"
"""The key under which diffusers keeps the configuration of peft."""

PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PEFT_BYTES = 1_000_000

UNREAD = {
    "lora_bias": "LoRA with biases",
    "use_qalora": "QALoRA",
    "alora_invocation_tokens": "aLoRA",
    "layer_replication": "a model whose layers were repeated",
}
"""Settings under which the matrices are not the change."""

METHODS = ("LORA", "LOHA", "LOKR", None)
"""Values of peft_type whose tensors are read; None where nothing is said."""

OTHER_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin that change the base's weights as well: the matrices belong to those."""

PART = re.compile(r"\\[.dw-]|\[[\w-]+\]|\(\?:|[\w.()|-]|(?<![)*+])[*+?]|(?<=\))\?")
"""Parts of regular expressions that are read in a pattern, in which nothing that repeats is repeated."""

MOST_REPEATS, MOST_PATTERNS, LONGEST = 2, 16, 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Modules by the end of their name, from any dot on, or, where it began with ^, by the whole of it."""

    text: str
    whole: bool
    expression: re.Pattern[str] | None

    def fits(self, module: str) -> bool:
        if self.expression is None:
            return module == self.text or (not self.whole and module.endswith(f".{self.text}"))
        starts = [0] if self.whole else [0, *(dot.end() for dot in re.finditer(r"\.", module))]
        return any(self.expression.fullmatch(module, start) for start in starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftConfig:
    """One alpha, and others for modules that a pattern fits, the first that does; rsLoRA counts alpha / sqrt(rank).

    `rank` is that of the settings, 0 where they say none: tensors tell theirs, but for the whole factors of LoKr.
    """

    alpha: float
    patterns: tuple[tuple[Pattern, float], ...]
    rslora: bool
    rank: int = 0

    def of(self, module: str, rank: int) -> float:
        """The alpha of a module, as a number that is to be divided by its rank."""
        bare = without_prefix(module)
        alpha = next((alpha for pattern, alpha in self.patterns if pattern.fits(bare)), self.alpha)
        return alpha * rank**0.5 if self.rslora else alpha


def peft_config_file(path: Path) -> Path | None:
    """The file with peft's configuration beside one that peft saved."""
    config = path.with_name(PEFT_CONFIG)
    return config if path.name == PEFT_FILE and config.is_file() else None


def peft_config(path: Path, metadata: Mapping[str, str], *, second: bool = False) -> PeftConfig | None:
    """The settings of alpha, with `second` those of the second expert; None when nothing is said of it.

    Raises WeightsError for values that are damaged, and for methods that are not read.
    """
    if (method := peft_method(path, metadata)) is not None:
        raise WeightsError(
            f"{path} was trained with {method}, which kinoform does not read; merge it into its model with the tool "
            "that made it, and give the merged model as --model",
            code="lora_unsupported",
        )
    said = _peft_settings(path, metadata, SECOND_EXPERT if second else DIFFUSERS_LORA.prefix)
    rslora = bool(said.get("use_rslora"))
    key = "alpha" if said.get("peft_type") in ("LOHA", "LOKR") else "lora_alpha"
    if key not in said and not rslora:
        return None
    rank = said.get("r")
    rank = rank if isinstance(rank, int) and 0 < rank < 1e6 else 0
    given: dict[str, object] = said.get("alpha_pattern") or {}
    if not isinstance(given, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WeightsError(f"{path}: alpha_pattern is no object but {str(given)[:40]}; fetch it again",
                           code="lora_damaged")  # fmt: skip
    patterns = tuple((_pattern(path, key), checked_alpha(path, key[:40], value)) for key, value in given.items())
    if sum(pattern.expression is not None for pattern, _ in patterns) > MOST_PATTERNS:
        raise _unread_pattern(path, f"more than {MOST_PATTERNS} regular expressions")
    return PeftConfig(alpha=checked_alpha(path, key, said.get(key)), patterns=patterns, rslora=rslora, rank=rank)


def checked_alpha(path: Path, name: str, value: object) -> float:
    """Raises WeightsError unless it is a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6 or not isfinite(value):
        raise WeightsError(
            f"{path}: {name} is {str(value)[:40]}, no positive number; fetch the file again", code="lora_damaged"
        )
    return float(value)


def peft_method(path: Path, metadata: Mapping[str, str]) -> str | None:
    """The method that peft says a file was trained with, where kinoform does not read it. Raises WeightsError for
    what is damaged."""
    said = _peft_settings(path, metadata)
    kind, begun = said.get("peft_type"), said.get("init_lora_weights")
    if kind not in METHODS:
        return f"the method {str(kind)[:40]} of peft"
    if isinstance(begun, str) and begun.startswith(OTHER_BASES):
        return f"{begun[:40]}, which changes the base's weights too"
    return next((UNREAD[key] for key in UNREAD if said.get(key)), None)


def says_dora(path: Path, metadata: Mapping[str, str]) -> bool:
    """Return whether peft says that the lengths of rows were trained beside the matrices."""
    return bool(_peft_settings(path, metadata).get("use_dora"))


def _peft_settings(path: Path, metadata: Mapping[str, str], prefix: str = DIFFUSERS_LORA.prefix) -> dict[str, Any]:
    """The configuration by plain keys, those that `prefix` stood before; empty where there is none."""
    text = metadata.get(PEFT)
    if text is None:
        config = peft_config_file(path)
        return {} if config is None else read_json(config)
    if len(text) > PEFT_BYTES:
        raise WeightsError(f"{path}: {PEFT} is longer than {PEFT_BYTES} letters; fetch it again", code="lora_damaged")
    found = json_object(f"{path}: {PEFT}", text, "lora_damaged")
    return {key.removeprefix(prefix): value for key, value in found.items()}


def _pattern(path: Path, key: str) -> Pattern:
    """peft matches each key as a regular expression from the beginning of the name, or from any dot, to the end."""
    whole, text = key.startswith("^"), key.removeprefix("^").removesuffix("$")
    plain = text.replace("\\.", ".")
    if re.fullmatch(r"[\w.-]+", plain):
        return Pattern(text=without_prefix(plain) if whole else plain, whole=whole, expression=None)
    parts = PART.findall(text)
    repeats = sum(part in ("*", "+") for part in parts)
    if len(text) > LONGEST or "".join(parts) != text or repeats > MOST_REPEATS:
        raise _unread_pattern(path, repr(key[:40]))
    try:
        return Pattern(text=text, whole=whole, expression=re.compile(text))
    except re.error as error:
        raise _unread_pattern(path, repr(key[:40])) from error


def _unread_pattern(path: Path, what: str) -> WeightsError:
    return WeightsError(
        f"{path}: alpha_pattern has {what}, which kinoform does not read; save the file with an alpha beside each "
        "layer, as ComfyUI's form has it",
        code="lora_unsupported",
    )
