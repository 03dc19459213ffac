"""Tests run on one thread, so that a figure printed here is the figure printed there, and heed signals.

The variable is for threads that tests start and for child processes; PyTorch reads it when it is loaded.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

import tests.support.checked_types  # jaxtyping imports no submodule of the checker that it is told  # noqa: F401

torch.set_num_threads(1)

# Ignored by who starts the tests in the background, they would be by the programs under test.
for name in ("SIGINT", "SIGHUP"):
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse the parameters of a set: each process that shares the tests would put them in another order."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        if isinstance(mark.args[1], (set, frozenset)):
            raise pytest.UsageError(f"{metafunc.definition.nodeid} takes its parameters from a set: sort them")


LONGEST = ("test_mini_adapters", "test_inputs", "test_mini", "test_mini_factorized", "test_identity", "test_pixels")
"""Files of a minute or more, which begin first: whichever came last would keep one process busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest in front, and leave all others in their order."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed the global generator before every test and its fixtures: values drawn without one are the same each time."""
    torch.manual_seed(0)
