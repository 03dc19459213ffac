"""The transformer: recorded figures, its two calls, its levels, its doors' errors, its starting weights."""

import copy
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.models.attention.full import Full
from kinoform.models.block import FullBlock
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import FLOAT32_PARTS, DiT, DiTSpec, cast_weights, initialise, keeps_float32
from kinoform.ops.patch import grid_of
from kinoform.types import Conditions, Grid, Level
from tests.models.recorded import Figures, drawn, fill, gap, spread
from tests.support.narrowing import of_type
from tests.support.refusals import refused

RECORDED = DiTSpec(dim=96, ffn_dim=160, heads=4, layers=3, context=(TextContext(width=32),))
TEXT = TextContext(width=10, length=8)
TINY = DiTSpec(dim=24, ffn_dim=40, heads=2, layers=3, in_channels=4, out_channels=4, frequency_width=32,
               context=(TEXT,))  # fmt: skip
I2V = replace(TINY, in_channels=7, context=(TEXT, ImageContext(width=12)))
GRID = Grid(frames=3, height=2, width=2)


def recorded(spec: DiTSpec) -> DiT:
    model = spec.build().requires_grad_(False)
    fill(model, DIT.official(model.state_dict()), 0.1)
    return model


def random_dit(spec: DiTSpec) -> DiT:
    model = spec.build().requires_grad_(False)
    spread(model, seed=1)
    return model


def latents(batch: int = 1, channels: int = 4, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, GRID.frames, 2 * GRID.height, 2 * GRID.width, generator=generator)


def rows(width: int = 10, count: int = 5, batch: int = 1, seed: int = 3) -> Tensor:
    return torch.randn(batch, count, width, generator=torch.Generator().manual_seed(seed))


def i2v_conditions(batch: int = 1, seed: int = 4) -> Conditions:
    context = {"text": rows(batch=batch, seed=seed), "image": rows(12, 4, batch, seed + 1)}
    return Conditions(context=context, channels=latents(batch, 3, seed + 2))


@pytest.fixture(scope="module")
def tiny() -> DiT:
    return random_dit(TINY)


@pytest.fixture(scope="module")
def i2v() -> DiT:
    return random_dit(I2V)


# Figures from the official code


def velocity_of(model: DiT, x: Tensor, times: Tensor, conditions: Conditions) -> Tensor:
    return model(x, times, model.prepare(conditions, grid_of(x, model.spec.patch)))


def test_equals_the_recorded_text_to_video():
    given = Conditions(context={"text": drawn(2, 1, 7, 32)})
    Figures(
        count=4608, mean=0.1808532, std=1.2428255, first=(-1.507850, 0.112619, 0.260741, 1.114944), last=-0.519952
    ).check(velocity_of(recorded(RECORDED), drawn(1, 1, 16, 3, 8, 12), torch.tensor([873.0]), given))


def test_equals_the_recorded_image_to_video():
    model = recorded(replace(RECORDED, in_channels=36, context=(TextContext(width=32), ImageContext())))
    context = {"text": drawn(2, 1, 7, 32), "image": drawn(4, 1, 257, 1280)}
    given = Conditions(context=context, channels=drawn(3, 1, 20, 3, 8, 12))
    Figures(
        count=4608, mean=0.0932161, std=1.2142362, first=(0.150555, 2.168270, 0.435634, -0.299507), last=-1.068722
    ).check(velocity_of(model, drawn(1, 1, 16, 3, 8, 12), torch.tensor([873.0]), given))


def test_equals_the_recorded_first_and_last_frame_to_video():
    model = recorded(replace(RECORDED, in_channels=36, context=(TextContext(width=32), ImageContext(positions=514))))
    context = {"text": drawn(2, 1, 7, 32), "image": drawn(5, 2, 257, 1280).flatten(0, 1)[None]}
    given = Conditions(context=context, channels=drawn(3, 1, 20, 3, 8, 12))
    Figures(
        count=4608, mean=-0.0192919, std=1.2407958, first=(-0.550735, 0.021549, 1.493831, -2.293019), last=1.045332
    ).check(velocity_of(model, drawn(1, 1, 16, 3, 8, 12), torch.tensor([873.0]), given))


def test_equals_the_recorded_levels_by_token():
    """Through both ways in: timesteps of tokens, and tokens called clean."""
    model = recorded(replace(RECORDED, in_channels=48, out_channels=48))
    x, clean = drawn(7, 1, 48, 3, 8, 12), torch.arange(72) < 24
    figures = Figures(
        count=13824, mean=0.0643726, std=1.1954459, first=(1.083739, -0.729326, 1.871208, 3.195103), last=-0.604704
    )
    given = Conditions(context={"text": drawn(2, 1, 7, 32)}, clean=clean)
    figures.check(velocity_of(model, x, torch.where(clean, 0.0, 873.0)[None], given))
    prepared = model.prepare(given, grid_of(x, model.spec.patch))
    figures.check(model.velocities(x, Level(sigma=0.873, timestep=873.0), (prepared,))[0])


