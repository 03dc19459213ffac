"""Record that a video holds of how it was made, checked as the words of a stranger, so that it can be made again."""

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
from kinoform.solvers.experts import PerExpert
from kinoform.version import __version__

LARGEST_NUMBER = 2**63
"""No parameter is larger, and most arithmetic with longer numbers fails."""

Kind: TypeAlias = type | str
NUMBERS = "a number or a list of numbers"
"""A kind beside the types: one for all transformers of a model, or one for each."""

ASKED: Mapping[str, Kind] = {
    "negative_prompt": str, "width": int, "height": int, "num_frames": int, "fps": float, "steps": int,
    "guidance_scale": NUMBERS, "shift": float,
}  # fmt: skip
NEEDED: Mapping[str, Kind] = {
    "schema": int, "tool": str, "version": str, "task": str, "prompt": str, "seed": int, "solver": str, **ASKED,
    "dtype": str, "model": dict,
}  # fmt: skip
OPTIONAL: Mapping[str, Kind] = {
    "machine": dict, "encoding": dict, "inputs": dict, "conditions": dict, "sampler": str, "guidance_rule": str,
    "loras": dict, "boundaries": list,
}  # fmt: skip
MODEL = {"name": str, "hash": str}
ADDED = {"channels": dict, "additions_seed": int, "recipe": str}
"""What the model tells of itself besides, where its recipe puts something onto the weights."""
MACHINE = {"device": str, "threads": int, "torch": str}
ENCODING = {"upscale": int, "codec": str, "crf": int}
INPUT = {"file": str, "sha256": str}

CHANGING = ("edit", "extend", "outpaint")
"""Commands that make a video from another one; it carries their words, which are shown and never followed."""

NEVER = {"--recipe", "--output", "-o", "--force"}
"""Words that no command of a video holds: they run code and replace files."""

MOST_WORDS = 200

LONGEST_NAME = 255
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
class Input:
    """A file that a video was made from: its name without folders, and the SHA-256 of its bytes."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Place where a video was made; None where it does not tell."""

    device: str | None = None
    threads: int | None = None
    torch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Arguments of `Video.save` with which a video was saved."""

    upscale: int = 1
    codec: str | None = None
    crf: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The parameters of a video, of the right types but with any values.

    `asked` are arguments of `Pipeline.request`; prompt, seed and the solver's name stand beside them. `channels`
    are what the model's patch embedding reads, in order, and `recipe` is an address; None where nothing was added.
    """

    version: str
    task: str
    prompt: str
    seed: int
    solver: str
    asked: Mapping[str, object]
    dtype: str
    model_name: str
    model_hash: str
    channels: Mapping[str, int] | None
    recipe: str | None
    machine: Place
    encoding: Wishes
    inputs: Mapping[str, Input]
    conditions: Mapping[str, object]
    sampler: str | None
    guidance_rule: str | None
    loras: Mapping[str, PerExpert]


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
    inputs = {name: _input(name, each, source) for name, each in values.get("inputs", {}).items()}
    return Recorded(
        version=values["version"],
        task=values["task"],
        prompt=values["prompt"],
        seed=values["seed"],
        solver=values["solver"],
        asked={
            **{name: values[name] for name in ASKED},
            "boundaries": _numbers(values.get("boundaries", []), f"{source} says that a boundary"),
        },
        dtype=values["dtype"],
        model_name=model["name"],
        model_hash=model["hash"],
        channels=_channels(model.get("channels"), source),
        recipe=model.get("recipe"),
        machine=Place(**_object(values.get("machine", {}), MACHINE, source, inside="machine.")),
        encoding=Wishes(**_object(values.get("encoding", {}), ENCODING, source, inside="encoding.")),
        inputs=inputs,
        conditions={
            name: _plain(each, f"{source} says that its conditions.{_shown(name)[1:-1]}")
            for name, each in values.get("conditions", {}).items()
        },
        sampler=values.get("sampler"),
        guidance_rule=values.get("guidance_rule"),
        loras=_object(values.get("loras", {}), dict.fromkeys(inputs, NUMBERS), source, inside="loras."),
    )


