"""Default names are legal everywhere, short, and tell prompts apart where they can."""

import re

import pytest

from kinoform.files import check_writable
from kinoform.media.paths import default_name

PROMPTS = [
    "a red ball",
    "",
    "红色的球",
    "../../etc/passwd",
    "CON",
    "a*b:c?\x00\n",
    "\u202efdp.exe",
    "x" * 500,
    "-rf",
    "😀",
]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("suffix", [".mp4", ""])
def test_names_are_legal_everywhere(prompt, suffix, tmp_path):
    name = default_name(prompt, 7, suffix)
    assert re.fullmatch(r"kinoform_[a-z0-9]([a-z0-9-]*[a-z0-9])?_7" + re.escape(suffix), name)
    assert len(name) < 100
    check_writable(tmp_path / name, force=False)


def test_names_tell_what_is_inside():
    assert default_name("A Red ball, bouncing!", 7) == "kinoform_a-red-ball-bouncing_7.mp4"
    assert default_name("Café crème", 0) == "kinoform_cafe-creme_0.mp4"
    assert default_name("红色的球", 3, ".png") == "kinoform_video_3.png"
