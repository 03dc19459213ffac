"""`kinoform report`: where the page of a run goes."""

import json
from pathlib import Path

from tests.support.command_line import Run

LINE = {"step": 0, "samples": 4, "loss": 0.5, "learning_rate": 0.1, "gradient_norm": 1.0, "seconds": 2.0, "flops": 8.0}


def test_the_page_in_the_run_is_written_anew_and_any_other_only_once(here: Path, kinoform: Run) -> None:
    (here / "run" / "adapter").mkdir(parents=True)
    log = here / "run" / "adapter" / "losses.jsonl"
    for steps in (1, 2):
        log.write_text("".join(json.dumps(LINE | {"step": step}) + "\n" for step in range(steps)))
        told = kinoform("report", "run", "--json").told[0]
        assert told["stages"] == {"adapter": {"steps": steps, "damaged": 0}}
        assert f"steps <b>{steps}</b>" in Path(told["output"]).read_text()
    assert kinoform("report", "run", "-o", "page.html").code == 0
    assert kinoform("report", "run", "-o", "page.html").refusal == "file_exists"
    assert kinoform("report", "absent").refusal == "not_a_folder"
