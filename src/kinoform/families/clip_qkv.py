"""CLIP's vision tower as three programs store it: fused q, k, v taken apart, leading axes of 1 dropped.

Sources: the official Wan 2.1 code, transformers, OpenCLIP.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from kinoform.checkpoints.files import Checkpoint
from kinoform.checkpoints.formats import Stored
from kinoform.errors import WeightsError

FUSED = re.compile(r"(transformer\.(?:resblocks\.)?\d+\.attn\.)(to_qkv\.|in_proj_)(weight|bias)")
APART = {"to_qkv.": "to_{}.", "in_proj_": "in_proj_{}_"}
"""The official name and OpenCLIP's, and how one of the three parts is called here."""

LONGER = {"cls_embedding": 1, "pos_embedding": 2}
"""Official tensors with leading axes of 1, and how many axes they have without."""


def separated(checkpoint: Checkpoint) -> Checkpoint:
    """Each fused q, k, v as three tensors. Raises WeightsError when its rows are not three equal parts.

    What is no vision tower stays as it is.
    """
    tensors: dict[str, Stored] = {}
    for name, stored in checkpoint.tensors.items():
        if match := FUSED.fullmatch(name):
            rows, rest = divmod(stored.shape[0] if stored.shape else 1, 3)
            if rest:
                raise WeightsError(
                    f"{stored.file}: {name} has shape {list(stored.shape)}, which is no q, k and v",
                    code="weights_wrong_shape",
                )
            for place, part in enumerate("qkv"):
                own = match[1] + APART[match[2]].format(part) + match[3]
                read = _rows(stored.read, place * rows, rows)
                tensors[own] = replace(stored, shape=(rows, *stored.shape[1:]), read=read)
        elif name in LONGER and set(stored.shape[: -LONGER[name]]) == {1}:
            shape = stored.shape[-LONGER[name] :]
            tensors[name] = replace(stored, shape=shape, read=_reshaped(stored.read, shape))
        else:
            tensors[name] = stored
    return replace(checkpoint, tensors=tensors)


def unused(layers: int) -> tuple[str, ...]:
    """Shell patterns of what no video model reads of a tower: its last block, and everything behind it."""
    return (
        f"*.{layers - 1}.*",
        "post_norm.*",
        "head",
        "post_layernorm.*",
        "visual_projection.*",
        "embeddings.position_ids",
        "ln_post.*",
        "proj",
    )


def _rows(read: Callable[[], Tensor], first: int, count: int) -> Callable[[], Tensor]:
    return lambda: read()[first : first + count].clone()


def _reshaped(read: Callable[[], Tensor], shape: tuple[int, ...]) -> Callable[[], Tensor]:
    return lambda: read().reshape(shape)
