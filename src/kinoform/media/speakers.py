"""Speakers and rates that the encoders of sound take, and the nearest that they take in place of others."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from av import AudioFormat, AudioFrame, AudioLayout, AudioResampler, Codec, CodecContext
from av.audio.codeccontext import AudioCodecContext
from av.error import FFmpegError

LAYOUTS = ("7.1", "6.1", "5.1", "5.0", "quad", "3.0", "stereo", "mono")
"""Speakers that are mixed into, in this order: the first of as many channels, else of fewer."""

USUAL = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""Speakers that so many channels are for, where nobody says, as FFmpeg has it."""

UNNAMED = re.compile(r"\d+ channels")
"""FFmpeg's name for channels of which only the number is known."""


def named(frame: AudioFrame, layout: str) -> AudioFrame:
    """Name the speakers of a frame's channels: those of `layout`, where the frame does not say; else the usual ones.

    A frame of more channels than have a usual meaning stays as it is.
    """
    count = frame.layout.nb_channels
    if not UNNAMED.fullmatch(frame.layout.name):
        return frame
    name = USUAL.get(count, "") if UNNAMED.fullmatch(layout) or AudioLayout(layout).nb_channels != count else layout
    # PyAV reads beyond the memory of frames with a plane for each of 8 channels.
    if not name or count > max(USUAL) or (frame.format.is_planar and count == max(USUAL)):
        return frame
    samples: Any = np.ascontiguousarray(frame.to_ndarray())
    same = AudioFrame.from_ndarray(samples, format=frame.format.name, layout=name)
    same.sample_rate, same.pts, same.time_base = frame.sample_rate, frame.pts, frame.time_base
    return same


def usual(layout: AudioLayout) -> str:
    """Return the name of the speakers; where only the number of channels is known, that of the usual ones."""
    return USUAL.get(layout.nb_channels, layout.name) if UNNAMED.fullmatch(layout.name) else layout.name


class Mixer:
    """Frames of any speakers, rate and format, which may change on the way, as those that an encoder was opened for."""

    def __init__(self, *, format: AudioFormat, layout: str, rate: int) -> None:
        self._format, self._layout, self._rate = format, layout, rate
        self._form, self._resampler = ("", "", 0), self._new()

    def mixed(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        form = frame.format.name, frame.layout.name, frame.sample_rate
        if form != self._form:
            yield from self.rest()
            self._form, self._resampler = form, self._new()
        yield from self._resampler.resample(frame)

    def rest(self) -> Iterator[AudioFrame]:
        if self._form[0]:
            yield from self._resampler.resample(None)

    def _new(self) -> AudioResampler:
        return AudioResampler(format=self._format, layout=self._layout, rate=self._rate)


def sample_format(encoder: str) -> AudioFormat:
    """Return the form of samples that an encoder is given."""
    return (Codec(encoder, "w").audio_formats or [AudioFormat("s16")])[0]


def nearest_rate(encoder: str, rate: int) -> int:
    """Return the rate itself, else the lowest above it that the encoder takes, else the highest, in Hz."""
    rates = Codec(encoder, "w").audio_rates or [rate]
    return min((item for item in rates if item >= rate), default=max(rates))


def speakers(encoder: str, rate: int, frame: AudioFrame) -> str | None:
    """Return the speakers nearest to those of the frame that the encoder takes and the frame can be mixed into."""
    count, own = frame.layout.nb_channels, frame.layout.name
    fewer = [item for item in LAYOUTS if AudioLayout(item).nb_channels <= count]
    return next((item for item in (own, *fewer) if _takes(encoder, rate, item) and _mixes(frame, item)), None)


def _takes(encoder: str, rate: int, layout: str) -> bool:
    codec = CodecContext.create(encoder, "w")
    assert isinstance(codec, AudioCodecContext)
    try:
        codec.sample_rate, codec.layout, codec.format = rate, AudioLayout(layout), sample_format(encoder)
        codec.open()
    except (FFmpegError, ValueError):
        return False
    return True


def _mixes(frame: AudioFrame, layout: str) -> bool:
    try:
        AudioResampler(format=frame.format.name, layout=layout, rate=frame.sample_rate).resample(frame)
    except (FFmpegError, ValueError):
        return False
    return True
