"""The shapes in signatures are checked while tests run, in worker processes too: the tests lean on it."""

import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from kinoform.training.objective import velocity_target


def test_arguments_of_other_shapes_are_refused() -> None:
    with pytest.raises(TypeCheckError, match="velocity_target"):
        velocity_target(torch.zeros(2), torch.zeros(3, 4))


def test_no_module_was_imported_before_the_checks() -> None:
    mine = {name: module for name, module in sys.modules.items() if name.startswith("kinoform.")}
    assert "kinoform.training.objective" in mine
    unchecked = [name for name, module in mine.items() if "jaxtyping" not in type(module.__loader__).__module__]
    assert unchecked == []
