"""Whatever stops a writer, the name holds the old file or the new one, and nothing else is left behind."""

import errno
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kinoform.files import check_writable, whole, whole_folder
from kinoform.media.codecs import VIDEO, encoding
from kinoform.media.image_writer import write_frames, write_gif, write_webp
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video, write_video
from tests.support.full_disk import full_disk
from tests.support.refusals import refused

WRITERS = {
    **{f"a{suffix}": partial(write_video, encoding=encoding(container)) for suffix, container in VIDEO.items()},
    "frames": write_frames,
    "a.gif": write_gif,
    "a.webp": write_webp,
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_replaced_without_force(name, noisy_video, smooth_video, tmp_path):
    noisy_video.save(tmp_path / name)
    before = contents(tmp_path)
    with refused("file_exists", "--force"):
        smooth_video.save(tmp_path / name)
    assert contents(tmp_path) == before
    smooth_video.save(tmp_path / name, force=True)
    after = contents(tmp_path)
    smooth_video.save(tmp_path / f"fresh_{name}")
    fresh = {file.removeprefix("fresh_"): text for file, text in contents(tmp_path).items() if "fresh" in file}
    assert after == fresh


@pytest.mark.parametrize("name, write", WRITERS.items())
@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError, MemoryError])
@pytest.mark.parametrize("after", [0, 1, 5])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_midway_leaves_what_was(name, write, failure, after, existing, noisy_video, tmp_path):
    if existing:
        noisy_video.save(tmp_path / name)
    before = contents(tmp_path)

    def frames():
        yield from noisy_video.frames[:after]
        raise failure

    with pytest.raises(failure):
        write(frames(), tmp_path / name, fps=16.0, force=True)
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == existing


@pytest.mark.parametrize("name", [*WRITERS, "a.png"])
def test_a_full_disk_leaves_what_was(name, noisy_video, tmp_path):
    video = Video(frames=noisy_video.frames[:1], fps=16.0) if name == "a.png" else noisy_video
    video.save(tmp_path / name)
    before = contents(tmp_path)
    size = len(next(iter(before.values())))
    for limit in [0, 1, *np.linspace(100, size - 1, 5).astype(int).tolist()]:
        with full_disk(limit), refused("disk_full") as error:
            video.save(tmp_path / name, force=True)
        assert name in str(error.value) and "\n" not in str(error.value)
        assert contents(tmp_path) == before
        assert len(list(tmp_path.iterdir())) == 1
    with full_disk(2 * size):
        video.save(tmp_path / name, force=True)
    assert contents(tmp_path) == before


def test_only_a_full_disk_is_explained_as_one(tmp_path):
    for number in (errno.ENOSPC, errno.EDQUOT):
        with refused("disk_full"), whole(tmp_path / "a"):
            raise OSError(number, "no space")
    with pytest.raises(FileNotFoundError), whole(tmp_path / "a"):
        raise FileNotFoundError(errno.ENOENT, "another file")
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_writers_wins(tmp_path):
    with refused("written_meanwhile"), whole(tmp_path / "a") as slow:
        slow.write_text("second")
        with whole(tmp_path / "a") as quick:
            quick.write_text("first")
    assert contents(tmp_path) == {"a": b"first"}


def test_a_file_system_without_links_will_do(monkeypatch, tmp_path):
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    with whole(tmp_path / "a") as path:
        path.write_text("new")
    with refused("file_exists"), whole(tmp_path / "b") as path:
        path.write_text("new")
        (tmp_path / "b").write_text("first")
    assert contents(tmp_path) == {"a": b"new", "b": b"first"}


def test_force_never_removes_what_is_not_a_frame(noisy_video, tmp_path):
    noisy_video.save(tmp_path / "frames")
    (tmp_path / "frames" / "thesis.txt").write_text("years of work")
    before = contents(tmp_path)
    with refused("folder_holds_others", "thesis.txt"):
        noisy_video.save(tmp_path / "frames", force=True)
    assert contents(tmp_path) == before


def test_an_empty_folder_is_filled_and_a_link_is_followed(noisy_video, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    noisy_video.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(list((tmp_path / "real").iterdir())) == len(noisy_video.frames)
    noisy_video.save(tmp_path / "link", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_a_folder_that_cannot_be_placed_puts_the_old_one_back(monkeypatch, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_text("old")
    rename, calls = os.rename, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "the disk failed")
        rename(source, target)

    monkeypatch.setattr("os.rename", failing)
    with (
        pytest.raises(OSError, match="the disk failed"),
        whole_folder(tmp_path / "a", holds="*.png", force=True) as new,
    ):
        (new / "x.png").write_text("new")
    assert contents(tmp_path) == {"a/x.png": b"old"}


BAD_NAMES = [
    ("a*b", "name_not_portable"),
    ("a:b", "name_not_portable"),
    ("a?b", "name_not_portable"),
    ("a|b", "name_not_portable"),
    ("a\\b", "name_not_portable"),
    ("nul\x00", "name_not_portable"),
    ("line\nbreak", "name_not_portable"),
    ("\u202egpj.exe", "name_not_portable"),
    ("CON", "name_not_portable"),
    ("nul.mp4", "name_not_portable"),
    ("dot.", "name_not_portable"),
    ("x" * 241, "name_too_long"),
]


@pytest.mark.parametrize("name, code", BAD_NAMES)
def test_names_that_some_system_refuses_are_refused(name, code, tmp_path):
    with refused(code):
        check_writable(tmp_path / name, force=False)
    with refused(code), whole_folder(tmp_path / name, holds="*"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["红球 😀.mp4", "café's video (2).mp4", "😀" * 59 + ".mp4", "console.mp4", ".hidden.mp4"]
)
def test_other_names_are_fine(name, tmp_path):
    WRITERS["a.mp4"](np.zeros((1, 16, 16, 3), np.uint8), tmp_path / name, fps=16.0)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert read_video(tmp_path / name)[0].shape == (1, 16, 16, 3)


def test_a_relative_name_that_looks_like_an_address_is_a_file(monkeypatch, tmp_path, smooth_video):
    monkeypatch.chdir(tmp_path)
    smooth_video.save("http.mp4")
    smooth_video.save("frames/")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "http.mp4"]


def test_a_missing_folder_and_a_folder_in_the_way_are_named(tmp_path):
    with refused("folder_missing", "nowhere"):
        check_writable(tmp_path / "nowhere" / "a.mp4", force=True)
    with refused("not_a_file"):
        check_writable(tmp_path, force=True)
    for name in (".", "..", ""):
        with refused("output_name_missing"):
            check_writable(Path(name), force=True)


def test_files_may_be_read_by_whom_the_user_lets(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    with whole(tmp_path / "a"):
        pass
    with whole_folder(tmp_path / "b", holds="*") as folder:
        (folder / "secret").touch(mode=0o600)
    (tmp_path / "c").mkdir()
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "c").stat().st_mode
    assert (tmp_path / "b" / "secret").stat().st_mode == plain.stat().st_mode
