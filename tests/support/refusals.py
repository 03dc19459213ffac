"""Refusals as tests ask for them: by the stable code of the error, never by its sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kinoform.errors import KinoformError


@contextmanager
def refused(code: str, *named: str) -> Iterator[pytest.ExceptionInfo[KinoformError]]:
    """The block raises a KinoformError of this code; what is yielded holds it afterwards, under `value`.

    Its message holds each of `named`: a file, a number, a name, an option. Words of the sentence do not belong here.
    """
    with pytest.raises(KinoformError) as caught:
        yield caught
    assert caught.value.code == code, f"{caught.value.code}: {caught.value}"
    lacking = [name for name in named if name not in str(caught.value)]
    assert not lacking, f"{lacking} not in: {caught.value}"


@contextmanager
def refused_briefly(code: str, *named: str, longest: int = 400) -> Iterator[pytest.ExceptionInfo[KinoformError]]:
    """The block is `refused` in one line of less than `longest` characters, whatever a file holds."""
    with refused(code, *named) as caught:
        yield caught
    assert "\n" not in str(caught.value) and len(str(caught.value)) < longest
