"""Signals that stop a program, on each system and as each was begun."""

import signal
from collections.abc import Iterator

import pytest

from kinoform.stopping import stop_signals


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


def test_a_hangup_that_was_ignored_stays_ignored() -> None:
    """Under nohup a training goes on when its terminal closes."""
    assert stop_signals() == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert stop_signals() == (signal.SIGINT, signal.SIGTERM)


def test_a_system_may_have_no_hangup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("signal.SIGHUP")
    assert stop_signals() == (signal.SIGINT, signal.SIGTERM)
    monkeypatch.undo()
