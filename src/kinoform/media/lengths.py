"""Ends that video files say they have, read before FFmpeg sees them: one that was cut says more than is there."""

from io import BufferedReader

MAX_BOXES = 100_000
"""Top-level parts of an mp4 file that are looked at: a live recording has two for each second or so."""

BOXES = frozenset(
    b"ftyp styp pdin moov moof mfra mdat imda free skip wide uuid meta sidx ssix prft emsg pnot udta".split()
)
"""Parts at the top level of an mp4 or mov file. Cameras put other bytes behind the last of these."""

UNKNOWN_LENGTH = 2**56 - 1
"""The length of a Matroska file that was written live and does not know it."""


def mov_end(file: BufferedReader, length: int) -> int:
    """Find the end of the last top-level box of an mp4 or mov file: beyond its `length` if that box was cut.

    Behind the index (`moov`) whatever is no box ends the search, as in FFmpeg; before it, it is damage. Raises
    ValueError for that.
    """
    position, boxes, indexed = 0, 0, False
    while position + 8 <= length:
        file.seek(position)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size == 0:  # up to the end of the file, wherever that is
            return length
        boxes += 1
        strange = size < 8 or (kind not in BOXES and position + size > length)
        if indexed and strange:
            return position
        if strange or boxes > MAX_BOXES:
            raise ValueError(f"box {boxes} of {size} bytes")
        indexed = indexed or kind == b"moov"
        position += size
    return position


def matroska_end(file: BufferedReader) -> int:
    """Find the end of the segment, which holds everything: beyond the file if that was cut. 0 if it does not say."""
    file.seek(4)
    file.seek(_vint(file), 1)
    file.seek(4, 1)
    size = _vint(file)
    return 0 if size == UNKNOWN_LENGTH else file.tell() + size


def _vint(file: BufferedReader) -> int:
    """Read a number of Matroska: as many further bytes as the first has leading zeros. All ones: not known."""
    first = file.read(1)[0]
    if not first:
        raise ValueError("a number of more than eight bytes")
    further = 8 - first.bit_length()
    rest = first & (2 ** (7 - further) - 1)
    value = int.from_bytes(bytes([rest]) + file.read(further), "big")
    return UNKNOWN_LENGTH if value == 2 ** (7 * (further + 1)) - 1 else value
