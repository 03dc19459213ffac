import pytest
import torch

from kinoform.solvers.experts import expert_at, ranges_of
from kinoform.solvers.levels import noised, shifted
from kinoform.training.levels import LevelRange, LevelSampling
from kinoform.training.objective import flow_matching_loss, timesteps, velocity_target
from kinoform.types import Level
from tests.support.refusals import refused

X0 = torch.rand(5, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(5, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def draw(shape: tuple[int, ...], shift: float, *, stratified: bool = False, seed: int = 0) -> torch.Tensor:
    return LevelSampling(shift=shift, stratified=stratified).draw(shape, torch.Generator().manual_seed(seed), 0)


def test_the_ends_of_the_path_are_the_data_and_the_noise() -> None:
    assert torch.equal(noised(X0, NOISE, torch.zeros(5)), X0)
    assert torch.equal(noised(X0, NOISE, torch.ones(5)), NOISE)


def test_each_video_has_its_own_level() -> None:
    x = noised(X0, NOISE, torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]))
    assert torch.equal(x[0::2], X0[0::2])
    assert torch.equal(x[1::2], NOISE[1::2])


def test_the_velocity_leads_back_to_the_data_and_on_to_the_noise() -> None:
    sigma = torch.linspace(0.1, 0.9, 5)
    level = sigma[:, None, None, None, None]
    x, v = noised(X0, NOISE, sigma), velocity_target(X0, NOISE)
    torch.testing.assert_close(x - level * v, X0)
    torch.testing.assert_close(x + (1 - level) * v, NOISE)


def test_the_velocity_is_the_derivative_of_the_path() -> None:
    step = (noised(X0, NOISE, torch.full((5,), 0.75)) - noised(X0, NOISE, torch.full((5,), 0.25))) / 0.5
    torch.testing.assert_close(step, velocity_target(X0, NOISE))


def test_the_loss_is_zero_at_the_target_only_and_float32() -> None:
    target = velocity_target(X0, NOISE)
    assert flow_matching_loss(target, NOISE, X0) == 0
    torch.testing.assert_close(flow_matching_loss(target + 3, NOISE, X0), torch.tensor(9.0))
    assert flow_matching_loss(target.bfloat16(), NOISE, X0).dtype == torch.float32


def test_the_weight_selects_where_the_loss_is_felt() -> None:
    weight = torch.zeros(1, 1, 2, 4, 4)
    weight[:, :, 1] = 2.0
    wrong = velocity_target(X0, NOISE)
    wrong[:, :, 0] += 100
    assert flow_matching_loss(wrong, NOISE, X0, weight) == 0
    wrong[:, :, 1] += 3
    torch.testing.assert_close(flow_matching_loss(wrong, NOISE, X0, weight), torch.tensor(9.0))


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("shift", [1.0, 5.0, 10.0])
def test_shifted_levels_have_the_distribution_of_the_map(shift: float, stratified: bool) -> None:
    sigma = draw((20000,), shift, stratified=stratified).double()
    for quantile in (0.1, 0.5, 0.9):
        expected = shift * quantile / (1 + (shift - 1) * quantile)
        assert (sigma < expected).double().mean() == pytest.approx(quantile, abs=0.015)


def test_the_shift_keeps_the_ends_and_one_is_the_identity() -> None:
    u = torch.linspace(0, 1, 11)
    torch.testing.assert_close(shifted(u, 1.0), u)
    assert shifted(u, 5.0)[[0, -1]].tolist() == [0, 1]


def test_no_level_is_an_end_even_at_large_shifts() -> None:
    sigma = draw((50000,), 1000.0)
    assert sigma.min() > 0
    assert sigma.max() < 1


def test_strata_hold_one_level_each_in_random_order() -> None:
    u = draw((64, 3), 1.0, stratified=True)
    for column in u.T:
        assert (column * 64).floor().sort().values.tolist() == list(range(64))
    assert not torch.equal(u[:, 0].argsort(), u[:, 1].argsort())
    assert not torch.equal(u[:, 0].argsort(), torch.arange(64))


