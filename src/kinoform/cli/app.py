"""The command line from outside: errors become one sentence and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from contextvars import copy_context
from time import monotonic
from types import FrameType

from kinoform.cli import console
from kinoform.errors import FitError, Interrupted, KinoformError, UsageError
from kinoform.stopping import PATIENCE, stop_signals

PARSING = {
    "NoSuchOption": "unknown_option",
    "MissingParameter": "option_missing",
    "BadParameter": "bad_value",
    "BadOptionUsage": "bad_value",
    "BadArgumentUsage": "bad_value",
}
"""Codes of the errors of the command-line parser, whose classes are public under another name in each version."""


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 usage, 3 weights, 4 does not fit, 130 interrupted."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    _heed_signals()
    _open_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may not fit the terminal's encoding
    # In a context of its own, what is chosen about speaking ends with the run.
    sys.exit(copy_context().run(_guarded))


def _guarded() -> int:
    console.choose(sys.argv[1:])
    try:
        return _run()
    except KinoformError as error:
        return console.fail(error)
    except KeyboardInterrupt:
        return console.fail(Interrupted("interrupted; no half-made file was left", code="interrupted"))
    except MemoryError:
        sentence = "this machine has too little memory for that; make the video smaller"
        return console.fail(FitError(sentence, code="out_of_memory"))
    except OSError as error:
        return console.fail(KinoformError(f"{error.filename or 'a file'}: {error.strerror or error}", code="system"))


def _run() -> int:
    # Imported here so that Ctrl-C finds its handler in place.
    from kinoform.cli.commands import app

    try:
        code = app(prog_name="kinoform", standalone_mode=False) or 0
        if code == Interrupted.exit_code:  # into which the parser turns KeyboardInterrupt, without a word
            raise KeyboardInterrupt
        return code
    except Exception as error:
        show = getattr(error, "show", None)  # the command-line parser's own errors know how to explain themselves
        code = getattr(error, "exit_code", None)
        if isinstance(error, KinoformError) or show is None or code is None:
            raise
        if not console.speaks_json():
            show()
            return code
        fault = PARSING.get(type(error).__name__, UsageError.code)
        return console.fail(UsageError(error.format_message(), code=fault))  # type: ignore[attr-defined]


def _open_streams() -> None:
    """Replace closed standard streams by the null device, so that reading and writing still work."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _heed_signals() -> None:
    """Handle every stop signal in the same way, and leave the program a moment to clean up.

    A signal that is ignored, as Ctrl-C is in what a script runs in the background, stays so.
    """
    last = -PATIENCE

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if monotonic() - last >= PATIENCE:
            last = monotonic()
            raise KeyboardInterrupt

    for item in stop_signals():
        if signal.getsignal(item) != signal.SIG_IGN:
            signal.signal(item, stop)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
    if issubclass(category, UserWarning):
        console.warn(str(message))
