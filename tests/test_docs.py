"""The docs are true in what can be checked: links lead somewhere, named tests exist, quoted code is in the source."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
TESTS = {name for file in ROOT.glob("tests/**/*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
SOURCE = "".join(file.read_text() for file in sorted(ROOT.glob("src/**/*.py")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert named <= TESTS, named - TESTS


def test_the_table_of_inputs_is_that_of_the_fields() -> None:
    """Written anew by `python docs/inputs_table.py`."""
    page = ROOT / "docs" / "inputs.md"
    writer = runpy.run_path(str(ROOT / "docs" / "inputs_table.py"))
    assert writer["written"](page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8")


def test_the_tour_quotes_the_source() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tour.md").read_text(), re.DOTALL)
    assert len(blocks) > 10
    foreign = [block for block in blocks if block not in SOURCE]
    assert not foreign
