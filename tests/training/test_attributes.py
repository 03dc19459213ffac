"""Questions about stories: every answer is a choice, and the caption decides it."""

import numpy as np
import pytest
import torch

from kinoform.mini.training.attributes import ATTRIBUTES, AttributeHeads
from kinoform.world.caption import caption
from kinoform.world.parse import parse
from kinoform.world.sampling import L3, sample_story


def answers(prompt: str) -> dict[str, str | None]:
    story = parse(prompt)
    found = {attribute.name: attribute.choices[attribute.index(story)] for attribute in ATTRIBUTES}
    return {name: None if choice is None else choice.name for name, choice in found.items()}


def test_one_object() -> None:
    found = answers("a small green star spins on a black background")
    assert found["background"] == "black" and found["texture"] == "plain" and found["camera"] == "none"
    assert (found["first colour"], found["first shape"], found["first motion"]) == ("green", "star", "spin")
    assert found["first size"] == "small"
    assert all(found[f"second {attribute}"] is None for attribute in ("colour", "shape", "motion", "size"))


def test_two_objects_from_left_to_right() -> None:
    found = answers("a red ball rises and a large blue square rests on a striped white background")
    assert (found["first colour"], found["first shape"], found["first motion"]) == ("red", "ball", "up")
    assert (found["second colour"], found["second shape"], found["second motion"]) == ("blue", "square", "still")
    assert (found["first size"], found["second size"], found["texture"]) == ("medium", "large", "stripes")


def test_a_pan() -> None:
    found = answers("a cyan ring on a checker gray background, the camera pans right")
    assert (found["camera"], found["texture"], found["first motion"]) == ("right", "checker", "still")


@pytest.mark.parametrize("number", range(50))
def test_a_caption_answers_every_question(number: int) -> None:
    generator = np.random.default_rng(number)
    story = sample_story(L3, generator)
    read = parse(caption(story, generator))
    assert [attribute.index(read) for attribute in ATTRIBUTES] == [attribute.index(story) for attribute in ATTRIBUTES]


def test_answers_are_read_off_the_rows_that_a_query_finds() -> None:
    """At first off all alike; of rows that are masked nothing is read."""
    reading, rows = AttributeHeads(6, ATTRIBUTES[:2]), torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    found = reading(rows)
    assert [scores.shape for scores in found] == [(3, len(attribute.choices)) for attribute in ATTRIBUTES[:2]]
    for answer, scores in zip(reading.classifiers, found, strict=True):
        assert torch.allclose(scores, answer(rows.mean(1)), atol=1e-6)
    torch.nn.init.normal_(reading.queries)
    mask = torch.tensor([True, True, False, False, False]).expand(3, 5)
    other = torch.where(mask[..., None], rows, 100.0)
    for one, two, alone in zip(reading(rows, mask), reading(other, mask), reading(rows[:, :2]), strict=True):
        assert torch.equal(one, two) and torch.allclose(one, alone, atol=1e-5)
