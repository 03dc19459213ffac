"""The names by which people ask for solvers, and by which films remember theirs."""

from kinoform.solvers.base import Solver
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.euler import Euler
from kinoform.solvers.unipc import UniPC

SOLVERS: dict[str, Solver] = {"unipc": UniPC(), "dpm++": DPMSolver(), "euler": Euler()}


def name_of(solver: Solver) -> str:
    """The name of a solver with default options, otherwise its own description."""
    return next((name for name, known in SOLVERS.items() if known == solver), repr(solver))
