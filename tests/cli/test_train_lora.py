"""A LoRA from a folder of clips: learnt, saved, loaded again; killed and gone on with; and refused before it begins."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from kinoform import load
from kinoform.cli.app import main
from kinoform.conditions.protocols import NOTHING
from kinoform.errors import KinoformError
from kinoform.models.lora import adapters_of
from kinoform.models.lora_linear import Adapter
from kinoform.training.clip_plan import ClipPlan
from kinoform.training.ema import EMASpec
from kinoform.training.metrics import read_metrics
from kinoform.training.optimizer import AdamSpec, CosineSchedule, MuonSpec, OptimizerSpec
from kinoform.training.plan import TrainingRun
from kinoform.training.recompute import Recompute
from kinoform.training.run_log import read_run
from kinoform.training.saving import Probe, compare, compare_weights
from kinoform.training.stage import TrainingSpec
from tests.support.expert_recipes import ADDRESS, write_experts

CLIPS = Path(__file__).parents[2] / "examples" / "clips"
SHORT = ("--training-steps", "4", "--rank", "4", "--dtype", "float32")


def train(kinoform: Any, folder: Path, *options: str, data: Path = CLIPS) -> Any:
    return kinoform(
        "train", "lora", str(data), "--run", str(folder), "--cache", str(folder / "cache"), *SHORT, *options
    )


def losses(folder: Path) -> list[float | None]:
    return [entry.loss for entry in read_metrics(folder / "lora" / "losses.jsonl")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    words = ["kinoform", "train", "lora", str(CLIPS), "--run", str(folder), "--cache", str(folder / "cache"), *SHORT]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", words)
        main()
    assert not ended.value.code
    return folder


def test_what_is_saved_is_a_lora_that_changes_videos(trained: Path) -> None:
    tuned = load("mini", loras=[(trained / "lora.safetensors", 50.0)], device="cpu", dtype="float32")
    (adapters,) = adapters_of(tuned.parts.transformer(torch.float32, torch.device("cpu"))).values()
    assert len(adapters) == 6 * 10 and all(adapter.rank == 4 == adapter.alpha for adapter in adapters.values())
    plain = load("mini", device="cpu", dtype="float32")
    videos = [pipe("a brown ball spins", seed=1, num_inference_steps=2).frames for pipe in (plain, tuned)]
    assert (videos[0] != videos[1]).any()
    assert not list(trained.glob(".*"))
    assert len(losses(trained)) == 4 and all(loss is not None for loss in losses(trained))


def test_held_out_clips_are_measured_and_not_learnt(tmp_path: Path, kinoform: Any) -> None:
    ran = train(kinoform, tmp_path, "--validation", "0.2", "--sample-every", "0")
    assert not ran.refusal and "held out of the training: " in ran.err and ".unchecked" not in ran.err
    (stage,) = read_run(tmp_path)
    assert [item.step for item in stage.validation] == [0, 3] and len(stage.levels) == 4
    assert sum(sum(item.count) for item in stage.levels) == 4 * 6  # two of eight are held out


def test_the_same_command_goes_on_with_the_same_losses(trained: Path, tmp_path: Path, kinoform: Any) -> None:
    shutil.copytree(trained, tmp_path / "run")
    saved = sorted((tmp_path / "run" / "lora" / "checkpoints").glob("step-*"))
    assert saved and not train(kinoform, tmp_path / "run", "--force").refusal
    assert losses(tmp_path / "run") == losses(trained)
    again = train(kinoform, tmp_path / "other")
    assert not again.refusal and losses(tmp_path / "other") == losses(trained)


def test_a_folder_of_other_clips_is_another_training(trained: Path, tmp_path: Path, kinoform: Any) -> None:
    shutil.copytree(CLIPS, tmp_path / "clips")
    (tmp_path / "clips" / "ball.txt").write_text("a brown ball spins on a blue background")
    shutil.copytree(trained, tmp_path / "run")
    ran = train(kinoform, tmp_path / "run", "--force", data=tmp_path / "clips")
    assert ran.refusal == "checkpoint_of_other_plan" and "clips: saved" in ran.err


def test_a_saved_file_that_says_something_else_is_noticed(tmp_path: Path) -> None:
    pipe = load("mini", device="cpu", dtype="float32")
    model = pipe.parts.transformer(torch.float32, torch.device("cpu"))
    other = deepcopy(model)
    with torch.no_grad():
        other.patch_embedding.weight.mul_(1.5)
    x = torch.randn(1, 32, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    probe = Probe(latents=x, rows=torch.zeros(1, 32, 128), condition=NOTHING)
    compare(model, model, probe, tmp_path / "lora.safetensors")
    with pytest.raises(KinoformError) as caught:
        compare(model, other, probe, tmp_path / "lora.safetensors")
    assert caught.value.code == "saved_file_differs"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fault", ["none", "layer", "alpha", "up"])
def test_a_file_that_lost_some_of_it_is_noticed_however_small_it_is(
    tmp_path: Path, dtype: torch.dtype, fault: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    trained = {
        f"layer{n}": Adapter(torch.randn(2, 8, generator=generator), 1e-5 * torch.randn(8, 2, generator=generator), 2.0)
        for n in range(2)
    }
    loaded = {name: Adapter(each.down.to(dtype), each.up.to(dtype), each.alpha) for name, each in trained.items()}
    if fault == "layer":
        del loaded["layer1"]
    elif fault != "none":
        old = loaded["layer1"]
        up = old.up.clone()
        up.view(-1)[up.abs().argmax()] *= 2.0 if fault == "up" else 1.0
        loaded["layer1"] = Adapter(old.down, up, 1.0 if fault == "alpha" else 2.0)
    if fault == "none":
        compare_weights(trained, loaded, tmp_path / "lora.safetensors")
        return
    with pytest.raises(KinoformError) as caught:
        compare_weights(trained, loaded, tmp_path / "lora.safetensors")
    assert caught.value.code == "saved_file_differs" and "layer1" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--clip-frames", "16"), "frames_not_legal"),
        (("--clip-frames", "33"), "clips_too_short"),
        (("--clip-size", "60x64"), "size_not_legal"),
        (("--clips", "tail"), "unknown_name"),
        (("--clips", "head=3"), "unknown_name"),
        (("--lora-format", "zip"), "unknown_name"),
        (("--rank", "0"), "value_out_of_range"),
        (("--caption-dropout", "1.5"), "value_out_of_range"),
        (("--optimizer", "adam"), "unknown_name"),
        (("--optimizer", "adamw:betas=(0.9,1.0)"), "value_out_of_range"),
        (("--optimizer", "muon:betas=(0.9,0.9)"), "unknown_option"),
        (("--schedule", "steps"), "unknown_name"),
        (("--warmup", "5"), "value_out_of_range"),
        (("--accumulate", "0"), "value_out_of_range"),
        (("--ema", "1"), "value_out_of_range"),
        (("--clip-norm", "nan"), "value_out_of_range"),
        (("--recompute", "some"), "unknown_name"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, kinoform: Any, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: str
) -> None:
    monkeypatch.setattr("kinoform.training.clip_plan.ClipPlan.train", lambda plan, run: pytest.fail("it began"))
    assert train(kinoform, tmp_path / "run", *options).refusal == code
    assert not (tmp_path / "run").exists()


def test_options_of_the_engine_are_those_of_the_loop(
    tmp_path: Path, kinoform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[ClipPlan, TrainingRun]] = []

    def begin(plan: ClipPlan, run: TrainingRun) -> None:
        begun.append((plan, run))
        raise KeyboardInterrupt

    monkeypatch.setattr(ClipPlan, "train", begin)
    stepping = "--optimizer muon:learning_rate=0.01 --schedule cosine --warmup 2 --weight-decay 0.1 --clip-norm 2"
    given = f"{stepping} --accumulate 3 --ema 0 --recompute selective"
    train(kinoform, tmp_path / "run", *given.split())
    ((plan, run),) = begun
    adam, muon = AdamSpec(learning_rate=8e-4, weight_decay=0.1), MuonSpec(learning_rate=0.01, weight_decay=0.1)
    assert plan.training == TrainingSpec(
        schedule=CosineSchedule(warmup=2, total=4), ema=EMASpec(decay=0.0, every=1), clip=2.0, accumulate=3,
        optimizer=OptimizerSpec(adam=adam, muon=muon),
    )  # fmt: skip
    assert run.options.recompute is Recompute.SELECTIVE


def test_experts_learn_a_file_each_and_take_it_again(tmp_path: Path, kinoform: Any) -> None:
    """One command, a file for each transformer at its own noise levels; files say by their names whose they are."""
    model = write_experts(tmp_path / "experts.safetensors")
    assert not train(kinoform, tmp_path / "run", "--model", str(model), "--recipe", ADDRESS).refusal
    files = sorted((tmp_path / "run").glob("*.safetensors"))
    assert [file.name for file in files] == ["lora_high_noise.safetensors", "lora_low_noise.safetensors"]
    loras = [(file, 1.0) for file in files]
    both = load(str(model), recipe=ADDRESS, loras=loras, device="cpu", dtype="float32").parts
    assert [len(own) for own in both.loras] == [1, 1]
    high, low = (read_metrics(tmp_path / "run" / f"lora-{name}" / "losses.jsonl") for name in ("high", "low"))
    assert len(high) == len(low) == 4 and [entry.loss for entry in high] != [entry.loss for entry in low]
