"""Metadata of a video's making inside its file: written as JSON, read back without trust."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
from av.error import FFmpegError
from PIL import Image

from kinoform.errors import UsageError, nearest
from kinoform.files import missing
from kinoform.media.codecs import CONTAINERS
from kinoform.numbers import real_of, whole_of
from kinoform.version import __version__

SCHEMA = 1
LARGEST = 2**20
"""Characters of JSON that are read or written at most."""

DEEPEST = 16
"""Levels of objects and lists that are read at most."""

DESCRIPTION = 0x010E
"""The Exif tag ImageDescription, where webp files carry the JSON."""

EXIF_BLOCK, USER_COMMENT = 0x8769, 0x9286
"""The Exif tag UserComment and the block it stands in, where image galleries look for text in webp files."""

UNICODE = b"UNICODE\0"
"""The mark by which a UserComment says that UTF-16 follows (Exif 2.32, table 9)."""

FRAME_PATTERN = "frame_*.png"

PRINTED = (
    ("Steps", "steps"),
    ("Sampler", "solver"),
    ("CFG scale", "guidance_scale"),
    ("Seed", "seed"),
    ("Size", "size"),
    ("Model hash", "model_hash"),
    ("Model", "model"),
    ("Frames", "num_frames"),
    ("FPS", "fps"),
)
"""Settings in the customary text: what other programs call them, and what the parameters call them."""


def encode(params: Mapping[str, object]) -> str:
    """Encode the parameters as one line of ASCII JSON, with the names of this program and of the schema.

    Raises UsageError when a value is not JSON (NaN included) or the whole is above 1 MiB.
    """
    about = {**params, "schema": SCHEMA, "tool": "kinoform", "version": __version__}
    try:
        text = json.dumps(about, allow_nan=False, default=_number)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"the parameters of the video cannot be written as JSON: {error}", code="metadata_not_json"
        ) from error
    if len(text) > LARGEST:
        raise UsageError(
            f"the parameters of the video take {len(text)} characters; at most {LARGEST} are kept", code="too_long"
        )
    return text


def _number(value: object) -> int | float:
    """Convert numbers of numpy and fractions to those of JSON. Raises TypeError for all else."""
    integer = whole_of(value)
    number = real_of(value) if integer is None else integer
    if number is None:
        raise TypeError(f"{type(value).__name__} is no value of JSON")
    return number


def tags(params: Mapping[str, object] | None) -> dict[str, str]:
    """Return key and text for containers that carry any key; empty for None.

    `parameters_json` is the source of truth. `comment` repeats it because programs that copy a video keep
    this standard key and drop others. `parameters` is the text that image galleries read (the format of
    AUTOMATIC1111's web UI).
    """
    if params is None:
        return {}
    text = encode(params)
    return {"parameters_json": text, "comment": text, "parameters": _customary_text(params)}


def exif(params: Mapping[str, object] | None) -> Image.Exif:
    """Return the parameters as Exif, for webp: JSON as its description, the galleries' text as its comment."""
    block = Image.Exif()
    if params is not None:
        block[DESCRIPTION] = encode(params)
        block[EXIF_BLOCK] = {USER_COMMENT: UNICODE + _customary_text(params).encode("utf-16-be")}
    return block


def read_params(path: Path) -> dict[str, object]:
    """Read the parameters in an mp4, webm, mkv, png, gif or webp file, or in a folder of frames.

    The file is not trusted: it is opened by the reader of its extension only, and no pixels are decoded.
    Raises UsageError when there is no such file, it cannot be read, or it holds no JSON object of at most
    1 MiB, 16 levels deep, with finite numbers.
    """
    if not path.exists():
        raise missing(path)
    if path.is_dir():
        return read_params(_first_frame(path))
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{path}: no reader for {path.suffix!r} files; {nearest(path.suffix, READERS)}", code="unknown_format"
        )
    try:
        text = reader(path)
    except (OSError, ValueError, SyntaxError, FFmpegError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is damaged or not a {path.suffix} file: {error}", code="media_damaged") from error
    return _decode(text, path)


def _decode(text: str | None, path: Path) -> dict[str, object]:
    if not text:
        raise UsageError(
            f"{path} carries no parameters; it was made by another program or with --no-metadata",
            code="metadata_missing",
        )
    if len(text) > LARGEST:
        raise UsageError(
            f"{path} carries {len(text)} characters of parameters; at most {LARGEST} are read", code="too_long"
        )
    try:
        params = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict) or _depth(params) > DEEPEST:
        raise UsageError(
            f"{path} carries text that is not a JSON object, so not written by kinoform", code="metadata_damaged"
        )
    return cast("dict[str, object]", params)


