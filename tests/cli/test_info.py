"""`kinoform info` shows what any kind of video carries, one value a line, whoever wrote it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.media.metadata import read_params
from kinoform.media.video import Video
from tests.support.command_line import Run

KINDS = ["video.mp4", "video.webm", "video.mkv", "video.gif", "video.webp", "video.png", "frames/"]
PARAMS = {"prompt": "a cat\nand 红", "seed": 7, "model": {"name": "mini", "hash": "0123"}, "negative_prompt": None}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_video_tells(kinoform: Run, here: Path, name: str) -> None:
    frames = np.zeros((1, 16, 16, 3), np.uint8)
    Video(frames=frames, fps=16.0, params=PARAMS).save(name)
    ran = kinoform("info", name)
    lines = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert ran.code == 0 and lines["prompt"] == r"a cat\nand 红" and lines["negative_prompt"] == "null"
    assert lines["seed"] == "7" and lines["model.name"] == "mini" and lines["model.hash"] == "0123"
    assert kinoform("info", name, "--json").told == [read_params(here / name)]


def test_a_stranger_writes_one_line_a_value(kinoform: Run, here: Path) -> None:
    about = {"a\nb": "c\nd", "deep\x1b": {"e\n": {"f": ["\x1b[2J", 1.5]}}, "empty": {}}
    Image.new("RGB", (2, 2)).save(here / "video.gif", comment=json.dumps(about).encode())
    ran = kinoform("info", "video.gif")
    assert ran.code == 0 and len(ran.out.splitlines()) == 3 and "\x1b" not in ran.out
    assert r"a\nb" in ran.out and r"deep\x1b.e\n.f" in ran.out
