"""The command line: words become a request, errors become one sentence and an exit code."""

from __future__ import annotations

import signal
import sys
import warnings
from types import FrameType

import typer

from kinoform.cli import console
from kinoform.cli.decode import decode
from kinoform.cli.evaluate import evaluate
from kinoform.cli.generate import generate
from kinoform.cli.info import info
from kinoform.cli.train import train
from kinoform.errors import Interrupted, KinoformError
from kinoform.version import __version__

app = typer.Typer(
    name="kinoform",
    help="Films from words. `kinoform generate PROMPT` makes one with the embedded model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (generate, decode, info, evaluate, train):
    app.command()(command)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"kinoform {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Films from words."""


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 failed, 2 usage, 3 weights, 4 does not fit, 130 interrupted."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False)
    except KinoformError as error:
        sys.exit(console.fail(str(error), error.exit_code))
    except KeyboardInterrupt:
        sys.exit(console.fail("interrupted; nothing half-made was left", Interrupted.exit_code))
    except MemoryError:
        sys.exit(console.fail("this machine has too little memory for that; make the film smaller", 4))
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        sys.exit(console.fail(f"{error.filename or 'a file'}: {error.strerror or error}", 1))
    except Exception as error:
        show = getattr(error, "show", None)  # the command-line parser's own errors know how to explain themselves
        if show is None or not hasattr(error, "exit_code"):
            raise
        show()
        sys.exit(error.exit_code)  # type: ignore[attr-defined]
    sys.exit(code or 0)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
    if issubclass(category, UserWarning):
        console.note(f"warning: {message}")
