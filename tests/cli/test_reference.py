"""docs/cli.md is what the program says of itself."""

import subprocess
import sys
from pathlib import Path

from kinoform.cli.command_list import COMMANDS
from kinoform.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_the_program() -> None:
    assert PAGE.read_text() == reference(), "run: python -m kinoform.cli.reference > docs/cli.md"


def test_every_command_has_its_section() -> None:
    page = PAGE.read_text()
    assert [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")] == [
        *(entry.name for entry in COMMANDS),
        "In every command",
    ]
    assert all(line.count(" | ") == 3 for line in page.splitlines() if line.startswith("| `--"))


def test_the_module_writes_it() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "kinoform.cli.reference"], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert run.stdout == PAGE.read_text()
