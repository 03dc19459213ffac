"""The command line from outside: errors become one sentence and an exit code."""

from __future__ import annotations

import io
import signal
import sys
import warnings
from types import FrameType

from kinoform.cli import console
from kinoform.errors import FitError, Interrupted, KinoformError


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 usage, 3 weights, 4 does not fit, 130 interrupted."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may not fit the terminal's encoding
    try:
        code = _run()
    except KinoformError as error:
        code = console.fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = Interrupted.exit_code
    except MemoryError:
        code = console.fail("this machine has too little memory for that; make the film smaller", FitError.exit_code)
    except OSError as error:
        code = console.fail(f"{error.filename or 'a file'}: {error.strerror or error}", KinoformError.exit_code)
    if code == Interrupted.exit_code:
        console.note("kinoform: interrupted; nothing half-made was left")
    sys.exit(code)


def _run() -> int:
    # Imported here: PyTorch takes seconds, in which Ctrl-C and a broken installation are to be explained too.
    from kinoform.cli.commands import app

    try:
        return app(standalone_mode=False) or 0
    except Exception as error:
        show = getattr(error, "show", None)  # the command-line parser's own errors know how to explain themselves
        code = getattr(error, "exit_code", None)
        if isinstance(error, KinoformError) or show is None or code is None:
            raise
        show()
        return code


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
    if issubclass(category, UserWarning):
        console.note(f"warning: {message}")
