"""The signals by which a person or a system asks a program to stop."""

import signal

PATIENCE = 1.0
"""Seconds after a signal in which more of them change nothing: a terminal that closes may send two."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """Ctrl-C, SIGTERM, and SIGHUP of a terminal that closes.

    Those are left out that this system does not have, and those that whoever began this program had ignored, as
    nohup does.
    """
    named = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))
    return tuple(each for each in named if each is not None and signal.getsignal(each) != signal.SIG_IGN)
