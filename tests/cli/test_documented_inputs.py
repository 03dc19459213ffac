"""Every documented command about images, videos, masks and LoRA runs as it is typed.

The embedded model is itself, the released ones are tiny random folders where their weights would be; settings of the
environment keep videos short.
"""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

import kinoform as package
from kinoform.loading.lora import save_lora
from kinoform.media.metadata import read_params
from kinoform.media.video import Video
from kinoform.models.lora import LoRASpec, attach
from kinoform.recipes.load import load
from tests.support.command_line import Run
from tests.support.official_folder import write_official_folder

ROOT = Path(__file__).parents[2]
DOCS, EXAMPLES = ROOT / "docs", ROOT / "examples"
RELEASED = {"t2v-1.3b": "t2v", "i2v-14b-480p": "i2v", "flf2v-14b": "flf2v", "vace-1.3b": "vace", "ti2v-5b": "ti2v"}
FEW = {"KINOFORM_STEPS": "2", "KINOFORM_DEVICE": "cpu"}
SMALL = FEW | {"KINOFORM_SIZE": "64x64", "KINOFORM_FRAMES": "5"}
SPEC = LoRASpec(patterns=("self_attention.*",), rank=2)


def section(page: Path, heading: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    (text,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    return text


def blocks(text: str, language: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for its, block in found if its == language]


INPUTS_PAGE = (DOCS / "inputs.md").read_text()
TEXTS = (INPUTS_PAGE, section(ROOT / "README.md", "From images and videos"), section(DOCS / "lora.md", "Using files"))
COMMANDS = [line for text in TEXTS for block in blocks(text) for line in block.splitlines()]
VIDEOS = [line for line in COMMANDS if line.startswith("kinoform ") and "--recipe" not in line]
IDEAS = [line for line in COMMANDS if "--recipe" in line]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where released models are looked for."""
    place = tmp_path_factory.mktemp("cache")
    for name, kind in RELEASED.items():
        write_official_folder(place / "kinoform" / name, kind=kind)
    return place


@pytest.fixture
def clone(here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The examples as in a clone, in a folder that may be written to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    (here / "examples").mkdir()
    (here / "examples" / "inputs").symlink_to(EXAMPLES / "inputs")
    shutil.copytree(EXAMPLES / "ideas", here / "examples" / "ideas", ignore=shutil.ignore_patterns("__pycache__"))
    return here


def save_loras(model: str, *names: str) -> None:
    base = load(model, device="cpu").parts.transformer(torch.float32, torch.device("cpu"))
    adapted = attach(base, SPEC, name="style", generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if name.endswith(".style.up"):
                parameter.fill_(0.01)
    for name in names:
        save_lora(Path(name), adapted, "style")


def told(words: list[str]) -> set[str]:
    """The names under which a command's options stand in the video's parameters."""
    names = {"--image": "frame:0", "--last-image": "frame:-1", "--video": "video", "--mask": "mask", "--lora": "lora:0",
             "--reference": "reference:0"}  # fmt: skip
    numbered = {f"frame:{words[place + 1].partition('=')[0]}" for place, word in enumerate(words) if word == "--frame"}
    return numbered | {names[word] for word in words if word in names}


def test_the_pages_hold_commands() -> None:
    assert len(VIDEOS) >= 11 and len(IDEAS) == 2
    assert {line for line in COMMANDS if line not in (*VIDEOS, *IDEAS)} == {"cd examples/ideas"}


@pytest.mark.parametrize("command", VIDEOS)
def test_a_documented_command_makes_a_video(
    kinoform: Run, clone: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    words = shlex.split(command)[1:]
    for name, value in (SMALL if "--model" in words else FEW).items():
        monkeypatch.setenv(name, value)
    if "--lora" in words:
        save_loras("t2v-1.3b", "style.safetensors", "motion.safetensors")
    ran = kinoform(*words)
    assert ran.code == 0, ran.err
    (video,) = clone.glob("*.mp4")
    params = read_params(video)
    assert params["steps"] == 2 and told(words) <= params["inputs"].keys()  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", IDEAS)
def test_a_documented_idea_makes_a_video(
    kinoform: Run, clone: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for name, value in FEW.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(clone / "examples" / "ideas")
    loaded = set(sys.modules)
    words = shlex.split(command)[1:]
    try:
        ran = kinoform(*words)
    finally:
        for name in set(sys.modules) - loaded:
            if name in ("depth_control", "reference_branch"):
                del sys.modules[name]
    assert ran.code == 0, ran.err
    (video,) = (clone / "examples" / "ideas").glob("*.mp4")
    assert told(words) <= read_params(video)["inputs"].keys()  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore")  # the tiny models know few words
def test_the_documented_python_makes_videos(clone: Path) -> None:
    made: dict[str, object] = {}
    first, second = blocks(INPUTS_PAGE, "python")
    exec(first, made)
    videos = [made[name] for name in ("video", "again", "other")]
    assert all(isinstance(each, Video) and each.frames.shape == (17, 64, 64, 3) for each in videos)
    shutil.copy(EXAMPLES / "inputs" / "mini" / "video.mp4", "video.mp4")
    exec(second, made)
    wider = made["video"]
    assert isinstance(wider, Video) and wider.frames.shape == (17, 64, 192, 3)


def test_the_documented_lora_call_makes_a_video(clone: Path) -> None:
    save_loras("mini", "style.safetensors")
    (example,) = blocks(section(DOCS / "lora.md", "Using files"), "python")
    exec(example, {"kinoform": package})
    assert read_params(Path("styled.mp4"))["loras"] == {"lora:0": 0.8}