def _finite(text: str) -> float:
    """Refuse NaN, Infinity and 1e999, which Python reads and JSON does not have."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a number of JSON")
    return value


def _depth(value: object) -> int:
    """Count levels of objects and lists, counted up to one more than is read."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        insides = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        depth += bool(insides)
        level = [inner for inside in insides for inner in inside]
    return depth


def _read_video(path: Path, demuxer: str) -> str | None:
    # The format is given, or a playlist with this extension could make the library open other files.
    with av.open(str(path.absolute()), format=demuxer, metadata_errors="replace") as container:
        # Matroska keeps its keys in capitals.
        return _either({key.lower(): text for key, text in container.metadata.items()})


def _read_png(path: Path) -> str | None:
    with Image.open(path, formats=["PNG"]) as image:
        return _either(image.info)


def _read_gif(path: Path) -> str | None:
    with Image.open(path, formats=["GIF"]) as image:
        return cast(bytes, image.info.get("comment", b"")).decode("utf-8", "replace")


def _read_webp(path: Path) -> str | None:
    with Image.open(path, formats=["WEBP"]) as image:
        description = image.getexif().get(DESCRIPTION)
        return description if isinstance(description, str) else None


READERS = {
    **{container.suffix: partial(_read_video, demuxer=container.demuxer) for container in CONTAINERS},
    ".png": _read_png,
    ".gif": _read_gif,
    ".webp": _read_webp,
}


def _either(texts: Mapping[Any, str]) -> str | None:
    return texts.get("parameters_json") or texts.get("comment")


def _first_frame(folder: Path) -> Path:
    frames = sorted(folder.glob(FRAME_PATTERN))
    if not frames:
        raise UsageError(
            f"{folder} holds no {FRAME_PATTERN}; give a video or a folder of its frames", code="folder_without_images"
        )
    return frames[0]


def _customary_text(params: Mapping[str, object]) -> str:
    model = params.get("model")
    if isinstance(model, Mapping):
        params = {**params, "model": model.get("name"), "model_hash": model.get("hash")}
    lines = [str(params.get("prompt", ""))]
    if params.get("negative_prompt"):
        lines.append(f"Negative prompt: {params['negative_prompt']}")
    if "width" in params and "height" in params:
        params = {**params, "size": f"{params['width']}x{params['height']}"}
    settings = [f"{label}: {_customary(params[key])}" for label, key in PRINTED if params.get(key) is not None]
    lines.append(", ".join([*settings, f"Version: kinoform {__version__}"]))
    text = "\n".join(lines).encode("utf-8", "replace").decode()
    # Containers end a text at NUL, and terminals obey the others.
    return re.sub(r"[^\S \n]|[\x00-\x08\x0e-\x1f\x7f-\x9f]", " ", text)


def _customary(value: object) -> str:
    """Write one setting; numbers by name are quoted, since a comma ends a setting."""
    if isinstance(value, Mapping | list):
        return json.dumps(",".join(_numbers_in(value)))
    return str(value)


def _numbers_in(value: object, name: str = "") -> Iterator[str]:
    """Yield numbers by name, and the pieces of those that change during a run, as the command line takes them."""
    if isinstance(value, Mapping):
        for key, number in cast("Mapping[str, object]", value).items():
            yield from _numbers_in(number, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for piece in cast("list[object]", value):
            match piece:
                case {"value": number, "steps": [start, end]}:
                    yield from _numbers_in(f"{number}@{start}-{end}", name)
                case {"value": number, "timesteps": [start, end]}:
                    yield from _numbers_in(f"{number}@t{start}-{end}", name)
                case _:
                    yield from _numbers_in(str(piece), name)
    else:
        yield f"{name}={value}" if name else str(value)
