"""A folder is kept by one training at a time, and no kill leaves it closed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kinoform.training.checkpoint import held
from kinoform.training.loop import train
from tests.support.refusals import refused
from tests.training.tiny_stage import OPTIONS, SPEC, TinyStage, never

HOLD = "import sys, time; from pathlib import Path; from kinoform.training.checkpoint import held\n"
HOLD += "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_second_process_is_refused_until_the_first_is_gone_however_it_goes(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    with first:
        assert first.stdout.readline() == "held\n"
        with refused("training_locked", str(tmp_path)):
            train(TinyStage(at=never), tmp_path, SPEC, OPTIONS)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"], "nothing is touched"
        os.kill(first.pid, signal.SIGKILL)
    with held(tmp_path):
        pass


def test_it_is_free_again_after_a_failure_and_other_folders_are_free_all_along(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path / "a"):
        with held(tmp_path / "b"), refused("training_locked"), held(tmp_path / "a"):
            pass
        raise ZeroDivisionError
    with held(tmp_path / "a"):
        pass


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.write_text("mine")
    with refused("not_a_folder", str(file)):
        train(TinyStage(), file, SPEC, OPTIONS)
    with refused("folder_not_writable", "run/below", "Not a directory"):
        train(TinyStage(), file / "below", SPEC, OPTIONS)
    assert file.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    """The system's own folder refuses the superuser too, whom permissions do not stop."""
    place = Path("/proc/kinoform") if Path("/proc").is_dir() else tmp_path / "closed"
    if place.parent == tmp_path:
        place.mkdir(mode=0o500)
    with refused("folder_not_writable", str(place)):
        train(TinyStage(), place, SPEC, OPTIONS)
