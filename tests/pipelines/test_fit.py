"""A video that cannot fit is refused before any work with its plan and what would fit; one that fits never is."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinoform.errors import FitError
from kinoform.models.codec import IdentityCodec
from kinoform.pipelines import fit
from kinoform.pipelines.fit import SURE, check_fit, memory_of, refuse_above, workload_of
from kinoform.pipelines.pipeline import Pipeline
from kinoform.plan.memory import Needs, needs
from kinoform.plan.workload import Sizes, Workload
from kinoform.recipes.wan21 import t2v_14b
from tests.support.refusals import refused

RECIPE = t2v_14b()
SIZES = Sizes(transformers=(RECIPE.transformer,), codec=RECIPE.codec, text=RECIPE.text)
WORK = Workload(width=1280, height=720, num_frames=81, steps=50, guidance_scale=5.0)
GPU, NARROW = torch.device("cuda"), torch.bfloat16


def taken(work: Workload) -> int:
    return max(peak.total for peak in needs(SIZES, work, NARROW, "cuda").peaks)


def refusal(there: int, work: Workload = WORK) -> str:
    with pytest.raises(FitError) as caught:
        refuse_above(there, SIZES, work, NARROW, GPU)
    return str(caught.value)


def test_what_fits_is_never_refused() -> None:
    """Neither at the predicted peak nor anywhere above the certain share of it."""
    for there in (taken(WORK), round(0.9 * taken(WORK)), round(SURE * taken(WORK)) + 1):
        refuse_above(there, SIZES, WORK, NARROW, GPU)


def test_what_certainly_does_not_fit_is_refused() -> None:
    refusal(round(SURE * taken(WORK)) - 1)


def test_the_refusal_holds_the_stage_its_bytes_and_what_there_is() -> None:
    told = refusal(32 * 10**9)
    assert "81 frames of 1280x720 do not fit: stage denoise takes about 44.0 GB (29.0 GB of it weights)" in told
    assert "device cuda has 32.0 GB" in told
    assert "\n" not in told


def test_the_change_that_it_names_fits_and_the_next_larger_does_not() -> None:
    there = 32 * 10**9
    found = re.search(r"what fits is (\d+) frames or (\d+)x(\d+), otherwise as asked", refusal(there))
    assert found is not None
    frames, width, height = map(int, found.groups())
    assert frames % 4 == 1 and width % 16 == height % 16 == 0
    assert abs(width / height - 1280 / 720) < 0.05
    for change in ({"num_frames": frames}, {"width": width, "height": height}):
        refuse_above(there, SIZES, replace(WORK, **change), NARROW, GPU)
    for change in ({"num_frames": frames + 4}, {"width": width + 32, "height": height + 16}):
        refusal(there, replace(WORK, **change))


def test_where_no_video_fits_none_is_promised() -> None:
    assert "no video of this model does; choose another --dtype, --device or model" in refusal(20 * 10**9)


def test_a_single_frame_has_no_shorter_video() -> None:
    told = refusal(24 * 10**9, replace(WORK, width=16000, height=9600, num_frames=1))
    assert "frames or" not in told


def test_videos_that_fit_one_at_a_time_are_refused_together_and_the_advice_fits() -> None:
    """The first of two is decoded beside the transformer, which takes more than to denoise it."""
    there = round(SURE * taken(WORK)) + 1
    refuse_above(there, SIZES, WORK, NARROW, GPU)
    with refused("does_not_fit") as caught:
        refuse_above(there, SIZES, replace(WORK, others=True), NARROW, GPU)
    assert "stage decode" in str(caught.value) and "one video at a time does fit" in str(caught.value)


def test_two_videos_are_refused_before_any_weight_is_read(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [pipe.request("a red ball", seed=seed) for seed in (1, 2)]
    seen: list[bool] = []

    def refuse_above(there: int, sizes: Sizes, workload: Workload, dtype: torch.dtype, device: torch.device) -> Needs:
        seen.append(workload.others)
        return Needs(peaks=(), uncounted=())

    monkeypatch.setattr(fit, "refuse_above", refuse_above)
    pipe.latents(asked, lambda progress: None)
    assert seen == [True], "the last is decoded without the transformer"


class AskingCodec(IdentityCodec):
    """Asks for values, which a plan does not have."""

    def decode(self, latents: torch.Tensor, history: object = None) -> tuple[torch.Tensor, tuple[()]]:
        return latents * float(latents.sum()), ()


def test_what_nobody_counts_is_warned_of(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pipe.request("a red ball", seed=1)
    parts = replace(pipe.parts, codec_spec=AskingCodec())
    with pytest.warns(UserWarning, match="is not known: there is no estimate of what the codec AskingCodec decodes"):
        check_fit(asked, parts, torch.float32, torch.device("cpu"))


def test_a_request_is_refused_before_any_weight_is_read(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pipe.request("a red ball", seed=1)
    needed = max(peak.total for peak in needs(sizes_of(pipe), workload_of(asked), torch.float32, "cpu").peaks)
    monkeypatch.setattr(fit, "memory_of", lambda device: needed)
    pipe.request("a red ball", seed=1)
    monkeypatch.setattr(fit, "memory_of", lambda device: needed // 2)
    with refused("does_not_fit", "3 frames of 16x16"):
        pipe.request("a red ball", seed=1)
    monkeypatch.setattr(fit, "memory_of", lambda device: None)
    pipe.request("a red ball", seed=1)


def test_a_video_beyond_every_machine_is_refused(pipe: Pipeline) -> None:
    with refused("does_not_fit", "99999 frames of 99996x99996"):
        pipe.request("a red ball", seed=1, num_frames=99_999, width=99_996, height=99_996)


def test_a_container_may_use_less_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(fit, "LIMIT", limit)
    whole = memory_of(torch.device("cpu"))
    assert whole is not None
    limit.write_text("max\n")
    assert memory_of(torch.device("cpu")) == whole
    limit.write_text("1000000\n")
    assert memory_of(torch.device("cpu")) == 1_000_000


def sizes_of(pipe: Pipeline) -> Sizes:
    parts = pipe.parts
    return Sizes(transformers=(parts.transformer_spec,), codec=parts.codec_spec, text=parts.text_spec)
