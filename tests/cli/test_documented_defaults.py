"""The tables of docs/command-line.md are what the recipes and the formats say of themselves."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from kinoform.media.codecs import VIDEO
from kinoform.media.video import IMAGES
from kinoform.recipe import Recipe, find
from kinoform.recipes.catalogue import ADAPTERS, EMBEDDED, RELEASED
from kinoform.solvers.names import name_of

DOCS = Path(__file__).parents[2] / "docs"
RECIPES: dict[str, Callable[[], Recipe]] = {
    **{name: partial(find, address) for name, address in (EMBEDDED | ADAPTERS).items()},
    **RELEASED,
}


def rows(page: str, first: str) -> dict[str, list[str]]:
    """The table whose heading begins with `first`: the cells behind each name, which stands in backticks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    table = text[text.index(f"| {first}") :].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]
    return {name: rest for names, *rest in cells for name in re.findall(r"`([^`]+)`", names)}


def number(text: str) -> float:
    found = re.match(r"[\d.]+", text)
    assert found is not None, text
    return float(found[0])


def test_every_model_has_its_row() -> None:
    assert list(rows("command-line.md", "recipe | size")) == list(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_defaults_are_those_of_the_recipe(name: str) -> None:
    recipe = RECIPES[name]()
    size, *told = rows("command-line.md", "recipe | size")[name]
    frames, fps, steps, solver, shift, guidance_scale, negative = told
    found = [recipe.num_frames, recipe.fps, recipe.steps]
    assert [number(item) for item in (frames, fps, steps)] == found
    experts = range(len(recipe.transformers))
    scales = [scale for index in experts for scale in recipe.scales.of_expert(index).values()]
    assert list(dict.fromkeys(map(float, re.findall(r"[\d.]+", guidance_scale)))) == list(dict.fromkeys(scales))
    assert solver == name_of(recipe.solver) and (negative == "empty") == (recipe.negative_prompt == "")
    assert f"{recipe.width}x{recipe.height}" in size or name == "i2v-14b-720p"
    assert recipe.upscale == 1 or f"{recipe.width * recipe.upscale}x{recipe.height * recipe.upscale}" in size
    if isinstance(recipe.shift, float | int):
        assert number(shift) == recipe.shift
    else:
        assert {float(digit) for digit in re.findall(r"\b\d\b", shift)} >= {recipe.shift.small, recipe.shift.large}


@pytest.mark.parametrize("page", ["command-line.md", "outputs.md"])
def test_every_kind_of_file_has_its_row(page: str) -> None:
    found = {Path(name).suffix for name in rows(page, "name | ") if name.startswith("NAME.")}
    assert found == {*VIDEO, *IMAGES}


def test_codecs_and_their_qualities_are_documented() -> None:
    text = (DOCS / "outputs.md").read_text(encoding="utf-8")
    for suffix, kind in VIDEO.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `NAME{suffix}`"))
        assert f"`{kind.codecs[0].name}` (default)" in line
