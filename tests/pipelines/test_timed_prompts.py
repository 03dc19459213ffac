"""Several prompts in one text, each with its span: what is read, and what is refused."""

import pytest

from kinoform.pipelines.timed_prompts import in_seconds, is_timed, rewritten, seconds_of, timed_text
from tests.support.refusals import refused
from tests.support.unchecked import unchecked

TWO = "[0-2s] a red ball [2s-4s] a blue ball"


def test_spans_in_seconds_follow_each_other() -> None:
    assert in_seconds(TWO, 4.0) == ((0.0, "a red ball"), (2.0, "a blue ball"))
    assert seconds_of(TWO) == 4.0


def test_shares_are_of_the_whole_video_and_say_no_length() -> None:
    text = "[0:25%] a [25%:50%] b [50%:100%] c"
    assert in_seconds(text, 8.0) == ((0.0, "a"), (2.0, "b"), (4.0, "c"))
    assert seconds_of(text) is None


def test_the_prompt_before_goes_on_through_a_gap() -> None:
    assert in_seconds("[0-1s] a [3-4s] b", 6.0) == ((0.0, "a"), (3.0, "b"))


@pytest.mark.parametrize(
    "prompt", ["[sic] a ball", "[1] a ball", "[a-b] a ball", "a ball", "", "[0-2s a ball", "[3-a] b"]
)
def test_a_bracket_alone_makes_no_span(prompt: str) -> None:
    assert not is_timed(prompt)
    assert in_seconds(prompt, 4.0) == ((0.0, prompt),)


@pytest.mark.parametrize(
    "prompt",
    [
        "[0-2s] a [1-4s] b",  # overlap
        "[2-4s] b [0-2s] a",  # out of order, and nothing at the beginning
        "[1-2s] a",
        "[2-1s] a",
        "[0-0s] a",
        "[0-nan s] a",
        "[nan-2s] a",
        "[0-infs] a",
        "[-1-2s] a",
        "[0-5s] a",  # beyond the video
        "[0-2] a",  # no unit
        "[0%-2s] a",
        "[0-50%] a [2-4s] b",
        "[0-120%] a",
        "[0-2s] [2-4s] b",
        "[0-2s]",
        "a ball [0-2s] a [2-4s] b",
    ],
)
def test_other_spans_are_refused(prompt: str) -> None:
    with refused("prompt_times_invalid"):
        in_seconds(prompt, 4.0)


def test_a_span_may_end_within_the_rounding_of_the_length() -> None:
    assert in_seconds("[0-4.1s] a", 4.0, slack=0.25) == ((0.0, "a"),)


def test_prompts_of_python_become_the_same_text() -> None:
    text = timed_text([(0, 2, "a red ball"), (2, 4.5, "a blue ball")])
    assert in_seconds(text, 4.5) == ((0.0, "a red ball"), (2.0, "a blue ball"))
    for wrong in ([], [(0, 1)], [(0, 1, 2)], [(0, 1, "[0-1s] a")], [(1, 2, "a")], 7):
        with unchecked(), refused("prompt_times_invalid"):
            timed_text(wrong)  # type: ignore[arg-type]
    with refused("value_out_of_range"):
        timed_text([(0, float("nan"), "a")])


def test_each_text_is_rewritten_between_its_spans() -> None:
    assert rewritten(TWO, str.upper) == "[0-2s] A RED BALL [2s-4s] A BLUE BALL"
    assert rewritten("a ball", str.upper) == "A BALL"
