"""Inputs of the package by their names, for tests that take them as keywords."""

from typing import Any

from kinoform.conditions.inputs import Inputs, by_name
from kinoform.conditions.standard_inputs import STANDARD_INPUTS


def named(**values: Any) -> Inputs:
    fields = by_name(STANDARD_INPUTS)
    return Inputs({fields[name]: value for name, value in values.items()})
