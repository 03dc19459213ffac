"""What is freed goes back to the system where its C library can give it back."""

import platform
from pathlib import Path

import pytest
import torch

from kinoform.ops import memory
from kinoform.ops.memory import release_memory

PIECE, PIECES = 1 << 20, 200


def resident() -> int:
    """Bytes of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_what_was_freed_is_given_back() -> None:
    torch.zeros(16 * PIECE, dtype=torch.uint8)  # from here on pieces of up to 16 MiB come from the heap
    release_memory()
    before = resident()
    pieces = [torch.ones(PIECE, dtype=torch.uint8) for _ in range(PIECES)]
    last = pieces[-1]
    assert resident() - before > 0.9 * PIECES * PIECE
    del pieces
    release_memory()
    assert resident() - before < 0.1 * PIECES * PIECE
    assert last.sum() == PIECE, "what is in use stays"


def test_a_system_without_that_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str | None) -> object:
        raise AttributeError("malloc_trim")

    memory._malloc_trim.cache_clear()
    monkeypatch.setattr(memory.ctypes, "CDLL", absent)
    try:
        release_memory()
        assert memory._malloc_trim() is None
    finally:
        memory._malloc_trim.cache_clear()
