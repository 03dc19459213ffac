"""The judge of transformers gives every sample of a batch its own inputs, however many there are."""

from dataclasses import replace
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from tests.conformance.golden import Golden, bound_of, distance, golden_files, read
from tests.conformance.judge_dit import JUDGES, judge, samples_of
from tests.support.narrowing import of_type

OWN, SHARED = ("x", "y", "context"), ("t", "clip_fea")
"""Inputs of which each sample has one by its number, and those that hold all samples one behind the other."""

FILES = [path for path in golden_files() if path.stem in JUDGES]

Sample: TypeAlias = dict[str, Tensor]


def sample_of(golden: Golden, number: int) -> Sample:
    own = {name: golden.inputs[f"{name}{number}"] for name in OWN if f"{name}{number}" in golden.inputs}
    shared = {name: golden.inputs[name].chunk(samples_of(golden))[number] for name in SHARED if name in golden.inputs}
    return own | shared


def another(sample: Sample, generator: torch.Generator) -> Sample:
    """Another sample, with other values and at another time."""
    made = {name: torch.randn(value.shape, generator=generator) for name, value in sample.items()}
    return {**made, "t": torch.full_like(sample["t"], 371)}


def batch(golden: Golden, samples: list[Sample]) -> Golden:
    own = {f"{name}{n}": each[name] for n, each in enumerate(samples) for name in OWN if name in each}
    shared = {name: torch.cat([each[name] for each in samples]) for name in SHARED if name in samples[0]}
    return replace(golden, inputs=own | shared, outputs={})


@pytest.mark.parametrize("of", [1, 2, 3])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sample_is_judged_by_its_own_inputs_wherever_it_stands(path, of: int) -> None:
    golden, generator = read(path), torch.Generator().manual_seed(of)
    bound = bound_of(golden.name, "out.sample0")
    recorded = sample_of(golden, 0)
    for place in range(of):
        others = [another(recorded, generator) for _ in range(of - 1)]
        samples = [*others[:place], recorded, *others[place:]]
        found = judge(batch(golden, samples))
        assert len(found) == of
        assert (
            distance(of_type(Tensor, found[f"out.sample{place}"]), golden.outputs["out.sample0"], bound) <= bound.value
        )
        for number, each in enumerate(samples):
            alone = of_type(Tensor, judge(batch(golden, [each]))["out.sample0"])
            assert torch.equal(of_type(Tensor, found[f"out.sample{number}"]), alone)
