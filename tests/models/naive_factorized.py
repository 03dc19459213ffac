"""The whole factorized model again, to be seen through: numpy in float64, one video, one token, one head at a time.

Nothing of kinoform is used but the names of the weights. Slow on purpose; test_factorized_naive.py compares.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import erf, sqrt

import numpy as np

Array = np.ndarray
Token = tuple[int, int, int]
"""Its place in the grid: frame, row, column."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """`patch` is (time, height, width), `rows` the length to which text is padded; `time_first` the order "after"."""

    heads: int
    layers: int
    patch: tuple[int, int, int]
    rows: int
    waves: int
    time_first: bool
    eps: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Arrays by kinoform's names; `under` gives those below a prefix."""

    held: Mapping[str, Array]
    prefix: str = ""

    def __getitem__(self, name: str) -> Array:
        return self.held[self.prefix + name]

    def under(self, name: str) -> "Weights":
        return Weights(held=self.held, prefix=f"{self.prefix}{name}.")

    def linear(self, name: str, x: Array) -> Array:
        return self[f"{name}.weight"] @ x + self[f"{name}.bias"]


def velocity(
    held: Mapping[str, Array], sizes: Sizes, x: Array, timestep: float, text: Array, reference: Array | None = None
) -> Array:
    """The velocity [c, f, h, w] of latents x at a timestep, told rows of text and, if there are any, of an image."""
    weights = Weights(held=held)
    tokens = {place: embedded(weights, volume(x, place, sizes.patch)) for place in places(x, sizes.patch)}
    level = weights.linear("time_embedding.2", silu(weights.linear("time_embedding.0", waves(timestep, sizes.waves))))
    rows = weights.linear("time_projection.1", silu(level)).reshape(9, -1)
    context = {"text": [text_row(weights, row) for row in padded(text, sizes.rows)]}
    if reference is not None:
        context["reference"] = [image_row(weights.under("context.reference"), row) for row in reference]
    for layer in range(sizes.layers):
        tokens = block(weights.under(f"blocks.{layer}"), sizes, tokens, rows, context)
    found = np.zeros_like(x)
    shift, scale = weights["head.modulation"][0] + level
    for place, token in tokens.items():
        values = weights.linear("head.linear", normed(token, sizes.eps) * (1 + scale) + shift)
        volume(found, place, sizes.patch)[...] = np.moveaxis(values.reshape(*sizes.patch, -1), -1, 0)
    return found


def block(
    weights: Weights, sizes: Sizes, tokens: dict[Token, Array], level: Array, context: Mapping[str, list[Array]]
) -> dict[Token, Array]:
    rows = weights["modulation"][0] + level
    order = ("space", "time", "cross") if sizes.time_first else ("space", "cross", "time")
    for part in order:
        if part == "space":
            groups = by(tokens, lambda place: place[0])
            tokens = attended(weights.under("self_attention"), sizes, tokens, groups, rows[0:3])
        elif part == "time":
            groups = by(tokens, lambda place: place[1:])
            tokens = attended(weights.under("time_attention"), sizes, tokens, groups, rows[6:9])
        else:
            tokens = {place: token + cross(weights, sizes, token, context) for place, token in tokens.items()}
    shift, scale, gate = rows[3:6]
    for place, token in tokens.items():
        hidden = weights.linear("feed_forward.0", normed(token, sizes.eps) * (1 + scale) + shift)
        tokens[place] = token + gate * weights.linear("feed_forward.2", gelu_tanh(hidden))
    return tokens


def attended(
    weights: Weights, sizes: Sizes, tokens: dict[Token, Array], groups: Iterable[list[Token]], rows: Array
) -> dict[Token, Array]:
    """Every token with what it has seen of its own group."""
    shift, scale, gate = rows
    found = {}
    for group in groups:
        inputs = {place: normed(tokens[place], sizes.eps) * (1 + scale) + shift for place in group}
        queries, keys = (
            {
                place: turned(
                    heads(rms(weights.linear(name, x), weights[f"norm_{name}.weight"], sizes.eps), sizes), place
                )
                for place, x in inputs.items()
            }
            for name in ("q", "k")
        )
        values = [heads(weights.linear("v", x), sizes) for x in inputs.values()]
        for place in group:
            seen = looked(queries[place], list(keys.values()), values)
            found[place] = tokens[place] + gate * weights.linear("o", seen)
    return found


