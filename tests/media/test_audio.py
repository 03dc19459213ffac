"""Sound is taken over: packet by packet where a file takes its codec, at its time, and no longer than the video."""

import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from kinoform.media.audio import record
from kinoform.media.audio_process import EXACT
from kinoform.media.audio_process import record as recorded
from kinoform.media.codecs import VIDEO
from kinoform.media.speakers import LAYOUTS, nearest_rate, speakers
from kinoform.media.tracks import DECODED, SOUND_CODECS, fit
from kinoform.media.types import Sound
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video
from tests.support.sounding_video import CLICK, FPS, click, heard, packets, write_sounding_video

COUNT = 12
MUXERS = {"mp4": "aac", "webm": "libopus", "mkv": "flac", "mov": "pcm_s16le"}


def video(sound: Sound | None = None, count: int = COUNT) -> Video:
    return Video(frames=np.full((count, 32, 32, 3), 90, np.uint8), fps=FPS, sound=sound)


def ignored(note: str) -> None:
    """Ignore warnings, which are looked at elsewhere."""


def sound_of(path: Path, seconds: float, start: float = 0.0) -> Sound:
    """Record as `record` does, in this process."""
    return Sound(data=recorded(path, seconds, ignored), name=path.name, start=start)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sound is fitted without another process; what was said."""
    told: list[str] = []

    def asked(job: dict[str, str], data: bytes, name: str) -> bytes:
        return fit(data, job["suffix"], told.append)

    monkeypatch.setattr("kinoform.media.audio._processed", asked)
    return told


@pytest.mark.parametrize("kind", SOUND_CODECS)
@pytest.mark.parametrize(("source", "start"), [*((source, 0.0) for source in MUXERS), ("mp4", 0.3)])
def test_the_sound_is_heard_at_its_time_and_ends_with_the_video(
    source: str, kind: str, start: float, in_this_process: list[str], tmp_path: Path
) -> None:
    original = write_sounding_video(tmp_path / f"source.{source}", MUXERS[source])
    seconds = COUNT / FPS - start
    path = video(sound_of(original, seconds, start)).save(tmp_path / f"result{kind}")
    assert click(path) == pytest.approx(click(original) + start, abs=0.01)
    assert start + seconds - 0.1 < heard(path) < start + seconds + 0.1
    codec = av.open(str(original)).streams.audio[0].codec_context.codec.canonical_name
    takes = SOUND_CODECS[kind].takes
    if takes is None or codec in takes:
        copied, first = packets(path), packets(original).index(packets(path)[0])
        assert not in_this_process and first <= 1 and copied == packets(original)[first : first + len(copied)]
    else:
        assert "coded anew" in in_this_process[0]
    assert len(read_video(path)[0]) == COUNT


def test_what_is_coded_anew_can_be_decoded_here() -> None:
    assert all(
        av.Codec(name, "r") and av.Codec(codecs.encoder, "w") for codecs in SOUND_CODECS.values() for name in DECODED
    )


def test_what_is_said_names_the_file(tmp_path: Path) -> None:
    source = write_sounding_video(tmp_path / "source.mp4", "aac")
    sound = record(source, seconds=1.0)
    with pytest.warns(UserWarning, match=r"source.mp4 has sound in aac, which .webm does not take; it is coded anew"):
        video(sound).save(tmp_path / "result.webm")
    assert click(tmp_path / "result.webm") == pytest.approx(CLICK, abs=0.01)


def test_videos_without_sound_give_none_without_a_word(tmp_path: Path) -> None:
    video().save(tmp_path / "silent.mp4")
    video().save(tmp_path / "frames")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("silent.mp4", "frames"):
            assert record(tmp_path / name, seconds=1.0) is None


@pytest.mark.parametrize("name", ["frames/", "video.gif", "video.webp"])
def test_formats_without_sound_are_told_of_it(name: str, tmp_path: Path) -> None:
    source = write_sounding_video(tmp_path / "source.mp4", "aac")
    with pytest.warns(UserWarning, match="source.mp4 loses its sound, since .* has none; take .mp4"):
        video(Sound(data=b"never looked at", name=source.name)).save(tmp_path / name)


def test_damaged_sound_is_left_out_with_a_word(tmp_path: Path) -> None:
    source = write_sounding_video(tmp_path / "source.mp4", "aac")
    source.write_bytes(source.read_bytes()[:500])
    with pytest.warns(UserWarning, match="source.mp4 loses its sound"):
        assert record(source, seconds=1.0) is None
    assert record(tmp_path / "nothing.mp4", seconds=1.0) is None


def test_a_damaged_packet_is_silent_and_the_rest_is_heard(in_this_process: list[str], tmp_path: Path) -> None:
    source = write_sounding_video(tmp_path / "source.mkv", "flac")
    data = bytearray(source.read_bytes())
    place = data.index(packets(source)[2])
    data[place : place + 8] = b"\0" * 8
    source.write_bytes(data)
    path = video(sound_of(source, 1.0)).save(tmp_path / "result.webm")
    assert click(path) == pytest.approx(CLICK, abs=0.01) and "coded anew" in in_this_process[0]


def test_the_same_video_with_sound_gives_the_same_bytes(in_this_process: list[str], tmp_path: Path) -> None:
    source = write_sounding_video(tmp_path / "source.mp4", "aac")
    for kind in SOUND_CODECS:
        written = {video(sound_of(source, 1.0)).save(tmp_path / f"{n}{kind}").read_bytes() for n in range(3)}
        assert len(written) == 1


def write_tracks(path: Path, voices: Sequence[tuple[str, str, int, str]]) -> Path:
    """A video with a tone from CLICK on in each of its tracks: (codec, speakers, rate, language)."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=int(FPS))
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        streams = []
        for place, (codec, layout, rate, language) in enumerate(voices):
            stream = container.add_stream(codec, rate=rate)
            stream.codec_context.layout = layout
            stream.metadata["language"] = language
            stream.disposition = Disposition.default if place == 1 or len(voices) == 1 else Disposition(0)
            streams.append(stream)
        for place in range(COUNT):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            frame.pts = place
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for stream, (_, layout, rate, _) in zip(streams, voices, strict=True):
            channels, time = av.AudioLayout(layout).nb_channels, np.arange(int(rate * COUNT / FPS)) / rate
            wave = 0.8 * np.sin(2 * np.pi * 440 * time) * ((time >= CLICK) & (time < CLICK + 0.1))
            for start in range(0, len(wave), 960):
                samples = (wave[start : start + 960, None] * 32767).repeat(channels, 1).reshape(1, -1).astype(np.int16)
                piece = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
                piece.sample_rate, piece.pts, piece.time_base = rate, start, Fraction(1, rate)
                container.mux(stream.encode(piece))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("kind", SOUND_CODECS)
