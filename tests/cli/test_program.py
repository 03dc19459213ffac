"""The program itself: help, version, words that no command has, and Ctrl-C in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kinoform import __version__
from kinoform.cli.command_list import COMMANDS, CommandEntry
from kinoform.cli.commands import loaded
from tests.support.command_line import Run

ROOT = Path(__file__).parents[2]
START = "import sys; from kinoform.cli.app import main"
LIGHT = [
    "generate",
    "animate",
    "bridge",
    "edit",
    "extend",
    "outpaint",
    "rerun",
    "decode",
    "info",
    "inspect",
    "evaluate",
    "train",
]
"""Commands whose own help and completion do without PyTorch."""


def test_alone_it_says_how_to_use_it(kinoform: Run) -> None:
    ran = kinoform()
    shown = ran.out + ran.err
    for entry in COMMANDS:
        assert entry.name in shown
    assert ran.code in (0, 2)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["nonsense"], *([name, "--help"] for name in LIGHT)], ids=" ".join
)
def test_words_about_the_program_do_without_pytorch(words: list[str]) -> None:
    """In a fresh process, which takes a fifth of a second this way and seconds otherwise."""
    end = "try: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", f"{START}\n{end}", *words], capture_output=True, text=True, check=False)
    assert run.returncode in (0, 2) and "Traceback" not in run.stderr, run.stderr
    assert run.stderr.splitlines()[-1] == "False"


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_a_command_says_of_itself_what_the_list_says(entry: CommandEntry) -> None:
    assert " ".join(str(loaded(entry.name).help).split()).startswith(entry.help)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["generate", "--help"]], ids=" ".join)
def test_help_is_a_result(kinoform: Run, words: list[str]) -> None:
    ran = kinoform(*words)
    assert ran.code == 0 and "Usage" in ran.out and ran.err == ""


def test_the_version_is_a_result(kinoform: Run) -> None:
    ran = kinoform("--version")
    assert ran.code == 0 and ran.out == f"kinoform {__version__}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["genrate"], "genrate"),
        (["generate", "x", "--stpes", "3"], "--stpes"),
        (["generate", "x", "--steps", "three"], "--steps"),
        (["generate", "x", "--steps", "2.5"], "--steps"),
        (["generate", "x", "--guidance-scale", "much"], "--guidance"),
        (["generate", "x", "--seed"], "--seed"),
        (["generate", "x", "y"], "y"),
        (["decode"], "latents"),
        (["info"], "file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_are_not_understood_are_named(kinoform: Run, words: list[str], told: str) -> None:
    ran = kinoform(*words)
    assert ran.code == 2 and told.lower() in ran.err.lower() and ran.out == ""


def test_names_that_fit_no_encoding_are_printed_all_the_same(kinoform: Run, model: list[str], here: Path) -> None:
    name = "caf\udce9.gif"
    ran = kinoform("generate", "a red ball", *model, "--seed", "7", "--steps", "1", "-o", name)
    assert ran.code == 0 and ran.out == "caf\\udce9.gif\n" and (here / name).is_file()
    told = kinoform("generate", "a red ball", *model, "--seed", "7", "--steps", "1", "-o", name, "--force", "--json")
    assert told.told[0]["output"] == name


def test_ctrl_c_ends_the_process_with_a_word(folder: Path, here: Path) -> None:
    """In a process that sends itself SIGINT while it denoises."""
    start = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{START}"
    words = [
        "generate",
        "a red ball",
        "--model",
        folder,
        "--recipe",
        "tests.support.troubled_recipes:ctrl_c",
        "--device",
        "cpu",
    ]
    paths = os.pathsep.join([str(ROOT), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", f"{start}\nmain()", *words, "-o", "video.mp4"],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    assert run.returncode == 130 == 128 + signal.SIGINT
    assert run.stdout == "" and "Traceback" not in run.stderr
    assert run.stderr.endswith("kinoform: interrupted; no half-made file was left\n")
    assert not list(here.iterdir())
