"""Every documented command about editing runs as it is typed, with the adapters that are shipped, in few steps."""

import re
import shlex
from pathlib import Path

import pytest

from kinoform.media.metadata import read_params
from tests.support.command_line import Run

ROOT = Path(__file__).parents[2]
PAGE, README = (ROOT / "docs" / "editing.md").read_text(), (ROOT / "README.md").read_text()
EDITS = ("edit", "extend", "outpaint")


def commands(text: str) -> list[str]:
    found = [
        block
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        if not language
    ]
    return [line for block in found for line in block.splitlines() if line.startswith("kinoform ")]


(SECTION,) = re.findall(r"^### Edit videos, and leave the rest alone\n(.*?)^### ", README, re.DOTALL | re.MULTILINE)
COMMANDS = list(dict.fromkeys([*commands(PAGE), *commands(SECTION)]))


@pytest.fixture
def clone(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (here / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setenv("KINOFORM_STEPS", "2")
    monkeypatch.setenv("KINOFORM_DEVICE", "cpu")
    return here


def test_the_pages_hold_every_command() -> None:
    assert {shlex.split(line)[1] for line in COMMANDS} == {*EDITS, "animate", "bridge", "generate"}


@pytest.mark.filterwarnings("ignore")  # two steps change little, and enlarge much
@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_makes_its_video(kinoform: Run, clone: Path, command: str) -> None:
    words = shlex.split(command)[1:]
    ran = kinoform(*words)
    assert ran.code == 0, ran.err
    params = read_params(clone / words[words.index("-o") + 1])
    assert params["steps"] == 2
    if words[0] in EDITS:
        assert params["edit"]["outside_equal"] is True  # type: ignore[index]


@pytest.mark.filterwarnings("ignore")
def test_the_documented_python_edits(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for name in ("video.mp4", "mask.mp4"):
        Path(name).symlink_to(ROOT / "examples" / "inputs" / "mini" / name)
    made: dict[str, object] = {}
    exec(code, made)
    assert made["edited"].report.outside_equal and Path("edited.mp4").is_file()  # type: ignore[attr-defined]
