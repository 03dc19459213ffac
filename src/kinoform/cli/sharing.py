"""Commands whose options are those of another command, or of a group that several have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar, get_type_hints

Function = TypeVar("Function", bound=Callable[..., Any])


def sharing(source: Callable[..., Any], *, without: Collection[str] = ()) -> Callable[[Function], Function]:
    """Let a function show the parameters of `source` in the place of its `**options`, to which they are handed.

    Those in `without` are left out, and of two with one name the function's own counts. `source` may be a
    dataclass. Help, completion and settings see one command with one signature.
    """

    def shown(function: Function) -> Function:
        own = {
            name: each for name, each in inspect.signature(function).parameters.items() if each.kind != each.VAR_KEYWORD
        }
        others = inspect.signature(source).parameters.items()
        taken = {name: each for name, each in others if name not in {*own, *without}}
        hints = get_type_hints(source, include_extras=True) | get_type_hints(function, include_extras=True)
        parameters = [
            each.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            for name, each in (own | taken).items()
        ]
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        function.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": hints["return"]}
        return function

    return shown
