"""A film of grey frames with a tone in it, and what is heard in a film."""

from pathlib import Path

import av
import numpy as np

RATE, CLICK = 48_000, 0.5
FPS = 10.0


def write_sounding_film(path: Path, codec: str, seconds: float = 2.0) -> Path:
    """Grey frames, and silence but for a tone of 100 ms that begins at CLICK."""
    time = np.arange(int(RATE * seconds)) / RATE
    wave = 0.8 * np.sin(2 * np.pi * 440 * time) * ((time >= CLICK) & (time < CLICK + 0.1))
    with av.open(str(path), "w") as container:
        film = container.add_stream("libvpx-vp9" if path.suffix == ".webm" else "libx264", rate=int(FPS))
        film.width = film.height = 32
        film.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=RATE, layout="mono")
        for place in range(int(FPS * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            frame.pts = place
            container.mux(film.encode(frame))
        container.mux(film.encode())
        for start in range(0, len(wave), 960):
            piece = av.AudioFrame.from_ndarray(
                (wave[None, start : start + 960] * 32767).astype(np.int16), format="s16", layout="mono"
            )
            piece.sample_rate, piece.pts = RATE, start
            container.mux(sound.encode(piece))
        container.mux(sound.encode())
    return path


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(each) for each in container.demux(container.streams.audio[0]) if each.size]


def click(path: Path) -> float:
    """When the tone is first heard, in seconds."""
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[0]):
            values = np.abs(frame.to_ndarray().astype(float)).reshape(-1)
            peak = 32767 if np.issubdtype(frame.to_ndarray().dtype, np.integer) else 1.0
            loud = np.flatnonzero(values > 0.2 * peak)
            if len(loud):
                return float(frame.time) + loud[0] / frame.sample_rate
    raise AssertionError("no tone")


def heard(path: Path) -> float:
    with av.open(str(path)) as container:
        return max(float(each.time) + each.samples / each.sample_rate for each in container.decode(audio=0))
