"""The names by which people ask for solvers, and by which films remember theirs."""

import ast
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace

from kinoform.errors import UsageError, nearest
from kinoform.solvers.base import Solver
from kinoform.solvers.dpmpp import DPMSolver, heun, midpoint
from kinoform.solvers.euler import Euler
from kinoform.solvers.unipc import UniPC

SOLVERS: dict[str, Solver] = {"unipc": UniPC(), "dpm++": DPMSolver(), "euler": Euler()}
FUNCTIONS: dict[str, Callable[[float], float]] = {"midpoint": midpoint, "heun": heun}
"""What options that are functions may be."""

LONGEST = 200
"""Characters of options that are read."""


def name_of(solver: Solver) -> str:
    """A name that `solver_of` reads, such as `unipc` or `unipc(order=3)`; for others their own description."""
    for name, known in SOLVERS.items():
        if type(solver) is type(known) and is_dataclass(solver):
            values = {each.name: getattr(solver, each.name) for each in fields(solver)}
            changed = {option: value for option, value in values.items() if value != getattr(known, option)}
            written = ", ".join(f"{option}={_written(value)}" for option, value in changed.items())
            return f"{name}({written})" if written else name
    return repr(solver)


def solver_of(name: str) -> Solver:
    """The solver of a name as `name_of` writes it. The text is not trusted: only values are read from it.

    Raises UsageError for an unknown name, and for an option that the solver has not or that is of another kind.
    """
    match = re.fullmatch(r"([^()]*)(?:\((.*)\))?", name, re.DOTALL)
    known = SOLVERS.get(match[1]) if match else None
    if match is None or known is None:
        raise UsageError(f"no solver {name[:LONGEST]!r}; {nearest(name[:LONGEST], SOLVERS)}")
    given = _options(match[2] or "", name)
    for option, value in given.items():
        default = getattr(known, option, None)
        if option not in {each.name for each in fields(known)} or type(value) is not type(default):  # type: ignore[arg-type]
            raise UsageError(
                f"the solver {match[1]!r} has no option {option}={value!r}; write for example unipc(order=3)"
            )
    return replace(known, **given)  # type: ignore[type-var]


def _written(value: object) -> str:
    if callable(value):
        return getattr(value, "__name__", repr(value))
    return repr(set(value)) if isinstance(value, frozenset) else repr(value)


def _options(text: str, name: str) -> dict[str, object]:
    """Keyword arguments whose values are literals or names in FUNCTIONS."""
    try:
        if len(text) > LONGEST:
            raise ValueError
        call = ast.parse(f"solver({text})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        options = {str(each.arg): _value(each.value) for each in call.keywords}
        if len(options) < len(call.keywords):
            raise ValueError
        return options
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError) as error:
        raise UsageError(
            f"the options of solver {name[:LONGEST]!r} cannot be read; write for example unipc(order=3)"
        ) from error


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Name):
        return FUNCTIONS[node.id]
    value = ast.literal_eval(node)
    return frozenset(value) if isinstance(value, set) else value
