"""`make world` measures: all right on rendered videos, and 1 as exit status when the reader is shown others."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "world.py"
WORDS = ["--count", "6", "--json", "--only", "L2 17x64x"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("world_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *WORDS])
    spec.loader.exec_module(module)
    return module


def ended(script: ModuleType) -> int:
    with pytest.raises(SystemExit) as end:
        script.main()
    return int(str(end.value.code))


def test_settings_are_36_different_ones(script: ModuleType) -> None:
    names = {setting.name for setting in script.settings()}
    assert len(names) == 36 and {"L1 17x64x64", "L2 33x96x176", "L3 33x128x224"} <= names


def test_rendered_videos_are_all_right(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(script) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["setting"] for row in rows] == ["L2 17x64x64", "L2 17x64x112"]
    assert all(row[name] == 1 for row in rows for name in script.ATTRIBUTES)


def test_videos_of_another_scene_are_below_the_bound(script: ModuleType, capsys, monkeypatch) -> None:
    videos = []
    render, read = script.render, script.read
    monkeypatch.setattr(script, "render", lambda scene, **size: videos.append(render(scene, **size)) or videos[-1])
    # Each video is judged by the one before.
    monkeypatch.setattr(script, "read", lambda video: read(videos[max(len(videos) - 2, 0)]))
    assert ended(script) == 1
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert row["colour"] < 0.9 and row["shape"] < 0.9


def test_a_setting_that_is_not_there_is_refused(script: ModuleType, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--only", "L9"])
    assert ended(script) == 2
    assert "no setting begins with 'L9'" in capsys.readouterr().err
