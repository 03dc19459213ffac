"""Completion: names of commands, options and values, in each shell, without PyTorch."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kinoform.cli.options import CODECS, DEVICES, DTYPES, FEW_STEP, GUIDANCE_RULES, MODELS, SOLVERS, VARIANTS
from kinoform.media.codecs import CONTAINERS
from kinoform.pipelines import machine
from kinoform.recipes import catalogue, few_step
from kinoform.solvers import names
from tests.support.command_line import Run

PROGRAM = "import sys; sys.argv[0] = 'kinoform'; from kinoform.cli.app import main"


def test_the_names_that_are_offered_are_those_there_are() -> None:
    assert list(MODELS) == [*catalogue.EMBEDDED, *catalogue.ADAPTERS, *catalogue.RELEASED]
    assert list(VARIANTS) == list(catalogue.RELEASED)
    assert list(FEW_STEP) == list(few_step.FEW_STEP)
    assert set(GUIDANCE_RULES) == set(names.GUIDANCE)
    assert list(DEVICES) == list(machine.DEVICES)
    assert list(DTYPES) == ["auto", *machine.DTYPES]
    assert list(SOLVERS) == list(names.SOLVERS)
    assert set(CODECS) == {codec.name for container in CONTAINERS for codec in container.codecs}


def completed(kinoform: Run, monkeypatch: pytest.MonkeyPatch, shell: str, *words: str) -> list[str]:
    """What a shell is told at the end of `kinoform WORDS`, where the last word is incomplete."""
    line = ["kinoform", *words]
    monkeypatch.setenv("_KINOFORM_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", shlex.join(line))
    monkeypatch.setenv("COMP_CWORD", str(len(line) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(line))
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    ran = kinoform()
    assert ran.code == 0 and ran.err == ""
    return ran.out.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "offered", "other"),
    [
        (["gen"], "generate", "decode"),
        (["generate", "--gui"], "--guidance-scale", "--seed"),
        (["generate", "--solver", "u"], "unipc", "euler"),
        (["generate", "--device", "cp"], "cpu", "cuda"),
        (["generate", "--dtype", "bf"], "bfloat16", "float32"),
        (["generate", "--codec", "f"], "ffv1", "h264"),
        (["generate", "--model", "t2v-1.3"], "t2v-1.3b", "mini"),
        (["evaluate", "--solver", "e"], "euler", "unipc"),
        (["evaluate", "mi"], "mini", "t2v-14b"),
        (["decode", "--device", "m"], "mps", "cpu"),
        (["decode", "--json-s"], "--json-stream", "--json "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_names_are_completed(
    kinoform: Run, monkeypatch: pytest.MonkeyPatch, shell: str, words: list[str], offered: str, other: str
) -> None:
    found = " ".join(completed(kinoform, monkeypatch, shell, *words))
    assert offered in found and other not in found


def test_models_are_completed_by_paths_too(kinoform: Run, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    (here / "models" / "mine").mkdir(parents=True)
    (here / "models" / ".hidden").mkdir()
    for name in ("wan.safetensors", "wan.gguf", "wan.txt"):
        (here / "models" / name).touch()
    assert completed(kinoform, monkeypatch, "bash", "generate", "--model", "mod") == ["models/"]
    inside = ["models/mine/", "models/wan.gguf", "models/wan.safetensors"]
    assert completed(kinoform, monkeypatch, "bash", "generate", "--model", "models/") == inside
    assert completed(kinoform, monkeypatch, "bash", "generate", "--model", "no/such/") == []


def test_a_mistake_in_a_file_of_settings_does_not_disturb(
    kinoform: Run, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    (here / "kinoform.toml").write_text("nonsense")
    assert completed(kinoform, monkeypatch, "bash", "generate", "--solver", "u") == ["unipc"]


def test_completing_a_value_does_without_pytorch() -> None:
    variables = {"_KINOFORM_COMPLETE": "complete_bash", "COMP_WORDS": "kinoform generate --solver u", "COMP_CWORD": "3"}
    end = "try: main()\nfinally: print('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", f"{PROGRAM}\n{end}"], capture_output=True, text=True, check=True,
        env=os.environ | variables,
    )  # fmt: skip
    assert run.stdout == "unipc\nFalse\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_takes_the_script_and_completes(tmp_path: Path) -> None:
    """The script is asked for as a user does, from within a shell, and used by that shell."""
    program = tmp_path / "kinoform"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{PROGRAM}; main()" "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(kinoform --show-completion)"; COMP_WORDS=(kinoform generate --solver d); COMP_CWORD=3; '
        '_kinoform_completion kinoform; echo "${COMPREPLY[@]}"'
    )
    run = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert run.stdout == "dpm++\n", run.stderr


@pytest.mark.parametrize(
    ("shell", "begin"), [("bash", "_kinoform_completion()"), ("zsh", "#compdef"), ("fish", "complete")]
)
def test_each_shell_has_a_script(kinoform: Run, monkeypatch: pytest.MonkeyPatch, shell: str, begin: str) -> None:
    monkeypatch.setenv("_KINOFORM_COMPLETE", f"source_{shell}")
    ran = kinoform()
    assert ran.code == 0 and ran.out.strip().startswith(begin) and "_KINOFORM_COMPLETE" in ran.out
