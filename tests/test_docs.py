"""The docs are true in what can be checked: links lead somewhere, named tests exist, quoted code is in the source."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from kinoform.mini.recipe import mini
from kinoform.plan.modules import codec_count, text_count
from kinoform.plan.transformer import transformer_count
from kinoform.recipes.wan21 import t2v_1_3b
from kinoform.version import __version__

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.md"
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FOLDERS = ("src", "tests", "examples", "benchmarks", "docs")
TESTS = {name for file in ROOT.glob("tests/**/*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
FILES = [str(file.relative_to(ROOT)) for top in FOLDERS for file in ROOT.glob(f"{top}/**/*.py")]
SOURCE = "".join(file.read_text() for file in sorted(ROOT.glob("src/**/*.py")))
WORDS = set(re.findall(r"\w+", SOURCE))
OPTIONS = set(re.findall(r"--[a-z][a-z0-9-]*", (ROOT / "docs" / "cli.md").read_text()))
FOREIGN = {"--jaxtyping-packages"}
"""An option of pytest, in a decision."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", page.read_text())
    inside = [(page.parent / target if target else page, anchor) for target, anchor in links if "://" not in target]
    broken = [(str(target), anchor) for target, anchor in inside if not target.exists() or not has(target, anchor)]
    assert not broken


def has(page: Path, anchor: str) -> bool:
    """Whether a page has a heading of this anchor, which is its words in small letters with dashes between them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE) if anchor else ()
    return not anchor or anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert named <= TESTS, named - TESTS


def test_the_table_of_inputs_is_that_of_the_fields() -> None:
    """Written anew by `python docs/inputs_table.py`."""
    page = ROOT / "docs" / "inputs.md"
    writer = runpy.run_path(str(ROOT / "docs" / "inputs_table.py"))
    assert writer["written"](page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8")


def test_citation_and_changelog_have_the_version() -> None:
    version = re.escape(__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {version} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.MULTILINE)


def test_the_tour_quotes_the_source() -> None:
    blocks = re.findall(r"```python\n(.*?)```", TOUR.read_text(), re.DOTALL)
    assert len(blocks) > 10
    foreign = [block for block in blocks if block not in SOURCE]
    assert not foreign


def test_the_tour_counts_the_parameters_of_the_recipes() -> None:
    table = re.findall(r"^\| parameters: ([\w ]+) \| ([\d,]+) \| ([\d,]+) \|$", TOUR.read_text(), re.MULTILINE)
    counted = {part: tuple(int(count.replace(",", "")) for count in counts) for part, *counts in table}
    recipes = mini(), t2v_1_3b()
    assert counted == {
        "transformer": tuple(transformer_count(recipe.transformer).parameters for recipe in recipes),
        "autoencoder": tuple(codec_count(recipe.codec).parameters for recipe in recipes),
        "text encoder": tuple(text_count(recipe.text).parameters for recipe in recipes),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    """Files of Python in backticks; a name that begins with `my_` is that of a file which readers write."""
    named = {name for code in in_backticks(page) for name in re.findall(r"[\w./-]+\.py\b", code)}
    missing = [name for name in named if not name.startswith("my_") and not any(map(ends(name), FILES))]
    assert not missing


def ends(name: str) -> Callable[[str], bool]:
    return lambda file: f"/{file}".endswith(f"/{name.removeprefix('./')}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_classes_exist(page: Path) -> None:
    """Names that begin with a capital and stand in backticks alone, with arguments or a member."""
    found = (re.fullmatch(r"([A-Z][a-z]{2,}\w*)(\.\w+|\(.*\))*", code) for code in in_backticks(page))
    named = {match[1] for match in found if match}
    assert named <= WORDS, named - WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_options_exist(page: Path) -> None:
    """Options in backticks and in quoted commands; those of the official program have underscores."""
    commands = re.findall(r"^kinoform .*", page.read_text(), re.MULTILINE)
    options = {
        name for code in (*in_backticks(page), *commands) for name in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
    }
    assert {name for name in options if "_" not in name} <= OPTIONS | FOREIGN


def in_backticks(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))


def test_the_direction_rule_is_that_of_the_contract() -> None:
    rule = re.search(r"## The direction rule\n\n```\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    contract = re.search(r'type = "layers"\nlayers = \[(.*?)\]', (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert rule is not None and contract is not None
    layers = re.findall(r'"(.*?)"', contract[1])
    assert " ".join(rule[1].split()) == " > ".join(layers).replace("kinoform.", "")


def test_the_list_of_pages_is_whole() -> None:
    listed = (ROOT / "docs" / "README.md").read_text(), (ROOT / "docs" / "decisions" / "README.md").read_text()
    for text, folder in zip(listed, ("docs", "docs/decisions"), strict=True):
        pages = {page.name for page in (ROOT / folder).glob("*.md")} - {"README.md"}
        assert pages <= set(re.findall(r"\(([\w.-]+\.md)\)", text))


def test_the_names_of_the_glossary_are_those_of_the_code() -> None:
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    named = {word for row in rows for code in re.findall(r"`([^`]+)`", row) for word in code.split(".")}
    assert named
    assert named <= WORDS, named - WORDS
