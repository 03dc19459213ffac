"""Settings: what a flag does not say, the environment says, then a TOML file, then the recipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from kinoform.cli.command_list import COMMANDS
from kinoform.cli.option_groups import GROUPS
from kinoform.cli.options import options_of, settings_of
from kinoform.errors import UsageError, nearest
from kinoform.files import check_no_link
from kinoform.folders import user_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

SETTINGS = {name: setting for group in GROUPS for name, setting in settings_of(options_of(group)).items()}
"""All settings by the names of their options: the type of each, and its mark."""

KINDS = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
MAX_BYTES = 1_000_000


def kind_of(setting: str) -> str:
    """Return in words what a setting's value is."""
    wanted, mark = SETTINGS[setting]
    return "a number, or several in quotes such as 'high=4,low=3'" if mark.numbers else KINDS[wanted]


def variable(setting: str) -> str:
    """Return the environment variable of a setting."""
    return f"KINOFORM_{setting.upper()}"


def settings_file(given: Path | None) -> Path | None:
    """Return the settings file: the one given, else the one here, else the user's; None when there is none.

    Raises UsageError when the one given is not there.
    """
    if given is not None:
        if not given.is_file():
            check_no_link(given)
            raise UsageError(f"--config {given} is not a file; give the name of a TOML file", code="file_missing")
        return given
    home = user_folder("XDG_CONFIG_HOME", ".config")
    paths = [Path("kinoform.toml"), *([] if home is None else [home / "kinoform" / "config.toml"])]
    return next(filter(os.path.isfile, paths), None)  # not Path.is_file, which raises in a home of somebody else


def settings_in(file: Path, command: str, heeded: Collection[str]) -> dict[str, object]:
    """Read the settings of a file that a command heeds: those at its top, replaced by those in the command's own table.

    Raises UsageError, naming file and key, for unknown keys and tables and for values of the wrong type.
    """
    parsed = _parsed(file)
    tables = {name: value for name, value in parsed.items() if isinstance(value, dict)}
    known = [entry.name for entry in COMMANDS if entry.heeds_settings]
    if unknown := sorted(tables.keys() - {*known}):
        raise UsageError(
            f"{file}: no table [{unknown[0][:60]}]; {nearest(unknown[0][:60], known)}", code="settings_unknown_table"
        )
    top = _checked({key: value for key, value in parsed.items() if key not in tables}, file, "")
    own = {name: _checked(table, file, f"[{name}] ") for name, table in tables.items()}
    return {name: value for name, value in (top | own.get(command, {})).items() if name in heeded}


def _parsed(file: Path) -> dict[str, object]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UsageError(
                f"{file} is larger than a file of settings can be; write one setting per line", code="file_too_large"
            )
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})", code="file_unreadable") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{file} is not TOML: {error}; write for example steps = 20", code="settings_damaged"
        ) from error


def _checked(table: Mapping[str, object], file: Path, prefix: str) -> dict[str, object]:
    return {_setting(key, file, prefix): _value(key, value, file, prefix) for key, value in table.items()}


def _setting(key: str, file: Path, prefix: str) -> str:
    """Return the name of the option: keys may have dashes, as the flags have."""
    name = key.replace("-", "_")
    if name in SETTINGS and not SETTINGS[name][1].in_file:
        raise UsageError(
            f"{file}: {prefix}{key} cannot be set in a file, which may be a stranger's; "
            f"use the flag or {variable(name)}",
            code="setting_not_in_file",
        )
    if name not in SETTINGS:
        known = [name for name, (_, mark) in SETTINGS.items() if mark.in_file]
        raise UsageError(
            f"{file}: no setting {prefix}{key[:60]!r}; {nearest(key[:60], known)}", code="settings_unknown_key"
        )
    return name


def _value(key: str, value: object, file: Path, prefix: str) -> object:
    name = key.replace("-", "_")
    wanted, mark = SETTINGS[name]
    legal = (str, int, float) if mark.numbers else (int, float) if wanted is float else wanted
    if not isinstance(value, legal) or (isinstance(value, bool) and wanted is not bool):
        raise UsageError(f"{file}: {prefix}{key} must be {kind_of(name)}, not {str(value)[:60]!r}", code="wrong_type")
    if mark.path and isinstance(value, str) and value.startswith("~"):
        return os.path.expanduser(value)
    return value
