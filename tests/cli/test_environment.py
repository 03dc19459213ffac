"""A program in surroundings that lack something: a home, a name for its user, a terminal, a reader of its results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinoform.cli.command_list import COMMANDS
from kinoform.cli.settings import settings_file
from kinoform.recipes.catalogue import cache_folder
from tests.support.command_line import Run

START = "from kinoform.cli.app import main; main()"
WORDS = {
    "generate": ["a red ball", "--model", "t2v-1.3b"],
    "plan": ["--model", "mini"],
    "edit": ["none.mp4", "a red ball"],
    "train": ["nothing"],
    "evaluate": ["nothing"],
    "convert": ["none", "other"],
    "download": ["nothing"],
    "animate": ["none.png", "--prompt", "a red ball"],
    "bridge": ["none.png", "none.png", "--prompt", "a red ball"],
    "extend": ["none.mp4", "--prompt", "a red ball"],
    "outpaint": ["none.mp4", "--size", "64x64", "--prompt", "a red ball"],
    "doctor": [],
}
"""Arguments of each command here; all others are shown a file that does not exist."""


@pytest.fixture
def no_home(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container under a number that has no name."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()


@pytest.mark.usefixtures("no_home")
@pytest.mark.parametrize("command", [entry.name for entry in COMMANDS])
def test_every_command_works_without_a_home(kinoform: Run, command: str) -> None:
    ran = kinoform(command, *WORDS.get(command, ["none.mp4"]))
    assert ran.code in ((0,) if command in ("doctor", "plan") else (2, 3)) and "home" not in ran.err, ran.err


@pytest.mark.usefixtures("no_home")
def test_without_a_home_weights_are_looked_for_here() -> None:
    assert cache_folder() == Path(".cache/kinoform") and settings_file(None) is None


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / ".cache" / "kinoform"


def test_a_home_of_somebody_else_holds_nothing(
    kinoform: Run, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behave as under `docker run --user 1000` with the HOME of root."""
    home, stat = tmp_path / "root", os.stat

    def forbidden(path: object, *words: object, **options: object) -> os.stat_result:
        if isinstance(path, str | Path) and str(path).startswith(str(home)):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.stat", forbidden)
    assert kinoform("generate", "a red ball", "--model", "t2v-1.3b").refusal == "weights_missing"
    assert kinoform("doctor").code == 0


@pytest.mark.parametrize("streams", ["", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_may_be_closed_or_broken(streams: str, tmp_path: Path) -> None:
    line = f'"{sys.executable}" -c "{START}" info none.mp4 {streams}'
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 2 and "Traceback" not in ran.stderr


def test_a_reader_that_has_heard_enough_is_no_error(tmp_path: Path) -> None:
    line = f'"{sys.executable}" -c "{START}" --help | head -n 0'
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=tmp_path)
    assert ran.stderr == ""
