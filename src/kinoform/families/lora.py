"""LoRA files: how they spell layers and matrices, and what a file changes of a model.

A dialect is one value in LORA_DIALECTS; the endings of names are rows of READ and METHODS, by which both detection and
the reader go. What stands before an ending is a module. For methods that are not read, a file must not be taken as
plain LoRA: its numbers would be wrong.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kinoform.errors import WeightsError
from kinoform.families.family import LORA, Family
from kinoform.families.names import Names
from kinoform.families.transformer_names import DIFFUSERS_NAMES, OFFICIAL_NAMES

DOWN, UP, ALPHA = "down", "up", "alpha"

NAME = r"(?:\.[\w-]+)?"
OLD = r"(?:\.lora|\.lora_layer|\.lora_linear_layer|_lora)"
"""Endings of older trainers; the last of attention processors, as in attn1.processor.to_q_lora.down.weight."""

READ = {
    DOWN: rf"\.lora_A{NAME}\.weight|\.lora_down{NAME}\.weight|{OLD}\.down\.weight",
    UP: rf"\.lora_B{NAME}\.weight|\.lora_up{NAME}\.weight|{OLD}\.up\.weight",
    ALPHA: r"\.alpha",
}

WHOLE = "whole changes of weights, biases, norms or modulations"
SAVED = "whole weights beside the changes (modules_to_save)"

METHODS = {
    "DoRA": rf"\.magnitude|\.lora_magnitude_vector{NAME}(?:\.weight)?|\.dora_scale|\.weight_m_wdecomp\.weight",
    "LoHa": rf"\.hada_(?:w[12]_[ab]|t[12]){NAME}",
    "LoKr": rf"\.lokr_(?:w[12](?:_[ab])?|t[12]){NAME}",
    "LoRA with a core matrix (Tucker)": rf"\.lora_mid{NAME}\.weight",
    "LoRA with biases": rf"\.(?:lora_A|lora_B|lora_down|lora_up){NAME}\.bias|\.bias_delta",
    "AdaLoRA": rf"\.lora_(?:E|ranknum){NAME}",
    "LoRA of an embedding": rf"\.lora_embedding_[AB]{NAME}",
    "OFT or BOFT": rf"\.b?oft_\w+{NAME}(?:\.weight)?",
    "(IA)3": rf"\.ia3_\w+{NAME}|\.on_input",
    "VeRA": rf"(?:^|\.)p?vera_\w+{NAME}",
    "GLoRA": rf"\.glora_\w+{NAME}(?:\.weight)?|\.(?:[ab][12]|bm)\.weight",
    WHOLE: r"\.diff|\.diff_[bm]|\.set_weight|\.reshape_weight|\.[wb]_norm",
    SAVED: r"\.modules_to_save\.[\w-]+\.(?:weight|bias)",
    "another method of peft": (
        r"(?:^|\.)(?:adamss|beft|bone|c3a|deft|delora|fourierft|frod|gralora|hira|hra|lily|ln_tuning|miss|osf|peanut"
        rf"|poly|psoft|randlora|road|shira|tinylora|trainable_tokens|unilora|vblora|waveft)_\w+{NAME}(?:\.weight)?"
    ),
}
"""Method -> endings."""

WEAK = re.compile(r"\.(?:alpha|magnitude|on_input|[ab][12]\.weight|bm\.weight|[wb]_norm|set_weight|bias_delta)$")
"""Endings that other files may have as well; alone they are no sign of a change."""


def _pattern(table: Mapping[str, str]) -> re.Pattern[str]:
    """A pattern of the endings, with one group for each row of the table."""
    return re.compile("|".join(f"({endings})$" for endings in table.values()))


PATTERNS = tuple((_pattern(table), tuple(table)) for table in (READ, METHODS))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRAPiece:
    """A tensor of a file of changes: `kind` is DOWN, UP or ALPHA, or the method that is not read."""

    module: str
    kind: str


def piece_of(name: str) -> LoRAPiece | None:
    """Take a name apart; None for a tensor that is of no change."""
    for pattern, kinds in PATTERNS:
        if (match := pattern.search(name)) is not None and match.lastindex is not None:
            # Attention processors of older trainers name the layer behind themselves, the output without its number.
            module = re.sub(r"\.processor\.(to_\w+)$", r".\1", name[: match.start()])
            return LoRAPiece(module=re.sub(r"\.to_out$", ".to_out.0", module), kind=kinds[match.lastindex - 1])
    return None


def is_change(name: str) -> bool:
    """Return whether such a name shows that a file holds changes of a model."""
    return WEAK.search(name) is None and piece_of(name) is not None


def methods(names: Iterable[str]) -> tuple[str, ...]:
    """The methods that are not read, in the order in which they occur."""
    pieces = (piece_of(name) for name in names)
    return tuple(dict.fromkeys(piece.kind for piece in pieces if piece is not None and piece.kind not in READ))


WRITTEN = {DOWN: ".lora_A.weight", UP: ".lora_B.weight", ALPHA: ".alpha"}
"""The endings that are written."""

FIRST_EXPERT, SECOND_EXPERT = "transformer_1.", "transformer_2."
"""Words before modules of the experts of high and of low noise. diffusers writes "transformer." for the first, as for
models of one."""

WIDE = re.compile(r"self_attn[._][qkv]$|self_attention\.[qkv]$|attn1[._]to_[qkv]$")
"""Layers that are as wide as the model."""

MAX_LAYERS = 256


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
    prefixes=("transformer.", FIRST_EXPERT),
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
    while (
        prefix := next((prefix for prefix in (*PREFIXES, SECOND_EXPERT) if module.startswith(prefix)), None)
    ) is not None:
        module = module.removeprefix(prefix)
    return module


def is_second(module: str) -> bool:
    """Return whether a module is one of the second expert, of low noise."""
    return SECOND_EXPERT in module.removesuffix(without_prefix(module))


def is_of_relative(module: str, layers: Collection[str], *, second: bool = False) -> bool:
    """Return whether a module that a model with these layers lacks is a relative's: of the image stream, of VACE, or
    of the second expert; of the first one, where the model is the `second`."""
    if is_second(module) is not second and (not second or own_parameter(f"{module}.weight") is not None):
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
    pieces = {name: piece for name in tensors if (piece := piece_of(name)) is not None}
    downs = {piece.module: tensors[name].shape for name, piece in pieces.items() if piece.kind == DOWN}
    ranks = [shape[0] for shape in downs.values() if shape]
    widths = Counter(shape[-1] for module, shape in downs.items() if len(shape) == 2 and WIDE.search(module))
    numbers = (int(match[1]) for name in tensors if (match := re.search(r"blocks[._](\d{1,3})[._]", name)))
    layers = 1 + max((number for number in numbers if number < MAX_LAYERS), default=-1)
    modules = {piece.module for piece in pieces.values()}
    width = widths.most_common(1)[0][0] if widths else 0
    sizes = {"modules": len(modules), "layers": layers, "rank": max(ranks, default=0), "dim": width}
    return {name: size for name, size in sizes.items() if size}


LORA_FAMILY = Family(name="lora", part=LORA, description="a LoRA, which changes a model and is none")