def cross(weights: Weights, sizes: Sizes, token: Array, context: Mapping[str, list[Array]]) -> Array:
    own = weights.under("cross_attention")
    x = normed(token, sizes.eps) * weights["cross_norm.weight"] + weights["cross_norm.bias"]
    query = heads(rms(own.linear("q", x), own["norm_q.weight"], sizes.eps), sizes)
    seen = np.zeros_like(token)
    for name, rows in context.items():
        stream = own.under(f"streams.{name}")
        keys = [heads(rms(stream.linear("k", row), stream["norm_k.weight"], sizes.eps), sizes) for row in rows]
        values = [heads(stream.linear("v", row), sizes) for row in rows]
        gate = stream["gate"][0] if name == "reference" else 1.0
        seen = seen + gate * looked(query, keys, values)
    return own.linear("o", seen)


def looked(query: Array, keys: list[Array], values: list[Array]) -> Array:
    """softmax(q k / sqrt(width)) v, head by head."""
    found = []
    for head, q in enumerate(query):
        scores = np.array([q @ key[head] for key in keys]) / sqrt(len(q))
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        found.append(sum(share * value[head] for share, value in zip(shares, values, strict=True)))
    return np.concatenate(found)


def turned(x: Array, place: Token) -> Array:
    """Each pair of columns of each head by the angle of its axis: of width k, k - 4 (k // 6) columns are of time."""
    width = x.shape[1]
    side = 2 * (width // 6)
    found, column = x.copy(), 0
    for position, columns in zip(place, (width - 2 * side, side, side), strict=True):
        for pair in range(columns // 2):
            angle = position * 10000.0 ** (-2 * pair / columns)
            even, odd = x[:, column], x[:, column + 1]
            found[:, column] = even * np.cos(angle) - odd * np.sin(angle)
            found[:, column + 1] = even * np.sin(angle) + odd * np.cos(angle)
            column += 2
    return found


def places(x: Array, patch: tuple[int, int, int]) -> list[Token]:
    frames, height, width = (size // part for size, part in zip(x.shape[1:], patch, strict=True))
    return [(f, h, w) for f in range(frames) for h in range(height) for w in range(width)]


def volume(x: Array, place: Token, patch: tuple[int, int, int]) -> Array:
    """The part of x that a token stands for, as a view [c, pt, ph, pw]."""
    cuts = tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, patch, strict=True))
    return x[(slice(None), *cuts)]


def embedded(weights: Weights, part: Array) -> Array:
    return np.tensordot(weights["patch_embedding.weight"], part, axes=4) + weights["patch_embedding.bias"]


def by(tokens: Mapping[Token, Array], key: Callable[[Token], object]) -> list[list[Token]]:
    """The places of the tokens, in groups with the same key."""
    groups: dict[object, list[Token]] = {}
    for place in tokens:
        groups.setdefault(key(place), []).append(place)
    return list(groups.values())


def text_row(weights: Weights, row: Array) -> Array:
    return weights.linear("context.text.layers.2", gelu_tanh(weights.linear("context.text.layers.0", row)))


def image_row(weights: Weights, row: Array) -> Array:
    row = normed(row, 1e-5) * weights["norm_in.weight"] + weights["norm_in.bias"]
    hidden = weights.linear("layers.0", row)
    hidden = hidden * np.array([0.5 * (1 + erf(value / sqrt(2))) for value in hidden])
    return normed(weights.linear("layers.2", hidden), 1e-5) * weights["norm_out.weight"] + weights["norm_out.bias"]


def padded(rows: Array, length: int) -> Array:
    return np.concatenate([rows, np.zeros((length - len(rows), rows.shape[1]))])


def heads(x: Array, sizes: Sizes) -> Array:
    return x.reshape(sizes.heads, -1)


def waves(timestep: float, width: int) -> Array:
    angles = [timestep * 10000.0 ** (-place / (width // 2)) for place in range(width // 2)]
    return np.concatenate([np.cos(angles), np.sin(angles)])


def normed(x: Array, eps: float) -> Array:
    return (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + eps)


def rms(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean() + eps) * weight


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
