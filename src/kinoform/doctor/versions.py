"""Programs and libraries that are here, and options of kinoform that are not installed."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from kinoform.doctor.report import BAD, GOOD, NOTE, Finding
from kinoform.media.codecs import CONTAINERS
from kinoform.version import __version__

LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers", "av", "Pillow")
NOT_FOR_USERS = {"dev", "conformance"}
"""Extras for developers of kinoform."""


def programs() -> Iterator[Finding]:
    """Report kinoform, Python, and the operating system."""
    yield Finding(name="kinoform", value=__version__)
    yield Finding(name="Python", value=f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding(name="system", value=f"{platform.system()} {platform.release()} on {platform.machine()}")


def libraries() -> Iterator[Finding]:
    """Report the required libraries; pip checks their versions when kinoform is installed."""
    for name in LIBRARIES:
        number = _version(name)
        yield Finding(name=name, value=number or f"not installed: pip install {name}", state=GOOD if number else BAD)


def pytorch() -> Iterator[Finding]:
    """Report what this build of PyTorch was made for."""
    import torch

    made_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    if hip := getattr(torch.version, "hip", None):
        made_for = f"ROCm {hip}"
    yield Finding(name="PyTorch build", value=made_for, facts={"cuda": torch.version.cuda, "hip": hip})


def encoders() -> Iterator[Finding]:
    """Report the FFmpeg of PyAV, and whether it has the encoders of every video file."""
    import av
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    versions = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    yield Finding(name="FFmpeg", value=f"libavcodec {versions.get('libavcodec', '?')}", facts={**versions})
    missing = []
    wanted = dict.fromkeys(codec.encoder for container in CONTAINERS for codec in container.codecs)
    for name in wanted:
        try:
            Codec(name, "w")
        except UnknownCodecError:
            missing.append(name)
    if missing:
        yield Finding(name="encoders", value=f"without {', '.join(missing)}: pip install --upgrade av", state=BAD)
    else:
        yield Finding(name="encoders", value=", ".join(wanted))


def extras() -> Iterator[Finding]:
    """Report each optional part of kinoform: its versions, or the line that installs it."""
    wanted: dict[str, list[str]] = {}
    for line in requires("kinoform") or ():
        if match := re.fullmatch(r"([\w.-]+)[^;]*;.*extra == ['\"]([\w-]+)['\"].*", line):
            wanted.setdefault(match[2], []).append(match[1])
    for extra, packages in sorted(wanted.items()):
        if extra in NOT_FOR_USERS:
            continue
        installed = {name: _version(name) for name in packages}
        if all(installed.values()):
            yield Finding(
                name=f"extra {extra}", value=", ".join(f"{name} {number}" for name, number in installed.items())
            )
        else:
            line = f'not installed: pip install "kinoform[{extra}]"'
            yield Finding(name=f"extra {extra}", value=line, state=NOTE)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
