"""LoRA files by dialect. All are recognised here; weights/lora.py reads those of diffusers and ComfyUI.

diffusers   transformer.blocks.0.attn1.to_q.lora_A.weight (transformer_2. for the expert of low noise)
peft        base_model.model.blocks.0.self_attn.q.lora_A.weight
comfy       diffusion_model.blocks.0.self_attn.q.lora_A.weight, lora_down.weight, .alpha
kohya       lora_unet_blocks_0_self_attn_q.lora_down.weight, .alpha
diffsynth   blocks.0.self_attn.q.lora_A.default.weight, pipe.dit.blocks...
full-delta  as comfy, with .diff, .diff_b, .diff_m of whole weights, biases and modulations beside
lycoris     .hada_w1_a, .lokr_w1, .dora_scale, or names that begin with lycoris_
"""

import re
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

DOWN = (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight")
UP = (".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight")
DELTA = (".diff", ".diff_b", ".diff_m", ".set_weight")
LYCORIS = (
    ".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2", ".lokr_w1", ".lokr_w2",
    ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2", ".dora_scale", ".oft_blocks",
)  # fmt: skip
OTHER = (".alpha", ".lora_mid.weight", ".bias_delta")
ENDINGS = (*DOWN, *UP, *DELTA, *LYCORIS, *OTHER)

KOHYA = ("lora_unet_", "lora_te")
PREFIXES = ("base_model.model.", "transformer_2.", "transformer.", "model.diffusion_model.", "diffusion_model.",
            "pipe.dit.", "lora_unet__", "lora_unet_", "lycoris_")  # fmt: skip
MOST_LAYERS = 256


@runtime_checkable
class Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


def lora_dialect(names: Iterable[str]) -> str | None:
    """The dialect of a file of low-rank or whole differences, None when it holds none."""
    held = [name for name in names if name.endswith(ENDINGS)]
    if not any(name.endswith((*DOWN, *DELTA, *LYCORIS)) for name in held):
        return None
    if any(name.endswith(LYCORIS) or name.startswith("lycoris_") for name in held):
        return "lycoris"
    if any(name.startswith(KOHYA) for name in held):
        return "kohya"
    if any(name.endswith(DELTA) for name in held):
        return "full-delta"
    if any(".attn1." in name or ".attn2." in name for name in held):
        return "diffusers"
    if any(name.startswith("base_model.model.") for name in held):
        return "peft"
    if any(".lora_A.default." in name or name.startswith(("blocks.", "pipe.dit.")) for name in held):
        return "diffsynth"
    return "comfy"


def lora_prefix(names: Iterable[str]) -> str:
    """What stands before the names of the model's modules."""
    held = tuple(names)
    return next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in held)), "")


def lora_sizes(tensors: Mapping[str, Shaped]) -> dict[str, int]:
    """The highest rank, the number of changed modules, the blocks that they reach, the width of the model."""
    ranks = [tensor.shape[0] for name, tensor in tensors.items() if name.endswith(DOWN) and tensor.shape]
    widths = [
        tensor.shape[-1]
        for name, tensor in tensors.items()
        if name.endswith(DOWN) and len(tensor.shape) == 2 and re.search(r"self_attn[._][qkv]\.|attn1\.to_[qkv]\.", name)
    ]
    numbers = (int(match[1]) for name in tensors if (match := re.search(r"blocks[._](\d{1,3})[._]", name)))
    layers = 1 + max((number for number in numbers if number < MOST_LAYERS), default=-1)
    modules = {name.removesuffix(end) for name in tensors for end in ENDINGS if name.endswith(end)}
    found = {"modules": len(modules), "layers": layers, "rank": max(ranks, default=0), "dim": max(widths, default=0)}
    return {name: size for name, size in found.items() if size}


def not_lora(names: Iterable[str]) -> tuple[str, ...]:
    """Names that belong to no change of a module."""
    return tuple(name for name in names if not name.endswith(ENDINGS))