@pytest.mark.parametrize(
    ("codec", "layout", "rate"),
    [
        ("ac3", "5.1(side)", 48_000), ("ac3", "5.0(side)", 44_100), ("flac", "7.1(wide)", 48_000),
        ("flac", "2.1", 48_000), ("flac", "quad(side)", 48_000), ("flac", "6.1(back)", 96_000),
        ("pcm_s16le", "stereo", 48_000), ("pcm_s16le", "stereo", 192_000), ("pcm_s16le", "5.1", 48_000),
        ("pcm_u8", "mono", 8_000), ("pcm_s24le", "mono", 37_800), ("pcm_f32le", "7.1", 48_000),
        ("pcm_s16le", "22.2", 48_000), ("mp3", "mono", 11_025), ("aac", "6.0", 48_000),
    ],
)  # fmt: skip
def test_speakers_and_rates_that_an_encoder_does_not_take_are_mixed_and_heard(
    codec: str, layout: str, rate: int, kind: str, in_this_process: list[str], tmp_path: Path
) -> None:
    source = write_tracks(tmp_path / "source.mkv", [("libmp3lame" if codec == "mp3" else codec, layout, rate, "eng")])
    path = video(sound_of(source, COUNT / FPS)).save(tmp_path / f"result{kind}")
    assert click(path) == pytest.approx(CLICK, abs=0.01)
    assert not any("damaged" in note or "loses" in note for note in in_this_process)


