"""What programs are told: JSON as docs/json.md has it, in good and in bad ends, and a log without prompts."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinoform.cli import console
from kinoform.cli.events import EVENTS, Caution, Note, RunLog
from kinoform.cli.latents import video_name
from kinoform.cli.progress import stages
from kinoform.mini import plans
from kinoform.mini.training.plan import Plan
from kinoform.training.optimizer import Schedule
from kinoform.training.stage import TrainingSpec
from tests.support.command_line import Ran, Run
from tests.support.narrowing import some
from tests.support.tiny_recipe import write_tiny_of_two

MINI_PLAN = plans.mini

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
TYPES = {
    "text": str, "whole number": int, "number": (int, float), "object": dict, "list": list, "null": type(None),
}  # fmt: skip


def table(heading: str) -> dict[str, str]:
    """The fields and their types in the section of the page with this heading."""
    section = re.split(r"^#+ ", PAGE.split(f"# {heading}\n")[1], flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))


def check(told: dict, fields: dict[str, str], what: str) -> None:
    assert told.keys() == fields.keys(), what
    for name, value in told.items():
        legal = tuple(TYPES[word] for word in fields[name].split(" or "))
        flat = tuple(each for kind in legal for each in (kind if isinstance(kind, tuple) else (kind,)))
        assert isinstance(value, flat) and not isinstance(value, bool), f"{what}: {name}={value!r}"


def checked(lines: str) -> list[dict]:
    """Events, each of which is as the page says."""
    events = [json.loads(line) for line in lines.splitlines()]
    for told in events:
        check({name: value for name, value in told.items() if name != "event"}, table(f"`{told['event']}`"), str(told))
    return events


def kinds(events: list[dict]) -> list[str]:
    return [told["event"] for told in events]


def test_the_page_knows_every_event() -> None:
    assert set(re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE)) == {event.event for event in EVENTS}


def streamed(ran: Ran) -> list[dict]:
    events = checked(ran.out)
    assert ran.err == "" and events[-1]["exit_code"] == ran.code
    assert kinds(events).count("finished") + kinds(events).count("error") == 1
    return events


def test_videos_are_streamed_stage_by_stage(kinoform: Run, model: list[str]) -> None:
    words = ["--count", 2, "--steps", 4, "-o", "video.gif", "--json-stream"]
    events = streamed(kinoform("generate", "a red zebra", *model, *words))
    assert kinds(events)[0] == "started" and kinds(events)[-1] == "finished"
    assert events[0]["command"] == "generate" and events[0]["options"]["steps"] == 4
    assert "zebra" not in json.dumps(events[0]), "a prompt is no option"
    assert [told["message"] for told in events if told["event"] == "warning"] == [
        "words the model does not know: zebra"
    ]
    begun = [(told["stage"], told["total"], told["item"]) for told in events if told["event"] == "stage"]
    assert begun[:3] == [("text", 2, None), ("denoise", 4, 1), ("decode", 2, 1)]
    assert [each[::2] for each in begun[3:]] == [("denoise", 2), ("decode", 2)]
    last = [told for told in events if told["event"] == "step" and told["step"] == told["total"]]
    assert len(last) == 5 and all(told["seconds_left"] == 0 for told in last)
    results = [told["result"] for told in events if told["event"] == "result"]
    assert [told["output"] for told in results] == ["video_1.gif", "video_2.gif"]
    assert kinds(events).index("result") < len(events) - 3, "each video is told when it is there"


def test_each_of_several_transformers_is_told_for_each_video(kinoform: Run, here: Path) -> None:
    folder = write_tiny_of_two(here / "model")
    model = ["--model", folder, "--recipe", "tests.support.tiny_recipe:tiny_of_two", "--device", "cpu"]
    events = streamed(kinoform("generate", "a ball", *model, "--count", 2, "-o", "video.gif", "--json-stream"))
    begun = [(told["stage"], told["item"], told["expert"]) for told in events if told["event"] == "stage"]
    assert begun == [
        ("text", None, None), ("denoise", 1, "high"), ("denoise", 2, "high"), ("denoise", 1, "low"),
        ("decode", 1, None), ("denoise", 2, "low"), ("decode", 2, None),
    ]  # fmt: skip
    steps = [told for told in events if told["event"] == "step" and told["stage"] == "denoise"]
    assert {told["step"] for told in steps if told["expert"] == "high"} <= {1, 2, 3, 4}
    assert [told["item"] for told in steps if told["step"] == told["total"] == 6] == [1, 2]


def test_results_are_as_the_page_says(kinoform: Run, model: list[str], here: Path) -> None:
    fields = table("Result of `generate`, `animate`, `bridge`, `decode` and `rerun`")
    made = kinoform("generate", "a red ball", *model, "--seed", 7, "-o", "video.mp4", "--json").told[0]
    check(made, fields, "generate")
    again = {name: kind for name, kind in fields.items() if name not in ("output", "contact_sheet")}
    check(kinoform("info", "video.mp4", "--json").told[0], again, "info")
    plan = kinoform("generate", "a red ball", *model, "--dry-run", "--json").told[0]
    check(plan, table("Result of `--dry-run`"), "--dry-run")
    assert {file.name for file in here.iterdir()} == {"video.mp4"}
    more = table("Result of `--dry-run` of `edit`, `extend` and `outpaint`")
    source = Path(__file__).parents[2] / "examples" / "inputs" / "mini" / "video.mp4"
    edit = kinoform("extend", source, "--prompt", "a red ball", "--dry-run", "--json").told[0]
    check(edit, table("Result of `--dry-run`") | more, "--dry-run of extend")


def test_an_evaluation_is_streamed(kinoform: Run) -> None:
    words = ["--level", "L1", "--count", 1, "--steps", 1, "--device", "cpu", "--json-stream"]
    events = streamed(kinoform("evaluate", "mini", *words))
    check(events[-2]["result"], table("Result of `evaluate`"), "evaluate")
    assert [told["stage"] for told in events if told["event"] == "stage"] == ["L1 seen", "L1 held-out"]


def test_a_training_is_streamed(kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "mini", hasty_plan)
    threads = torch.get_num_threads()
    events = streamed(kinoform("train", "--sample-every", 0, "--json-stream"))
    torch.set_num_threads(threads)
    assert [told["stage"] for told in events if told["event"] == "stage"] == ["autoencoder", "text", "transformer"]
    assert [told["total"] for told in events if told["event"] == "stage"] == [STEPS] * 3
    check(events[-2]["result"], table("Result of `train`"), "train")
    assert (here / "runs" / "mini" / "model" / "manifest.json").is_file()


STEPS = 2


def hasty_plan() -> Plan:
    """Plan of the embedded model with few and short videos."""
    plan = MINI_PLAN()
    videos = replace(some(plan.autoencoder).videos, num_frames=5)
    short = TrainingSpec(schedule=Schedule(warmup=1, total=STEPS))
    return replace(
        plan,
        autoencoder=replace(some(plan.autoencoder), videos=videos, batch=1, fit_videos=100), autoencoder_training=short,
        text=replace(plan.text, videos=videos, batch=2), text_training=short,
        transformer=replace(plan.transformer, videos=videos, batch=2), transformer_training=short,
        gate=0.0, gate_videos=1,
    )  # fmt: skip


ENDS = [
    (["generate", "x", "--steps", "0"], "UsageError", 2),
    (["generate", "x", "--stpes", "3"], "UsageError", 2),
    (["generate", "x", "--model", "."], "WeightsError", 3),
    (["nonsense"], "UsageError", 2),
    (["info", "none.mp4"], "UsageError", 2),
]


@pytest.mark.parametrize(
    ("words", "kind", "code"), ENDS, ids=lambda value: " ".join(value) if type(value) is list else ""
)
def test_errors_are_json_where_json_is_asked_for(kinoform: Run, words: list[str], kind: str, code: int) -> None:
    plain, ran = kinoform(*words), kinoform(*words, "--json")
    events = checked(ran.err)
    assert ran.out == "" and kinds(events) == ["error"] and plain.code == ran.code == code
    assert (events[0]["kind"], events[0]["exit_code"]) == (kind, code)
    assert not plain.err.startswith("{")
    assert streamed(kinoform(*words, "--json-stream"))[-1] == events[0]


def test_an_interruption_is_the_last_event(kinoform: Run, folder: Path) -> None:
    words = [
        "--model",
        folder,
        "--recipe",
        "tests.support.troubled_recipes:ctrl_c",
        "--device",
        "cpu",
        "-o",
        "video.mp4",
    ]
    events = streamed(kinoform("generate", "a red ball", *words, "--json-stream"))
    assert (events[-1]["kind"], events[-1]["exit_code"]) == ("Interrupted", 130)


def test_a_prompt_that_looks_like_an_option_changes_nothing(kinoform: Run, model: list[str]) -> None:
    ran = kinoform("generate", *model, "--steps", "0", "--", "--json")
    assert ran.refusal == "value_out_of_range" and "steps" in ran.sentence


def test_time_left_is_measured_from_where_work_continues(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a training that goes on at step 900, the 900 steps took no time."""
    heard = []
    console.listen(heard.append)
    with stages({"transformer": "transformer"}) as tell:
        tell("transformer", 900, 1000)
        tell("transformer", 1000, 1000)
    begun, first, last = heard
    assert (begun.total, begun.item) == (1000, None)
    assert first.seconds_left is None and last.seconds_left == 0 and last.step == 1000


