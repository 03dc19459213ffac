"""Metadata of a video, read to make it again, and checked as untrusted input."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from kinoform.checkpoints.hashes import file_hash
from kinoform.errors import UsageError
from kinoform.pipelines.pipeline import SCHEMA
from kinoform.pipelines.windows import Windows
from kinoform.solvers.by_expert import ByExpert, PerExpert, numbers_by_name
from kinoform.solvers.experts import Boundary, boundary_from_json
from kinoform.solvers.scales import ScalesLike, scales_from_json
from kinoform.solvers.varying_text import number_from_json
from kinoform.version import __version__

MAX_NUMBER = 2**63
"""Largest parameter; most arithmetic with longer numbers fails."""

Kind: TypeAlias = type | str
NUMBERS = "a number or an object of numbers"
"""Kind of a value that is one number for all transformers of a model, or one for each by name."""

SCALES = "a scale or an object of scales"
"""Kind of scales of guidance, by transformer and by condition."""

REQUEST: Mapping[str, Kind] = {
    "negative_prompt": str, "width": int, "height": int, "num_frames": int, "fps": float, "steps": int,
    "guidance_scale": SCALES, "shift": float,
}  # fmt: skip
NEEDED: Mapping[str, Kind] = {
    "schema": int, "tool": str, "version": str, "task": str, "prompt": str, "seed": int, "solver": str, **REQUEST,
    "dtype": str, "model": dict,
}  # fmt: skip
OPTIONAL: Mapping[str, Kind] = {
    "machine": dict, "encoding": dict, "inputs": dict, "conditions": dict, "sampler": str, "guidance_rule": str,
    "loras": dict, "boundaries": list, "vace": list, "level_grid": str, "windows": dict,
}  # fmt: skip
MODEL = {"name": str, "hash": str}
ADDED = {"channels": dict, "additions_seed": int, "recipe": str}
"""Further keys of a model whose recipe adds something to the weights."""
MACHINE = {"device": str, "threads": int, "torch": str}
ENCODING = {"upscale": int, "codec": str, "crf": int}
INPUT = {"file": str, "sha256": str}
WINDOWS = {"frames": int, "overlap": int, "anchor": bool}

CHANGING = ("edit", "extend", "outpaint")
"""Commands that change a video; the result carries their words, which are shown and never run."""

NEVER = {"--recipe", "--output", "-o", "--force"}
"""Words that are never shown: they run code and replace files."""

MAX_WORDS = 200

MAX_NAME = 255
"""Characters that file systems allow in a name."""

KINDS: Mapping[Kind, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a JSON object",
    list: "a list",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFile:
    """File that a video was made from: its name without folders, and the SHA-256 of its bytes."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """Machine on which a video was made; None where it is not recorded."""

    device: str | None = None
    threads: int | None = None
    torch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingRecord:
    """Arguments of `Video.save` with which a video was saved."""

    upscale: int = 1
    codec: str | None = None
    crf: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Parameters of a video, of the right types but with unchecked values.

    `request` are arguments of `Pipeline.request` besides the prompt, the seed, the conditions and the names of solver,
    levels, sampler and guidance rule. `channels` are those of the model's patch embedding, in order, and `recipe` is an
    address; None where the recipe adds nothing. `vace` names those of the `inputs` that are VACE modules on the model's
    transformers, one for each.
    """

    version: str
    task: str
    prompt: str
    seed: int
    solver: str
    request: Mapping[str, object]
    dtype: str
    model_name: str
    model_hash: str
    channels: Mapping[str, int] | None
    recipe: str | None
    machine: MachineRecord
    encoding: EncodingRecord
    inputs: Mapping[str, RecordedFile]
    conditions: Mapping[str, object]
    level_grid: str | None
    sampler: str | None
    guidance_rule: str | None
    loras: Mapping[str, PerExpert]
    vace: tuple[str, ...]


