"""How a LoRA file spells its layers, in the two forms that are read and written.

comfy       diffusion_model.blocks.0.self_attn.q.lora_A.weight, .lora_B.weight, .alpha (or .lora_down, .lora_up)
diffusers   transformer.blocks.0.attn1.to_q.lora_A.weight, .lora_B.weight; alpha, if anywhere, in the metadata
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from kinoform.errors import WeightsError
from kinoform.weights.dialects import DIFFUSERS_DIT
from kinoform.weights.names import DIT, Names

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
SECOND_EXPERT = "transformer_2."

DOWN, UP, ALPHA = "down", "up", "alpha"
PIECES = {
    ".lora_A.weight": DOWN, ".lora_down.weight": DOWN,
    ".lora_B.weight": UP, ".lora_up.weight": UP,
    ".alpha": ALPHA,
}  # fmt: skip

PEFT = "lora_adapter_metadata"
"""The key under which diffusers keeps the configuration of peft, as JSON."""

PEFT_BYTES = 1_000_000
UNREAD = ("use_rslora", "use_dora", "lora_bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """`prefix` is written before every name; without `alpha` the scale is multiplied into the second matrix."""

    prefix: str
    names: Names
    alpha: bool

    def written(self, layer: str, piece: str) -> str:
        """The name of one tensor; a layer that the official model lacks keeps kinoform's own name."""
        try:
            module = self.names.theirs(f"{layer}.weight").removesuffix(".weight")
        except WeightsError:
            module = layer
        ending = next(ending for ending, held in PIECES.items() if held == piece)
        return f"{self.prefix}{module}{ending}"

    def own(self, module: str) -> str:
        """The layer that a module of the file is, in kinoform's names; not every model has it, or any."""
        found = self.names.ours(f"{module}.weight")
        return module if found is None else found.removesuffix(".weight")


COMFY = Form(prefix="diffusion_model.", names=DIT, alpha=True)
DIFFUSERS = Form(prefix="transformer.", names=DIFFUSERS_DIT, alpha=False)
FORMS: Mapping[str, Form] = {"comfy": COMFY, "diffusers": DIFFUSERS}
"""By the dialect that `lora_dialect` tells."""


def taken_apart(name: str) -> tuple[str, str] | None:
    """The module of a tensor, and which piece of its change the tensor is; None when it is none."""
    for ending, piece in PIECES.items():
        if name.endswith(ending):
            return name.removesuffix(ending), piece
    return None


def without_prefix(module: str) -> str:
    return next((module.removeprefix(prefix) for prefix in PREFIXES if module.startswith(prefix)), module)


def elsewhere(layer: str, layers: Mapping[str, Any]) -> bool:
    """Whether a layer that the model lacks is one of its relatives': of the image stream, or of VACE."""
    if layer.startswith(("context.image.layers.", "branches.")):
        return True
    return ".streams.image." in layer and layer.replace(".streams.image.", ".streams.text.") in layers


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftAlphas:
    """What the metadata of diffusers say of alpha: one number, and others for modules by the end of their name."""

    alpha: float
    by_module: Mapping[str, float]

    def of(self, module: str) -> float:
        for ending, alpha in self.by_module.items():
            if module == ending or module.endswith(f".{ending}"):
                return alpha
        return self.alpha


def peft_alphas(path: Path, metadata: Mapping[str, str]) -> PeftAlphas | None:
    """None when the file says nothing. Raises WeightsError for values that are damaged or not read."""
    text = metadata.get(PEFT)
    if text is None:
        return None
    try:
        if len(text) > PEFT_BYTES:
            raise ValueError
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path}: its {PEFT} are no JSON of ordinary size; fetch it again", code="lora_damaged"
        ) from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: its {PEFT} are no object; fetch it again", code="lora_damaged")
    said = {key.removeprefix(DIFFUSERS.prefix): value for key, value in found.items()}
    for key in UNREAD:
        if said.get(key):
            raise WeightsError(
                f"{path} was trained with {key}, which is not read yet; merge it with the tool it is from",
                code="lora_unsupported",
            )
    if "lora_alpha" not in said:
        return None
    patterns = said.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(re.fullmatch(r"[\w.]+", key) for key in patterns):
        raise WeightsError(
            f"{path}: alpha_pattern in its {PEFT} does not name modules plainly; use ComfyUI's form",
            code="lora_unsupported",
        )
    by_module = {key: checked_alpha(path, key, value) for key, value in patterns.items()}
    return PeftAlphas(alpha=checked_alpha(path, "lora_alpha", said["lora_alpha"]), by_module=by_module)


def checked_alpha(path: Path, name: str, value: object) -> float:
    """Raises WeightsError unless it is a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6 or not isfinite(value):
        raise WeightsError(
            f"{path}: {name} is {str(value)[:40]}, no positive number; fetch the file again", code="lora_damaged"
        )
    return float(value)
