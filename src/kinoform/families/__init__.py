"""Knowledge about files of weights: one file per released kind of a part, and what all of them share.

A new family is one file that ends in a `Family`, and its place in FAMILIES. Nothing here needs PyTorch to be imported.
"""

from kinoform.families.adapter import ADAPTER_FAMILY
from kinoform.families.clip import CLIP
from kinoform.families.family import Family, Released
from kinoform.families.lora import LORA_FAMILY
from kinoform.families.umt5 import UMT5
from kinoform.families.vace_module import VACE_MODULE
from kinoform.families.vae21 import VAE21
from kinoform.families.vae22 import VAE22
from kinoform.families.wan21 import FIRST_LAST_FRAME, IMAGE_TO_VIDEO, TEXT_TO_VIDEO, VACE
from kinoform.families.wan22 import IMAGE_TO_VIDEO_22, TEXT_IMAGE_TO_VIDEO

__all__ = ["ADAPTER_FAMILY", "FAMILIES", "LORA_FAMILY", "Family", "Released", "released_for", "released_models"]

FAMILIES: tuple[Family, ...] = (
    TEXT_TO_VIDEO,
    IMAGE_TO_VIDEO,
    FIRST_LAST_FRAME,
    VACE,
    IMAGE_TO_VIDEO_22,
    TEXT_IMAGE_TO_VIDEO,
    UMT5,
    VAE21,
    VAE22,
    CLIP,
    VACE_MODULE,
    LORA_FAMILY,
    ADAPTER_FAMILY,
)
"""All families, those of transformers first; the order is that in which parts of one file are listed."""


def released_models() -> tuple[Released, ...]:
    """The released models of all families, each once: VACE's are of two, whole and as modules."""
    return tuple(dict.fromkeys(model for family in FAMILIES for model in family.released))


def released_for(recipe: str) -> Released | None:
    """The released model whose weights the recipe of that name (as --model takes it) makes videos with."""
    return next((model for model in released_models() if recipe in model.recipes), None)
