"""The page of a run: what it shows of whole, running and damaged logs, by itself."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from kinoform.training.curves import Curve, chart, histogram
from kinoform.training.loop import train
from kinoform.training.metrics import Measurement, written
from kinoform.training.run_log import read_run
from kinoform.training.run_page import run_page
from tests.support.refusals import refused
from tests.training.tiny_stage import OPTIONS, SPEC, STEPS, TinyStage


class Page(HTMLParser):
    """Elements that a page has, and the addresses that it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.titles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.titles += [value or "" for name, value in attrs if name == "aria-label"]


def step(number: int, loss: float | None = 0.5) -> Measurement:
    return Measurement(
        step=number, samples=4 * (number + 1), loss=loss, learning_rate=1e-4, gradient_norm=loss,
        seconds=0.5 * (number + 1), flops=1e9,
    )  # fmt: skip


def run_of(folder: Path, lines: bytes) -> Path:
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "losses.jsonl").write_bytes(lines)
    return folder


def test_a_training_is_shown_with_curves_and_settings_and_nothing_is_loaded(tmp_path: Path) -> None:
    train(TinyStage(), tmp_path / "tiny", SPEC, OPTIONS)
    (stage,) = read_run(tmp_path)
    page = Page(run_page("run", [stage]))
    assert (stage.name, len(stage.measurements), stage.total, stage.damaged) == ("tiny", STEPS, STEPS, 0)
    assert [title.split(" after ")[0] for title in page.titles] == ["Loss", "Gradient norm", "Learning rate", "Speed"]
    assert page.loads == [] and "script" not in page.tags
    assert page.tags.count("tr") == len(stage.settings) > 20


def test_levels_validation_memory_and_samples_of_a_run_are_shown(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", written([step(0), step(1, None), step(2)]))
    levels = [{"step": 0, "asked": [0.25, 0.75]}] + [{"step": n, "count": [1, 3], "loss": [0.2, 0.9]} for n in (0, 1)]
    validation = [{"step": n, "sigma": [0.1, 0.5], "loss": [0.3, 0.4 + n]} for n in (0, 2)]
    for name, values in (("levels", levels), ("validation", validation), ("machine", [{"step": 1, "memory": 2**31}])):
        (run / "adapter" / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in values) + '{"st')
    (run / "adapter" / "samples").mkdir()
    Image.new("RGB", (4, 4)).save(run / "adapter" / "samples" / "step-00000002.png")
    (run / "adapter" / "samples" / "step-00000002-0.mp4").write_bytes(b"video")
    (run / "adapter" / "samples" / "note.txt").write_text("no sample")
    (stage,) = read_run(run)
    page = Page(run_page("a <run>", [stage]))
    told = "\n".join(page.titles)
    assert (stage.skipped, stage.asked, [item.memory for item in stage.machine]) == ((1,), (0.25, 0.75), [2**31])
    assert "Loss by noise level after 1 steps: 0.0-0.5 0.2, 0.5-1.0 0.9" in told
    assert "Validation loss by noise level after 2 steps: 0.1 0.3, 0.5 2.4" in told
    assert "Noise levels: 0.250, 0.750" in told and "Peak memory after 1 steps: GiB 2" in told
    assert [load.partition(";")[0] for load in page.loads] == ["data:image/png", "data:video/mp4"]
    assert "a &lt;run&gt;" in run_page("a <run>", [stage])


def test_damaged_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    good = written([step(0), step(1), step(2)])
    worded = written([step(5)]).replace(b'"seconds": 3.0', b'"seconds": "x"')
    bad = b'\xff\xfe\x00\n{"step": 2}\n[[[\n' + written([step(1)]) + worded
    run = run_of(tmp_path / "run", good + bad + good[-60:])
    (stage,) = read_run(run)
    assert [item.step for item in stage.measurements] == [0, 1, 2]
    assert stage.damaged == 6 and "6 lines of the log are damaged" in run_page("run", [stage])


def test_a_log_without_a_line_is_a_page_all_the_same(tmp_path: Path) -> None:
    assert "No step has been logged yet" in run_page("run", read_run(run_of(tmp_path / "run", b"")))


def test_folders_without_a_log_are_refused(tmp_path: Path) -> None:
    with refused("run_without_log"):
        read_run(tmp_path)
    with refused("not_a_folder"):
        read_run(tmp_path / "absent")


def test_a_curve_is_averaged_over_steps_and_drawn_inside_its_frame() -> None:
    curve = Curve(name="x", points=tuple((n, float(n % 2)) for n in range(1000)), band=True, bins=50)
    bins = curve.binned()
    assert len(bins) == 50
    assert all((item.mean, item.low, item.high) == (0.5, 0.0, 1.0) for item in bins)
    for values in ([1e-9, 3e4], [0.0], [5.0, 5.0], [-3.0, 2.0], [1e-300, 1e300], [7e-5]):
        text = chart("t", "u", [Curve(name="x", points=tuple(enumerate(values)), band=True)])
        for points in re.findall(r'points="([^"]*)"', text):
            for x, y in (map(float, place.split(",")) for place in points.split()):
                assert 0 <= x <= 400 and -0.1 <= y <= 210
    assert chart("t", "u", [Curve(name="x", points=())]) == ""


@pytest.mark.parametrize("asked", [(), (0.5, 0.5)])
def test_a_histogram_has_a_bar_for_each_part(asked: tuple[float, ...]) -> None:
    drawn = histogram("t", "u", [0.1, 0.2, 0.7], asked)
    assert drawn.count("<rect") == 3 and drawn.count("<polyline") == bool(asked)
