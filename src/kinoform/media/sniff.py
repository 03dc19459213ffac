"""Formats of files by their first bytes: a name may say anything, and a library must not guess."""

from dataclasses import dataclass

from kinoform.media.diagnostics import UnsupportedFile

FIRST = 512
"""Bytes that tell the format of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """A format that is read: what people call it, and the one reader of Pillow or of FFmpeg for it."""

    name: str
    pillow: str = ""
    demuxer: str = ""


PNG = FileFormat(name="png", pillow="PNG")
JPEG = FileFormat(name="jpeg", pillow="JPEG")
WEBP = FileFormat(name="webp", pillow="WEBP")
GIF = FileFormat(name="gif", pillow="GIF")
# The mov reader knows the files of mp4, m4v and 3gp too, the matroska one those of webm.
MOV = FileFormat(name="mp4 or mov", demuxer="mov")
MATROSKA = FileFormat(name="webm or mkv", demuxer="matroska")

BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": PNG,
    b"\xff\xd8\xff": JPEG,
    b"GIF87a": GIF,
    b"GIF89a": GIF,
    b"\x1a\x45\xdf\xa3": MATROSKA,
}
BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"}
"""Boxes that an mp4 or mov file may begin with, after four bytes of size."""

STILL_BRANDS = {b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis"}
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"file ", b"<MPD", b"[playlist]")


def sniff_format(first: bytes) -> FileFormat:
    """Return the format of a file that begins like this. Raises UnsupportedFile for others."""
    for beginning, kind in BEGINNINGS.items():
        if first.startswith(beginning):
            return kind
    if first[:4] == b"RIFF" and first[8:12] == b"WEBP":
        return WEBP
    if first[4:8] in BOXES and first[8:12] not in STILL_BRANDS:
        return MOV
    if not first:
        raise UnsupportedFile("is empty; save or copy it again", code="file_empty")
    raise UnsupportedFile(_reason(first), code="media_unsupported")


def _reason(first: bytes) -> str:
    text = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    if first[4:8] == b"ftyp":
        return "is a HEIF or AVIF image, which is not read; save it as png or jpeg"
    if text.startswith(PLAYLISTS):
        return "is a playlist, which may lead anywhere; give the video itself"
    if text.startswith(b"<") and b"<svg" in text:
        return "is an SVG drawing, which has no pixels; export it as png"
    known = "png, jpeg, webp, gif, mp4, mov, webm or mkv"
    return f"is no {known} file: it begins with {first[:8]!r}; convert it to one of them"