# Prepare once, step many times


def test_a_prepared_video_may_be_stepped_again_and_again(i2v: DiT):
    given, x = i2v_conditions(), latents()
    prepared = i2v.prepare(given, GRID)
    kept = copy.deepcopy(prepared)
    for time in (900.0, 500.0, 900.0):
        step = i2v(x, torch.tensor([time]), prepared)
        assert torch.equal(step, velocity_of(i2v, x, torch.tensor([time]), given))
        x = x - 0.1 * step
    assert torch.equal(prepared.constant, kept.constant)
    for mine, old in zip(prepared.keys, kept.keys, strict=True):
        assert all(torch.equal(mine[name][0], old[name][0]) for name in old)


def test_everything_the_model_is_told_is_read(i2v: DiT):
    given, x, time = i2v_conditions(), latents(), torch.tensor([500.0])
    base, other = velocity_of(i2v, x, time, given), i2v_conditions(seed=40)
    changes = [
        replace(given, context={**given.context, "text": other.context["text"]}),
        replace(given, context={**given.context, "image": other.context["image"]}),
        replace(given, channels=other.channels),
    ]
    for change in changes:
        assert gap(velocity_of(i2v, x, time, change), base) > 1e-2
    assert gap(velocity_of(i2v, x, time + 100, given), base) > 1e-2
    assert gap(velocity_of(i2v, latents(seed=9), time, given), base) > 1e-2


def test_two_prompts_share_what_does_not_read_them(i2v: DiT):
    """The same numbers as two calls, with block 0's self-attention run once."""
    given = i2v_conditions()
    both = [i2v.prepare(given, GRID)]
    both.append(i2v.prepare(replace(given, context={**given.context, "text": rows(seed=8)}), GRID))
    apart = [i2v(latents(), torch.tensor([700.0]), prepared) for prepared in both]
    runs: list[int] = []
    hooks = [
        block.get_submodule("self_attention").register_forward_hook(lambda *call, layer=layer: runs.append(layer))
        for layer, block in enumerate(i2v.blocks)
    ]
    together = i2v.velocities(latents(), Level(sigma=0.7, timestep=700.0), both)
    for hook in hooks:
        hook.remove()
    assert [torch.equal(a, b) for a, b in zip(together, apart, strict=True)] == [True, True]
    assert gap(together[0], together[1]) > 1e-2
    assert sorted(runs) == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("change", ["channels", "clean"])
def test_prompts_with_other_channels_or_clean_tokens_are_not_shared(i2v: DiT, change: str):
    given = i2v_conditions()
    other = {"channels": latents(channels=3, seed=30), "clean": torch.arange(GRID.tokens) < 4}[change]
    both = [i2v.prepare(given, GRID), i2v.prepare(replace(given, **{change: other}), GRID)]
    level = Level(sigma=0.7, timestep=700.0)
    found = i2v.velocities(latents(), level, both)
    for velocity, prepared in zip(found, both, strict=True):
        assert gap(velocity, i2v.velocities(latents(), level, (prepared,))[0]) < 1e-6
    assert gap(found[1], found[0]) > 1e-2


def test_samples_of_a_batch_do_not_meet(i2v: DiT):
    given, x, times = i2v_conditions(batch=3), latents(batch=3), torch.tensor([900.0, 20.0, 500.0])
    together = velocity_of(i2v, x, times, given)
    by_token = torch.rand(3, GRID.tokens, generator=torch.Generator().manual_seed(5)).mul(3).round() * 300
    together_by_token = velocity_of(i2v, x, by_token, given)
    for i in range(3):
        own = Conditions(
            context={name: value[i : i + 1] for name, value in given.context.items()},
            channels=None if given.channels is None else given.channels[i : i + 1],
        )
        assert gap(together[i : i + 1], velocity_of(i2v, x[i : i + 1], times[i : i + 1], own)) < 1e-5
        assert gap(together_by_token[i : i + 1], velocity_of(i2v, x[i : i + 1], by_token[i : i + 1], own)) < 1e-5


# Levels


@pytest.mark.parametrize("batch", [1, 2])
def test_one_level_for_all_tokens_is_one_level(tiny: DiT, batch: int):
    given = Conditions(context={"text": rows(batch=batch)})
    times = torch.tensor([300.0, 800.0])[:batch]
    by_token = times[:, None].expand(-1, GRID.tokens)
    one, many = (velocity_of(tiny, latents(batch), t, given) for t in (times, by_token))
    assert gap(many, one) < 1e-5


