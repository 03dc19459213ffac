"""LoRA files: the endings of their tensors' names, and the formats in which kinoform writes them.

Endings are rows of READ and METHODS, by which both detection and the reader go. What stands before an ending is a
module, which `families/lora_names.py` finds. For methods that are not read, a file must not be taken as plain LoRA: its
numbers would be wrong.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kinoform.errors import WeightsError
from kinoform.families.family import LORA, Family
from kinoform.families.lora_names import without_prefix
from kinoform.families.names import Names
from kinoform.families.transformer_names import DIFFUSERS_NAMES, OFFICIAL_NAMES

DOWN, UP, MID, ALPHA, MAGNITUDE = "down", "up", "mid", "alpha", "magnitude"
DIFFERENCE, BIAS, MODULATION = "diff", "diff_b", "diff_m"
WHOLE_WEIGHT, WHOLE_BIAS, SHAPE = "set_weight", "set_bias", "reshape_weight"
HADAMARD = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
KRONECKER = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")

NAME = r"(?:\.[\w-]+)?"
OLD = r"(?:\.lora|\.lora_layer|\.lora_linear_layer|_lora)"
"""Endings of older trainers; the last of attention processors, as in attn1.processor.to_q_lora.down.weight."""

DIFFERENCES = {
    DIFFERENCE: r"\.diff|\.w_norm",
    BIAS: r"\.diff_b|\.b_norm",
    MODULATION: r"\.diff_m",
    WHOLE_WEIGHT: r"\.set_weight|\.modules_to_save\.[\w-]+\.weight",
    WHOLE_BIAS: r"\.set_bias|\.modules_to_save\.[\w-]+\.bias",
    SHAPE: r"\.reshape_weight",
}

READ = {
    DOWN: rf"\.lora_A{NAME}\.weight|\.lora_down{NAME}\.weight|{OLD}\.down\.weight",
    UP: rf"\.lora_B{NAME}\.weight|\.lora_up{NAME}\.weight|{OLD}\.up\.weight",
    MID: rf"\.lora_mid{NAME}\.weight",
    ALPHA: r"\.alpha",
    MAGNITUDE: rf"\.magnitude|\.lora_magnitude_vector{NAME}(?:\.weight)?|\.dora_scale",
    **DIFFERENCES,
    **{role: rf"\.{role}{NAME}" for role in (*HADAMARD, *KRONECKER)},
}
"""Role of a tensor in a change -> endings."""

LEAVES = {
    BIAS: ("bias",),
    WHOLE_BIAS: ("bias",),
    MODULATION: ("modulation", "scale_shift_table", ""),
    DIFFERENCE: ("weight", ""),
    WHOLE_WEIGHT: ("weight", ""),
}
"""Role -> the parameters below a module that it may change, "" being the module itself; else its weight."""

METHODS = {
    "LoRA with biases": rf"\.(?:lora_A|lora_B|lora_down|lora_up){NAME}\.bias|\.bias_delta",
    "weights in parts (LyCORIS' full with wdecomp)": r"\.weight_m_wdecomp\.weight",
    "AdaLoRA": rf"\.lora_(?:E|ranknum){NAME}",
    "LoRA of an embedding": rf"\.lora_embedding_[AB]{NAME}",
    "LoKr with a first core": rf"\.lokr_t1{NAME}",
    "OFT or BOFT": rf"\.b?oft_\w+{NAME}(?:\.weight)?",
    "(IA)3": rf"\.ia3_\w+{NAME}|\.on_input",
    "VeRA": rf"(?:^|\.)p?vera_\w+{NAME}",
    "GLoRA": rf"\.glora_\w+{NAME}(?:\.weight)?|\.(?:[ab][12]|bm)\.weight",
    "another method of peft": (
        r"(?:^|\.)(?:adamss|beft|bone|c3a|deft|delora|fourierft|frod|gralora|hira|hra|lily|ln_tuning|miss|osf|peanut"
        rf"|poly|psoft|randlora|road|shira|tinylora|trainable_tokens|unilora|vblora|waveft)_\w+{NAME}(?:\.weight)?"
    ),
}
"""Method that is not read -> endings."""

WEAK = re.compile(r"\.(?:alpha|magnitude|on_input|[ab][12]\.weight|bm\.weight|[wb]_norm|set_weight|bias_delta)$")
"""Endings that other files may have as well; alone they are no sign of a change."""


def _pattern(table: Mapping[str, str]) -> re.Pattern[str]:
    """A pattern of the endings, with one group for each row of the table."""
    return re.compile("|".join(f"({endings})$" for endings in table.values()))


PATTERNS = tuple((_pattern(table), tuple(table)) for table in (READ, METHODS))
WORDS = 4
"""Words of a name, at most, that its ending has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRAPiece:
    """A tensor of a file of changes: its role, one of READ, or the method that is not read."""

    module: str
    role: str


def piece_of(name: str) -> LoRAPiece | None:
    """Take a name apart; None for a tensor that is of no change."""
    end = ".".join(name.rsplit(".", WORDS)[1:])
    start = max(len(name) - len(end) - 1, 0)
    for pattern, roles in PATTERNS:
        if (match := pattern.search(name, start)) is not None and match.lastindex is not None:
            # Attention processors of older trainers name the layer behind themselves, the output without its number.
            module = re.sub(r"\.processor\.(to_\w+)$", r".\1", name[: match.start()])
            return LoRAPiece(module=re.sub(r"\.to_out$", ".to_out.0", module), role=roles[match.lastindex - 1])
    return None


def is_change(name: str) -> bool:
    """Return whether such a name shows that a file holds changes of a model."""
    return WEAK.search(name) is None and piece_of(name) is not None


