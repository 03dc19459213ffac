"""`kinoform doctor`: what is installed, what this machine has, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from kinoform.cli import console
from kinoform.cli.options import AsJson
from kinoform.doctor.examine import examine
from kinoform.doctor.report import BAD, GOOD, NOTE, DoctorReport

MARKS = {GOOD: " ", NOTE: "-", BAD: "!"}


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine can do.

    Versions, devices, memory, kernels, the embedded model, and what to do next. A row with ! is to be mended,
    one with - is worth knowing.
    """
    report = examine()
    console.result("\n".join(_lines(report)), report.as_json(), as_json=as_json)


def _lines(report: DoctorReport) -> Iterator[str]:
    for section in report.sections:
        yield section.title
        for item in section.findings:
            yield f"{MARKS[item.state]} {item.name:<21} {item.value}"
        yield ""
    yield report.next_step
