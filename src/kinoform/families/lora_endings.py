"""Endings of names in files of low-rank changes: one table, by which dialects are told and files are read.

What stands before an ending is a module. READ are the endings of LoRA itself; all others are of methods that
kinoform does not read, for which a file must not be taken as plain LoRA: its numbers would be wrong. `NAME` is what
peft calls an adapter, as `.default`, which raw state dicts keep.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

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


def _ending(kinds: dict[str, str]) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A pattern with one group a kind, and the kinds in the order of the groups."""
    return re.compile("|".join(f"({endings})$" for endings in map(_grouped, kinds.values()))), tuple(kinds)


def _grouped(endings: str) -> str:
    return f"(?:{endings})"


READ_ENDINGS, METHOD_ENDINGS = _ending(READ), _ending(METHODS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A name taken apart: `kind` is DOWN, UP or ALPHA, or the method that is not read."""

    module: str
    kind: str


def taken_apart(name: str) -> Ended | None:
    """The piece of a plain LoRA that a tensor is; None when it is none."""
    found = _found(name, READ_ENDINGS)
    if found is None:
        return None
    # Attention processors of older trainers name the layer behind themselves, and the output without its number.
    module = re.sub(r"\.processor\.(to_\w+)$", r".\1", found.module)
    return Ended(module=re.sub(r"\.to_out$", ".to_out.0", module), kind=found.kind)


def method_of(name: str) -> Ended | None:
    """The method that is not read to which a tensor belongs; None for all other names."""
    return _found(name, METHOD_ENDINGS)


def is_change(name: str) -> bool:
    """Return whether such a name shows that a file holds changes of a model."""
    return WEAK.search(name) is None and (taken_apart(name) or method_of(name)) is not None


def methods(names: Iterable[str]) -> tuple[str, ...]:
    """The methods that are not read, in the order in which they occur."""
    return tuple(dict.fromkeys(found.kind for name in names if (found := method_of(name)) is not None))


def _found(name: str, endings: tuple[re.Pattern[str], tuple[str, ...]]) -> Ended | None:
    pattern, kinds = endings
    match = pattern.search(name)
    if match is None or match.lastindex is None:
        return None
    return Ended(module=name[: match.start()], kind=kinds[match.lastindex - 1])
