"""Sound is taken over: packet by packet where a file takes its codec, at its time, and no longer than the film."""

import warnings
from pathlib import Path

import av
import numpy as np
import pytest

from kinoform.errors import UsageError
from kinoform.media.audio import Sound, read_sound
from kinoform.media.film import Film
from kinoform.media.listening import DECODED, VOICES, listen
from kinoform.media.video import read_video
from sounding_film import CLICK, FPS, click, heard, packets, write_sounding_film

COUNT = 12
MUXERS = {"mp4": "aac", "webm": "libopus", "mkv": "flac", "mov": "pcm_s16le"}


@pytest.fixture
def film() -> Film:
    return Film(frames=np.full((COUNT, 32, 32, 3), 90, np.uint8), fps=FPS)


@pytest.mark.parametrize("kind", VOICES)
@pytest.mark.parametrize(("source", "start"), [*((source, 0.0) for source in MUXERS), ("mp4", 0.3)])
def test_the_sound_is_heard_at_its_time_and_ends_with_the_film(
    source: str, kind: str, start: float, film: Film, tmp_path: Path
) -> None:
    original = write_sounding_film(tmp_path / f"source.{source}", MUXERS[source])
    seconds = COUNT / FPS - start
    told: list[str] = []
    sound = Sound(data=listen(original, kind, seconds, told.append), suffix=kind, start=start)
    path = film.save(tmp_path / f"result{kind}", sound=sound)
    assert click(path) == pytest.approx(click(original) + start, abs=0.03)
    assert start + seconds - 0.1 < heard(path) < start + seconds + 0.1
    codec = av.open(str(original)).streams.audio[0].codec_context.codec.canonical_name
    if codec in VOICES[kind].takes:
        copied, first = packets(path), packets(original).index(packets(path)[0])
        assert not told and first <= 1 and copied == packets(original)[first : first + len(copied)]
    else:
        assert "coded anew" in told[0]
    assert len(read_video(path)[0]) == COUNT


def test_what_is_coded_anew_can_be_decoded_here() -> None:
    assert all(av.Codec(name, "r") and av.Codec(voice.encoder, "w") for voice in VOICES.values() for name in DECODED)


def test_what_is_said_names_the_file(film: Film, tmp_path: Path) -> None:
    source = write_sounding_film(tmp_path / "source.mp4", "aac")
    with pytest.warns(UserWarning, match=r"source.mp4 has sound in aac, which .webm does not take; it is coded anew"):
        sound = read_sound(source, suffix=".webm", seconds=1.0)
    film.save(tmp_path / "result.webm", sound=sound)
    assert click(tmp_path / "result.webm") == pytest.approx(CLICK, abs=0.03)


def test_films_without_sound_give_none_without_a_word(film: Film, tmp_path: Path) -> None:
    film.save(tmp_path / "silent.mp4")
    film.save(tmp_path / "frames")
    film.save(tmp_path / "film.gif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("silent.mp4", "frames", "film.gif"):
            assert read_sound(tmp_path / name, suffix=".mp4", seconds=1.0) is None


@pytest.mark.parametrize("suffix", ["", ".gif", ".png"])
def test_formats_without_sound_are_told_of_it(suffix: str, tmp_path: Path) -> None:
    source = write_sounding_film(tmp_path / "source.mp4", "aac")
    with pytest.warns(UserWarning, match="source.mp4 loses its sound, since .* has none; take .mp4"):
        assert read_sound(source, suffix=suffix, seconds=1.0) is None


def test_damaged_sound_is_left_out_with_a_word(tmp_path: Path) -> None:
    source = write_sounding_film(tmp_path / "source.mp4", "aac")
    source.write_bytes(source.read_bytes()[:500])
    with pytest.warns(UserWarning, match="source.mp4 loses its sound"):
        assert read_sound(source, suffix=".mp4", seconds=1.0) is None
    with pytest.raises(UsageError, match="does not exist"):
        read_sound(tmp_path / "nothing.mp4", suffix=".mp4", seconds=1.0)


def test_sound_goes_into_its_own_kind_of_file_only(film: Film, tmp_path: Path) -> None:
    sound = read_sound(write_sounding_film(tmp_path / "source.mp4", "aac"), suffix=".mp4", seconds=1.0)
    for name in ("film.mkv", "film.gif", "frames/"):
        with pytest.raises(UsageError, match=r"cannot hold sound of a .mp4 film"):
            film.save(tmp_path / name, sound=sound)
    assert not (tmp_path / "film.mkv").exists()


def test_the_same_film_with_sound_gives_the_same_bytes(film: Film, tmp_path: Path) -> None:
    source = write_sounding_film(tmp_path / "source.mp4", "aac")
    for kind in VOICES:
        sound = Sound(data=listen(source, kind, 1.0, lambda note: None), suffix=kind)
        written = {film.save(tmp_path / f"{n}{kind}", sound=sound).read_bytes() for n in range(3)}
        assert len(written) == 1
