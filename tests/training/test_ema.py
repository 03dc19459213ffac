import copy

import pytest
import torch
from torch import Tensor, nn

from kinoform.training.ema import EMASpec
from tests.support.refusals import refused


def module(value: float) -> nn.Linear:
    net = nn.Linear(2, 3)
    for parameter in net.parameters():
        nn.init.constant_(parameter, value)
    return net


def weights(value: float) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in module(value).named_parameters()}


def test_the_average_follows_its_formula() -> None:
    spec, expected = EMASpec(decay=0.25, every=1), 0.0
    average = spec.begin(module(0.0))
    for n in range(12):
        keep = min(0.25, (1 + n) / (10 + n))
        expected = keep * expected + (1 - keep) * (n + 1)
        average.update(weights(n + 1.0), n)
        assert average.tensors["weight"][0, 0].item() == pytest.approx(expected)


def test_it_moves_only_every_few_steps() -> None:
    average = EMASpec(every=4).begin(module(0.0))
    changed = []
    for step in range(12):
        before = average.tensors["bias"].clone()
        average.update(weights(step + 1.0), step)
        changed.append(not torch.equal(before, average.tensors["bias"]))
    assert [step for step in range(12) if changed[step]] == [3, 7, 11]


def test_it_is_float32_and_independent_of_a_half_precision_module() -> None:
    net = module(1.0).bfloat16()
    average = EMASpec(every=1).begin(net)
    assert {tensor.dtype for tensor in average.tensors.values()} == {torch.float32}
    nn.init.zeros_(net.bias)
    assert average.tensors["bias"].tolist() == [1, 1, 1]
    average.copy_to(net)
    assert net.bias.dtype == torch.bfloat16
    assert net.bias.tolist() == [1, 1, 1]


def test_swapped_weights_come_back_even_after_an_error() -> None:
    net = module(0.0)
    average = EMASpec(every=1).begin(module(7.0))
    with pytest.raises(RuntimeError, match="inside"), average.swapped(net):
        assert net.weight.unique().tolist() == [7]
        raise RuntimeError("inside")
    assert net.weight.unique().tolist() == [0]


def test_frozen_parameters_are_left_out() -> None:
    net = module(1.0)
    net.bias.requires_grad_(False)
    assert EMASpec().begin(net).tensors.keys() == {"weight"}


def test_a_restored_average_continues_bit_for_bit() -> None:
    spec = EMASpec(decay=0.9, every=2)
    average = spec.begin(module(0.0))
    for step in range(5):
        average.update(weights(step + 0.3), step)
    restored = spec.begin(module(99.0))
    restored.load_state_dict(copy.deepcopy(average.state_dict()))
    for step in range(5, 11):
        average.update(weights(step + 0.3), step)
        restored.update(weights(step + 0.3), step)
    assert all(torch.equal(average.tensors[name], restored.tensors[name]) for name in average.tensors)


def test_a_decay_of_one_is_refused() -> None:
    with refused("value_out_of_range", "decay 1.0"):
        EMASpec(decay=1.0)
