"""VACE blocks in a file of their own, as they are mostly shared; they go onto a text-to-video model of their size.

Sources: the official model, and the names in files that people share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kinoform.errors import WeightsError
from kinoform.families.family import MODULE, NOISES, Dialect, Family, Shapes
from kinoform.families.names import Names
from kinoform.families.transformer import HEAD_WIDTH
from kinoform.families.transformer_names import DIFFUSERS_NAMES, OFFICIAL_NAMES, SIDE
from kinoform.families.wan21 import VACE

if TYPE_CHECKING:
    from kinoform.models.vace_blocks import VaceModule

NEEDED = 4
"""Signatures of a module; two are the same in both dialects."""


def _names(whole: Names) -> Names:
    """The rows of VACE's blocks, their own names without the branch."""
    start = f"{SIDE}."
    rows = ((theirs, ours.removeprefix(start)) for theirs, ours in whole.rows if ours.startswith(start))
    return Names(rows=tuple(rows))


def _signatures(*ends: str) -> frozenset[str]:
    return frozenset(
        (*(f"vace_patch_embedding.{leaf}" for leaf in ("weight", "bias")), *(f"vace_blocks.0.{end}" for end in ends))
    )


def _spec(shapes: Shapes) -> VaceModule:
    """The sizes of the blocks; of the transformer beside them, what they tell of it: as many layers as they are."""
    from kinoform.models.dit import DiTSpec
    from kinoform.models.vace_blocks import VaceBlocks, VaceModule

    dim = shapes.length(("patch_embedding.weight", 0), ("patch_embedding.bias", 0), ("before.bias", 0))
    first, second, third = (shapes.length(("patch_embedding.weight", axis)) for axis in (2, 3, 4))
    layers = max(shapes.layers(), 1)
    beside = DiTSpec(
        dim=dim,
        ffn_dim=shapes.length(("blocks.#.feed_forward.0.weight", 0), ("blocks.#.feed_forward.2.weight", 1)),
        heads=1 if dim % HEAD_WIDTH else dim // HEAD_WIDTH,
        layers=layers,
        patch=(first, second, third),
    )
    channels = shapes.length(("patch_embedding.weight", 1))
    return VaceModule(blocks=VaceBlocks(layers=tuple(range(layers)), channels=channels), beside=beside)


def _sizes(spec: VaceModule) -> Mapping[str, int]:
    return {
        "dim": spec.beside.dim,
        "ffn_dim": spec.beside.ffn_dim,
        "side_layers": len(spec.blocks.layers),
        "side_channels": spec.blocks.channels,
    }


VACE_MODULE = Family(
    name="vace-module",
    part=MODULE,
    description="a VACE module",
    dialects=(
        Dialect(
            name="official",
            signatures=_signatures(
                "before_proj.weight",
                "after_proj.weight",
                "modulation",
                "self_attn.q.weight",
                "cross_attn.q.weight",
                "ffn.0.weight",
            ),
            needed=NEEDED,
            table=_names(OFFICIAL_NAMES),
        ),
        Dialect(
            name="diffusers",
            signatures=_signatures(
                "proj_in.weight",
                "proj_out.weight",
                "scale_shift_table",
                "attn1.to_q.weight",
                "attn2.to_q.weight",
                "ffn.net.0.proj.weight",
            ),
            needed=NEEDED,
            table=_names(DIFFUSERS_NAMES),
        ),
    ),
    spec=_spec,
    sizes=_sizes,
    released=VACE.released,
)


def bases_of(models: Iterable[str]) -> tuple[str, ...]:
    """The released models that the VACE blocks of these released VACE models go onto."""
    names = set(models)
    return tuple(model.base for model in VACE.released if model.name in names)


def module_alone(path: Path, models: Iterable[str]) -> WeightsError:
    """The refusal of a module where a model is wanted; `models` are the released ones that it may be of."""
    advice = " or ".join(dict.fromkeys(_words(path, base) for base in bases_of(models)))
    return WeightsError(
        f"{path} is a VACE module, which goes onto a text-to-video model of its size; give that as the model, and this "
        f"with it: {advice or f'--model MODEL --vace {path}'}",
        code="weights_module_alone",
    )


def _words(path: Path, base: str) -> str:
    """The words that put a module onto a model; onto two experts go two files."""
    model, _, noise = base.rpartition("-")
    if noise not in NOISES:
        return f"--model {base} --vace {path}"
    pair = {"high": "FILE", "low": "FILE", noise: path}
    return " ".join([f"--model {model}", *(f"--vace {name}={file}" for name, file in pair.items())])