def find_inputs(inputs: Mapping[str, Input], folders: Sequence[Path], source: Path) -> dict[str, Path]:
    """The files that a video was made from, in the first of the folders that has each.

    Raises UsageError, naming the file, when one is missing or is not what it was.
    """
    found = {}
    for name, each in inputs.items():
        places = [folder / each.file for folder in folders if (folder / each.file).is_file()]
        if not places:
            raise UsageError(
                f"{source} was made from {each.file!r} ({name}), which is not here; put it beside the video",
                code="file_missing",
            )
        if (now := file_hash(places[0])) != each.sha256:
            raise UsageError(
                f"{places[0]} ({name}) is not the file that {source} was made from: its SHA-256 begins with "
                f"{now[:16]}, not {each.sha256[:16]}; put the first one in its place",
                code="file_changed",
            )
        found[name] = places[0]
    return found


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
    """The command that changes that video again, as far as it says one that only does this."""
    words = edit.get("command") if isinstance(edit, Mapping) else None
    plain = isinstance(words, list) and all(isinstance(word, str) for word in words)
    if not plain or not words or len(words) > MOST_WORDS or words[0] not in CHANGING or NEVER & {*words}:
        return "it does not say how; change that one again"
    return f"change that one again: {shlex.join(['kinoform', *words])}"


def _object(
    found: Any, kinds: Mapping[str, Kind], source: Path, *, needed: Mapping[str, Kind] | None = None, inside: str = ""
) -> dict[str, Any]:
    """The object with all of the `needed` keys, no others than those of `kinds`, and values of these kinds."""
    if missing := [inside + name for name in needed or {} if name not in found]:
        raise UsageError(
            f"{source} does not say its {', '.join(missing)}; it cannot be made again from itself",
            code="metadata_incomplete",
        )
    if unknown := [inside + name for name in found if name not in kinds]:
        raise UsageError(
            f"{source} carries {_shown(unknown[0])}, which kinoform {__version__} does not know; "
            "take the version that made the video",
            code="metadata_unsupported",
        )
    return {name: _value(each, kinds[name], f"{source} says that its {inside}{name}") for name, each in found.items()}


def _value(value: object, kind: Kind, said: str) -> Any:
    if kind == NUMBERS:
        return _numbers(value, said) if isinstance(value, list) else _value(value, float, said)
    assert isinstance(kind, type)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = number if kind is float else isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
    if not right:
        raise UsageError(
            f"{said} is {_shown(value)}, which is not {KINDS[kind]}; it cannot be made again from itself",
            code="metadata_damaged",
        )
    if isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
        raise UsageError(
            f"{said} is {_shown(value)}, which is too large; it cannot be made again from itself",
            code="metadata_damaged",
        )
    return value


def _plain(value: object, said: str) -> object:
    """The value of an input, which its kind checks when the model is known: text, a number, true or false."""
    kind = str if isinstance(value, str) else bool if isinstance(value, bool) else float
    return _value(value, kind, said)


def _numbers(values: Sequence[object], said: str) -> tuple[float, ...]:
    return tuple(_value(value, float, said) for value in values)


def _input(name: str, found: object, source: Path) -> Input:
    _value(found, dict, f"{source} says that its input {_shown(name)}")
    about = _object(found, INPUT, source, needed=INPUT, inside="input.")
    file, sha256 = about["file"], about["sha256"]
    if not file and not sha256:
        raise UsageError(
            f"{source} was made from a {name} that was never a file; it cannot be made again from itself",
            code="input_never_a_file",
        )
    if file in ("", ".", "..") or len(file) > LONGEST_NAME or re.search(r"[/\\:\x00-\x1f]", file):
        raise UsageError(
            f"{source} names the input {_shown(file)}, which is not the plain name of a file", code="metadata_damaged"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UsageError(
            f"{source} says that {_shown(file)} has the SHA-256 {_shown(sha256)}, not 64 hexadecimal digits",
            code="metadata_damaged",
        )
    return Input(file=file, sha256=sha256)


def _channels(found: Mapping[str, object] | None, source: Path) -> dict[str, int] | None:
    return None if found is None else _object(found, dict.fromkeys(found, int), source, inside="model.channels.")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
