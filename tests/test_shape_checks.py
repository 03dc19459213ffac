"""The shapes in signatures are checked while tests run, in worker processes too: the tests lean on it."""

import sys

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from kinoform.training.objective import velocity_target
from tests.support.checked_types import checked


def test_arguments_of_other_shapes_are_refused() -> None:
    with pytest.raises(TypeCheckError, match="velocity_target"):
        velocity_target(torch.zeros(2), torch.zeros(3, 4))


def turned(result: Tensor) -> Tensor:
    """A function that is defined anew at each call, as functions in functions are."""

    @jaxtyped(typechecker=checked)
    def turn(x: Float[Tensor, "a b"], times: int = 1) -> Float[Tensor, "b a"]:
        return result

    return turn(torch.zeros(2, 3))


def test_results_are_checked_beside_arguments_in_every_function_that_is_defined() -> None:
    for _ in range(2):
        turned(torch.zeros(3, 2))
        for wrong in (torch.zeros(2, 3), torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64)):
            with pytest.raises(TypeCheckError, match="return value"):
                turned(wrong)


def test_no_module_was_imported_before_the_checks() -> None:
    mine = {name: module for name, module in sys.modules.items() if name.startswith("kinoform.")}
    assert "kinoform.training.objective" in mine
    unchecked = [name for name, module in mine.items() if "jaxtyping" not in type(module.__loader__).__module__]
    assert unchecked == []
