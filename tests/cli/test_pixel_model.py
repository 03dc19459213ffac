"""A model without autoencoder from the command line: trained, looked at, and asked for videos."""

import sys
from pathlib import Path

import pytest

from kinoform.cli.values import frames_of
from kinoform.errors import UsageError
from kinoform.models.codec import IdentityCodec, check_size
from kinoform.models.vae import VAESpec
from tests.support.command_line import Run

IDEAS = Path(__file__).parents[2] / "examples" / "ideas"
SOURCE = """
import pixels
from tests.test_pixels import short

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
    ran = kinoform("generate", "a red ball", *model, "--steps", "2", "--seed", "1", "-o", "video.mkv")
    assert ran.code == 0 and (here / "video.mkv").is_file(), ran.err
    ran = kinoform("generate", "a red ball", *model, "--frames", "17", "-o", "other.mkv")
    assert ran.refusal == "frames_not_multiple" and "16 and 20" in ran.sentence
    ran = kinoform("generate", "a red ball", *model, "--seconds", "1.2", "--dry-run", "--json")
    assert ran.code == 0 and ran.told[0]["plan"]["num_frames"] == 20, ran.err


@pytest.mark.parametrize("codec", [IdentityCodec(), VAESpec()])
@pytest.mark.parametrize("volume", [1, 2, 4])
def test_seconds_become_the_nearest_frames_that_codec_and_volume_hold(
    codec: IdentityCodec | VAESpec, volume: int
) -> None:
    def legal(frames: int) -> bool:
        try:
            check_size(codec, (volume, 1, 1), frames, 8, 8)
        except UsageError:
            return False
        return True

    fitting = [frames for frames in range(1, 100) if legal(frames)]
    for frames in range(1, 64):
        made = frames_of(None, frames / 16, 16.0, codec.stride[0], volume)
        assert made in fitting and abs(made - frames) == min(abs(each - frames) for each in fitting)
