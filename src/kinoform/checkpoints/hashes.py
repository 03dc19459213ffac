"""Hashes of weight files: of one, and a short name for a set, quick even for 28 GB."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

WHOLE = 64_000_000
HEAD = 4_000_000
BLOCK = 4096
BLOCKS = 1024
CHUNK = 1 << 20


def model_hash(files: Iterable[Path]) -> str:
    """Compute the first 16 hexadecimal digits of a SHA-256 over the files in the order of their names.

    Of each file: its length; all bytes up to 64 MB; of a longer one the first 4 MB (which hold the header),
    1024 evenly spaced blocks of 4 kB, and the last block. Names and folders do not count, so a copy has the
    hash of its original. It tells models apart; a changed byte between the blocks of a long file it may miss.
    """
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: (path.name, str(path))):
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            if size <= WHOLE:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                continue
            digest.update(file.read(HEAD))
            for block in range(BLOCKS + 1):
                file.seek(HEAD + (size - BLOCK - HEAD) * block // BLOCKS)
                digest.update(file.read(BLOCK))
    return digest.hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Compute the SHA-256 of a whole file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
