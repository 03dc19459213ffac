"""Tables between two spellings of the same parameters' names; every table is a bijection.

The tables of this file lead from the official names to kinoform's own; those of dialects.py, from others.

A row is a pair of templates. `#` stands for a number, `*` (only at the end) for the rest of the name;
both sides hold the same placeholders in the same order.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from kinoform.errors import WeightsError


@dataclass(frozen=True, kw_only=True)
class Names:
    """One table: `ours(name in the file)` and `theirs(own name)` undo each other."""

    rows: tuple[tuple[str, str], ...]

    @cached_property
    def _forward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(theirs), _template(ours)) for theirs, ours in self.rows]

    @cached_property
    def _backward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(ours), _template(theirs)) for theirs, ours in self.rows]

    def ours(self, name: str) -> str | None:
        """The own name of a parameter of the file, None when the table does not know it."""
        return _translate(name, self._forward)

    def theirs(self, name: str) -> str:
        """The name in the file of one of kinoform's parameters; WeightsError when it has none."""
        found = _translate(name, self._backward)
        if found is None:
            raise WeightsError(
                f"{name} has no name in this dialect: the official model has no such part", code="weights_unknown_keys"
            )
        return found

    def official(self, names: Iterable[str]) -> dict[str, str]:
        """Official name -> own name, for a model with these parameters."""
        return {self.theirs(name): name for name in names}

    def then(self, other: "Names") -> "Names":
        """From this table's names to the own names of `other`, whose official names are those of this one.

        Rows of parts that `other` does not know are left out. A row of this table must say no less than the
        row of `other` that carries on from it.
        """
        onward = [(_pattern(theirs, number=r"(#|\d+)"), _template(ours)) for theirs, ours in other.rows]
        reached = ((theirs, _translate(middle, onward)) for theirs, middle in self.rows)
        return Names(rows=tuple((theirs, ours) for theirs, ours in reached if ours is not None))


def _pattern(template: str, *, number: str = r"(\d+)") -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\#", number).replace(r"\*", r"(.+)"))


def _template(template: str) -> str:
    return template.replace("#", "{}").replace("*", "{}")


