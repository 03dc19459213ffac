"""Images and videos as strangers have them: damaged, turned, in HDR, of uneven pace, not what their name says."""

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, ColorTrc
from PIL import Image

from kinoform.media.decoder_client import Decoded, received
from kinoform.media.decoder_process import Job, decode

SRGB = {"color_primaries": 1, "color_trc": 1, "colorspace": 1}
PQ = {"color_primaries": 9, "color_trc": int(ColorTrc.SMPTE2084), "colorspace": 9}
HLG = {"color_primaries": 9, "color_trc": int(ColorTrc.ARIB_STD_B67), "colorspace": 9}
WIDE = {"color_primaries": 9, "color_trc": 1, "colorspace": 9}


def decoded_here(job: Job) -> Decoded:
    """What `decoded` gives, without the time that a process of its own takes to start."""
    out = io.BytesIO()
    decode(job, out)
    out.seek(0)
    return received(out)


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    times: Sequence[int] | None = None,
    encoder: str = "ffv1",
    pixels: str = "yuv444p10le",
    colours: dict[str, int] = SRGB,
) -> Path:
    """A video of uint8 or uint16 RGB frames (or RGBA, uint8), in 10 bits, on screen from `times` in ms on."""
    kind = {(3, "uint8"): "rgb24", (4, "uint8"): "rgba", (3, "uint16"): "rgb48le"}[frames.shape[3], str(frames.dtype)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=16)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        context = stream.codec_context
        context.time_base = Fraction(1, 1000)
        context.color_range = ColorRange.MPEG
        for name, value in colours.items():
            setattr(context, name, value)
        container.start_encoding()
        for place, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind).reformat(
                format=pixels,
                dst_colorspace=Colorspace(colours["colorspace"]),
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                threads=1,  # with more, swscale sometimes leaves a few pixels out
            )
            frame.pts = times[place] if times else round(place * 62.5)
            frame.time_base = context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def long_video(path: Path, seconds: int, rate: Fraction | int, *, size: int = 64) -> Path:
    """One that is as bright as the numbers of its frames, which all stand alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuvj420p"
        for number in range(int(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(np.full((size, size, 3), 30 + number % 200, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turned(content: bytes, quarters: int) -> bytes:
    """An mp4 that is to be shown turned clockwise by so many quarters."""
    a, b = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]
    place = content.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30)
    return content[:place] + matrix + content[place + 36 :]


def large_png(width: int, height: int) -> bytes:
    """The header and the end of an image of that size."""
    header = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(100))
    chunks = (struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + b"\0\0\0\0IEND\xae\x42\x60\x82"


def large_jpeg(side: int) -> bytes:
    """A small image whose header says that both sides are `side`."""
    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "JPEG")
    content = small.getvalue()
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">2H", side, side) + content[place + 4 :]


def long_gif(frames: int, *, side: int = 1) -> bytes:
    """So many frames of one pixel each."""
    still = b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"
    table = b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + struct.pack("<2H3B", side, side, 0x80, 0, 0) + table + still * frames + b"\x3b"