def recorded(params: Mapping[str, object], source: Path) -> Recorded:
    """Read the parameters that a video `source` carries.

    Raises UsageError, naming the video and the value, for another schema, for a key that is missing
    or unknown, and for a value of another type; for a video that was made by changing another one it says how.
    """
    _check_schema(params, source)
    if "edit" in params:
        raise UsageError(
            f"{source} was made by changing another video; {_made_by(params['edit'])}", code="video_was_edited"
        )
    if params.get("seed", 0) is None:
        raise UsageError(
            f"{source} has no seed: its noise came from a generator that had drawn before; it is lost",
            code="seed_missing",
        )
    values = _object(params, {**NEEDED, **OPTIONAL}, source, needed=NEEDED)
    model = _object(values["model"], {**MODEL, **ADDED}, source, needed=MODEL, inside="model.")
    channels = model.get("channels")
    inputs = {name: _input(name, value, source) for name, value in values.get("inputs", {}).items()}
    return Recorded(
        version=values["version"],
        task=values["task"],
        prompt=values["prompt"],
        seed=values["seed"],
        solver=values["solver"],
        request={
            **{name: values[name] for name in REQUEST},
            "windows": _windows(values.get("windows"), source),
            "boundaries": tuple(_boundary(item, source) for item in values.get("boundaries", [])),
        },
        dtype=values["dtype"],
        model_name=model["name"],
        model_hash=model["hash"],
        channels=None
        if channels is None
        else _object(channels, dict.fromkeys(channels, int), source, inside="model.channels."),
        recipe=model.get("recipe"),
        machine=MachineRecord(**_object(values.get("machine", {}), MACHINE, source, inside="machine.")),
        encoding=EncodingRecord(**_object(values.get("encoding", {}), ENCODING, source, inside="encoding.")),
        inputs=inputs,
        conditions={
            name: _plain(value, f"{source} says that its conditions.{_shown(name)[1:-1]}")
            for name, value in values.get("conditions", {}).items()
        },
        level_grid=values.get("level_grid"),
        sampler=values.get("sampler"),
        guidance_rule=values.get("guidance_rule"),
        loras=_object(values.get("loras", {}), dict.fromkeys(inputs, NUMBERS), source, inside="loras."),
        vace=_modules(values.get("vace", []), inputs, source),
    )


def find_inputs(inputs: Mapping[str, RecordedFile], folders: Sequence[Path], source: Path) -> dict[str, Path]:
    """Return the files that a video was made from, each in the first of the folders that has it.

    Raises UsageError, naming the file, when one is missing or has changed.
    """
    paths = {}
    for name, item in inputs.items():
        path = next((folder / item.file for folder in folders if (folder / item.file).is_file()), None)
        if path is None:
            raise UsageError(
                f"{source} was made from {item.file!r} ({name}), which is not here; put it beside the video",
                code="file_missing",
            )
        if (sha256 := file_hash(path)) != item.sha256:
            raise UsageError(
                f"{path} ({name}) is not the file that {source} was made from: its SHA-256 begins with "
                f"{sha256[:16]}, not {item.sha256[:16]}; put the original file in its place",
                code="file_changed",
            )
        paths[name] = path
    return paths


def _modules(names: Sequence[object], inputs: Mapping[str, RecordedFile], source: Path) -> tuple[str, ...]:
    """Return the names of the inputs that are VACE modules."""
    if unknown := [name for name in names if name not in list(inputs)]:
        raise UsageError(
            f"{source} names the VACE module {_shown(unknown[0])}, which is none of its inputs; "
            "it cannot be made again from itself",
            code="metadata_damaged",
        )
    return tuple(map(str, names))


def _windows(value: Mapping[str, object] | None, source: Path) -> Windows | None:
    if value is None:
        return None
    said = {name: item for name, item in value.items() if item is not None}  # an overlap of None is the usual one
    return Windows(**_object(said, WINDOWS, source, needed={"frames": int}, inside="windows."))


def _check_schema(params: Mapping[str, object], source: Path) -> None:
    schema, tool = params.get("schema"), params.get("tool")
    if tool != "kinoform":
        raise UsageError(
            f"{source} was made by {_shown(tool)}, not by kinoform; its parameters cannot be followed",
            code="metadata_of_other_tool",
        )
    if isinstance(schema, bool) or schema != SCHEMA:
        raise UsageError(
            f"{source} has parameters of schema {_shown(schema)} by kinoform {_shown(params.get('version'))}; "
            f"this is {__version__}, which reads schema {SCHEMA}; take that version",
            code="metadata_unsupported",
        )


def _made_by(edit: object) -> str:
    """Return advice how to change that video again: the recorded command, if it only does this."""
    words = edit.get("command") if isinstance(edit, Mapping) else None
    plain = isinstance(words, list) and all(isinstance(word, str) for word in words)
    if not plain or not words or len(words) > MAX_WORDS or words[0] not in CHANGING or NEVER & {*words}:
        return "the command is not recorded; change that one again"
    return f"change that one again: {shlex.join(['kinoform', *words])}"


