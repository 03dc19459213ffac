"""The diffusion transformer: noisy latents, a level and prepared conditions in; a velocity out.

Source: the official Wan2.1 and Wan2.2 models (Wan Team, "Wan: Open and Advanced Large-Scale Video Generative
Models", 2025), after DiT (Peebles and Xie, 2023). Numbers and traps: docs/wan21.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.models.block import FullBlock
from kinoform.models.changed import NEGATIVE_TEXT, TEXT, changed_blocks
from kinoform.models.context import TextContext
from kinoform.models.linear import Linear, named_modules
from kinoform.models.patch_embedding import PatchEmbedding
from kinoform.models.protocols import (
    Alone,
    Block,
    BlockSpec,
    Branch,
    BranchSpec,
    ContextSpec,
    InContextTokens,
    KeysValues,
    Mesh,
    Modulation,
    Stream,
    as_it_is,
)
from kinoform.models.segments import SegmentRotation, followed, sequence_phases
from kinoform.ops.layer_changes import LayerChange
from kinoform.ops.norm import layer_norm
from kinoform.ops.patch import Patch, covers, unpatch
from kinoform.ops.rope import Rotary, rotary, tables
from kinoform.ops.sinusoid import sinusoid
from kinoform.types import Conditions, Grid, InContextSegment, Latents, Level, Velocity

# Kept in float32 whatever the weights' dtype: what scales, shifts, gates or normalises the residual stream.
FLOAT32_PARTS = ("time_embedding", "time_projection", "head", "modulation", "norm", "gate", "positions")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTSpec:
    """Sizes and exchangeable parts of a transformer; the defaults are those that all released Wan models share.

    `in_channels` counts the noisy latents (`out_channels` of them) and any conditioning channels after
    them. `head width = dim / heads`. `branches` are modules beside the blocks, by value. With `skip` the
    noisy latents reach the velocity past the blocks too, each channel times a gate that the level sets (from
    0): a narrow model then need not carry the noise through. No released model has it. `segments` says how a model
    that was trained with material in the sequence of its video tells the pieces apart; None for all others.
    """

    dim: int
    ffn_dim: int
    heads: int
    layers: int
    in_channels: int = 16
    out_channels: int = 16
    patch: Patch = (1, 2, 2)
    frequency_width: int = 256
    eps: float = 1e-6
    cross_norm: bool = True
    context: tuple[ContextSpec, ...] = (TextContext(),)
    block: BlockSpec = field(default_factory=FullBlock)
    branches: tuple[BranchSpec, ...] = ()
    skip: bool = False
    segments: SegmentRotation | None = None

    def __post_init__(self) -> None:
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise UsageError(
                f"dim {self.dim} does not give {self.heads} heads of an even width", code="spec_not_divisible"
            )
        if isinstance(self.block, type) or not isinstance(cast(object, self.block), BlockSpec):
            raise UsageError(f"block={self.block!r} is no kind of block; give one as FullBlock()", code="wrong_type")
        if self.in_channels < self.out_channels:
            raise UsageError(
                f"in_channels {self.in_channels} is less than the {self.out_channels} that are denoised",
                code="spec_inconsistent",
            )

    def build(self) -> DiT:
        return DiT(self)


class Prepared(NamedTuple):
    """Values that stay the same at every step of one video and one prompt."""

    channels: Latents | None
    constant: Float[Tensor, "b l d"]  # the patch embedding of `channels`, plus its bias; float32
    context: Mapping[str, Tensor]  # embedded tokens by source, each [b, n, d]
    keys: tuple[KeysValues, ...]
    rotary: Rotary
    grid: Grid
    clean: Bool[Tensor, " l"] | None
    payloads: Mapping[str, Any]
    mesh: Mesh
    blocks: tuple[Block, ...]  # the model's own, or copies of them with a change
    segments: tuple[InContextSegment, ...] = ()

    def begins_as(self, other: Prepared) -> bool:
        """Return whether all that is computed before the context is read is the other's too."""
        own, others = ([id(item.latents) for item in each.segments] for each in (self, other))
        alike = self.channels is other.channels and self.clean is other.clean and own == others
        return alike and self.blocks[0] is other.blocks[0] and not self.payloads and not other.payloads


