"""Each error has a stable code: in Python, across processes, in JSON, and on the page that lists all of them."""

import importlib.util
import pickle
import re
from collections import defaultdict
from pathlib import Path

import pytest

from kinoform.errors import KinoformError, UsageError, WeightsError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "errors.md"
SCRIPT = importlib.util.spec_from_file_location("error_codes", ROOT / "docs" / "error_codes.py")
assert SCRIPT is not None and SCRIPT.loader is not None
error_codes = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(error_codes)


def test_every_error_of_the_package_names_its_code() -> None:
    assert error_codes.missing(ROOT / "src") == []


def test_a_code_is_snake_case_and_belongs_to_one_class() -> None:
    kinds = defaultdict(set)
    for each in error_codes.codes(ROOT / "src"):
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", each.code), each
        kinds[each.code].add(each.kind)
    assert {code: found for code, found in kinds.items() if len(found) > 1} == {}


def test_the_page_is_the_program() -> None:
    assert PAGE.read_text() == error_codes.page(), "run: python docs/error_codes.py > docs/errors.md"


def test_an_error_without_a_code_is_found(tmp_path: Path) -> None:
    (tmp_path / "idea.py").write_text('raise UsageError("one", code="one_two")\nraise WeightsError(f"two {path}")\n')
    assert error_codes.missing(tmp_path) == [f"{tmp_path / 'idea.py'}:2: WeightsError: two {{path}}"]


@pytest.mark.parametrize("kind", [each for each in error_codes.CLASSES.values()])
def test_an_error_keeps_its_code_in_another_process(kind: type[KinoformError]) -> None:
    there = pickle.loads(pickle.dumps(kind("a sentence", code="one_two")))
    assert (type(there), str(there), there.code) == (kind, "a sentence", "one_two")
    assert pickle.loads(pickle.dumps(kind("a sentence"))).code == kind.code


def test_an_error_of_an_idea_has_the_code_of_its_class() -> None:
    assert UsageError("a sentence").code == "usage" and WeightsError("a sentence").code == "weights"


def test_the_page_is_read_as_a_table() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
