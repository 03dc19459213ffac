"""Findings about this installation and machine: rows that say how things are, and the next step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

GOOD, NOTE, BAD = "good", "note", "bad"
"""States of a finding: as it should be, worth knowing, to be repaired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Row of a report. `state` is good, note or bad; `facts` are the same in numbers, for machines."""

    name: str
    value: str
    state: str = GOOD
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    title: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    sections: tuple[Section, ...]
    next_step: str

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def section(title: str, probes: Iterable[tuple[str, Callable[[], Iterable[Finding]]]]) -> Section:
    """Return the findings of each probe in turn; one that fails is a row under its own name."""
    findings: list[Finding] = []
    for name, probe in probes:
        try:
            for finding in probe():
                findings.append(finding)
        except Exception as error:
            reason = str(error).strip().split("\n")[0] or "no reason given"
            findings.append(
                Finding(name=name, value=f"could not be looked at: {type(error).__name__}: {reason}", state=BAD)
            )
    return Section(title=title, findings=tuple(findings))
