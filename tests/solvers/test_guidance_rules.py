"""Named rules of guidance: what each evaluates, whose buffers are whose, and what is refused."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.solvers.experts import expert_choice, switched
from kinoform.solvers.guidance.bernini import R2V_APG, V2V_APG
from kinoform.solvers.guidance.projected import APG
from kinoform.solvers.guidance.rescale import Rescale
from kinoform.solvers.guidance.rule import Guidance, Scales
from kinoform.solvers.guidance.skip_layers import SkipLayerGuidance
from kinoform.solvers.levels import unipc_levels
from kinoform.solvers.names import GUIDANCE, guidance_of, name_of
from kinoform.solvers.predictions import Prediction
from kinoform.types import Level
from tests.solvers.toy import noise
from tests.support.refusals import refused
from tests.support.unchecked import unchecked

X = noise(5, 2, 4, 2, 3, 5)
LEVELS = unipc_levels(40, 5.0)
SCALES = {"text": 4.0, "images": 4.5, "video": 1.25}


def of(**scales: float) -> Scales:
    return {name: lambda level, scale=scale: scale for name, scale in scales.items()}


def seeded(x: Tensor, level: Level, asked: Sequence[Prediction]) -> list[Tensor]:
    """Another velocity for each prediction, the same at every call."""
    return [torch.sin((len(each.without) + 2 + each.prompt) * x + level.sigma) for each in asked]


def counts(rule: Guidance, **scales: float) -> dict[int, int]:
    """Count the steps by the number of predictions that they ask for."""
    found, possible = Counter[int](), rule.predictions(of(**scales), LEVELS)

    def predict(x: Tensor, level: Level, asked: Sequence[Prediction]) -> list[Tensor]:
        assert set(asked) <= possible and len(set(asked)) == len(asked)
        found[len(asked)] += 1
        return seeded(x, level, asked)

    field, state = rule.guide(predict, of(**scales), LEVELS), None
    for level in LEVELS[:-1]:
        velocity, state = field.evaluate(X, level, state)
        assert torch.isfinite(velocity).all()
    return dict(found)


COUNTS = {
    "cfg": {2: 40},
    "apg": {2: 40},
    "apg-mix": {2: 40},
    "mambo-g": {2: 40},
    "tcfg+rescale": {2: 40},
    "nag": {1: 40},
    "slg": {2: 33, 3: 7},
    "pag": {2: 33, 3: 7},
    "seg": {2: 1, 3: 39},
    "slg-uncond": {2: 40},
    "rv2v": {4: 40},
    "v2v": {2: 40},
    "v2v-chain": {3: 40},
    "t2v": {2: 40},
    "v2v-apg": {2: 40},
    "t2v-apg": {2: 40},
    "r2v-apg": {3: 40},
    "zero-star": {2: 39},
}


@pytest.mark.parametrize(("name", "expected"), COUNTS.items(), ids=COUNTS)
def test_a_rule_asks_for_its_predictions_and_no_others(name: str, expected: dict[int, int]) -> None:
    assert counts(guidance_of(name), **SCALES) == expected


def test_predictions_without_weight_are_not_evaluated() -> None:
    for name, scales, expected in [
        ("cfg", {"text": 1.0}, 1), ("apg", {"text": 1.0}, 1), ("mambo-g", {"text": 1.0}, 1), ("nag:scale=1", {}, 1),
        ("rv2v", {"text": 4.0, "images": 4.0, "video": 1.0}, 2), ("rv2v", {"text": 4.0, "images": 4.5}, 3),
        ("rv2v", {}, 1), ("rv2v", {"text": 0.0, "images": 0.0, "video": 2.0}, 2),
    ]:  # fmt: skip
        assert counts(guidance_of(name), **scales) == {expected: 40}, name


def test_a_telescope_is_its_linear_form() -> None:
    rule, level = guidance_of("rv2v"), LEVELS[3]
    none, video, negative, positive = rule.nested  # type: ignore[attr-defined]
    for weights in [(1.25, 4.5, 4.0), (1.0, 4.0, 4.0), (2.0, 2.0, 0.0), (0.5, 1.0, 1.0)]:
        v, i, t = weights
        values = dict(zip(rule.nested, seeded(X.double(), level, rule.nested), strict=True))  # type: ignore[attr-defined]
        linear = (1 - v) * values[none] + (v - i) * values[video] + (i - t) * values[negative] + t * values[positive]
        found = rule.guide(seeded, of(video=v, images=i, text=t), LEVELS)(X.double(), level)
        assert torch.allclose(found, linear, atol=1e-12)


def test_projected_guidance_without_its_parts_is_plain() -> None:
    plain = guidance_of("cfg").guide(seeded, of(text=4.0), LEVELS)
    for name in ("apg:threshold=0", "apg:threshold=0,space=x0,axes=frame", "v2v-apg:threshold=0,eta=1"):
        found = guidance_of(name).guide(seeded, of(text=4.0), LEVELS)
        assert torch.allclose(found(X, LEVELS[5]), plain(X, LEVELS[5]), atol=1e-4)


def test_buffers_begin_anew_with_each_run_and_each_expert_but_those_of_bernini() -> None:
    rule = APG(momentum=-0.5)
    for carries, own in ((False, rule), (True, V2V_APG)):
        assert own.carries_state is carries
        fields = [own.guide(seeded, of(text=4.0), LEVELS) for _ in range(2)]
        whole = switched(fields, expert_choice((0.9,), LEVELS), carries=own.carries_state)
        _, state = whole.evaluate(X, LEVELS[0], None)
        assert (state[1] is None) is not carries
    field = rule.guide(seeded, of(text=4.0), LEVELS)
    first, state = field.evaluate(X, LEVELS[0], None)
    second, _ = field.evaluate(X, LEVELS[0], state)
    again, _ = field.evaluate(X, LEVELS[0], None)
    assert torch.equal(first, again) and not torch.equal(first, second)


NAMED = [
    "apg(eta=0.5)", "apg(eta=0.5)+rescale(share=0.5)", "slg(layers=(3,), part=attention)", "tcfg+rescale",
    "slg+zero-star(zero_steps=0)+interval(high=0.9)", "r2v-apg(momentum=-0.5, threshold=(4.0, 9.0))",
    "apg(space=x0, axes=channel, momentum=-0.5, threshold=50.0)", "nag(scale=11.0)", "cfg(original=True)",
]  # fmt: skip


@pytest.mark.parametrize("name", [*NAMED, *GUIDANCE])
def test_a_name_gives_the_rule_back(name: str) -> None:
    rule = guidance_of(name)
    assert name_of(rule) == name and guidance_of(name_of(rule)) == rule


def test_both_ways_of_writing_options_are_read() -> None:
    assert guidance_of("apg:eta=.5,momentum=-.5") == guidance_of("apg(eta=0.5, momentum=-0.5)")
    assert guidance_of("cfg+interval:low=.2") == guidance_of("interval(low=0.2)")
    assert guidance_of("r2v-apg:threshold=[50]") == R2V_APG


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("apg+slg", "rules_conflict"),
        ("nag+rescale", "rules_conflict"),
        ("rv2v+zero-star", "rules_conflict"),
        ("slg-uncond+tcfg", "rules_conflict"),
        ("zero-star+tcfg", "rules_conflict"),
        ("rescale+interval+rescale", "rules_conflict"),
        ("apg:eta=1e999", "value_out_of_range"),
        ("apg:eta=nan", "bad_value"),
        ("apg:threshold=[1,2]", "value_out_of_range"),
        ("apg:space=frame", "unknown_option"),
        ("apg:rule=1", "unknown_option"),
        ("rv2v:nested=[1]", "unknown_option"),
        ("slg:layers=[]", "wrong_type"),
        ("slg:start=.5,stop=.2", "value_out_of_range"),
        ("nag:norm=3", "value_out_of_range"),
        ("nag:scale=.5", "value_out_of_range"),
    ],
)
def test_what_is_not_defined_is_refused(name: str, code: str) -> None:
    with refused(code):
        guidance_of(name)


def test_names_where_values_are_meant_are_refused() -> None:
    name: Any = "cfg"
    for make in (lambda: APG(space=name), lambda: SkipLayerGuidance(part=name), lambda: Rescale(rule=name)):
        with refused("wrong_type"), unchecked():
            make()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(number: float) -> None:
    for make in (lambda: APG(momentum=number), lambda: APG(threshold=number), lambda: APG(eta=number)):
        with refused("value_out_of_range"):
            make()
