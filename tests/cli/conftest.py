"""The command line run in this process, in an empty folder, on a tiny model."""

import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinoform.cli import console
from kinoform.cli.app import main
from kinoform.errors import KinoformError
from kinoform.loading.own import open_own
from kinoform.loading.parts import Parts, own_parts
from tests.support.command_line import Ran, Run
from tests.support.tiny_recipe import ADDRESS, tiny, write_tiny_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with other weights."""
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one; no settings of this machine's user count."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def kinoform(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run `kinoform WORDS`. An exception that leaves the program, as a traceback would, fails the test."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup may have had ignored

    told = console.fail

    def run(*words: object) -> Ran:
        errors: list[KinoformError] = []

        def fail(error: KinoformError) -> int:
            errors.append(error)
            return told(error)

        monkeypatch.setattr(console, "fail", fail)
        monkeypatch.setattr(sys, "argv", ["kinoform", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        code = ended.value.code
        assert code is None or isinstance(code, int), code
        return Ran(code=code or 0, out=out, err=err, refusal=errors[-1].code if errors else None)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def model(folder: Path) -> list[str]:
    """The options that name the tiny model."""
    return ["--model", str(folder), "--recipe", ADDRESS, "--device", "cpu"]


@pytest.fixture(scope="session")
def parts(folder: Path) -> Parts:
    recipe = tiny()
    return own_parts(open_own(folder), (recipe.transformer,), recipe.codec, recipe.text)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch, parts: Parts) -> None:
    """No weight may be read: whatever is refused is refused before heavy work. (Headers are read, once.)"""

    def read(*words: object, **options: object) -> None:
        pytest.fail("weights were read")

    monkeypatch.setattr("kinoform.loading.parts.load_module", read)
    monkeypatch.setattr("kinoform.recipes.opened.own_parts", lambda *words: parts)
