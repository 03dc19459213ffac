"""Groups of options: their fields become a command's signature, and the command gets them back filled."""

import inspect
from dataclasses import dataclass
from typing import Annotated, get_args

import pytest

from kinoform.cli.generate import generate
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.options import OF_RECIPE, Setting, command, option, settings_of, varied, words_of
from kinoform.cli.plan import plan
from kinoform.cli.values import MAX_VIDEOS
from kinoform.media.video import MAX_UPSCALE
from kinoform.pipelines.request import REAL, WHOLE
from tests.support.command_line import Run


@dataclass(frozen=True, kw_only=True)
class Paint:
    colour: Annotated[str, option("Paint", "Of the wall."), Setting()] = "white"
    coats: Annotated[int, option("Paint", "How often."), Setting()] = 2
    glossy: Annotated[bool, option("Paint", "That shines.", "--glossy")] = False
    brushes: Annotated[list[str] | None, option("Paint", "Which are used.")] = None


@command
def paint(wall: str, *, paint: Paint, ladder: Annotated[bool, option(None, "For high walls.")] = False) -> object:
    return wall, paint, ladder


@command
def repaint(
    wall: str,
    *,
    paint: Annotated[
        Paint, varied(without=("brushes",), default={"coats": 1}, help={"coats": "Fewer."}, settings=("colour",))
    ],
) -> object:
    return wall, paint


def helps(function: object) -> dict[str, str]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {each.name: get_args(each.annotation)[1].help for each in parameters if get_args(each.annotation)}


def test_the_fields_stand_in_the_place_of_their_group() -> None:
    parameters = inspect.signature(paint).parameters
    assert list(parameters) == ["wall", "colour", "coats", "glossy", "brushes", "ladder"]
    assert (parameters["coats"].default, parameters["wall"].default) == (2, inspect.Parameter.empty)


def test_a_function_gets_its_groups_filled() -> None:
    assert paint(wall="north") == ("north", Paint(), False)
    assert paint(wall="south", coats=3, brushes=["flat"], ladder=True) == (
        "south", Paint(coats=3, brushes=["flat"]), True,
    )  # fmt: skip


def test_a_group_is_varied_for_one_command_alone() -> None:
    assert list(inspect.signature(repaint).parameters) == ["wall", "colour", "coats", "glossy"]
    assert repaint(wall="north") == ("north", Paint(coats=1))
    assert (helps(repaint)["coats"], helps(paint)["coats"]) == ("Fewer.", "How often.")


def test_settings_are_told_by_their_marks() -> None:
    assert settings_of(inspect.signature(paint).parameters.values()).keys() == {"colour", "coats"}
    assert settings_of(inspect.signature(repaint).parameters.values()).keys() == {"colour"}
    kinds = {name: kind for name, (kind, _) in settings_of(inspect.signature(generate).parameters.values()).items()}
    assert (kinds["model"], kinds["steps"], kinds["fps"], kinds["no_metadata"]) == (str, int, float, bool)


def test_words_fill_a_group_again() -> None:
    assert list(words_of(Paint())) == []
    filled = Paint(colour="red", glossy=True, brushes=["flat", "round"])
    assert list(words_of(filled)) == ["--colour", "red", "--glossy", "--brushes", "flat", "--brushes", "round"]
    assert list(words_of(filled, without=("brushes",), spell=lambda name, value: name)) == [
        "--colour",
        "colour",
        "--glossy",
    ]
    model = ModelOptions(model="mini", lora=["a.safetensors:0.5"])
    assert model.words(MachineOptions(device="cpu", dtype="float16")) == [
        "--model", "mini", "--lora", "a.safetensors:0.5", "--device", "cpu",
    ]  # fmt: skip


def test_mistakes_in_a_declaration_are_found_when_it_is_made() -> None:
    def twice(colour: str, *, paint: Paint) -> None: ...

    def unknown(*, paint: Annotated[Paint, varied(without=("colour", "roller"))]) -> None: ...

    with pytest.raises(TypeError, match="colour"):
        command(twice)
    with pytest.raises(TypeError, match="roller"):
        command(unknown)


def test_a_plan_takes_all_that_videos_are_made_of() -> None:
    assert inspect.signature(generate).parameters.keys() == inspect.signature(plan).parameters.keys() - {"compare"}


def test_the_help_says_the_ranges_that_requests_have() -> None:
    told = helps(generate)
    for name in ("steps", "shift", "fps"):
        low, high = (WHOLE | REAL)[name]
        assert f"{low:g} to {high:g}" in told[name]
    assert f"1 to {MAX_VIDEOS}" in told["count"] and f"1 to {MAX_UPSCALE} times" in told["upscale"]


def test_what_the_recipe_has_a_value_for_is_told_so(kinoform: Run) -> None:
    parameters = inspect.signature(generate).parameters
    shown = {name: get_args(each.annotation)[1].show_default for name, each in parameters.items()}
    of_recipe = {name for name, (_, mark) in settings_of(parameters.values()).items() if mark.from_recipe}
    assert {name for name, text in shown.items() if text == OF_RECIPE} == of_recipe > {"size", "steps", "negative"}
    assert "the recipe's" in kinoform("generate", "--help").out
