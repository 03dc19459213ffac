"""Codecs, blocks, attention schemes and branches that the package does not know are counted as its own are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinoform.cli.plan_report import report
from kinoform.conditions.inputs import NO_INPUTS, InputField, Inputs
from kinoform.conditions.protocols import (
    Conditioner,
    ConditionerOutput,
    EncodeCost,
    Encoders,
    EncoderSpecs,
    Units,
    VideoSize,
)
from kinoform.models.attention.full import everywhere
from kinoform.models.block import FullBlock, TransformerBlock
from kinoform.models.codec import Codec, IdentityCodec, decode_video
from kinoform.models.context import TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.protocols import Attend, InContextTokens, Stream, TransformerSizes
from kinoform.models.text import TextSpec
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import grid_of
from kinoform.pipelines.fit import workload_of
from kinoform.pipelines.request import request
from kinoform.plan.modules import decode_run
from kinoform.plan.video_plan import VideoPlan, plan_video
from kinoform.recipe import Recipe
from kinoform.types import Conditions, Grid
from tests.plan.planned_videos import PLAIN_KERNELS, run_of, sizes_of

TEXT = TextContext(width=10, length=6)
SPEC = DiTSpec(
    dim=24, ffn_dim=40, heads=2, layers=3, in_channels=3, out_channels=3, frequency_width=16, context=(TEXT,)
)  # fmt: skip
BASE = Recipe(
    name="idea", transformers=(SPEC,), codec=IdentityCodec(),
    text=TextSpec(vocab=9, dim=10, dim_attention=8, dim_ffn=12, heads=2, layers=1, buckets=8, length=6),
    width=24, height=16, num_frames=5, steps=4,
)  # fmt: skip


def planned(made: Recipe, inputs: Inputs = NO_INPUTS) -> VideoPlan:
    return plan_video(
        sizes_of(made), workload_of(request(made, "a", 1, inputs=inputs)), dtype=torch.float32, device="cpu"
    )


class Patched(nn.Module):
    """A codec of 1 x 2 x 2 patches: a matrix, and the mean of all latents so far as its history."""

    channels, stride = 3, (1, 2, 2)

    def __init__(self, asks: bool) -> None:
        super().__init__()
        self.layer, self.asks = nn.Conv3d(3, 12, 1), asks

    def encode(self, pixels: Tensor, history: Any = None) -> tuple[Tensor, Any]:
        return nn.functional.avg_pool3d(pixels, self.stride), ()

    def decode(self, latents: Tensor, history: Any = None) -> tuple[Tensor, Any]:
        if self.asks and latents.sum().item() > 0:
            raise AssertionError
        found = self.layer(latents if history is None else latents + history)
        pixels = found.unflatten(1, (3, 2, 2)).permute(0, 1, 4, 5, 2, 6, 3).flatten(5, 6).flatten(3, 4)
        return pixels, latents.mean(2, keepdim=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchedSpec:
    asks: bool = False
    channels: int = 3
    stride: tuple[int, int, int] = (1, 2, 2)
    weightless: bool = False

    def build(self) -> Codec:
        return Patched(self.asks)


def test_a_codec() -> None:
    plan, codec = planned(replace(BASE, codec=PatchedSpec())), PatchedSpec().build()
    latents = torch.zeros(1, 3, 5, 8, 12)
    assert plan.decode.flops == count_flops(lambda: list(decode_video(codec, latents))) > 0
    assert plan.decode.history == 3 * 8 * 12 * 4
    assert plan.parameters["codec"].parameters == 3 * 12 + 12
    assert plan.uncounted == ()


def test_a_codec_that_asks_for_values_is_named() -> None:
    plan = planned(replace(BASE, codec=PatchedSpec(asks=True)))
    assert plan.parameters["codec"].parameters == 3 * 12 + 12
    (missing,) = plan.uncounted
    assert missing.startswith("what the codec PatchedSpec decodes (") and plan.as_json()["not_counted"] == [missing]
    text = report("idea", plan)
    assert f"not counted: {missing}" in text and text.endswith("whether that is all is not known")


def test_a_codec_without_a_network_takes_nothing() -> None:
    plan = planned(BASE)
    assert (plan.decode.flops, plan.parameters["codec"].parameters, plan.uncounted) == (0, 0, ())


def test_a_codec_whose_chunks_grow_is_run_to_its_end() -> None:
    """Each chunk is read together with all before it."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class GrowingSpec(PatchedSpec):
        def build(self) -> Codec:
            codec = Patched(asks=False)

            def decode(latents: Tensor, history: Any = None) -> tuple[Tensor, Any]:
                seen = latents if history is None else torch.cat([history, latents], dim=2)
                return codec.layer(seen)[:, :3, -1:].repeat(1, 1, 1, 2, 2), seen

            codec.decode = decode  # type: ignore[method-assign]
            return codec

    spec = GrowingSpec()
    found = decode_run(spec, (6, 2, 3), PLAIN_KERNELS)
    assert found.flops == count_flops(lambda: list(decode_video(spec.build(), torch.zeros(1, 3, 6, 2, 3))))


class Twice(TransformerBlock):
    """Self-attention twice over."""

    def before_context(self, stream: Stream) -> Stream:
        return super().before_context(super().before_context(stream))


@dataclass(frozen=True, slots=True, kw_only=True)
class TwiceSpec:
    modulation_rows: int = 6

    def build(self, spec: TransformerSizes, layer: int) -> nn.Module:
        return Twice(spec, Half(), layer)


