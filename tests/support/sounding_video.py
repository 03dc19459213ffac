"""A video of grey frames with a tone in it, and what is heard in a video."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, CLICK = 48_000, 0.5
FPS = 10.0


def write_sounding_video(path: Path, codec: str, seconds: float = 2.0) -> Path:
    """Grey frames, and silence but for a tone of 100 ms that begins at CLICK."""
    time = np.arange(int(RATE * seconds)) / RATE
    wave = 0.8 * np.sin(2 * np.pi * 440 * time) * ((time >= CLICK) & (time < CLICK + 0.1))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libvpx-vp9" if path.suffix == ".webm" else "libx264", rate=int(FPS))
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=RATE, layout="mono")
        for place in range(int(FPS * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            frame.pts = place
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for start in range(0, len(wave), 960):
            piece = av.AudioFrame.from_ndarray(
                (wave[None, start : start + 960] * 32767).astype(np.int16), format="s16", layout="mono"
            )
            piece.sample_rate, piece.pts = RATE, start
            container.mux(sound.encode(piece))
        container.mux(sound.encode())
    return path


SEEN_AND_HEARD = 1.0


def write_uneven_video(path: Path) -> Path:
    """10 frames of 100 ms, then 15 of 33 ms: black, and from SEEN_AND_HEARD on white, with a click there."""
    times = [*range(0, 600, 60), *range(600, 900, 20)]
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options={"crf": "5", "bf": "0"})
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        video.codec_context.time_base = Fraction(1, 600)
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        for time in times:
            frame = av.VideoFrame.from_ndarray(
                np.full((24, 32, 3), 230 if time >= 600 else 20, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base, frame.duration = time, Fraction(1, 600), 60 if time < 600 else 20
            container.mux(video.encode(frame))
        container.mux(video.encode())
        wave = np.zeros((1, 70 * 1024), np.float32)
        wave[:, RATE : RATE + 480] = 0.9
        for start in range(0, wave.shape[1], 1024):
            piece = av.AudioFrame.from_ndarray(wave[:, start : start + 1024].copy(), format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE, start, Fraction(1, RATE)
            container.mux(sound.encode(piece))
        container.mux(sound.encode())
    return path


def seen(path: Path, row: int = 0, column: int = 0) -> float:
    """Seconds at which a place becomes white."""
    with av.open(str(path)) as container:
        return next(f.time for f in container.decode(video=0) if f.to_ndarray(format="gray")[row, column] > 128)


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(each) for each in container.demux(container.streams.audio[0]) if each.size]


def click(path: Path) -> float:
    """When the tone is first heard, in seconds."""
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[0]):
            # Mixed, since PyAV reads beyond the memory of frames with a plane for each of 8 channels.
            mono = av.AudioResampler(format="flt", layout="mono", rate=frame.sample_rate)
            values = np.concatenate([each.to_ndarray() for part in (frame, None) for each in mono.resample(part)], 1)
            loud = np.flatnonzero(np.abs(values) > 0.2)
            if len(loud):
                return float(frame.time) + loud[0] / frame.sample_rate
    raise AssertionError("no tone")


def heard(path: Path) -> float:
    with av.open(str(path)) as container:
        return max(float(each.time) + each.samples / each.sample_rate for each in container.decode(audio=0))