def _translate(name: str, table: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in table:
        if match := pattern.fullmatch(name):
            return template.format(*match.groups())
    return None


def _block_rows(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """The rows of one transformer block under a prefix (main blocks, or side blocks of branches)."""
    image = f"{ours}.cross_attention.streams.image"
    text = f"{ours}.cross_attention.streams.text"
    return (
        (f"{theirs}.modulation", f"{ours}.modulation"),
        (f"{theirs}.self_attn.*", f"{ours}.self_attention.*"),
        (f"{theirs}.norm3.*", f"{ours}.cross_norm.*"),
        (f"{theirs}.cross_attn.k_img.*", f"{image}.k.*"),
        (f"{theirs}.cross_attn.v_img.*", f"{image}.v.*"),
        (f"{theirs}.cross_attn.norm_k_img.*", f"{image}.norm_k.*"),
        (f"{theirs}.cross_attn.k.*", f"{text}.k.*"),
        (f"{theirs}.cross_attn.v.*", f"{text}.v.*"),
        (f"{theirs}.cross_attn.norm_k.*", f"{text}.norm_k.*"),
        (f"{theirs}.cross_attn.q.*", f"{ours}.cross_attention.q.*"),
        (f"{theirs}.cross_attn.o.*", f"{ours}.cross_attention.o.*"),
        (f"{theirs}.cross_attn.norm_q.*", f"{ours}.cross_attention.norm_q.*"),
        (f"{theirs}.ffn.*", f"{ours}.feed_forward.*"),
    )


DIT = Names(
    rows=(
        ("patch_embedding.*", "patch_embedding.*"),
        ("text_embedding.#.*", "context.text.layers.#.*"),
        ("img_emb.emb_pos", "context.image.positions"),
        ("img_emb.proj.0.*", "context.image.norm_in.*"),
        ("img_emb.proj.1.*", "context.image.layers.0.*"),
        ("img_emb.proj.3.*", "context.image.layers.2.*"),
        ("img_emb.proj.4.*", "context.image.norm_out.*"),
        ("time_embedding.*", "time_embedding.*"),
        ("time_projection.*", "time_projection.*"),
        ("head.modulation", "head.modulation"),
        ("head.head.*", "head.linear.*"),
        *_block_rows("blocks.#", "blocks.#"),
        ("vace_patch_embedding.*", "branches.vace.patch_embedding.*"),
        ("vace_blocks.0.before_proj.*", "branches.vace.before.*"),
        ("vace_blocks.#.after_proj.*", "branches.vace.after.#.*"),
        *_block_rows("vace_blocks.#", "branches.vace.blocks.#"),
    )
)

TEXT_ENCODER = Names(
    rows=(
        ("token_embedding.weight", "token_embedding.weight"),
        ("norm.weight", "norm.weight"),
        ("blocks.#.norm1.weight", "blocks.#.norm1.weight"),
        ("blocks.#.norm2.weight", "blocks.#.norm2.weight"),
        ("blocks.#.attn.*", "blocks.#.attention.*"),
        ("blocks.#.ffn.gate.0.weight", "blocks.#.feed_forward.gate.weight"),
        ("blocks.#.ffn.fc1.weight", "blocks.#.feed_forward.up.weight"),
        ("blocks.#.ffn.fc2.weight", "blocks.#.feed_forward.down.weight"),
        ("blocks.#.pos_embedding.embedding.weight", "blocks.#.position_bias.weight"),
    )
)

IMAGE_ENCODER = Names(
    rows=(
        ("cls_embedding", "class_embedding"),
        ("pos_embedding", "positions"),
        ("patch_embedding.weight", "patch_embedding"),
        ("pre_norm.*", "norm_in.*"),
        ("transformer.#.norm1.*", "blocks.#.norm1.*"),
        ("transformer.#.norm2.*", "blocks.#.norm2.*"),
        ("transformer.#.attn.to_q.*", "blocks.#.q.*"),
        ("transformer.#.attn.to_k.*", "blocks.#.k.*"),
        ("transformer.#.attn.to_v.*", "blocks.#.v.*"),
        ("transformer.#.attn.proj.*", "blocks.#.o.*"),
        ("transformer.#.mlp.*", "blocks.#.mlp.*"),
    )
)
"""Of the visual half, whose fused `to_qkv` clip.py takes apart."""


def _residual_rows(place: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{place}.residual.0.gamma", f"{place}.norm1.gamma"),
        (f"{place}.residual.2.*", f"{place}.conv1.*"),
        (f"{place}.residual.3.gamma", f"{place}.norm2.gamma"),
        (f"{place}.residual.6.*", f"{place}.conv2.*"),
        (f"{place}.shortcut.*", f"{place}.shortcut.*"),
    )


def _half_rows(half: str, levels: str) -> tuple[tuple[str, str], ...]:
    level = f"{half}.{levels}.#"
    return (
        (f"{half}.conv1.*", f"{half}.conv_in.*"),
        *_residual_rows(level),
        (f"{level}.resample.1.*", f"{level}.resample.*"),
        (f"{level}.time_conv.*", f"{level}.time_conv.*"),
        *_residual_rows(f"{half}.middle.#"),
        (f"{half}.middle.#.norm.gamma", f"{half}.middle.#.norm.gamma"),
        (f"{half}.middle.#.to_qkv.*", f"{half}.middle.#.to_qkv.*"),
        (f"{half}.middle.#.proj.*", f"{half}.middle.#.proj.*"),
        (f"{half}.head.0.gamma", f"{half}.norm_out.gamma"),
        (f"{half}.head.2.*", f"{half}.conv_out.*"),
    )


VAE21 = Names(
    rows=(
        ("conv1.*", "moments.*"),
        ("conv2.*", "expand.*"),
        *_half_rows("encoder", "downsamples"),
        *_half_rows("decoder", "upsamples"),
    )
)
