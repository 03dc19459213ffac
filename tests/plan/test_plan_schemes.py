"""Both kinds of blocks, with every attention scheme: planned operations are those that PyTorch counts, exactly."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from kinoform.conditions.protocols import ConditionerOutput
from kinoform.mini.recipe import mini
from kinoform.models.attention.factorized import Alternating, WithinFrames, WithinPlaces
from kinoform.models.block import FullBlock
from kinoform.models.context import ReferenceContext, TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.models.in_context import InContextImages
from kinoform.models.protocols import BlockSpec
from kinoform.models.vace_blocks import VaceBlocks, VaceContext
from kinoform.ops.dry_run import kernels_of
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import grid_of
from kinoform.pipelines.generate import text_field
from kinoform.plan import crossover
from kinoform.plan.crossover import BLOCKS, Crossovers, Forward, crossovers
from kinoform.plan.memory import denoise_peak, denoise_runs, needs
from kinoform.plan.video_plan import plan_video
from kinoform.plan.workload import Sizes, Workload
from kinoform.recipe import Recipe
from kinoform.recipes.wan21 import t2v_14b
from kinoform.solvers.base import sample
from kinoform.solvers.euler import Euler
from kinoform.types import Conditions
from tests.plan.planned_videos import guided, run_of

ROWS = 6
TEXT = TextContext(width=10, length=ROWS)
DIT = DiTSpec(
    dim=24, ffn_dim=40, heads=2, layers=3, in_channels=4, out_channels=4, frequency_width=16, skip=True, context=(TEXT,)
)  # fmt: skip
KINDS: dict[str, BlockSpec] = {
    "full": FullBlock(),
    "within frames": FullBlock(attention=WithinFrames()),
    "within places": FullBlock(attention=WithinPlaces()),
    "alternating": FullBlock(attention=Alternating()),
    "between": FactorizedBlock(),
    "after": FactorizedBlock(cross="after"),
}
each_kind = pytest.mark.parametrize("block", KINDS.values(), ids=KINDS)
VIDEO = (1, 4, 3, 4, 8)


def counted(spec: DiTSpec, conditions: Conditions) -> float:
    model, x = spec.build(), torch.randn(VIDEO)
    return count_flops(lambda: model(x, torch.tensor([500.0]), model.prepare(conditions, grid_of(x, spec.patch))))


@each_kind
def test_a_forward(block: BlockSpec) -> None:
    spec = replace(DIT, block=block)
    conditions = Conditions(context={"text": torch.randn(1, ROWS, 10)})
    assert counted(spec, conditions) == run_of(spec, VIDEO[2:]).prompt.forward


@each_kind
def test_a_forward_with_guests_side_blocks_and_rows_of_references(block: BlockSpec) -> None:
    branches = (InContextImages(), VaceBlocks(layers=(1, 2), channels=5))
    spec = replace(DIT, block=block, context=(TEXT, ReferenceContext(width=7)), branches=branches)
    conditions = Conditions(
        context={"text": torch.randn(1, ROWS, 10), "reference": torch.randn(1, 3, 7)},
        branches={
            "references": (torch.randn(1, 4, 1, 4, 6), torch.randn(1, 4, 1, 2, 2)),
            "vace": VaceContext(latents=torch.randn(1, 5, *VIDEO[2:])),
        },
    )
    given = ConditionerOutput(context={"reference": conditions.context["reference"]}, branches=conditions.branches)
    assert counted(spec, conditions) == run_of(spec, VIDEO[2:], given).prompt.forward


@each_kind
def test_what_guidance_shares_is_done_once(block: BlockSpec) -> None:
    spec, steps = replace(DIT, block=block), 2
    model, x, rows = spec.build(), torch.randn(VIDEO), (torch.randn(1, ROWS, 10), torch.randn(1, ROWS, 10))

    def denoise() -> None:
        list(sample(Euler(), text_field(model, rows, x, 4.0), x, Euler().levels(steps, 3.0)))

    planned = run_of(spec, VIDEO[2:])
    assert count_flops(denoise) == planned.executed(guided(steps, 0))


def test_time_before_the_context_is_shared_too() -> None:
    between, after = (run_of(replace(DIT, block=KINDS[name]), VIDEO[2:]) for name in ("between", "after"))
    assert between.prompt.forward == after.prompt.forward
    time = (after.prompt.parts["time_projections"] + after.prompt.parts["time_attention"]) // DIT.layers
    asked = guided(5, 0)
    assert between.executed(asked) - after.executed(asked) == 5 * time


# Shapes, memory


WORK = Workload(width=832, height=480, num_frames=81, steps=50, guidance_scale=5.0)


def sizes_of(recipe: Recipe, block: BlockSpec) -> Sizes:
    return Sizes(transformers=(replace(recipe.transformer, block=block),), codec=recipe.codec, text=recipe.text)


def test_the_kernel_gets_frames_and_places_in_its_batch() -> None:
    plan = plan_video(sizes_of(t2v_14b(), FactorizedBlock()), WORK, dtype=torch.bfloat16, device="cuda")
    shapes = {tensor.name: tensor.shape for tensor in plan.tensors}
    assert shapes["q, k, v within frames"] == (21, 30 * 52, 40, 128)
    assert shapes["q, k, v within places"] == (30 * 52, 21, 40, 128)
    assert plan.as_json()["forward_flops"]["blocks"] == dict(plan.transformer.parts)  # type: ignore[index]


def test_what_is_laid_out_once_more_takes_memory() -> None:
    full, frames, places, own = (
        next(
            peak
            for peak in needs(sizes_of(t2v_14b(), KINDS[name]), WORK, torch.bfloat16, "cuda").peaks
            if peak.stage == "denoise"
        )
        for name in ("full", "within frames", "within places", "between")
    )
    assert frames == full
    assert places.activations >= full.activations
    # An attention after the first stands beside the tokens that were before that.
    assert own.activations >= places.activations + 4 * 32_760 * 5120
    assert own.weights > places.weights


# From which length on factorized is cheaper


MODELS = {"mini": mini(), "t2v-14b": t2v_14b()}


def shallow(model: str, block: BlockSpec) -> Sizes:
    """Two layers of the model, since all layers are alike."""
    sizes = sizes_of(MODELS[model], block)
    return replace(sizes, transformers=(replace(sizes.transformer, layers=2),))


def work_of(width: int, height: int, num_frames: int = 17) -> Workload:
    return Workload(width=width, height=height, num_frames=num_frames, steps=1, guidance_scale=1.0)


@cache
def compared(model: str, width: int, height: int, *, sides: bool = False) -> Crossovers:
    """The crossovers of this size, and where `sides` are asked for of the usual ones too."""
    with pytest.MonkeyPatch.context() as patch:
        if not sides:
            patch.setattr(crossover, "SIDES", {})
        sizes = shallow(model, FullBlock())
        return crossovers(sizes, work_of(width, height), fps=16.0, dtype=torch.float32, device="cpu")


@pytest.mark.parametrize(("model", "width", "height"), [("mini", 64, 64), ("mini", 128, 128), ("t2v-14b", 832, 480)])
def test_the_crossover_is_where_pairs_outweigh_projections(model: str, width: int, height: int) -> None:
    """T (P - 1) > 2 C + P, but for three rows of modulation that the factorized model makes once more."""
    size = compared(model, width, height).sizes[0]
    places, dim = width * height // 16**2, MODELS[model].transformer.dim
    frames = 1 + (2 * dim + places) // (places - 1)
    assert (size.width, size.height) == (width, height)
    assert size.cheaper_from in (4 * frames - 3, 4 * frames + 1)
    for length in size.lengths:
        flops = {name: forward.flops for name, forward in length.forwards.items()}
        assert (flops["factorized"] < flops["full"]) is (length.num_frames >= size.cheaper_from)
        assert flops["alternating"] < flops["full"]


def test_lengths_that_are_not_run_are_those_of_a_run() -> None:
    kernels = kernels_of("cpu", torch.float32)
    for length in compared("mini", 64, 64).sizes[0].lengths:
        work = work_of(64, 64, length.num_frames)
        for name, block in BLOCKS.items():
            sizes = shallow("mini", block)
            runs = denoise_runs(sizes, work, torch.float32, kernels)
            peak = denoise_peak(sizes, work, runs, torch.float32, "cpu")
            assert length.forwards[name] == Forward(flops=runs[0].prompt.forward, peak=peak), (name, work.num_frames)


def test_videos_of_one_place_are_never_cheaper() -> None:
    assert compared("mini", 16, 16).sizes[0].cheaper_from is None


def test_sides_and_lengths_are_those_that_can_be_made() -> None:
    result = compared("mini", 64, 64, sides=True)
    assert [(size.name, size.width, size.height) for size in result.sizes] == [
        ("asked for", 64, 64), ("480p", 832, 480), ("720p", 1280, 720), ("1080p", 1920, 1088)
    ]  # fmt: skip
    assert [length.num_frames for length in result.sizes[0].lengths] == [17, 81, 161, 321, 481, 961]
    assert [size.name for size in compared("t2v-14b", 832, 480, sides=True).sizes] == ["480p", "720p", "1080p"]
    assert result.parameters["full"] == result.parameters["alternating"] < result.parameters["factorized"]
    assert list(result.sizes[0].lengths[0].forwards) == list(BLOCKS)