def test_clean_tokens_are_at_timestep_zero(tiny: DiT):
    clean = torch.arange(GRID.tokens) % 3 == 0
    given = Conditions(context={"text": rows(batch=2)}, clean=clean)
    prepared, plain = (tiny.prepare(each, GRID) for each in (given, replace(given, clean=None)))
    level, once = Level(sigma=0.6, timestep=600.0), torch.tensor([600.0, 600.0])
    velocity = tiny.velocities(latents(2), level, (prepared,))[0]
    assert torch.equal(velocity, tiny(latents(2), torch.where(clean, 0.0, 600.0).expand(2, -1), plain))
    for times in (once, once[:, None].expand(-1, GRID.tokens)):
        assert torch.equal(velocity, tiny(latents(2), times, prepared)), "by a level of the video, and by token"
    assert gap(velocity, tiny(latents(2), once, plain)) > 1e-2
    nobody = tiny.prepare(replace(given, clean=torch.zeros_like(clean)), GRID)
    assert gap(tiny.velocities(latents(2), level, (nobody,))[0], tiny(latents(2), once, plain)) < 1e-5


def test_the_level_of_a_token_belongs_to_that_token():
    """With self-attention silenced nothing mixes tokens: only the one whose level changes changes."""
    model = random_dit(replace(TINY, layers=1, patch=(1, 1, 1)))
    with torch.no_grad():
        model.blocks[0].get_parameter("self_attention.o.weight").zero_()
    grid = Grid(frames=3, height=4, width=4)
    prepared = model.prepare(Conditions(context={"text": rows()}), grid)
    times = torch.full((1, grid.tokens), 500.0)
    before = model(latents(), times, prepared).flatten(2)
    times[0, 17] = 40.0
    after = model(latents(), times, prepared).flatten(2)
    moved = (after - before).abs().amax((0, 1)) > 1e-5
    assert moved.nonzero().flatten().tolist() == [17]


# What does not fit is refused


@pytest.mark.parametrize(
    ("wrong", "code", "named"),
    [
        ({"context": {"text": rows()}}, "context_not_taken", "['text']"),
        ({"context": {"image": rows(12, 4)}}, "context_not_taken", "['image']"),
        ({"context": {"text": rows(), "image": rows(12, 4), "sound": rows()}}, "context_not_taken", "sound"),
        ({"channels": None}, "wrong_shape", "0 conditioning"),
        ({"channels": latents(channels=4)}, "wrong_shape", "4 conditioning"),
        ({"channels": latents(channels=3)[:, :, :2]}, "wrong_shape", "(1, 3, 2, 4, 4)"),
        ({"clean": torch.zeros(5, dtype=torch.bool)}, "wrong_shape", "5 tokens"),
        ({"branches": {"sketch": 1}}, "model_lacks_part", "sketch"),
        ({"context": {"text": rows(count=9), "image": rows(12, 4)}}, "too_long", "9 text tokens"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(i2v: DiT, wrong: dict, code: str, named: str):
    with refused(code, named):
        i2v.prepare(replace(i2v_conditions(), **wrong), GRID)


@pytest.mark.parametrize("shape", [(1, 4, 2, 4, 4), (1, 4, 3, 6, 4), (1, 4, 3, 4, 5), (1, 3, 3, 4, 4), (1, 7, 3, 4, 4)])
def test_latents_that_were_not_prepared_for_are_refused(i2v: DiT, shape: tuple[int, ...]):
    """Also those with the wrong channels, which would otherwise meet the weights of other channels."""
    prepared = i2v.prepare(i2v_conditions(), GRID)
    with refused("wrong_shape", f"{shape[1]}, {shape[2]}", "4 channels"):
        i2v(torch.zeros(shape), torch.tensor([500.0]), prepared)


def test_a_class_in_place_of_a_block_or_of_a_scheme_is_refused():
    with refused("wrong_type", "block="):
        replace(TINY, block=FullBlock)
    with refused("wrong_type", "attention="):
        FullBlock(attention=cast(Any, Full))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"heads": 5}, "spec_not_divisible"),
        ({"dim": 22}, "spec_not_divisible"),
        ({"in_channels": 3}, "spec_inconsistent"),
    ],
)
def test_an_impossible_shape_is_refused(change: dict[str, int], code: str):
    with refused(code, str(next(iter(change.values())))):
        replace(TINY, **change)


def test_text_is_padded_to_its_rows_before_the_layers_and_never_masked(tiny: DiT):
    short, x, time = rows(count=3), latents(), torch.tensor([500.0])
    padded = torch.cat([short, torch.zeros(1, TEXT.length - 3, 10)], dim=1)
    base = velocity_of(tiny, x, time, Conditions(context={"text": short}))
    assert torch.equal(base, velocity_of(tiny, x, time, Conditions(context={"text": padded})))
    narrow = random_dit(replace(TINY, context=(replace(TEXT, length=3),)))
    assert gap(velocity_of(narrow, x, time, Conditions(context={"text": short})), base) > 1e-2, "padding is attended"


