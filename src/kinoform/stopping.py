"""The signals by which a person or a system asks a program to stop."""

import signal

PATIENCE = 1.0
"""Seconds after a signal in which more of them change nothing: a terminal that closes may send two."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """Ctrl-C, SIGTERM, and SIGHUP of a terminal that closes, if this system has it and nobody had it ignored, as nohup
    does."""
    hangup = getattr(signal, "SIGHUP", None)
    heeded = hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *([hangup] if hangup is not None and heeded else []))