def test_each_stratified_level_is_uniform_by_itself() -> None:
    firsts = torch.stack([draw((4,), 1.0, stratified=True, seed=seed)[0] for seed in range(600)])
    assert torch.histc(firsts, 4, 0, 1).tolist() == pytest.approx([150] * 4, rel=0.25)


def test_levels_are_a_function_of_the_generator() -> None:
    sampling = LevelSampling(shift=3.0)
    first, again = (sampling.draw((8,), torch.Generator().manual_seed(7), 0) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, sampling.draw((8,), torch.Generator().manual_seed(8), 0))
    assert torch.equal(first, draw((8,), 3.0, stratified=True, seed=7))


def test_late_levels_have_a_shift_of_their_own() -> None:
    sampling = LevelSampling(shift=5.0, late_shift=2.5, late_from=100)
    early, late = (sampling.draw((64,), torch.Generator().manual_seed(7), step) for step in (99, 100))
    assert torch.equal(early, draw((64,), 5.0, stratified=True, seed=7))
    assert torch.equal(late, draw((64,), 2.5, stratified=True, seed=7))
    with refused("value_out_of_range", "-1"):
        LevelSampling(late_shift=-1.0)


def test_timesteps_are_not_truncated() -> None:
    torch.testing.assert_close(timesteps(torch.tensor([0.0, 0.12345, 1.0])), torch.tensor([0, 123.45, 1000]))


def test_a_shift_of_zero_is_refused() -> None:
    with refused("value_out_of_range", "0.0"):
        LevelSampling(shift=0.0)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("bounds", [(0.0, 0.9), (0.9, 1.0), (0.3, 0.875)])
def test_a_range_of_levels_has_the_density_of_the_whole(bounds: tuple[float, float], stratified: bool) -> None:
    low, high = bounds
    whole = LevelSampling(shift=8.0, stratified=stratified)
    part, generator = whole.within(low, high), torch.Generator().manual_seed(0)
    sigma = part.draw((20000,), generator, 0)
    assert sigma.dtype == torch.float32 and low <= sigma.double().min() and sigma.double().max() < high
    every = whole.draw((200_000,), generator, 0)
    chosen = every[(every >= low) & (every < high)]
    for quantile in (0.1, 0.5, 0.9):
        edge = chosen.quantile(quantile)
        assert (sigma < edge).double().mean() == pytest.approx(quantile, abs=0.02)


def test_the_ranges_of_experts_meet_and_leave_nothing_out() -> None:
    assert ranges_of((0.9, 0.5)) == ((0.9, 1.0), (0.5, 0.9), (0.0, 0.5))
    assert ranges_of(()) == ((0.0, 1.0),)
    whole = LevelSampling(shift=5.0, late_shift=2.5, late_from=100).within(*ranges_of(())[0])
    for step, shift in ((99, 5.0), (100, 2.5)):
        sigma = whole.draw((64,), torch.Generator().manual_seed(7), step)
        assert torch.equal(sigma, draw((64,), shift, stratified=True, seed=7))


@pytest.mark.parametrize("boundary", [0.9, 0.875, 0.1, 1 / 3])
def test_no_level_is_rounded_into_the_range_of_another_expert(boundary: float) -> None:
    """Levels within a few float32 steps of the boundary."""
    high, low = (
        LevelRange(sampling=LevelSampling(shift=1.0), low=first, high=last)
        for first, last in ((boundary, boundary + 1e-6), (boundary - 1e-6, boundary))
    )
    for part, expert in ((high, 0), (low, 1)):
        for sigma in part.draw((100,), torch.Generator().manual_seed(1), 0).tolist():
            assert expert_at(Level(sigma=sigma, timestep=1000 * sigma), (boundary,)) == expert


def test_a_range_within_a_range_is_what_both_have() -> None:
    part = LevelSampling().within(0.2, 0.6).within(0.5, 0.9)
    assert (part.low, part.high) == (0.5, 0.6)
    for low, high in ((0.6, 0.6), (0.9, 0.1), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)):
        with refused("value_out_of_range"):
            LevelSampling().within(low, high)
    with refused("value_out_of_range"):
        part.within(0.7, 0.9)