def _object(
    values: Mapping[str, object],
    kinds: Mapping[str, Kind],
    source: Path,
    *,
    needed: Mapping[str, Kind] | None = None,
    inside: str = "",
) -> dict[str, Any]:
    """Return the object, if it has all `needed` keys, only keys of `kinds`, and values of these kinds."""
    if missing := [inside + name for name in needed or {} if name not in values]:
        raise UsageError(
            f"{source} does not say its {', '.join(missing)}; it cannot be made again from itself",
            code="metadata_incomplete",
        )
    if unknown := [inside + name for name in values if name not in kinds]:
        raise UsageError(
            f"{source} carries {_shown(unknown[0])}, which kinoform {__version__} does not know; "
            "take the version that made the video",
            code="metadata_unsupported",
        )
    return {name: _value(item, kinds[name], f"{source} says that its {inside}{name}") for name, item in values.items()}


def _value(value: object, kind: Kind, begin: str) -> Any:
    """Return the value if it is of this kind; the error begins with `begin`."""
    if kind == NUMBERS:
        return _numbers(value, begin) if isinstance(value, dict) else number_from_json(begin, value)
    if kind == SCALES:
        return _scales(value, begin)
    assert isinstance(kind, type)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = number if kind is float else isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
    if not right:
        raise UsageError(
            f"{begin} is {_shown(value)}, which is not {KINDS[kind]}; it cannot be made again from itself",
            code="metadata_damaged",
        )
    if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
        raise UsageError(
            f"{begin} is {_shown(value)}, which is too large; it cannot be made again from itself",
            code="metadata_damaged",
        )
    return value


def _scales(value: object, begin: str) -> ScalesLike:
    """Return the scales of guidance, of names that are plain words."""
    levels = [value, *value.values()] if isinstance(value, dict) else []
    for names in levels:
        _check_names(names if isinstance(names, dict) else {}, begin)
    return scales_from_json(begin, value)


def _check_names(named: Mapping[str, object], begin: str) -> None:
    """Raise UsageError unless names are plain words: a stranger's name becomes part of an option."""
    if wrong := [name for name in named if not re.fullmatch(r"\w{1,16}", name)]:
        raise UsageError(
            f"{begin} has a number for {_shown(wrong[0])}, which names no transformer; "
            "it cannot be made again from itself",
            code="metadata_damaged",
        )


def _numbers(value: Mapping[str, object], begin: str) -> ByExpert:
    """Return numbers by name, of which there must be one."""
    if not value:
        raise UsageError(f"{begin} is empty; it cannot be made again from itself", code="metadata_damaged")
    _check_names(value, begin)
    return numbers_by_name((name, number_from_json(f"{begin} of {name}", item)) for name, item in value.items())


def _boundary(value: object, source: Path) -> Boundary:
    begin = f"{source} says that a boundary"
    number = None if isinstance(value, Mapping) else _value(value, float, begin)
    if (boundary := boundary_from_json(value if number is None else number)) is None:
        raise UsageError(
            f"{begin} is {_shown(value)}, which is no number, step or sigma; it cannot be made again from itself",
            code="metadata_damaged",
        )
    return boundary


def _plain(value: object, begin: str) -> object:
    """Return the value of an input, text, a number, true or false; its kind checks it when the model is known."""
    return _value(value, type(value) if isinstance(value, str | bool) else float, begin)


def _input(name: str, value: object, source: Path) -> RecordedFile:
    values = _value(value, dict, f"{source} says that its input {_shown(name)}")
    values = _object(values, INPUT, source, needed=INPUT, inside="input.")
    file, sha256 = values["file"], values["sha256"]
    if not file and not sha256:
        raise UsageError(
            f"{source} was made from a {name} that was never a file; it cannot be made again from itself",
            code="input_never_a_file",
        )
    if file in ("", ".", "..") or len(file) > MAX_NAME or re.search(r"[/\\:\x00-\x1f]", file):
        raise UsageError(
            f"{source} names the input {_shown(file)}, which is not the plain name of a file", code="metadata_damaged"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UsageError(
            f"{source} says that {_shown(file)} has the SHA-256 {_shown(sha256)}, not 64 hexadecimal digits",
            code="metadata_damaged",
        )
    return RecordedFile(file=file, sha256=sha256)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