def methods(names: Iterable[str]) -> tuple[str, ...]:
    """The methods that are not read, in the order in which they occur."""
    pieces = (piece_of(name) for name in names)
    return tuple(dict.fromkeys(piece.role for piece in pieces if piece is not None and piece.role not in READ))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRADialect:
    """Spelling in which LoRA files are written.

    `prefix` stands before a module, `names` are a table from parameters' names to kinoform's own, `endings` those of
    each role. `undotted`: modules have _ for dots. Without an ending for alpha the scale is multiplied into the second
    matrix.
    """

    name: str
    prefix: str
    names: Names
    endings: Mapping[str, str]
    undotted: bool = False

    @property
    def alpha(self) -> bool:
        return ALPHA in self.endings

    def written(self, parameter: str, role: str) -> str:
        """The name of one tensor of the change of a parameter; one that the official model lacks keeps kinoform's own
        name. Raises WeightsError for a role that such files have no place for."""
        if role not in self.endings:
            raise WeightsError(
                f"files of the format {self.name} have no place for {role}, which changes {parameter}; write another",
                code="lora_not_in_format",
            )
        name = self.names.spelled(parameter)
        for leaf in LEAVES.get(role, ("weight",)):
            name = name.removesuffix(f".{leaf}")
        return f"{self.prefix}{name.replace('.', '_') if self.undotted else name}{self.endings[role]}"


_OTHER_ENDINGS = {
    ALPHA: ".alpha",
    MID: ".lora_mid.weight",
    MAGNITUDE: ".dora_scale",
    **{role: f".{role}" for role in (*DIFFERENCES, *HADAMARD, *KRONECKER) if role != WHOLE_BIAS},
}

DIFFUSERS_LORA = LoRADialect(
    name="diffusers",
    prefix="transformer.",
    names=DIFFUSERS_NAMES,
    endings={DOWN: ".lora_A.weight", UP: ".lora_B.weight"},
)
"""Names that diffusers writes; without an alpha, so that the scale is in the second matrix."""

COMFY_LORA = LoRADialect(
    name="comfy",
    prefix="diffusion_model.",
    names=OFFICIAL_NAMES,
    endings={DOWN: ".lora_A.weight", UP: ".lora_B.weight", **_OTHER_ENDINGS},
)
"""Names that ComfyUI and most trainers write: the official ones behind a prefix, with an alpha."""

KOHYA_LORA = LoRADialect(
    name="kohya",
    prefix="lora_unet_",
    names=OFFICIAL_NAMES,
    endings={DOWN: ".lora_down.weight", UP: ".lora_up.weight", **_OTHER_ENDINGS},
    undotted=True,
)
"""Names that trainers of the kohya kind write, as musubi: _ for the dots of the official ones, with an alpha."""

LORA_FORMATS = (COMFY_LORA, DIFFUSERS_LORA, KOHYA_LORA)

SIGNATURES = {
    "lycoris": r"^lycoris_",
    "kohya": "^lora_(?:unet_|te)",
    "full-delta": rf"(?:{'|'.join(DIFFERENCES.values())})$",
    "diffusers": r"\.attn[12]\.",
    "peft": r"^base_model\.model\.",
    "diffsynth": r"\.lora_A\.default\.|^pipe\.dit\.",
    "official": r"^(?:vace_)?blocks\.",
    "comfy": "",
}
"""Kind of program that writes files -> what one name of these has, the more telling first. For people alone: names are
read by the table of `families/lora_names.py`, whoever wrote them."""


def lora_dialect(names: Iterable[str]) -> str | None:
    """The kind of program that wrote a file of changes; None when it holds none."""
    held = tuple(names)
    if not any(map(is_change, held)):
        return None
    return next(kind for kind, sign in SIGNATURES.items() if any(map(re.compile(sign).search, held)))


def lora_prefix(names: Iterable[str]) -> str:
    """The longest known word before the names of modules; empty where there is none."""
    return max((name.removesuffix(without_prefix(name)) for name in names), key=len, default="")


WIDE = re.compile(r"self_attn[._][qkv]$|self_attention[._][qkv]$|attn1[._]to_[qkv]$")
"""Layers that are as wide as the model."""

MAX_LAYERS = 256
WIDTHS = (DOWN, "hada_w1_b", DIFFERENCE)
"""Roles whose last dimension is what a layer takes."""


@runtime_checkable
class Shaped(Protocol):
    """A tensor of which only the shape is known."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def lora_sizes(tensors: Mapping[str, Shaped]) -> dict[str, int]:
    """The number of changed modules, the blocks that they reach, the highest rank, the width of the model."""
    pieces = {name: piece for name in tensors if (piece := piece_of(name)) is not None and piece.role in READ}
    ranks = [tensors[name].shape[0] for name, piece in pieces.items()
             if piece.role in (DOWN, "hada_w1_b", "lokr_w1_b", "lokr_w2_b") and tensors[name].shape]  # fmt: skip
    widths = Counter(
        shape[-1]
        for name, piece in pieces.items()
        if piece.role in WIDTHS and len(shape := tensors[name].shape) == 2 and WIDE.search(piece.module)
    )
    numbers = (int(match[1]) for name in tensors if (match := re.search(r"blocks[._](\d{1,3})[._]", name)))
    layers = 1 + max((number for number in numbers if number < MAX_LAYERS), default=-1)
    modules = {piece.module for piece in pieces.values()}
    width = widths.most_common(1)[0][0] if widths else 0
    sizes = {"modules": len(modules), "layers": layers, "rank": max(ranks, default=0), "dim": width}
    return {name: size for name, size in sizes.items() if size}


LORA_FAMILY = Family(name="lora", part=LORA, description="a LoRA, which changes a model and is given as --lora")