# Weights


def test_bfloat16_keeps_what_must_be_exact_and_stays_near(i2v: DiT):
    half = cast_weights(copy.deepcopy(i2v), torch.bfloat16)
    wide = {name for name, weight in half.named_parameters() if weight.dtype == torch.float32}
    assert {name for name in wide if name.startswith("blocks.1.")} == {
        *(f"blocks.1.{part}.weight" for part in ("self_attention.norm_q", "self_attention.norm_k")),
        "blocks.1.cross_attention.norm_q.weight",
        *(f"blocks.1.cross_attention.streams.{stream}.norm_k.weight" for stream in ("text", "image")),
        "blocks.1.modulation", "blocks.1.cross_norm.weight", "blocks.1.cross_norm.bias",
    }  # fmt: skip
    assert all(name in wide for name, _ in half.named_parameters() if name.startswith(("head.", "time_")))
    assert {name for name in wide if name.startswith("context.")} == {
        f"context.image.norm_{side}.{part}" for side in ("in", "out") for part in ("weight", "bias")
    }
    given, time = i2v_conditions(), torch.tensor([500.0])
    exact, near = velocity_of(i2v, latents(), time, given), velocity_of(of_type(DiT, half), latents(), time, given)
    assert near.dtype == torch.float32
    assert ((near - exact).square().mean() / exact.square().mean()).sqrt() < 0.05
    assert not torch.equal(near, exact)


def test_casting_back_widens_every_weight(i2v: DiT):
    model = cast_weights(cast_weights(copy.deepcopy(i2v), torch.bfloat16), torch.float32)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert all(keeps_float32(f"{part}.weight") for part in FLOAT32_PARTS)
    assert not keeps_float32("blocks.0.self_attention.q.weight")


def test_a_fresh_model_predicts_nothing_and_follows_its_generator():
    spec = replace(I2V, dim=96, ffn_dim=160)
    first, second, other = spec.build(), spec.build(), spec.build()
    for model, seed in ((first, 5), (second, 5), (other, 6)):
        initialise(model, torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    drawn_anew = {name for name, weight in first.named_parameters() if weight.dim() > 1 and "head.l" not in name}
    assert not any(torch.equal(first.get_parameter(name), other.get_parameter(name)) for name in drawn_anew)
    assert not velocity_of(first, latents(), torch.tensor([500.0]), i2v_conditions()).any()


def test_fresh_weights_have_the_official_spreads():
    model = replace(I2V, dim=96, ffn_dim=160).build()
    initialise(model, torch.Generator().manual_seed(7))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        elif name == "head.linear.weight":
            assert not weight.any()
        elif name.startswith(("context.text.", "time_embedding.")):
            assert weight.std().item() == pytest.approx(0.02, rel=0.1), name
        elif name.endswith("modulation"):
            assert weight.std().item() == pytest.approx(96**-0.5, rel=0.15), name
        else:
            outputs, inputs = weight.flatten(1).shape
            bound = (6 / (inputs + outputs)) ** 0.5
            assert bound * 0.95 < weight.abs().max().item() <= bound, name


def test_gradients_reach_every_weight():
    model = replace(I2V, context=(TEXT, ImageContext(width=12, positions=4))).build()
    spread(model, seed=1)
    velocity_of(model, latents(2), torch.tensor([500.0, 30.0]), i2v_conditions(2)).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


WAN_14B = DiTSpec(dim=5120, ffn_dim=13824, heads=40, layers=40)


@pytest.mark.parametrize(
    ("spec", "tensors", "parameters"),
    [
        (DiTSpec(dim=1536, ffn_dim=8960, heads=12, layers=30), 825, 1_418_996_800),
        (WAN_14B, 1095, 14_288_491_584),
        (replace(WAN_14B, in_channels=36), 1095, 14_288_901_184),
        (replace(WAN_14B, in_channels=36, context=(TextContext(), ImageContext())), 1303, 16_394_878_784),
        (replace(WAN_14B, in_channels=36, context=(TextContext(), ImageContext(positions=514))), 1304, 16_395_536_704),
        (DiTSpec(dim=3072, ffn_dim=14336, heads=24, layers=30, in_channels=48, out_channels=48), 825, 4_999_787_712),
    ],
    ids=["t2v-1.3B", "t2v-14B", "i2v-A14B", "i2v-14B", "flf2v-14B", "ti2v-5B"],
)
def test_released_models_have_their_published_sizes(spec: DiTSpec, tensors: int, parameters: int):
    """Built without memory."""
    with torch.device("meta"):
        state = spec.build().state_dict()
    assert all(value.is_meta for value in state.values())
    assert len(DIT.official(state)) == tensors
    assert sum(value.numel() for value in state.values()) == parameters
