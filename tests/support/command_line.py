"""What a run of the command line leaves behind."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """The result of a command: its exit code, both streams, and the code of the error that it told of."""

    code: int
    out: str
    err: str
    refusal: str | None = None

    @property
    def told(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def sentence(self) -> str:
        """The error, which is the last line of stderr and the only one of its kind."""
        last = self.err.rstrip("\n").splitlines()[-1]
        assert last.startswith("kinoform: ") and self.err.count("kinoform: ") == 1, self.err
        return last.removeprefix("kinoform: ")


Run: TypeAlias = Callable[..., Ran]
"""`kinoform WORDS`, as the fixture of that name runs it."""