def test_sound_that_has_no_places_is_left_out_and_not_called_damaged(
    in_this_process: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 4 * 960), np.int16), format="s16", layout="ambisonic 1")
    frame.sample_rate = 48_000
    assert speakers("libopus", 48_000, frame) is None
    monkeypatch.setattr("kinoform.media.tracks.speakers", lambda *words: None)
    source = write_tracks(tmp_path / "source.mkv", [("flac", "quad", 48_000, "eng")])
    path = video(sound_of(source, COUNT / FPS)).save(tmp_path / "result.webm")
    assert not av.open(str(path)).streams.audio
    assert "whose 4 channels (quad) cannot be mixed" in in_this_process[0] and "damaged" not in in_this_process[0]


@pytest.mark.parametrize("encoder", sorted({codecs.encoder for codecs in SOUND_CODECS.values()}))
def test_every_encoder_has_speakers_for_every_number_of_channels(encoder: str) -> None:
    for layout in (*LAYOUTS, "5.1(side)", "7.1(wide)", "3.1", "4.1", "octagonal", "downmix"):
        samples = np.zeros((1, 960 * av.AudioLayout(layout).nb_channels), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate = 48_000
        assert speakers(encoder, 48_000, frame) is not None
    assert nearest_rate("aac", 192_000) == 96_000 and nearest_rate("aac", 37_800) == 44_100


@pytest.mark.parametrize("kind", SOUND_CODECS)
def test_all_tracks_are_kept_in_order_with_their_languages_and_the_default(
    kind: str, in_this_process: list[str], tmp_path: Path
) -> None:
    voices = [("aac", "stereo", 48_000, "eng"), ("ac3", "stereo", 48_000, "deu"), ("flac", "mono", 44_100, "fra")]
    source = write_tracks(tmp_path / "source.mkv", voices)
    path = video(sound_of(source, COUNT / FPS)).save(tmp_path / f"result{kind}")
    with av.open(str(path)) as container:
        tracks = container.streams.audio
        assert [each.language for each in tracks] == ["eng", "deu", "fra"]
        assert [bool(each.disposition & Disposition.default) for each in tracks] == [False, True, False]
        for place in range(3):
            container.seek(0)
            assert any(np.abs(each.to_ndarray()).max() > 0.1 for each in container.decode(audio=place))


@pytest.mark.parametrize("codec", EXACT)
def test_samples_that_no_recording_holds_are_heard(codec: str, in_this_process: list[str], tmp_path: Path) -> None:
    source = write_sounding_video(tmp_path / "source.mov", codec)
    path = video(sound_of(source, COUNT / FPS)).save(tmp_path / "result.mp4")
    assert click(path) == pytest.approx(CLICK, abs=0.01) and "coded anew as aac" in in_this_process[0]


def test_a_track_that_cannot_be_read_is_named_and_the_others_stay(in_this_process: list[str], tmp_path: Path) -> None:
    source = write_tracks(tmp_path / "source.mkv", [("aac", "mono", 48_000, "eng"), ("mp2", "mono", 48_000, "deu")])
    path = video(sound_of(source, COUNT / FPS)).save(tmp_path / "result.mp4")
    assert [each.language for each in av.open(str(path)).streams.audio] == ["eng"]
    assert in_this_process == ["loses its sound track 2, in mp2, which is not read; convert the video"]


def test_subtitles_are_said_to_be_left_out(tmp_path: Path) -> None:
    source = tmp_path / "source.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=int(FPS))
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        words = container.add_stream("ass")
        words.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n"
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
        container.mux(video.encode(frame))
        container.mux(video.encode())
        packet = av.Packet(b"hello")
        packet.stream, packet.pts, packet.dts, packet.duration, packet.time_base = words, 0, 0, 100, Fraction(1, 1000)
        container.mux(packet)
    told: list[str] = []
    assert recorded(source, 1.0, told.append) == b"" and "1 tracks of subtitles" in told[0]
    assert set(VIDEO) == set(SOUND_CODECS)
