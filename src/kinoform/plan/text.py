"""Floating-point operations of the text encoder, in closed form."""

from kinoform.models.text import TextSpec


def text_flops(spec: TextSpec, tokens: int) -> int:
    """One prompt of that many tokens, d wide, a wide in attention, f in the feed-forward.

    layers * 2 * (n (4 d a + 3 d f) + 2 n^2 a); the table of embeddings is looked up, not multiplied.
    """
    rows = 4 * spec.dim * spec.dim_attention + 3 * spec.dim * spec.dim_ffn
    return spec.layers * 2 * (tokens * rows + 2 * tokens * tokens * spec.dim_attention)
