"""`kinoform train lora ... --plan`: what a training would take, of a model that need not be there."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import Run

CLIPS = Path(__file__).parents[2] / "examples" / "clips"
PLAN = ("train", "lora", CLIPS, "--plan")


def test_batches_operations_and_memory_of_a_model_that_is_not_there(here: Path, kinoform: Run) -> None:
    (here / "run" / "lora").mkdir(parents=True)
    line = {"samples": 1, "loss": 1.0, "learning_rate": 1.0, "gradient_norm": 1.0, "seconds": 4.0, "flops": 2e14}
    (here / "run" / "lora" / "losses.jsonl").write_text(json.dumps({"step": 0, **line}) + "\n")
    sized = ("--model", "t2v-1.3b", "--device", "cuda", "--clip-frames", 17, "--clip-size", "832x480", "--one-size")
    (told,) = kinoform(*PLAN, *sized, "--run", "run", "--json").told
    (bucket,) = told["buckets"]
    assert (bucket["clips"], bucket["tokens"], bucket["batch"], bucket["steps"]) == (8, 5 * 30 * 52, 4, 2)
    assert (told["steps"], told["epoch"], told["dtype"], told["experts"]) == (400, 2, "bfloat16", 1)
    assert told["flops_per_second"] == 5e13  # that of the run
    assert bucket["seconds"] == pytest.approx(bucket["flops"] / 5e13)
    assert bucket["learning"] == 43_745_280 and bucket["flops"] < bucket["flops_recomputed"]
    held = bucket["weights"] + bucket["state"] + bucket["activations"]
    assert 0 < told["peaks"]["learning"] - held < 10**9
    assert not (here / "runs").exists()


def test_the_table_says_how_long_it_takes_where_that_is_known(kinoform: Run) -> None:
    shown = kinoform(*PLAN, "--tflops", 0.05).out
    assert "clips are kept in" in shown and "64x64x17" in shown and "at 0.05 TFLOP/s: an estimate" in shown
    assert "not known: give --tflops" in kinoform(*PLAN).out


def test_accumulated_batches_and_blocks_run_again_are_counted(kinoform: Run) -> None:
    (plain,), (told,) = (
        kinoform(*PLAN, "--json").told,
        kinoform(*PLAN, "--accumulate", 2, "--recompute", "full", "--json").told,
    )
    assert (told["epoch"], told["accumulate"], told["recompute"]) == (plain["epoch"] / 2, 2, "full")
    (bucket,) = told["buckets"]
    saved = plain["peaks"]["learning"] - told["peaks"]["learning"]
    assert saved == bucket["activations"] - bucket["recomputed"] > 0


@pytest.mark.parametrize(("optimizer", "size"), [("adamw", 20), ("adamw-8bit", 14), ("muon", 16)])
def test_what_an_optimizer_keeps_is_counted(kinoform: Run, optimizer: str, size: int) -> None:
    (told,) = kinoform(*PLAN, "--optimizer", optimizer, "--json").told
    (bucket,) = told["buckets"]
    assert bucket["state"] == size * bucket["learning"]


def test_memory_decides_what_is_run_again_and_what_cannot_be(
    kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plain,), (full,) = kinoform(*PLAN, "--json").told, kinoform(*PLAN, "--recompute", "full", "--json").told
    most, least = (told["peaks"]["learning"] for told in (plain, full))
    for there, chosen in ((2 * most, "none"), (most, "full"), (least // 2, "full")):
        monkeypatch.setattr("kinoform.training.fit_step.memory_of", lambda device, there=there: there)
        assert [told["recompute"] for told in kinoform(*PLAN, "--json").told] == [chosen]
    ran = kinoform("train", "lora", CLIPS, "--run", "run")
    assert ran.refusal == "does_not_fit" and not (here / "run").exists()


def test_clips_of_each_length_and_size_are_counted(kinoform: Run) -> None:
    sizes = ("--clip-frames", "9+17", "--clip-size", "64x64,48x48", "--one-size")
    (told,) = kinoform(*PLAN, *sizes, "--json").told
    found = {(bucket["width"], bucket["frames"], bucket["clips"]) for bucket in told["buckets"]}
    assert found == {(side, frames, 8) for side in (48, 64) for frames in (9, 17)}


def test_another_trainers_settings_count_where_no_option_says_otherwise(kinoform: Run) -> None:
    ran = kinoform(*PLAN, "--like", "fastvideo", "--rank", 8, "--weighting", "min-snr", "--json")
    (told,) = ran.told
    this, ours, *others = told["beside"]
    fastvideo = next(row for row in others if row["title"] == "FastVideo")
    assert (this["rank"], this["scale"], fastvideo["scale"], ours["scale"]) == (8, 4, 2, 1)
    assert (this["learning_rate"], this["batch"], this["levels"]) == (1e-5, 1, fastvideo["levels"])
    assert (this["shares"], this["caption_dropout"]) == (fastvideo["shares"], 0)
    assert this["weighting"].startswith("min-snr") and this["weights"] != fastvideo["weights"]
    assert "FastVideo: over several processes" in ran.err
    (told,) = kinoform(*PLAN, "--json").told
    this, ours, *_ = told["beside"]
    assert {**this, "title": ""} == {**ours, "title": ""}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("train", "mini", "--plan"), "options_conflict"),
        (("train", "lora", CLIPS, "--tflops", 1), "options_conflict"),
        ((*PLAN, "--tflops", 0), "value_out_of_range"),
        ((*PLAN, "--like", "kohya"), "unknown_name"),
        ((*PLAN, "--validation", CLIPS), "validation_is_learnt"),
        ((*PLAN, "--model", "no-model"), "unknown_model"),
    ],
)
def test_what_cannot_be_planned_is_refused(words: tuple[object, ...], code: str, kinoform: Run) -> None:
    assert kinoform(*words).refusal == code
