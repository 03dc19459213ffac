"""Floating-point operations and memory of the image encoder, in closed form."""

from kinoform.models.vision import VisionSpec


def vision_flops(spec: VisionSpec) -> int:
    """One image: n rows, d wide, f in the feed-forward, in all blocks but the last, which is not run.

    2 * patches * 3 p^2 d + (layers - 1) * 2 * (n (4 d^2 + 2 d f) + 2 n^2 d).
    """
    rows, dim = spec.rows, spec.dim
    embedding = 2 * (rows - 1) * 3 * spec.patch**2 * dim
    block = rows * (4 * dim * dim + 2 * dim * spec.dim_ffn) + 2 * rows * rows * dim
    return embedding + (spec.layers - 1) * 2 * block


def vision_bytes(spec: VisionSpec, item: int) -> int:
    """The widest layer: the rows and their sums in float32, and the hidden rows before and after the activation."""
    return spec.rows * (4 * 4 * spec.dim + 3 * item * spec.dim_ffn)
