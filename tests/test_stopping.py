"""Which signals stop a program, on each system and as each was begun."""

import signal

import pytest

from kinoform.stopping import stop_signals


def test_what_was_ignored_stays_ignored() -> None:
    """Under nohup a training goes on when its terminal closes."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stop_signals() == (signal.SIGINT, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, former)
    assert stop_signals() == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_a_system_may_lack_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("signal.SIGHUP")
    assert stop_signals() == (signal.SIGINT, signal.SIGTERM)
