"""A solver's name says all of its options, and gives it back; other text gives a sentence."""

import pytest

from kinoform.errors import UsageError
from kinoform.solvers.base import Solver
from kinoform.solvers.dpmpp import DPMSolver, heun
from kinoform.solvers.euler import Euler
from kinoform.solvers.names import SOLVERS, name_of, solver_of
from kinoform.solvers.unipc import UniPC

NAMED = {
    "unipc": UniPC(),
    "dpm++": DPMSolver(),
    "euler": Euler(),
    "unipc(order=3)": UniPC(order=3),
    "unipc(order=1, uncorrected={0, 2})": UniPC(order=1, uncorrected=frozenset({0, 2})),
    "dpm++(order=1)": DPMSolver(order=1),
    "dpm++(second_order=heun)": DPMSolver(second_order=heun),
    "euler(exact_timesteps=True)": Euler(exact_timesteps=True),
}


@pytest.mark.parametrize(("name", "solver"), NAMED.items(), ids=NAMED)
def test_a_name_gives_the_solver_back(name: str, solver: Solver) -> None:
    assert name_of(solver) == name
    assert solver_of(name) == solver


def test_every_solver_has_a_name() -> None:
    assert {name_of(solver) for solver in SOLVERS.values()} == SOLVERS.keys()


REFUSED = [
    "unipcc",
    "",
    "unipc(",
    "unipc(order)",
    "unipc(3)",
    "unipc(order=0)",
    "unipc(order=2.0)",
    "unipc(order=True)",
    "unipc(order='2')",
    "unipc(order=10**9)",
    "unipc(order=2, order=3)",
    "unipc(step=1)",
    "unipc(levels=1)",
    "unipc(**{'order': 3})",
    "unipc(order=open('/etc/passwd'))",
    "unipc(order=__import__)",
    "unipc(uncorrected={{}})",
    "dpm++(second_order=exec)",
    "dpm++(second_order=0.5)",
    "euler(exact_timesteps=1)",
    "unipc(order=" + "(" * 150 + ")",
    "unipc(order=" + "9" * 10_000 + ")",
    "unipc(order=3)(order=3)",
    "unipc(order=3\x00)",
    "Troubled(trouble=<function trouble at 0x7f0000000000>)",
]


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: ascii(name)[:30])
def test_other_text_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(UsageError, match=r"solver|order") as error:
        solver_of(name)
    assert len(str(error.value)) < 500
