"""Spellings of layers in LoRA files: what is read, and the two forms that are written.

comfy       diffusion_model.blocks.0.self_attn.q.lora_A.weight, .lora_B.weight, .alpha
diffusers   transformer.blocks.0.attn1.to_q.lora_A.weight, .lora_B.weight; alpha, if anywhere, in the metadata

Names are read behind any of PREFIXES and with any of the endings of identity/lora_endings.py.
"""

from collections.abc import Collection
from dataclasses import dataclass

from kinoform.errors import WeightsError
from kinoform.families.dialects import DIFFUSERS_DIT
from kinoform.families.lora_endings import ALPHA, DOWN, UP
from kinoform.families.names import DIT, Names

PREFIXES = ("base_model.model.", "model.", "diffusion_model.", "transformer.", "transformer_1.", "pipe.dit.")
"""Words that may stand before a module, also several of them."""

SECOND_EXPERT = "transformer_2."
WRITTEN = {DOWN: ".lora_A.weight", UP: ".lora_B.weight", ALPHA: ".alpha"}


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
        return f"{self.prefix}{module}{WRITTEN[piece]}"


COMFY = Form(prefix="diffusion_model.", names=DIT, alpha=True)
DIFFUSERS = Form(prefix="transformer.", names=DIFFUSERS_DIT, alpha=False)


def own_layer(module: str) -> str:
    """The layer that a module of a file is, in kinoform's names; not every model has it, or any."""
    found = own_parameter(f"{module}.weight")
    return without_prefix(module) if found is None else found.removesuffix(".weight")


def own_parameter(name: str) -> str | None:
    """The name of a parameter so; None when neither table has a name of this form."""
    bare = without_prefix(name)
    # diffusers' first: the official table, whose rows end in *, would take its names for parts of the feed-forward.
    return next((own for names in (DIFFUSERS_DIT, DIT) if (own := names.ours(bare)) is not None), None)


def without_prefix(module: str) -> str:
    while (prefix := next((each for each in PREFIXES if module.startswith(each)), None)) is not None:
        module = module.removeprefix(prefix)
    return module


def elsewhere(module: str, layers: Collection[str]) -> bool:
    """Whether a module that a model with these layers lacks is a relative's: of the image stream, of VACE, or
    of the second expert."""
    if without_prefix(module).startswith(SECOND_EXPERT):
        return True
    layer = own_layer(module)
    if layer.startswith("context.image."):
        return "context.image.layers.0" not in layers
    if layer.startswith("branches."):
        return not any(each.startswith(f"branches.{layer.split('.')[1]}.") for each in layers)
    place, _, inside = layer.partition(".streams.image.")
    return bool(inside) and f"{place}.streams.text.k" in layers and f"{place}.streams.image.k" not in layers
