import copy
import sys
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from kinoform.errors import UsageError
from kinoform.training.optimizer import (
    Adam8bitSpec,
    AdamSpec,
    CosineSchedule,
    MuonSpec,
    Optimizer,
    OptimizerSpec,
    Schedule,
    every_matrix,
    no_matrix,
    orthogonalized,
    schedule_of,
)
from tests.support.refusals import refused


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    """Singular values spread over two decades."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, rank, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(columns, rank, generator=generator)).Q
    return left * torch.logspace(0, -2, rank) @ right.T


def moved(parameter: nn.Parameter, gradient: Tensor, spec: MuonSpec) -> Tensor:
    before = parameter.detach().clone()
    parameter.grad = gradient
    OptimizerSpec(muon=spec).build([("weight", parameter)]).step(1.0)
    return parameter.detach() - before


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (24, 24)])
def test_the_update_is_nearly_orthogonal_whatever_the_gradient(shape: tuple[int, int]) -> None:
    spec = MuonSpec(learning_rate=0.1)
    move = moved(nn.Parameter(torch.zeros(shape)), 1e-4 * matrix(*shape), spec)
    scale = 0.1 * max(1.0, shape[0] / shape[1]) ** 0.5
    values = torch.linalg.svdvals(move / scale)
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_the_update_points_down_along_the_gradients_own_axes() -> None:
    gradient = matrix(12, 20)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    move = moved(nn.Parameter(torch.zeros(12, 20)), gradient, MuonSpec(learning_rate=1.0))
    core = left.T @ move @ right.T
    assert (core.diagonal() < -0.5).all()
    torch.testing.assert_close(core, core.diagonal().diag(), atol=1e-3, rtol=0)


def test_kernels_move_like_their_flattened_matrix() -> None:
    gradient = matrix(8, 4 * 3 * 3 * 3)
    spec = MuonSpec()
    kernel = moved(nn.Parameter(torch.zeros(8, 4, 3, 3, 3)), gradient.reshape(8, 4, 3, 3, 3), spec)
    flat = moved(nn.Parameter(torch.zeros(8, 108)), gradient, spec)
    torch.testing.assert_close(kernel.flatten(1), flat)


def test_matrices_in_one_stack_do_not_see_each_other() -> None:
    alone = [orthogonalized(matrix(6, 10, seed)[None])[0] for seed in range(3)]
    together = orthogonalized(torch.stack([matrix(6, 10, seed) for seed in range(3)]))
    torch.testing.assert_close(together, torch.stack(alone))


def test_a_zero_matrix_stays_zero() -> None:
    assert not orthogonalized(torch.zeros(1, 4, 4)).any()


def test_momentum_remembers_the_gradient_before() -> None:
    """With nesterov momentum m the second direction is that of (1 - m) g2 + m ((1 - m) g2 + m (1 - m) g1)."""
    first, second, m = matrix(6, 6, 1), matrix(6, 6, 2), 0.9
    parameter = nn.Parameter(torch.zeros(6, 6))
    optimizer = OptimizerSpec(muon=MuonSpec(learning_rate=1.0, momentum=m)).build([("weight", parameter)])
    parameter.grad = first
    optimizer.step(1.0)
    before = parameter.detach().clone()
    parameter.grad = second
    optimizer.step(1.0)
    ahead = (1 - m) * second + m * ((1 - m) * second + m * (1 - m) * first)
    torch.testing.assert_close(parameter.detach() - before, -orthogonalized(ahead[None])[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("spec", [MuonSpec(weight_decay=0.5), AdamSpec(weight_decay=0.5)])
def test_weight_decay_is_decoupled(spec: MuonSpec | AdamSpec) -> None:
    parameter = nn.Parameter(torch.ones(3, 3))
    parameter.grad = torch.zeros(3, 3)
    optimizer = spec.build([parameter]) if isinstance(spec, MuonSpec) else spec.build([("weight", parameter)])
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((3, 3), 1 - 0.5 * spec.learning_rate))


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 2, 3))


def hidden(name: str, parameter: Tensor) -> bool:
    return name in ("1.weight", "2.weight")


def error(net: nn.Module, x: Tensor) -> Tensor:
    """The network should return the middle of its input."""
    return (net(x) - x[:, :2, 4:5, 4:5]).square().mean()


def descend(net: nn.Module, optimizer: Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(step))
        optimizer.clear()
        loss = error(net, x)
        loss.backward()
        optimizer.step(0.5)
        losses.append(loss.item())
    return losses


def test_the_predicate_divides_the_parameters() -> None:
    optimizer = OptimizerSpec(hidden=hidden).build(network().named_parameters())
    sizes = {name: len(part.param_groups[0]["params"]) for name, part in optimizer.parts.items()}
    assert sizes == {"muon": 2, "adam": 6}
    assert OptimizerSpec(hidden=no_matrix).build(network().named_parameters()).parts.keys() == {"adam"}


def test_both_halves_learn() -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    x = torch.randn(100, 3, 9, 9, generator=torch.Generator().manual_seed(99))
    first = error(net, x).item()
    descend(net, OptimizerSpec(hidden=hidden).build(net.named_parameters()), range(60))
    assert error(net, x) < 0.8 * first
    assert all(not torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_restored_optimizer_continues_bit_for_bit() -> None:
    spec, net = OptimizerSpec(hidden=hidden), network()
    optimizer = spec.build(net.named_parameters())
    descend(net, optimizer, range(5))
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    expected = descend(net, optimizer, range(5, 12))

    other = network()
    restored = spec.build(other.named_parameters())
    other.load_state_dict(saved[0])
    restored.load_state_dict(saved[1])
    assert descend(other, restored, range(5, 12)) == expected
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_the_factor_scales_the_step_and_leaves_no_trace() -> None:
    moves = []
    for factor in (1.0, 0.25):
        parameter = nn.Parameter(torch.zeros(4, 4))
        parameter.grad = matrix(4, 4)
        optimizer = OptimizerSpec().build([("weight", parameter)])
        optimizer.step(0.0)
        assert not parameter.any()
        optimizer.step(factor)
        moves.append(parameter.detach().clone())
    torch.testing.assert_close(moves[1], 0.25 * moves[0])


def test_parameters_without_gradient_stay() -> None:
    net = network()
    optimizer = OptimizerSpec(hidden=hidden).build(net.named_parameters())
    weight = net.get_parameter("1.weight")
    weight.grad = torch.ones_like(weight)
    before = copy.deepcopy(net.state_dict())
    optimizer.step(1.0)
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(before[name], tensor)}
    assert moved == {"1.weight"}


def test_frozen_parameters_are_not_trained() -> None:
    net = network()
    net[1].requires_grad_(False)
    optimizer = OptimizerSpec(hidden=hidden).build(net.named_parameters())
    assert [len(part.param_groups[0]["params"]) for part in optimizer.parts.values()] == [1, 5]
    with refused("nothing_to_train"):
        OptimizerSpec().build(net.requires_grad_(False).named_parameters())


def test_a_vector_for_muon_is_refused_by_name() -> None:
    with refused("parameters_not_matrices", "0.bias"):
        OptimizerSpec(hidden=lambda name, parameter: True).build(network()[:1].named_parameters())
    OptimizerSpec(hidden=every_matrix).build(network().named_parameters())
    with refused("pattern_matches_nothing", "<lambda>", "'0.weight'"):
        OptimizerSpec(hidden=lambda name, parameter: "block" in name).build(network().named_parameters())


def test_the_schedule_rises_holds_and_falls() -> None:
    schedule = Schedule(warmup=10, total=101, hold=0.5, final=0.02)
    factors = [schedule.factor(step) for step in range(101)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert factors[10:51] == [1.0] * 41
    falls = [a - b for a, b in pairwise(factors[51:])]
    assert falls == pytest.approx([falls[0]] * len(falls))
    assert falls[0] > 0
    assert factors[100] == pytest.approx(0.02)
    assert schedule.factor(1000) == pytest.approx(0.02)


def test_a_schedule_may_never_fall_or_never_rise() -> None:
    assert Schedule(warmup=0, total=10, hold=1.0).factor(9) == 1.0
    assert Schedule(warmup=0, total=1).factor(0) == 1.0


@pytest.mark.parametrize("wrong", [{"warmup": 11}, {"total": 0}, {"hold": 1.5}])
def test_an_impossible_schedule_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Schedule(**{"warmup": 5, "total": 10, **wrong})


def test_norms_biases_and_slices_do_not_decay() -> None:
    named = {"q.weight": (3, 3), "q.bias": (3,), "norm_q.weight": (3,), "modulation": (1, 6), "gate": (1, 1)}
    parameters = {name: nn.Parameter(torch.ones(shape)) for name, shape in named.items()}
    parameters["patch_embedding.weight"] = nn.Parameter(torch.ones(3, 2, 1, 2, 2))
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    OptimizerSpec(adam=AdamSpec(weight_decay=0.5), hidden=no_matrix).build(parameters.items()).step(1.0)
    assert [name for name, item in parameters.items() if not torch.equal(item, torch.ones_like(item))] == ["q.weight"]


def test_schedules_by_name() -> None:
    at = {name: schedule_of(name, warmup=10, total=101) for name in ("constant", "linear", "cosine", "hold")}
    assert all(schedule.factor(4) == pytest.approx(0.5) for schedule in at.values())
    assert [at[name].factor(100) for name in ("constant", "linear", "cosine")] == pytest.approx([1, 0, 0])
    assert [at[name].factor(55) for name in ("constant", "linear", "cosine")] == pytest.approx([1, 0.5, 0.5], abs=6e-3)
    assert at["cosine"].factor(60, restart=60) == pytest.approx(
        0.1 * CosineSchedule(warmup=0, total=91).factor(50), rel=0.03
    )
    with refused("unknown_name", "cosine"):
        schedule_of("cosin", warmup=1, total=2)


def test_eight_bits_are_refused_where_no_package_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torchao.optim", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    with refused("package_missing", "torchao"):
        OptimizerSpec(adam=Adam8bitSpec(), hidden=no_matrix).build([("weight", nn.Parameter(torch.ones(2, 2)))])