@dataclass(frozen=True, slots=True)
class Half:
    """Odd layers see the first half of the keys alone."""

    def at(self, layer: int) -> Attend:
        def first_half(q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
            return everywhere(q, k[:, : k.shape[1] // 2], v[:, : v.shape[1] // 2], grid)

        return first_half if layer % 2 else everywhere


def counted(spec: DiTSpec, branches: Mapping[str, Any] | None = None) -> float:
    model, x = spec.build(), torch.randn(1, 3, 3, 4, 6)
    conditions = Conditions(context={"text": torch.randn(1, 6, 10)}, branches=branches or {})
    return count_flops(lambda: model(x, torch.tensor([500.0]), model.prepare(conditions, grid_of(x, spec.patch))))


@pytest.mark.parametrize("block", [FullBlock(attention=Half()), TwiceSpec()], ids=["scheme", "block"])
def test_a_block_and_an_attention_scheme(block: Any) -> None:
    spec = replace(SPEC, block=block)
    assert counted(spec) == run_of(spec, (3, 4, 6)).prompt.forward != run_of(SPEC, (3, 4, 6)).prompt.forward
    assert planned(replace(BASE, transformers=(spec,))).uncounted == ()


@dataclass(frozen=True, slots=True)
class Asking:
    def at(self, layer: int) -> Attend:
        return lambda q, k, v, grid: v if q.sum().item() else q


def test_a_scheme_that_asks_for_values_is_named() -> None:
    plan = planned(replace(BASE, transformers=(replace(SPEC, block=FullBlock(attention=Asking())),)))
    (missing,) = plan.uncounted
    assert missing.startswith("the transformer of FullBlock beyond its weights (")
    assert plan.parameters["transformer"].parameters == planned(BASE).parameters["transformer"].parameters


class Adding(nn.Module):
    """A branch that adds what a matrix makes of one vector behind every block."""

    def __init__(self, dim: int, asks: bool) -> None:
        super().__init__()
        self.layer, self.asks = nn.Linear(dim, dim), asks

    def prepare(self, payload: Tensor, context: Mapping[str, Tensor], grid: Grid) -> Tensor:
        if self.asks:
            float(payload.sum())
        return self.layer(payload)

    def open(self, stream: Stream, payload: Tensor) -> tuple[InContextTokens | None, Tensor]:
        return None, payload

    def after_block(self, layer: int, stream: Stream, state: Tensor) -> tuple[Stream, Tensor]:
        return stream.add(self.layer(state)), state

    def close(self, stream: Stream, state: Tensor) -> Stream:
        return stream


@dataclass(frozen=True, slots=True, kw_only=True)
class AddingSpec:
    """The branch, and the conditioner that fills it."""

    name: str = "adding"
    asks: bool = False
    inputs: tuple[InputField[object], ...] = ()

    def build(self, spec: TransformerSizes) -> nn.Module:
        return Adding(spec.dim, self.asks)

    def size(self, inputs: Inputs, asked: VideoSize, units: Units) -> VideoSize:
        return asked

    def check(self, inputs: Inputs, video: VideoSize) -> None: ...

    def encode(self, inputs: Inputs, video: VideoSize, encoders: Encoders) -> ConditionerOutput:
        return ConditionerOutput(branches={self.name: torch.zeros(1, 1, SPEC.dim)})


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatingSpec(AddingSpec):
    def estimate(self, inputs: Inputs, video: VideoSize, units: Units, encoders: EncoderSpecs) -> EncodeCost:
        return EncodeCost(branches={self.name: torch.empty(1, 1, SPEC.dim, device="meta")})


def with_branch(idea: Any) -> Recipe:
    conditioners: tuple[Conditioner, ...] = (idea, idea) if not isinstance(idea, EstimatingSpec) else (idea,)
    return replace(BASE, transformers=(replace(SPEC, branches=(idea,)),), conditioners=conditioners)


def test_a_branch() -> None:
    plan, plain = planned(with_branch(EstimatingSpec())), planned(BASE)
    product = 2 * SPEC.dim**2
    assert plan.transformer.branches["adding"].once == product
    assert plan.transformer.branches["adding"].each == SPEC.layers * product
    assert plan.transformer.forward == plain.transformer.forward + (1 + SPEC.layers) * product
    assert plan.uncounted == ()
    shapes = {tensor.name: tensor.shape for tensor in plan.tensors}
    assert shapes["branch adding"] == (1, 1, SPEC.dim)
    spec = replace(SPEC, branches=(AddingSpec(),))
    branches = {"adding": torch.zeros(1, 1, SPEC.dim)}
    assert counted(spec, branches) == run_of(spec, (3, 4, 6), ConditionerOutput(branches=branches)).prompt.forward


def test_a_branch_that_asks_for_values_is_named_and_the_rest_is_counted() -> None:
    plan = planned(with_branch(EstimatingSpec(asks=True)))
    (missing,) = plan.uncounted
    assert missing.startswith("the branches 'adding' beyond their weights (")
    assert plan.transformer == planned(BASE).transformer


def test_a_conditioner_that_states_no_cost_is_named_once() -> None:
    plan = planned(with_branch(AddingSpec()))
    assert plan.uncounted == ("what AddingSpec encodes and gives",)
    weights = SPEC.dim * SPEC.dim + SPEC.dim
    assert plan.parameters["transformer"].parameters == planned(BASE).parameters["transformer"].parameters + weights


def test_equal_blocks_are_counted_as_often_as_they_run() -> None:
    few, many = (run_of(replace(SPEC, layers=layers), (3, 4, 6)) for layers in (1, 4))
    one = sum(few.prompt.parts.values())
    assert sum(many.prompt.parts.values()) == 4 * one
    assert many.prompt.forward == counted(replace(SPEC, layers=4))
