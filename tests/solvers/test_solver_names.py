"""A solver's name says all of its options, and gives it back; other text gives a sentence."""

import pytest

from kinoform.solvers.base import Solver
from kinoform.solvers.dpmpp import DPMSolver, heun
from kinoform.solvers.euler import Euler
from kinoform.solvers.names import SOLVERS, name_of, solver_of
from kinoform.solvers.unipc import UniPC
from tests.support.refusals import refused

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
    ("unipcc", "unknown_solver"),
    ("", "unknown_solver"),
    ("unipc(", "unknown_solver"),
    ("unipc(order)", "bad_value"),
    ("unipc(3)", "bad_value"),
    ("unipc(order=0)", "value_out_of_range"),
    ("unipc(order=2.0)", "unknown_option"),
    ("unipc(order=True)", "unknown_option"),
    ("unipc(order='2')", "unknown_option"),
    ("unipc(order=10**9)", "bad_value"),
    ("unipc(order=2, order=3)", "bad_value"),
    ("unipc(step=1)", "unknown_option"),
    ("unipc(levels=1)", "unknown_option"),
    ("unipc(**{'order': 3})", "unknown_option"),
    ("unipc(order=open('/etc/passwd'))", "bad_value"),
    ("unipc(order=__import__)", "bad_value"),
    ("unipc(uncorrected={{}})", "bad_value"),
    ("dpm++(second_order=exec)", "bad_value"),
    ("dpm++(second_order=0.5)", "unknown_option"),
    ("euler(exact_timesteps=1)", "unknown_option"),
    ("unipc(order=" + "(" * 150 + ")", "bad_value"),
    ("unipc(order=" + "9" * 10_000 + ")", "bad_value"),
    ("unipc(order=3)(order=3)", "bad_value"),
    ("unipc(order=3\x00)", "bad_value"),
    ("Troubled(trouble=<function trouble at 0x7f0000000000>)", "unknown_solver"),
]


@pytest.mark.parametrize(("name", "code"), REFUSED, ids=lambda value: ascii(value)[:30])
def test_other_text_is_refused_in_a_sentence(name: str, code: str) -> None:
    with refused(code) as error:
        solver_of(name)
    assert len(str(error.value)) < 500
