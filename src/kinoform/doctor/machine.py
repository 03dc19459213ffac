"""The processor, the memory, the accelerators, and the disk for weights.

PyTorch is imported where it is asked, so that a broken one leaves the other rows whole.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kinoform.doctor.report import BAD, GOOD, NOTE, Finding
from kinoform.errors import WeightsError

SHOWN_FEATURES = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bf16", "amx_bf16": "AMX bf16", "amx_tile": "AMX",
    "asimd": "NEON", "bf16": "bf16", "i8mm": "i8mm", "sve": "SVE",
}  # fmt: skip
"""Names in /proc/cpuinfo (x86 and ARM) of what speeds up matrix products."""

MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
MIN_DISK = 30e9
"""Bytes that an official folder of T2V-1.3B and the download of one need."""


def processor() -> Iterator[Finding]:
    """Report the name, the cores, those that this process may use, and the instructions for matrix products."""
    text = _read("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    called = name[1] if name else _macos_name() or platform.processor() or platform.machine()
    yield Finding(name="processor", value=called)
    import torch

    from kinoform.ops.cpu import emulates

    cores, usable = os.cpu_count() or 1, _usable_cores()
    threads = torch.get_num_threads()
    yield Finding(
        name="cores",
        value=f"{cores}, of which this process may use {usable}; PyTorch takes {threads}",
        facts={"cores": cores, "usable": usable, "threads": threads},
    )
    flags = set(re.findall(r"\w+", " ".join(re.findall(r"^(?:flags|Features)\s*:(.+)$", text, re.MULTILINE)[:1])))
    features = [shown for flag, shown in SHOWN_FEATURES.items() if flag in flags]
    capability = torch.backends.cpu.get_cpu_capability()
    emulated = emulates(torch.bfloat16)
    value = f"{', '.join(features) or 'none that speed up products'}; PyTorch uses {capability}"
    value += "; bfloat16 is emulated, slower than float32" if emulated else ""
    yield Finding(name="instructions", value=value, facts={"capability": capability, "bfloat16_emulated": emulated})


def memory() -> Iterator[Finding]:
    """Report the total and the free memory, and the limit of a container if there is one."""
    kilobytes = {
        name: int(value) * 1024 for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", _read("/proc/meminfo"), re.M)
    }
    total = kilobytes.get("MemTotal") or _pages()
    if total is None:
        yield Finding(name="memory", value="this system does not say how much it has", state=NOTE)
        return
    free = kilobytes.get("MemAvailable")
    value = f"{_gigabytes(total)}" + (f", {_gigabytes(free)} free" if free is not None else "")
    limits = [int(text) for text in map(_read, MEMORY_LIMITS) if text.strip().isdigit() and int(text) < total]
    if limits:
        value += f"; this process is limited to {_gigabytes(min(limits))}"
    yield Finding(name="memory", value=value, facts={"total": total, "free": free, "limit": min(limits, default=None)})


def accelerators() -> Iterator[Finding]:
    """Report every device that PyTorch can use; if there is none, whether there is one that it cannot use."""
    import torch

    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        yield Finding(
            name=f"cuda:{index}",
            value=f"{about.name}, compute {about.major}.{about.minor}, {_gigabytes(total)}, {_gigabytes(free)} free",
            facts={"total": total, "free": free, "capability": [about.major, about.minor]},
        )
    if torch.backends.mps.is_available():
        yield Finding(name="mps", value="Apple's GPU; it shares the memory above")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        unused = Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None
        reason = "this PyTorch cannot use it" if torch.version.cuda else "this PyTorch was built for CPUs only"
        yield Finding(
            name="accelerator",
            value=f"an NVIDIA driver is here, but {reason}" if unused else "none; videos are made on the CPU",
            state=BAD if unused else NOTE,
            facts={"unused": unused},
        )


def cache() -> Iterator[Finding]:
    """Report the folder of released models' weights: whether it can be written, and the room there."""
    from kinoform.recipes.catalogue import cache_folder

    folder = cache_folder()
    there = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))
    shown = _without_home(folder)
    try:
        tempfile.TemporaryFile(dir=there).close()
        yield Finding(name="cache folder", value=shown if os.path.exists(folder) else f"{shown} (not made yet)")
    except OSError as error:
        reason = f"{shown} cannot be written ({error.strerror}); set XDG_CACHE_HOME to another folder"
        yield Finding(name="cache folder", value=reason, state=BAD)
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        return
    low = free < MIN_DISK
    value = f"{_gigabytes(free)} free" + (", too little for released weights" if low else "")
    yield Finding(name="disk", value=value, state=NOTE if low else GOOD, facts={"free": free})


def fetched() -> Iterator[Finding]:
    """Report the released models whose folders are here whole, fetched by kinoform or by another program."""
    from kinoform.families.folders import check_folder
    from kinoform.recipes.catalogue import RELEASED, cached

    here: list[str] = []
    for name in RELEASED:
        with suppress(WeightsError):
            check_folder(cached(name))
            here.append(name)
    value = ", ".join(here) or "none is here; fetch one with kinoform download NAME"
    yield Finding(name="released models", value=value, facts={"models": here})


def _read(path: str) -> str:
    """Return the text of a system file, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _pages() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _macos_name() -> str:
    if platform.system() != "Darwin":
        return ""
    words = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(words, capture_output=True, text=True, timeout=5, check=False).stdout.strip()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _without_home(folder: Path) -> str:
    """Return a path without the home folder: reports are shown to others, and it holds the name of a person."""
    try:
        return f"~/{folder.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(folder)
