"""LoRA files: the dialects in which their layers are spelled, and what a file changes of a model.

A new dialect is one value in LORA_DIALECTS; what ends the names of matrices is a row in lora_endings.py. All are
recognised here; loading/lora_file.py reads those that have a table of names.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kinoform.errors import WeightsError
from kinoform.families.family import LORA, Family
from kinoform.families.lora_endings import ALPHA, DOWN, METHODS, UP, WHOLE, is_change, method_of, taken_apart
from kinoform.families.names import Names
from kinoform.families.transformer_names import DIFFUSERS_NAMES, OFFICIAL_NAMES

WRITTEN = {DOWN: ".lora_A.weight", UP: ".lora_B.weight", ALPHA: ".alpha"}
"""The endings that are written."""

SECOND_EXPERT = "transformer_2."
"""The word before modules of the expert of low noise, which is no part of a module's name in a model of one."""

WIDE = re.compile(r"self_attn[._][qkv]$|self_attention\.[qkv]$|attn1[._]to_[qkv]$")
"""Layers that are as wide as the model."""

MAX_LAYERS = 256

LORA_FAMILY = Family(name="lora", part=LORA, description="a LoRA, which changes a model and is none")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRADialect:
    """Spelling of layers in the LoRA files of one kind of program.

    A file is of the first dialect whose `signature` is found in one of its names, as in `example`. `prefixes` are
    words that stand before the names of modules, the one that is written first. `names` leads from a parameter's name
    to kinoform's own; None for a dialect that is recognised and not read. `alpha` says whether an alpha is written
    beside each layer; without it the scale is multiplied into the second matrix.
    """

    name: str
    example: str
    signature: re.Pattern[str]
    prefixes: tuple[str, ...] = ()
    names: Names | None = None
    alpha: bool = True

    def written(self, layer: str, piece: str) -> str:
        """The name of one tensor; a layer that the official model lacks keeps kinoform's own name."""
        assert self.names is not None, f"{self.name} is not written"
        try:
            module = self.names.theirs(f"{layer}.weight").removesuffix(".weight")
        except WeightsError:
            module = layer
        return f"{self.prefixes[0]}{module}{WRITTEN[piece]}"


DIFFUSERS_LORA = LoRADialect(
    name="diffusers",
    example="transformer.blocks.0.attn1.to_q.lora_A.weight",
    signature=re.compile(r"\.attn[12]\."),
    prefixes=("transformer.", "transformer_1."),
    names=DIFFUSERS_NAMES,
    alpha=False,
)
"""Names that diffusers writes; without an alpha, so that the scale is in the second matrix."""

COMFY_LORA = LoRADialect(
    name="comfy",
    example="diffusion_model.blocks.0.self_attn.q.lora_A.weight",
    signature=re.compile(""),
    prefixes=("diffusion_model.", "model.diffusion_model.", "model."),
    names=OFFICIAL_NAMES,
)
"""Names that ComfyUI and most trainers write: the official ones behind a prefix, with an alpha."""

LORA_DIALECTS = (
    LoRADialect(
        name="lycoris",
        example="lycoris_blocks_0_self_attn_q.lora_down.weight",
        signature=re.compile(r"\.(?:hada_|lokr_|dora_scale|oft_blocks|oft_diag)|^lycoris_"),
        prefixes=("lycoris_",),
    ),
    LoRADialect(
        name="kohya",
        example="lora_unet_blocks_0_self_attn_q.lora_down.weight",
        signature=re.compile("^lora_(?:unet_|te)"),
        prefixes=("lora_unet__", "lora_unet_", "lora_te"),
    ),
    LoRADialect(
        name="full-delta",
        example="diffusion_model.blocks.0.self_attn.q.diff_b",
        signature=re.compile(rf"(?:{METHODS[WHOLE]})$"),
    ),
    DIFFUSERS_LORA,
    LoRADialect(
        name="peft",
        example="base_model.model.blocks.0.self_attn.q.lora_A.weight",
        signature=re.compile(r"^base_model\.model\."),
        prefixes=("base_model.model.",),
        names=OFFICIAL_NAMES,
    ),
    LoRADialect(
        name="diffsynth",
        example="pipe.dit.blocks.0.self_attn.q.lora_A.default.weight",
        signature=re.compile(r"\.lora_A\.default\.|^pipe\.dit\."),
        prefixes=("pipe.dit.",),
        names=OFFICIAL_NAMES,
    ),
    LoRADialect(
        name="official",
        example="blocks.0.self_attn.q.lora_down.weight",
        signature=re.compile(r"^(?:vace_)?blocks\."),
        names=OFFICIAL_NAMES,
    ),
    COMFY_LORA,
)
"""All dialects, the more telling first; the last is that of files without any sign."""

