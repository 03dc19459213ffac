"""The checker of types that tests run under: beartype, in less time (`--jaxtyping-packages` in pyproject.toml).

jaxtyping checks a call twice with functions that it writes from a signature: the arguments before it, and the arguments
and the result after it. Here the second checks the result alone, and a function that is defined anew at each call of
another is prepared once.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype

Function = Callable[..., Any]

_prepared: dict[tuple[object, ...], Function] = {}


def checked(function: Function) -> Function:
    """Let a function that jaxtyping wrote check its arguments, or its result alone where that has a type."""
    hints = function.__annotations__
    if hints.get("return", Any) is not Any:
        function.__annotations__ = hints = {"return": hints["return"]}
    code = function.__code__
    key = (
        function.__module__,
        function.__qualname__,
        code.co_flags,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_varnames,
        tuple(hints.items()),
    )
    try:
        return _prepared[key]
    except KeyError:
        return _prepared.setdefault(key, beartype(function))
    except TypeError:  # an annotation that has no hash
        return beartype(function)
