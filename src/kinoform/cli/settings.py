"""Settings: what a flag does not say, the environment says, then a TOML file, then the recipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from kinoform.errors import UsageError, nearest
from kinoform.files import check_no_link
from kinoform.folders import user_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

SETTINGS: Mapping[str, type] = {
    "model": str,
    "recipe": str,
    "text_encoder": str,
    "vae": str,
    "tokenizer": str,
    "image_encoder": str,
    "size": str,
    "frames": int,
    "seconds": float,
    "fps": float,
    "steps": int,
    "guidance_scale": float,
    "shift": float,
    "solver": str,
    "sampler": str,
    "guidance_rule": str,
    "negative": str,
    "dtype": str,
    "device": str,
    "upscale": int,
    "no_metadata": bool,
    "contact_sheet": bool,
    "threads": int,
    "processes": int,
    "sample_every": int,
    "log": str,
    "log_prompts": bool,
}
"""What can be set, by the names of the options: those that belong to a user or a machine, not to one video."""

UNFILED = {"recipe", "log", "log_prompts"}
"""What no file may set: it may lie in a stranger's folder, and these run code or write elsewhere."""

TAKEN: Mapping[str, frozenset[str]] = {
    "generate": frozenset(SETTINGS),
    "animate": frozenset(SETTINGS),
    "bridge": frozenset(SETTINGS),
    "edit": frozenset(SETTINGS),
    "extend": frozenset(SETTINGS) - {"frames", "seconds"},
    "outpaint": frozenset(SETTINGS),
    "plan": frozenset(SETTINGS),
    "evaluate": frozenset(SETTINGS),
    "train": frozenset(SETTINGS),
    "decode": frozenset({"device", "contact_sheet", "no_metadata"}),
}
"""The settings that a command heeds, as far as it has such an option; the others do exactly what they are told."""

FROM_RECIPE = {
    "size", "frames", "fps", "steps", "guidance_scale", "shift", "solver", "sampler", "guidance_rule", "negative",
    "upscale",
}  # fmt: skip
"""The settings that the recipe has a value for."""

KINDS = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
PATHS = {"model", "text_encoder", "vae", "tokenizer", "image_encoder"}
MOST_BYTES = 1_000_000


def variable(setting: str) -> str:
    """The environment variable of a setting."""
    return f"KINOFORM_{setting.upper()}"


def settings_file(given: Path | None) -> Path | None:
    """The file that counts: the one given, else the one here, else the user's; None when there is none.

    Raises UsageError when the one given is not there.
    """
    if given is not None:
        if not given.is_file():
            check_no_link(given)
            raise UsageError(f"--config {given} is not a file; give the name of a TOML file", code="file_missing")
        return given
    home = user_folder("XDG_CONFIG_HOME", ".config")
    places = [Path("kinoform.toml"), *([] if home is None else [home / "kinoform" / "config.toml"])]
    return next(filter(os.path.isfile, places), None)  # not Path.is_file, which raises in a home of somebody else


def settings_in(file: Path, command: str) -> dict[str, object]:
    """What a file sets for a command: what stands at its top, then what stands in the command's own table.

    Raises UsageError, naming file and key, for unknown keys and tables and for values of the wrong type.
    """
    told = _parsed(file)
    tables = {name: value for name, value in told.items() if isinstance(value, dict)}
    if unknown := sorted(tables.keys() - TAKEN.keys()):
        raise UsageError(
            f"{file}: no table [{unknown[0][:60]}]; {nearest(unknown[0][:60], TAKEN)}", code="settings_unknown_table"
        )
    top = _checked({key: value for key, value in told.items() if key not in tables}, file, "")
    own = {name: _checked(table, file, f"[{name}] ") for name, table in tables.items()}
    return {name: value for name, value in (top | own.get(command, {})).items() if name in TAKEN.get(command, ())}


def _parsed(file: Path) -> dict[str, object]:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(
                f"{file} is larger than a file of settings can be; write one setting a line", code="file_too_large"
            )
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})", code="file_unreadable") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{file} is not TOML: {error}; write for example steps = 20", code="settings_damaged"
        ) from error


def _checked(table: Mapping[str, object], file: Path, place: str) -> dict[str, object]:
    return {_setting(key, file, place): _value(key, value, file, place) for key, value in table.items()}


def _setting(key: str, file: Path, place: str) -> str:
    """The name of the option: keys may have dashes, as the flags have."""
    name = key.replace("-", "_")
    if name in UNFILED:
        raise UsageError(
            f"{file}: {place}{key} cannot be set in a file, which may be a stranger's; "
            f"use the flag or {variable(name)}",
            code="setting_not_in_file",
        )
    if name not in SETTINGS:
        raise UsageError(
            f"{file}: no setting {place}{key[:60]!r}; {nearest(key[:60], SETTINGS.keys() - UNFILED)}",
            code="settings_unknown_key",
        )
    return name


def _value(key: str, value: object, file: Path, place: str) -> object:
    name = key.replace("-", "_")
    wanted = SETTINGS[name]
    legal = (int, float) if wanted is float else wanted
    if not isinstance(value, legal) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{file}: {place}{key} must be {KINDS[wanted]}, not {str(value)[:60]!r}", code="wrong_type")
    if name in PATHS and isinstance(value, str) and value.startswith("~"):
        return os.path.expanduser(value)
    return value