class Head(nn.Module):
    """norm -> scale and shift by the time embedding -> Linear, all in float32."""

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        self.eps = spec.eps
        self.modulation = nn.Parameter(torch.zeros(1, 2, spec.dim))
        self.linear = Linear(spec.dim, spec.out_channels * prod(spec.patch))
        self.skip = Linear(spec.dim, spec.out_channels) if spec.skip else None

    def forward(self, tokens: Float[Tensor, "b l d"], modulation: Modulation) -> Float[Tensor, "b l p"]:
        rows = self.modulation[:, None] + modulation.embedding[:, :, None]
        shift, scale = (modulation.of_tokens(rows[:, :, i]) for i in range(2))
        return self.linear(layer_norm(tokens, self.eps) * (1 + scale) + shift)

    def gates(self, modulation: Modulation) -> Float[Tensor, "#b #l c"] | None:
        """Return by how much the noisy latents are added to the velocity, by channel; None without `skip`."""
        return None if self.skip is None else modulation.of_tokens(self.skip(modulation.embedding))


class DiT(nn.Module):
    """Transformer of Wan. Call `prepare` once a video, then `forward` (or `velocities`, for guidance) at every step.

    `around` stands around each block that runs, as gradient checkpointing does; the parameters are the block's.
    """

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        dim = spec.dim
        self.spec = spec
        self.patch_embedding = PatchEmbedding(spec.in_channels, dim, spec.patch)
        self.context = nn.ModuleDict({source.name: source.build(dim, spec.eps) for source in spec.context})
        self.time_embedding = nn.Sequential(Linear(spec.frequency_width, dim), nn.SiLU(), Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), Linear(dim, spec.block.modulation_rows * dim))
        self.blocks = nn.ModuleList(spec.block.build(spec, layer) for layer in range(spec.layers))
        self.head = Head(spec)
        self.branches = nn.ModuleDict({branch.name: branch.build(spec) for branch in spec.branches})
        self.around: Callable[[Block], Block] = as_it_is

    def prepare(
        self, conditions: Conditions, grid: Grid, mesh: Mesh | None = None, change: LayerChange | None = None,
        negative: Float[Tensor, "b n d"] | None = None,
    ) -> Prepared:  # fmt: skip
        """Text MLP, cross-attention keys, phases, the constant part of the patch embedding.

        With a `change` the blocks are copies that have it; `negative` are the negative prompt's rows, if it reads them.

        Raises UsageError when the conditions are not those of the model: a missing or unknown context
        source or branch, conditioning channels of another number or size, clean tokens of another number, segments that
        it does not take.
        """
        self._check(conditions, grid)
        weight = self.patch_embedding.weight
        embedded = {n: self.context[n](tokens.to(weight.device)) for n, tokens in conditions.context.items()}
        context = concatenated(embedded, self.spec.context)
        blocks: tuple[Block, ...] = tuple(self.around(self._block(layer)) for layer in range(self.spec.layers))
        read = (
            context if negative is None else {**context, NEGATIVE_TEXT: self.context[TEXT](negative.to(weight.device))}
        )
        if change is not None:
            blocks = changed_blocks(blocks, change)
        constant = self.patch_embedding.bias.float()[None, None]
        if conditions.channels is not None:
            constant = self.patch_embedding.part(conditions.channels, self.spec.out_channels) + constant
        return Prepared(
            channels=conditions.channels,
            constant=constant,
            context=context,
            keys=tuple(block.keys(read) for block in blocks),
            blocks=blocks,
            rotary=tables(sequence_phases(self.spec, conditions.segments, grid), weight.device),
            grid=grid,
            clean=conditions.clean,
            payloads={n: self._branch(n).prepare(p, context, grid) for n, p in conditions.branches.items()},
            mesh=mesh or Alone(),
            segments=conditions.segments,
        )

    def forward(self, x: Latents, timesteps: Tensor, prepared: Prepared) -> Velocity:
        """The velocity noise - data [b, c, f, h, w] (float32) of x at timesteps [b] or, per token, [b, l].

        Tokens that the conditions call clean are at timestep 0 whatever is given.
        """
        return self._finish(x, *self._begin(x, timesteps, prepared), prepared)

    def velocities(self, x: Latents, level: Level, prepared: Sequence[Prepared]) -> list[Velocity]:
        """One velocity per prepared condition (guidance needs two), at one level of the whole video.

        Conditions that differ in their context alone share the embedding and block 0's self-attention: the same
        numbers, computed once.
        """
        timesteps = torch.full((len(x),), float(level.timestep), device=x.device)
        velocities: dict[int, Velocity] = {}
        for index, item in enumerate(prepared):
            if index in velocities:
                continue
            begun = self._begin(x, timesteps, item)
            alike = [other for other in range(index + 1, len(prepared)) if prepared[other].begins_as(item)]
            velocities |= {place: self._finish(x, *begun, prepared[place]) for place in (index, *alike)}
        return [velocities[index] for index in range(len(prepared))]

    def compile(self, *args: Any, **options: Any) -> None:
        """Have PyTorch compile every block, VACE's too, the first time that it is called; see `torch.compile`.

        Generation calls blocks and never the whole. The halves of block 0, which guidance shares, stay as they are.
        """
        for module in self.modules():
            if isinstance(module, Block):
                cast(Any, module).compile(*args, **options)

    def _begin(self, x: Latents, timesteps: Tensor, prepared: Prepared) -> tuple[Stream, dict[str, Any]]:
        """Embed, let branches open, and run the part of block 0 that does not read the context."""
        if x.shape[1] != self.spec.out_channels or not covers(prepared.grid, x, self.spec.patch):
            wants = f"{self.spec.out_channels} channels on the prepared grid {prepared.grid}"
            raise UsageError(f"latents {tuple(x.shape)} given; the model denoises {wants}", code="wrong_shape")
        timesteps = at_rest(timesteps, prepared.clean)
        video = self.patch_embedding.part(x, 0) + prepared.constant
        tokens = followed(video, prepared.segments, self.patch_embedding)
        more = tokens.shape[1] - video.shape[1]
        if more and timesteps.dim() == 2:  # segments have the level of what is denoised
            timesteps = torch.cat([timesteps, timesteps.amax(1, keepdim=True).expand(-1, more)], dim=1)
        stream = Stream(
            tokens=tokens,
            start=video,
            rotary=prepared.rotary,
            grid=prepared.grid,
            modulation=self.modulation(timesteps),
            context=prepared.context,
            mesh=prepared.mesh,
            in_context=more,
        )
        states: dict[str, Any] = {}
        for name, payload in prepared.payloads.items():
            added, states[name] = self._branch(name).open(stream, payload)
            if added is not None:
                timesteps = per_token(timesteps, stream.tokens.shape[1], added)
                stream = self._append(stream, added, timesteps)
        return prepared.blocks[0].before_context(stream.split()), states

    def _finish(self, x: Latents, stream: Stream, states: Mapping[str, Any], prepared: Prepared) -> Velocity:
        stream, states = replace(stream, context=prepared.context), dict(states)
        for layer, (block, keys) in enumerate(zip(prepared.blocks, prepared.keys, strict=True)):
            stream = block(stream, keys) if layer else block.after_context(stream, keys)
            for name, state in states.items():
                stream, states[name] = self._branch(name).after_block(layer, stream, state)
        stream = stream.gather()
        for name, state in states.items():
            stream = self._branch(name).close(stream, state)
        grid, patch, stream = prepared.grid, self.spec.patch, stream.video()
        velocity = unpatch(self.head(stream.tokens, stream.modulation), grid, patch)
        gates = self.head.gates(stream.modulation)
        if gates is None:
            return velocity
        gates = gates.expand(len(x), grid.tokens, -1).repeat(1, 1, prod(patch))
        return velocity + unpatch(gates, grid, patch) * x

    def modulation(self, timesteps: Tensor) -> Modulation:
        """Rows for the levels that occur: one per sample for [b], the distinct ones for [b, l]."""
        index = None
        levels = timesteps[:, None]
        if timesteps.dim() == 2:
            distinct, index = _distinct(timesteps)
            levels = distinct[None]
        embedding = self.time_embedding(sinusoid(levels.float(), self.spec.frequency_width))
        rows = self.time_projection(embedding).unflatten(-1, (-1, self.spec.dim))
        return Modulation(embedding=embedding, rows=rows, index=index)

    def _append(self, stream: Stream, added: InContextTokens, timesteps: Tensor) -> Stream:
        own = rotary(added.positions, self.spec.dim // self.spec.heads, stream.tokens.device)
        return replace(
            stream,
            tokens=torch.cat([stream.tokens, added.tokens.float()], dim=1),
            rotary=Rotary(torch.cat([stream.rotary.cos, own.cos]), torch.cat([stream.rotary.sin, own.sin])),
            modulation=self.modulation(timesteps),
            in_context=stream.in_context + added.tokens.shape[1],
        )

    def _check(self, conditions: Conditions, grid: Grid) -> None:
        known = {source.name for source in self.spec.context}
        required = {source.name for source in self.spec.context if not source.gated and source.concat_to is None}
        if not required <= conditions.context.keys() <= known:
            raise UsageError(
                f"context of {sorted(conditions.context)} given; the model reads {sorted(known)}",
                code="context_not_taken",
            )
        if unknown := set(conditions.branches) - set(self.branches):
            raise UsageError(
                f"branches {sorted(unknown)} are not in the model; it has {sorted(self.branches)}",
                code="model_lacks_part",
            )
        extra = 0 if conditions.channels is None else conditions.channels.shape[1]
        if extra != self.spec.in_channels - self.spec.out_channels:
            wants = self.spec.in_channels - self.spec.out_channels
            raise UsageError(
                f"{extra} conditioning channels given; the model takes {wants} after the latents", code="wrong_shape"
            )
        if conditions.channels is not None and not covers(grid, conditions.channels, self.spec.patch):
            raise UsageError(
                f"conditioning channels {tuple(conditions.channels.shape)} do not have the grid {grid}",
                code="wrong_shape",
            )
        if conditions.clean is not None and len(conditions.clean) != grid.tokens:
            raise UsageError(
                f"{len(conditions.clean)} tokens are called clean or not; the video has {grid.tokens}",
                code="wrong_shape",
            )

    def _block(self, layer: int) -> Block:
        return cast(Block, self.blocks[layer])

    def _branch(self, name: str) -> Branch:
        return cast(Branch, self.branches[name])


def concatenated(tokens: Mapping[str, Tensor], sources: Sequence[ContextSpec]) -> dict[str, Tensor]:
    """Append the embedded tokens of each source with `concat_to` to those of the source that it names."""
    result = dict(tokens)
    for source in sources:
        if source.concat_to is not None and source.name in result:
            result[source.concat_to] = torch.cat([result[source.concat_to], result.pop(source.name)], dim=1)
    return result


def _distinct(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct timesteps and, for each token, the index of its own."""
    return torch.unique(timesteps, return_inverse=True)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def at_rest(timesteps: Tensor, clean: Bool[Tensor, " l"] | None) -> Tensor:
    """Timesteps [b] or [b, l] as they are or, where some tokens are clean, [b, l] with these at 0."""
    if clean is None:
        return timesteps
    levels = timesteps if timesteps.dim() == 2 else timesteps[:, None]
    return levels * (~clean).to(levels)[None]


def per_token(timesteps: Tensor, length: int, added: InContextTokens) -> Float[Tensor, "b l"]:
    """Return the timesteps of the tokens so far and, after them, of the added ones."""
    own = timesteps if timesteps.dim() == 2 else timesteps[:, None].expand(-1, length)
    return torch.cat([own, own.new_full((len(own), added.tokens.shape[1]), added.timestep)], dim=1)


def initialise(model: DiT, generator: torch.Generator) -> None:
    """Weights to start training from, as the official model draws them.

    Linear: Xavier uniform and zero bias; patch embedding likewise over [d, rest]; text and time MLPs:
    normal(0.02), the time projection Xavier; head and its gates: zero; modulation: normal / sqrt(d). Branches keep the
    weights that they were built with, so that one whose last layer is zero starts without effect.
    """
    for name, module in named_modules(model, Linear):
        if not name.startswith("branches."):
            nn.init.zeros_(module.bias)
            if name.startswith(("context.text.", "time_embedding.")):
                nn.init.normal_(module.weight, std=0.02, generator=generator)
            else:
                nn.init.xavier_uniform_(module.weight, generator=generator)
    nn.init.xavier_uniform_(model.patch_embedding.weight.data.flatten(1), generator=generator)
    nn.init.zeros_(model.head.linear.weight)
    if model.head.skip is not None:
        nn.init.zeros_(model.head.skip.weight)
    for name, parameter in model.named_parameters():
        if name.endswith("modulation") and not name.startswith("branches."):
            nn.init.normal_(parameter, std=model.spec.dim**-0.5, generator=generator)


def cast_weights(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Weights in `dtype`, in place; the parts named in FLOAT32_PARTS stay in float32."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if keeps_float32(name) else dtype)
    return model


def keeps_float32(name: str) -> bool:
    """Return whether the parameter of a transformer with this name is one of FLOAT32_PARTS."""
    return any(part.startswith(FLOAT32_PARTS) or "norm" in part for part in name.split("."))