def test_counts_that_do_not_grow_begin_nothing_anew() -> None:
    """Of bytes told in millions, of which many small tensors make none."""
    heard = []
    console.listen(heard.append)
    with stages({"read": "reading"}) as tell:
        for done in (0, 0, 1, 1, 2, 2):
            tell("read", done, 2)
    assert [type(event).__name__ for event in heard].count("StageStarted") == 1


PROMPT = "a Scarlet dräke von 红龙 behind the castle"
SECRETS = ["scarlet", "dräke", "drake", "红", "龙", "castle"]


def logged(here: Path) -> list[dict]:
    told = [json.loads(line) for line in (here / "run.log").read_text().splitlines()]
    for each in told:
        fields = table("The log") | table(f"`{each['event']}`") | {"event": "text"}
        check(each, fields, str(each))
    return told


def test_the_log_tells_all_but_the_prompts(kinoform: Run, model: list[str], here: Path) -> None:
    words = [PROMPT, *model, "--negative", "ugly castle", "--seed", 7, "--log", "run.log"]
    assert kinoform("generate", *words).code == 0
    assert kinoform("generate", *words).code == 2, "the video, which is named after the prompt, exists"
    (here / "prompts.txt").write_text(f"{PROMPT}\n", encoding="utf-8")
    assert kinoform("generate", *words[1:], "--prompts", "prompts.txt", "--force").code == 0
    told = logged(here)
    assert kinds(told)[-4:-2] != [] and kinds(told).count("started") == 3 and kinds(told).count("finished") == 2
    levels = {each["event"]: each["level"] for each in told}
    assert (levels["started"], levels["warning"], levels["error"]) == ("info", "warning", "error")
    text = json.dumps(told, ensure_ascii=False).casefold()
    assert not [secret for secret in SECRETS if secret in text], text
    assert "exists; choose another name" in text and "ugly" not in text
    results = [each["result"] for each in told if each["event"] == "result"]
    assert [each["seed"] for each in results] == [7, 7]


