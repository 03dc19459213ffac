"""What a file is, by its first bytes: a name may say anything, and a library must not guess."""

from dataclasses import dataclass

from kinoform.media.remarks import Refused

FIRST = 512
"""Bytes that tell what a file is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A format that is read: what people call it, and the one reader of Pillow or of FFmpeg for it."""

    name: str
    pillow: str = ""
    demuxer: str = ""


PNG = Kind(name="png", pillow="PNG")
JPEG = Kind(name="jpeg", pillow="JPEG")
WEBP = Kind(name="webp", pillow="WEBP")
GIF = Kind(name="gif", pillow="GIF")
# The mov reader knows the files of mp4, m4v and 3gp too, the matroska one those of webm.
MOV = Kind(name="mp4 or mov", demuxer="mov")
MATROSKA = Kind(name="webm or mkv", demuxer="matroska")

BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": PNG,
    b"\xff\xd8\xff": JPEG,
    b"GIF87a": GIF,
    b"GIF89a": GIF,
    b"\x1a\x45\xdf\xa3": MATROSKA,
}
BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"}
"""What an mp4 or mov file may begin with, after four bytes of size."""

STILL_BRANDS = {b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis"}
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"file ", b"<MPD", b"[playlist]")


def kind_of(first: bytes) -> Kind:
    """The kind of a file that begins like this. Raises Refused for all that is not read."""
    for beginning, kind in BEGINNINGS.items():
        if first.startswith(beginning):
            return kind
    if first[:4] == b"RIFF" and first[8:12] == b"WEBP":
        return WEBP
    if first[4:8] in BOXES and first[8:12] not in STILL_BRANDS:
        return MOV
    if not first:
        raise Refused("is empty; save or copy it again", code="file_empty")
    raise Refused(_what_else(first), code="media_unsupported")


def _what_else(first: bytes) -> str:
    text = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    if first[4:8] == b"ftyp":
        return "is a HEIF or AVIF image, which is not read; save it as png or jpeg"
    if text.startswith(PLAYLISTS):
        return "is a playlist, which may lead anywhere; give the video itself"
    if text.startswith(b"<") and b"<svg" in text:
        return "is an SVG drawing, which has no pixels; export it as png"
    known = "png, jpeg, webp, gif, mp4, mov, webm or mkv"
    return f"is no {known} file: it begins with {first[:8]!r}; convert it to one of them"
