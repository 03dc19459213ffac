"""A model without autoencoder from the command line: trained, looked at, and asked for films."""

import sys
from pathlib import Path

import pytest

from command_line import Run

IDEAS = Path(__file__).parents[2] / "examples" / "ideas"
SOURCE = """
import pixels
from test_pixels import short

recipe = pixels.recipe


def plan():
    return short(pixels.plan(), steps=2)
"""


def test_train_verify_inspect_and_generate(kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(IDEAS))
    monkeypatch.delitem(sys.modules, "own_pixels", raising=False)
    (here / "own_pixels.py").write_text(SOURCE)
    ran = kinoform("train", "own_pixels:plan", "--recipe", "own_pixels:recipe", "--json")
    assert ran.code == 0, ran.err
    assert set(ran.told[0]) == {"output", "text_encoder", "transformer"}
    model = ["--model", "runs/pixels/model", "--recipe", "own_pixels:recipe", "--device", "cpu"]
    for command in ("verify", "inspect"):
        assert kinoform(command, "runs/pixels/model").code == 0
    ran = kinoform("generate", "a red ball", *model, "--steps", "2", "--seed", "1", "-o", "film.mkv")
    assert ran.code == 0 and (here / "film.mkv").is_file(), ran.err
    ran = kinoform("generate", "a red ball", *model, "--frames", "17", "-o", "other.mkv")
    assert ran.code == 2 and ran.sentence.endswith("16 and 20")