def test_the_log_of_a_lost_video_does_not_tell_its_name(
    kinoform: Run, model: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kinoform.cli.output.save", fail)
    long = PROMPT + " with an extraordinarily magnificent drawbridge"
    ran = kinoform("generate", long, *model, "--seed", 7, "--log", "run.log")
    assert ran.code == 1 and "scarlet" in ran.err, "people are told how to finish"
    monkeypatch.undo()
    monkeypatch.chdir(here)
    kept = next(here.glob("*.latents.safetensors"))
    assert kinoform("decode", kept.name, *model, "--log", "run.log").code == 0
    video = Path(str(video_name(kept))).name
    assert kinoform("rerun", video, *model, "--log", "run.log").code == 0
    text = json.dumps(logged(here), ensure_ascii=False).casefold()
    assert text.count('"result":') == 2
    assert "latents are kept; finish" in text and not [word for word in [*SECRETS, "magnif", "extra"] if word in text]


def test_prompts_are_logged_when_asked_for(
    kinoform: Run, model: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINOFORM_LOG", "run.log")
    kinoform("generate", PROMPT, *model, "--seed", 7, "--log-prompts")
    result = next(each["result"] for each in logged(here) if each["event"] == "result")
    assert result["prompt"] == PROMPT and "scarlet" in result["output"]


def test_a_log_that_cannot_be_written_is_refused_early(kinoform: Run, model: list[str], here: Path) -> None:
    for name in (".", "no/such/run.log"):
        ran = kinoform("generate", "a red ball", *model, "--log", name)
        assert ran.refusal == "file_not_writable" and name in ran.sentence
    assert not list(here.iterdir())


def test_a_log_that_fills_the_disk_does_not_end_the_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(here / "run.log", lambda: ())
    log(Note(message="one"))

    def full(*words: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        log(Note(message="two"))
        log(Note(message="three"))
    log(Caution(message="four"))
    assert [each["message"] for each in logged(here)] == ["one", "four"]
    assert capsys.readouterr().err.count("is incomplete: No space left") == 1


def test_every_line_is_strict_json_whatever_was_asked_for(kinoform: Run, model: list[str], here: Path) -> None:
    ran = kinoform("generate", "a ball", *model, "--fps", "nan", "--log", "log.jsonl", "--json-stream")
    assert ran.code == 2
    lines = [*ran.out.splitlines(), *(here / "log.jsonl").read_text().splitlines()]
    told = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert told[0]["options"]["fps"] is None and len(told) == 4
