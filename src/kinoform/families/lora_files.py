"""LoRA files by dialect. All are recognised here; loading/lora_file.py reads those whose names are dotted.

diffusers   transformer.blocks.0.attn1.to_q.lora_A.weight (transformer_2. for the expert of low noise)
peft        base_model.model.blocks.0.self_attn.q.lora_A.weight
comfy       diffusion_model.blocks.0.self_attn.q.lora_A.weight, lora_down.weight, .alpha
official    blocks.0.self_attn.q.lora_down.weight: the official names with nothing before them
diffsynth   blocks.0.self_attn.q.lora_A.default.weight, pipe.dit.blocks...
kohya       lora_unet_blocks_0_self_attn_q.lora_down.weight, .alpha
full-delta  as comfy, with .diff, .diff_b, .diff_m of whole weights, biases and modulations beside
lycoris     .hada_w1_a, .lokr_w1, .dora_scale, or names that begin with lycoris_

The endings, those of methods that are not read among them: lora_endings.py.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

from kinoform.families.lora_endings import DOWN, WHOLE, is_change, method_of, methods, taken_apart

LYCORIS = re.compile(r"\.(?:hada_|lokr_|dora_scale|oft_blocks|oft_diag)|^lycoris_")
KOHYA = ("lora_unet_", "lora_te")
UNDOTTED = (*KOHYA, "lycoris_")
PREFIXES = ("base_model.model.", "transformer_2.", "transformer.", "model.diffusion_model.", "diffusion_model.",
            "pipe.dit.", "lora_unet__", "lora_unet_", "lycoris_")  # fmt: skip
WIDE = re.compile(r"self_attn[._][qkv]$|self_attention\.[qkv]$|attn1[._]to_[qkv]$")
"""Layers that are as wide as the model."""

MOST_LAYERS = 256


@runtime_checkable
class Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


def lora_dialect(names: Iterable[str]) -> str | None:
    """The dialect of a file of low-rank or whole differences, None when it holds none."""
    held = tuple(names)
    if not any(map(is_change, held)):
        return None
    if any(LYCORIS.search(name) for name in held):
        return "lycoris"
    if any(name.startswith(KOHYA) for name in held):
        return "kohya"
    if WHOLE in methods(held):
        return "full-delta"
    if any(".attn1." in name or ".attn2." in name for name in held):
        return "diffusers"
    if any(name.startswith("base_model.model.") for name in held):
        return "peft"
    if any(".lora_A.default." in name or name.startswith("pipe.dit.") for name in held):
        return "diffsynth"
    if any(name.startswith(("blocks.", "vace_blocks.")) for name in held):
        return "official"
    return "comfy"


def is_undotted(name: str) -> bool:
    """Whether a name has _ for dots, as those of kohya's trainers and of LyCORIS; they are not read yet."""
    return name.startswith(UNDOTTED)


def lora_prefix(names: Iterable[str]) -> str:
    """What stands before the names of the model's modules."""
    held = tuple(names)
    return next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in held)), "")


def lora_sizes(tensors: Mapping[str, Shaped]) -> dict[str, int]:
    """The highest rank, the number of changed modules, the blocks that they reach, the width of the model."""
    ends = {name: found for name in tensors if (found := taken_apart(name) or method_of(name)) is not None}
    downs = {found.module: tensors[name].shape for name, found in ends.items() if found.kind == DOWN}
    ranks = [shape[0] for shape in downs.values() if shape]
    widths = Counter(shape[-1] for module, shape in downs.items() if len(shape) == 2 and WIDE.search(module))
    numbers = (int(match[1]) for name in tensors if (match := re.search(r"blocks[._](\d{1,3})[._]", name)))
    layers = 1 + max((number for number in numbers if number < MOST_LAYERS), default=-1)
    modules = {found.module for found in ends.values()}
    width = widths.most_common(1)[0][0] if widths else 0
    found = {"modules": len(modules), "layers": layers, "rank": max(ranks, default=0), "dim": width}
    return {name: size for name, size in found.items() if size}


def not_lora(names: Iterable[str]) -> tuple[str, ...]:
    """Names that belong to no change of a module."""
    return tuple(name for name in names if taken_apart(name) is None and method_of(name) is None)
