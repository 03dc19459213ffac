"""`kinoform evaluate`: what it prints, what it compares, what it writes, and what it refuses before any video."""

from pathlib import Path

import numpy as np
import pytest

from kinoform.cli.evaluate_report import ComparedModel, beside
from kinoform.cli.model_options import MachineOptions, ModelOptions
from kinoform.cli.option_groups import VideoOptions
from kinoform.evaluation.generate import Generated
from kinoform.media.video import Video
from kinoform.world.render import render
from tests.support.command_line import Run
from tests.support.refusals import refused

CPU = MachineOptions(device="cpu")
FIRST = ComparedModel(model=ModelOptions(model="mini"), machine=CPU, video=VideoOptions(steps=2))
FEW = ("--level", "L1", "--count", 1, "--device", "cpu")


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Videos show what is asked, at no cost; the changes with which each was asked for."""
    asked_for: list[dict] = []

    def drawn(pipeline, case, changes) -> Generated:
        asked_for.append({**changes, "dtype": str(pipeline.machine.dtype)})
        frames = render(case.target)
        return Generated(video=Video(frames=frames, fps=16.0), raw=frames, kept=None)

    monkeypatch.setattr("kinoform.evaluation.evaluate.generated", drawn)
    return asked_for


@pytest.fixture
def unmade(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*words: object) -> None:
        pytest.fail("a video was made")

    monkeypatch.setattr("kinoform.evaluation.evaluate.generated", drawn)


def test_all_levels_and_splits_without_a_word(kinoform: Run, painted: list[dict]) -> None:
    ran = kinoform("evaluate", "--count", 1, "--device", "cpu", "--json")
    assert ran.code == 0, ran.err
    told = ran.told[0]
    splits = [f"{level} {split}" for level in ("L1", "L2", "L3") for split in ("seen", "held-out")]
    assert [case["name"] for case in told["cases"]] == splits
    assert told["others"] == [] and len(painted) == 6
    assert told["cases"][0]["videos"][0]["video"]["marks"]["all_right"] is True


def test_the_table_shows_what_the_level_varies(kinoform: Run, painted: list[dict]) -> None:
    shown = kinoform("evaluate", "mini", *FEW).out
    rows = (
        "background",
        "motion",
        "all right",
        "all right, steady",
        "binding error",
        "count constancy",
        "background drift",
        "seconds a video",
    )
    assert all(row in shown for row in rows) and "codec ceiling" in shown and "chance" in shown
    assert "texture" not in shown and "camera" not in shown and "size" not in shown
    assert "texture" in kinoform("evaluate", "mini", "--level", "L3", "--count", 1, "--device", "cpu").out


@pytest.mark.parametrize("words", [("--compare", "mini,steps=3", "mini"), ("mini", "--compare", "steps=3")])
def test_two_sides(kinoform: Run, painted: list[dict], words: tuple[str, ...]) -> None:
    ran = kinoform("evaluate", *words, *FEW, "--steps", 2)
    assert ran.code == 0 and "difference" in ran.out
    assert "mini steps=2" in ran.out and "mini steps=3" in ran.out
    assert [asked["steps"] for asked in painted] == [2, 2, 3, 3]


def test_another_precision_is_another_side(kinoform: Run, painted: list[dict]) -> None:
    ran = kinoform("evaluate", *FEW, "--compare", "dtype=bfloat16", "--json")
    assert ran.told[0]["others"][0]["settings"]["dtype"] == "bfloat16"
    assert [asked["dtype"] for asked in painted] == ["torch.float32"] * 2 + ["torch.bfloat16"] * 2


def test_settings_that_are_not_said_are_those_of_the_first() -> None:
    assert beside(FIRST, "steps=8,guidance_scale=3") == ComparedModel(
        model=ModelOptions(model="mini"), machine=CPU, video=VideoOptions(steps=8, guidance_scale="3")
    )
    assert beside(FIRST, "other") == ComparedModel(
        model=ModelOptions(model="other"), machine=CPU, video=VideoOptions(steps=2)
    )
    scales = beside(FIRST, "guidance_scale=high=4, low=3.5,steps=8")
    assert scales.video == VideoOptions(steps=8, guidance_scale="high=4, low=3.5")
    assert scales.video.changes() == {"steps": 8, "guidance_scale": {"high": 4.0, "low": 3.5}}
    far = beside(FIRST, "some/folder, solver=unipc(order=3, lower_order_final=False),shift = 4")
    assert (far.model.model, far.video.shift, far.video.steps) == ("some/folder", 4.0, 2)
    assert far.video.solver == "unipc(order=3, lower_order_final=False)"


def test_a_path_may_hold_any_sign(here: Path) -> None:
    (here / "a=1,b").mkdir()
    (here / "a=1").mkdir()
    assert beside(FIRST, "a=1,b").model.model == "a=1,b"
    changed = beside(FIRST, "a=1,steps=3")
    assert (changed.model.model, changed.video.steps) == ("a=1", 3)


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("stesp=8", "unknown_name", "'steps'"),
        ("mini,seed=8", "unknown_name", "'seed'"),
        ("mini,other", "unknown_name", "'other'"),
        ("steps=8,", "unknown_name", "''"),
        ("steps=many", "bad_value", "'many'"),
        ("steps=2.5", "bad_value", "'2.5'"),
        ("steps=8,9", "bad_value", "'8,9'"),
        ("steps=", "bad_value", "''"),
        ("guidance_scale=much", "bad_value", "'much'"),
        ("guidance_scale=4, 3,steps=2", "expert_not_said", "high=4,low=3"),
        ("guidance_scale=high=4,low=3,low=2", "said_twice", "low"),
        ("solver=unipc(order=3),stesp=8", "unknown_name", "'steps'"),
        ("steps=2,steps=3", "said_twice", "steps"),
    ],
)
def test_settings_that_cannot_be_meant(text: str, code: str, named: str) -> None:
    with refused(code, named):
        beside(FIRST, text)


@pytest.mark.usefixtures("unmade")
@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--compare", "stesp=8"], "unknown_name", "'steps'"),
        (["--compare", "steps=0"], "value_out_of_range", "steps"),
        (["--compare", "guidance_scale=nan"], "value_out_of_range", "guidance_scale"),
        (["--compare", "solver=unipcc"], "unknown_solver", "'unipc'"),
        (["--compare", "dtype=float23"], "unknown_dtype", "'float23'"),
        (["--compare", "nosuchmodel"], "unknown_model", "'nosuchmodel'"),
        (["--level", "L4"], "unknown_name", "'L4'"),
        (["--count", 0], "value_out_of_range", "--count"),
        (["--html-videos", -1], "value_out_of_range", "--html-videos"),
        (["--processes", 0], "value_out_of_range", "--processes"),
        (["--size", "72x64"], "size_not_multiple", "72"),
        (["--frames", 18, "--processes", 2], "frames_not_multiple", "18"),
        (["--compare", "size=64x72"], "size_not_multiple", "72"),
        (["--compare", "frames=18"], "frames_not_multiple", "18"),
        (["--html", "no/such/page.html"], "folder_missing", "no/such"),
        (["--html", "taken.html"], "file_exists", "--force"),
    ],
)
def test_what_is_refused_is_refused_before_any_video(
    kinoform: Run, here: Path, words: list, code: str, named: str
) -> None:
    (here / "taken.html").write_text("mine")
    ran = kinoform("evaluate", "mini", "--device", "cpu", *words)
    assert ran.refusal == code and named in ran.sentence and ran.out == ""
    assert [file.name for file in here.iterdir()] == ["taken.html"] and (here / "taken.html").read_text() == "mine"


@pytest.mark.usefixtures("unmade")
def test_a_model_of_other_words_is_refused(kinoform: Run, folder: Path) -> None:
    ran = kinoform("evaluate", "mini", "--device", "cpu", "--compare", folder)
    assert ran.refusal == "recipe_not_trusted" and "tests.support.tiny_recipe:tiny" in ran.sentence, (
        "whose recipe no folder may choose"
    )


def test_the_page_tells_its_own_command(kinoform: Run, painted: list[dict], here: Path) -> None:
    words = ("evaluate", "mini", *FEW, "--steps", 2, "--compare", "guidance_scale=3", "--html-videos", 1)
    assert kinoform(*words, "--html", "page.html").code == 0
    text = (here / "page.html").read_text(encoding="utf-8")
    command = "kinoform evaluate mini --device cpu --steps 2 --level L1 --count 1 --compare guidance_scale=3"
    assert f"<code>{command}</code>" in text and text.count("<img") == 4
    assert kinoform(*words, "--html", "page.html", "--html-videos", 0, "--force").code == 0
    assert (here / "page.html").read_text(encoding="utf-8").count("<img") == 0


def test_the_size_is_that_of_the_command_line_and_stands_in_every_result(
    kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(pipeline, case, changes) -> Generated:
        size = {name: changes[name] for name in ("num_frames", "height", "width")}
        frames = render(case.target, **size)
        return Generated(video=Video(frames=frames, fps=16.0), raw=frames, kept=None)

    monkeypatch.setattr("kinoform.evaluation.evaluate.generated", drawn)
    (here / "kinoform.toml").write_text("size = '80x64'\nframes = 5\n")
    words = ("evaluate", "mini", *FEW, "--size", "96x64", "--frames", 9)
    ran = kinoform(*words, "--html", "page.html")
    assert "at 96x64, 9 frames" in ran.out and "all right" in ran.out
    text = (here / "page.html").read_text(encoding="utf-8")
    command = "kinoform evaluate mini --device cpu --size 96x64 --frames 9 --level L1 --count 1"
    assert f"<code>{command}</code>" in text and "size 96x64, frames 9" in text
    settings = kinoform(*words, "--json").told[0]["settings"]
    assert (settings["width"], settings["height"], settings["num_frames"]) == (96, 64, 9)


def test_ctrl_c_leaves_no_page(kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def drawn(pipeline, case, changes) -> Generated:
        if made:
            raise KeyboardInterrupt
        made.append(case.seed)
        frames = np.zeros((17, 64, 64, 3), dtype=np.uint8)
        return Generated(video=Video(frames=frames, fps=16.0), raw=frames, kept=None)

    monkeypatch.setattr("kinoform.evaluation.evaluate.generated", drawn)
    ran = kinoform("evaluate", "mini", "--device", "cpu", "--count", 2, "--html", "page.html")
    assert ran.code == 130 and len(made) == 1 and ran.out == "" and not list(here.iterdir())