PREFIXES = tuple(prefix for dialect in LORA_DIALECTS if dialect.names for prefix in dialect.prefixes)
UNREAD_PREFIXES = tuple(prefix for dialect in LORA_DIALECTS if not dialect.names for prefix in dialect.prefixes)

TABLES = tuple(dict.fromkeys(dialect.names for dialect in LORA_DIALECTS if dialect.names))
"""The tables of all dialects, those of diffusers first: the official one, whose rows end in *, would take its names
for parts of the feed-forward."""


def lora_dialect(names: Iterable[str]) -> str | None:
    """The name of the dialect of a file of low-rank or whole differences; None when it holds none."""
    held = tuple(names)
    if not any(map(is_change, held)):
        return None
    return next(dialect.name for dialect in LORA_DIALECTS if any(map(dialect.signature.search, held)))


def lora_prefix(names: Iterable[str]) -> str:
    """The longest known word before the names of modules; empty where there is none."""
    held = tuple(names)
    known = sorted((*PREFIXES, *UNREAD_PREFIXES, SECOND_EXPERT), key=len, reverse=True)
    return next((prefix for prefix in known if any(name.startswith(prefix) for name in held)), "")


def is_undotted(name: str) -> bool:
    """Return whether a name has _ for dots, as those of kohya's trainers and of LyCORIS; they are not read yet."""
    return name.startswith(UNREAD_PREFIXES)


def own_layer(module: str) -> str:
    """The layer that a module of a file is, in kinoform's names; not every model has it, or any."""
    own = own_parameter(f"{module}.weight")
    return without_prefix(module) if own is None else own.removesuffix(".weight")


def own_parameter(name: str) -> str | None:
    """The own name of a parameter of a file; None when no table has a name of this form."""
    bare = without_prefix(name)
    return next((own for table in TABLES if (own := table.ours(bare)) is not None), None)


def without_prefix(module: str) -> str:
    """The name without the words before it, of which there may be several."""
    while (prefix := next((prefix for prefix in PREFIXES if module.startswith(prefix)), None)) is not None:
        module = module.removeprefix(prefix)
    return module


def elsewhere(module: str, layers: Collection[str]) -> bool:
    """Return whether a module that a model with these layers lacks is a relative's: of the image stream, of VACE, or
    of the second expert."""
    if without_prefix(module).startswith(SECOND_EXPERT):
        return True
    layer = own_layer(module)
    if layer.startswith("context.image."):
        return "context.image.layers.0" not in layers
    if layer.startswith("branches."):
        return not any(name.startswith(f"branches.{layer.split('.')[1]}.") for name in layers)
    block, _, inside = layer.partition(".streams.image.")
    return bool(inside) and f"{block}.streams.text.k" in layers and f"{block}.streams.image.k" not in layers


@runtime_checkable
class Shaped(Protocol):
    """A tensor of which only the shape is known."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def lora_sizes(tensors: Mapping[str, Shaped]) -> dict[str, int]:
    """The number of changed modules, the blocks that they reach, the highest rank, the width of the model."""
    ends = {name: end for name in tensors if (end := taken_apart(name) or method_of(name)) is not None}
    downs = {end.module: tensors[name].shape for name, end in ends.items() if end.kind == DOWN}
    ranks = [shape[0] for shape in downs.values() if shape]
    widths = Counter(shape[-1] for module, shape in downs.items() if len(shape) == 2 and WIDE.search(module))
    numbers = (int(match[1]) for name in tensors if (match := re.search(r"blocks[._](\d{1,3})[._]", name)))
    layers = 1 + max((number for number in numbers if number < MAX_LAYERS), default=-1)
    modules = {end.module for end in ends.values()}
    width = widths.most_common(1)[0][0] if widths else 0
    sizes = {"modules": len(modules), "layers": layers, "rank": max(ranks, default=0), "dim": width}
    return {name: size for name, size in sizes.items() if size}


def not_lora(names: Iterable[str]) -> tuple[str, ...]:
    """Names that belong to no change of a module."""
    return tuple(name for name in names if taken_apart(name) is None and method_of(name) is None)
