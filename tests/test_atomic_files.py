"""Files appear whole or not at all, whatever ends a run and wherever, and on systems that can do less."""

import dis
import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from kinoform import files, owners
from kinoform.files import whole, whole_folder
from tests.support.refusals import refused


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def stopped(work: Callable[[], None], after: int) -> bool:
    """Do the work, with Ctrl-C after so many instructions of `files`; whether it was stopped."""
    left = after

    def trace(frame: FrameType, event: str, arg: object) -> object:
        nonlocal left
        if frame.f_code.co_filename not in (files.__file__, owners.__file__):
            return None
        frame.f_trace_opcodes = True
        # No signal is looked for at a NOP, some of which the compiler leaves outside of their `try`.
        if event == "opcode" and dis.opname[frame.f_code.co_code[frame.f_lasti]] != "NOP":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    former = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(former)
    return False


def one_file(place: Path) -> None:
    with whole(place / "a.txt", force=True) as temporary:
        temporary.write_text("new")


def one_folder(place: Path) -> None:
    with whole_folder(place / "a", holds="*.txt", force=True) as temporary:
        (temporary / "x.txt").write_text("new")


@pytest.mark.parametrize(("work", "name"), [(one_file, "a.txt"), (one_folder, "a/x.txt")])
def test_ctrl_c_at_any_instruction_leaves_the_old_or_the_new_and_nothing_else(
    work: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    place, after = tmp_path, 0
    (place / name).parent.mkdir(exist_ok=True)
    seen = set()
    while True:
        after += 1
        (place / name).write_text("old")
        hit = stopped(lambda: work(place), after)
        found = contents(place)
        assert found in ({name: "old"}, {name: "new"}), f"after {after} instructions"
        assert len(list(place.iterdir())) == 1
        seen.add(found[name])
        if not hit:
            break
    assert after > 100 and seen == {"old", "new"}


def left_by(process: int, *, machine: str | None = None) -> str:
    own, _, number = owners.new_tag().split("-")
    return f".video.kinoform-{machine or own}-{process}-{number}"


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    ran = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    return int(ran.stdout)


def test_what_dead_runs_left_is_swept_and_nothing_else(tmp_path: Path, gone: int) -> None:
    stays = {
        left_by(os.getpid()) + ".mp4",  # another video of this very process
        left_by(os.getppid()) + ".mp4",
        left_by(gone, machine="0" * 8) + ".mp4",  # of another machine: who knows
        ".video-a1b2c3d4.mp4",
        ".kinoform-notes",
        f"video.kinoform-{gone}.mp4",
        left_by(gone) + "-old",  # the only copy of the folder video
    }
    goes = {left_by(gone) + ".mp4", left_by(gone), left_by(gone)}
    for name in stays | goes:
        (tmp_path / name).write_text("half a video")
    (tmp_path / (left_by(gone) + "-folder")).mkdir()
    aside = tmp_path / left_by(gone).replace("video", "frames")
    aside.mkdir()
    (aside / "frame.png").write_text("half")
    with whole(tmp_path / "other.txt"):
        pass
    left = {entry.name for entry in tmp_path.iterdir()}
    assert stays < left and not goes & left and not aside.exists()


def test_a_folder_that_was_to_be_replaced_is_swept_once_the_new_one_stands(tmp_path: Path, gone: int) -> None:
    aside = tmp_path / (left_by(gone) + "-old")
    aside.mkdir()
    one_file(tmp_path)
    assert aside.exists()
    (tmp_path / "video").mkdir()
    (tmp_path / "a.txt").unlink()
    one_file(tmp_path)
    assert not aside.exists()


def test_a_file_that_has_not_stirred_for_days_is_swept_whosever_it_is(tmp_path: Path) -> None:
    old = tmp_path / left_by(1, machine="0" * 8)
    old.touch()
    week = time.time() - files.IDLE_SECONDS - 60
    os.utime(old, (week, week))
    one_file(tmp_path)
    assert not old.exists()


def test_a_killed_run_is_swept_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, pathlib; from kinoform.files import whole\n"
        "with whole(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path / "a.txt"]).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    one_file(tmp_path)
    assert contents(tmp_path) == {"a.txt": "new"}


def test_the_longest_names_have_room_for_temporary_ones(tmp_path: Path) -> None:
    for name in ("x" * 240, "x" * 236 + ".mp4", "a." + "y" * 238, "😀" * 59 + ".mp4"):
        with whole(tmp_path / name) as temporary:
            temporary.write_text("new")
        (tmp_path / name).unlink()
        with whole_folder(tmp_path / name, holds="*") as folder:
            (folder / "x").write_text("new")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions that Python has not on Windows, and files that are synced only through a handle that may write."""
    import fcntl

    sync = os.fsync

    def fsync(handle: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        sync(handle)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.delattr("os.link")


@pytest.mark.usefixtures("windows")
def test_files_are_written_where_a_system_can_do_less(tmp_path: Path) -> None:
    one_file(tmp_path)
    one_folder(tmp_path)
    with refused("file_exists"), whole(tmp_path / "b") as temporary:
        temporary.write_text("new")
        (tmp_path / "b").write_text("first")
    assert contents(tmp_path) == {"a.txt": "new", "a/x.txt": "new", "b": "first"}


def test_a_writer_may_have_locked_its_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with whole(tmp_path / "a") as temporary:
        temporary.write_text("new")
        temporary.chmod(0o400)
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode


def test_nobody_is_asked_about_a_process_where_asking_would_end_it(monkeypatch: pytest.MonkeyPatch, gone: int) -> None:
    tag = owners.new_tag().replace(str(os.getpid()), str(gone))
    assert owners.ended(tag)
    with monkeypatch.context() as patch:
        patch.setattr("os.name", "nt")
        patch.setattr("os.kill", lambda *words: pytest.fail("this would end it"))
        assert not owners.ended(tag)
