"""What is said about memory follows from what is in it; benchmarks/peak_memory.py compares it with processes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.standard_inputs import REFERENCE_IMAGES
from kinoform.media.types import InputImage
from kinoform.ops.dry_run import Kernels
from kinoform.plan.memory import Peak, needs
from kinoform.plan.modules import codec_count, text_count, vision_count
from kinoform.plan.transformer import transformer_count
from kinoform.plan.video_plan import plan_video
from kinoform.plan.workload import Sizes, Workload
from kinoform.recipe import Recipe
from kinoform.recipes.wan21 import VISION, i2v_14b_480p, t2v_1_3b, t2v_14b, vace_14b
from kinoform.solvers.flow_edit import FlowEdit
from tests.support.refusals import refused

RECIPE = t2v_1_3b()
SIZES = Sizes(transformers=(RECIPE.transformer,), codec=RECIPE.codec, text=RECIPE.text)
WORK = Workload(width=832, height=480, num_frames=81, steps=50, guidance_scale=5.0)

IMAGE = InputImage(pixels=np.zeros((10, 20, 3), dtype=np.uint8))


def stages(sizes: Sizes, work: Workload, dtype: torch.dtype = torch.bfloat16, device: str = "cuda") -> dict[str, Peak]:
    return {peak.stage: peak for peak in needs(sizes, work, dtype, device).peaks}


def test_weights_are_there_one_part_after_the_other() -> None:
    found = stages(SIZES, WORK)
    assert list(found) == ["text", "denoise", "decode"]
    assert found["text"].weights == text_count(RECIPE.text).bytes(torch.bfloat16)
    assert found["denoise"].weights == transformer_count(RECIPE.transformer).bytes(torch.bfloat16)
    assert found["decode"].weights == codec_count(RECIPE.codec).bytes(torch.bfloat16)


def test_parts_that_are_kept_add_up() -> None:
    once, kept = stages(SIZES, WORK), stages(replace(SIZES, kept=True), WORK)
    assert kept["text"] == once["text"]
    assert kept["denoise"].weights == once["text"].weights + once["denoise"].weights
    assert kept["decode"].weights == sum(peak.weights for peak in once.values())
    assert {name: peak.activations for name, peak in kept.items()} == {
        name: peak.activations for name, peak in once.items()
    }


@pytest.mark.parametrize("change", [{"num_frames": 85}, {"width": 848}, {"height": 496}], ids=str)
def test_a_larger_video_takes_more_to_denoise_and_to_decode(change: dict[str, int]) -> None:
    before, after = stages(SIZES, WORK, device="cpu"), stages(SIZES, replace(WORK, **change), device="cpu")
    assert after["text"] == before["text"]
    assert after["denoise"].activations > before["denoise"].activations
    assert after["decode"].activations > before["decode"].activations


def test_steps_do_not_change_the_memory_and_a_prompt_less_does() -> None:
    assert stages(SIZES, WORK) == stages(SIZES, replace(WORK, steps=4, guidance_scale=4.0))
    one, two = (
        stages(SIZES, replace(WORK, guidance_scale=guidance_scale))["denoise"].activations
        for guidance_scale in (1.0, 5.0)
    )
    assert one < two


def test_float32_takes_more_than_bfloat16() -> None:
    narrow, wide = stages(SIZES, WORK), stages(SIZES, WORK, torch.float32)
    assert wide["text"].weights == 2 * narrow["text"].weights
    assert wide["denoise"].weights < 2 * narrow["denoise"].weights  # norms and modulation are float32 in both
    assert wide["denoise"].activations > narrow["denoise"].activations
    assert wide["decode"] == narrow["decode"]


def test_the_codec_holds_one_history_while_it_decodes() -> None:
    """3.52 GiB at 480p, given up as the next one is made; frames lie on the host."""
    decode, one = stages(SIZES, WORK)["decode"], 3.52 * 2**30
    assert one < decode.activations < 2 * one
    host = stages(SIZES, WORK, device="cpu")["decode"]
    assert host.activations == decode.activations + 3 * 81 * 480 * 832


def test_what_the_official_run_needs_is_enough_to_denoise_and_decode() -> None:
    """8.2 GB for T2V-1.3B at 480p, the text encoder being on the host there."""
    found = stages(SIZES, WORK)
    assert found["denoise"].total < 8.2e9 and found["decode"].total < 8.2e9


def test_copies_of_kernels_are_counted_where_they_are_made() -> None:
    """Count a processor's copies neither on an accelerator nor where a processor makes none; nothing else changes."""
    fast, slow = (Kernels(parts=parts, ordered=True) for parts in (True, False))
    sizes = replace(SIZES, transformers=(replace(RECIPE.transformer, ffn_dim=1536),))  # attention takes the most
    here, there = (
        {peak.stage: peak for peak in needs(sizes, WORK, torch.float32, "cpu", each).peaks} for each in (fast, slow)
    )
    assert here["denoise"].kernels > 0 == there["denoise"].kernels
    assert here["denoise"] == replace(there["denoise"], kernels=here["denoise"].kernels)
    assert all(peak.kernels == 0 for peak in stages(SIZES, WORK).values())


def test_one_frame_has_no_history_to_read() -> None:
    still, video = (stages(SIZES, replace(WORK, num_frames=n))["decode"] for n in (1, 5))
    assert still.activations < video.activations


def test_a_video_that_others_follow_is_decoded_beside_the_transformer() -> None:
    last, first = (stages(SIZES, replace(WORK, others=others)) for others in (False, True))
    assert first["decode"].weights == last["decode"].weights + last["denoise"].weights
    assert all(first[stage] == last[stage] for stage in ("text", "denoise"))
    kept = replace(SIZES, kept=True)
    assert stages(kept, replace(WORK, others=True)) == stages(kept, WORK), "it is there once"


def test_a_plan_names_its_worst_stage_and_is_plain_values() -> None:
    plan = plan_video(SIZES, WORK, dtype=torch.bfloat16, device="cuda")
    told: Any = plan.as_json()
    assert plan.worst.total == max(peak["total"] for peak in told["peaks"].values())
    assert told["weight_bytes"]["bfloat16"]["text encoder"] == 2 * told["parameters"]["text encoder"]
    assert told["forward_flops"]["total"] == plan.transformer.forward
    assert told["tokens"] == 32_760


def test_a_video_that_the_codec_cannot_hold_is_not_planned() -> None:
    with refused("frames_not_multiple", "77 and 81"):
        plan_video(SIZES, replace(WORK, num_frames=80), dtype=torch.float32, device="cpu")


# Videos from images and controls


def sized(recipe: Recipe) -> Sizes:
    return Sizes(transformers=(recipe.transformer,), codec=recipe.codec, text=recipe.text, image=recipe.image)


def test_encoders_stay_from_when_they_are_asked_for() -> None:
    """First the codec takes its most, then the image encoder comes, which takes little: the codec's moment counts."""
    recipe = i2v_14b_480p()
    work = replace(WORK, conditioners=recipe.conditioners)
    found = stages(sized(recipe), work)
    assert list(found) == ["text", "encode", "denoise", "decode"]
    codec, image = codec_count(recipe.codec).bytes(torch.bfloat16), vision_count(VISION).bytes(torch.bfloat16)
    assert found["encode"].weights == codec
    assert stages(sized(recipe), replace(work, num_frames=1, width=64, height=64))["encode"].weights == codec + image
    assert found["decode"].weights == codec


def test_a_kept_codec_is_there_once() -> None:
    recipe = i2v_14b_480p()
    sizes, work = replace(sized(recipe), kept=True), replace(WORK, conditioners=recipe.conditioners)
    once, kept = stages(replace(sizes, kept=False), work), stages(sizes, work)
    assert kept["decode"].weights == sum(once[stage].weights for stage in ("text", "denoise", "decode"))
    assert kept["denoise"].weights == kept["decode"].weights


def test_each_door_takes_memory() -> None:
    plain, wide, side = (stages(sized(recipe), replace(WORK, conditioners=recipe.conditioners))["denoise"].activations
                         for recipe in (t2v_14b(), i2v_14b_480p(), vace_14b()))  # fmt: skip
    constants = 2 * 2 * 32_760 * 5120
    assert wide > plain + constants and side > plain + constants
    more = replace(WORK, conditioners=vace_14b().conditioners, inputs=Inputs({REFERENCE_IMAGES: (IMAGE,)}))
    assert stages(sized(vace_14b()), more)["denoise"].activations > side


def test_a_video_that_is_changed_is_prepared_for_twice() -> None:
    recipe = t2v_14b()
    once = stages(sized(recipe), WORK)["denoise"].activations
    twice = stages(sized(recipe), replace(WORK, sampler=FlowEdit()))["denoise"].activations
    assert twice > once + 2 * 40 * 512 * 5120 * 4


def test_images_lie_on_the_host() -> None:
    given = replace(WORK, inputs=Inputs({REFERENCE_IMAGES: (IMAGE, IMAGE)}))
    for device, bytes_ in (("cpu", 2 * 600), ("cuda", 0)):
        before, after = stages(SIZES, WORK, device=device), stages(SIZES, given, device=device)
        assert all(after[stage].total == before[stage].total + bytes_ for stage in before)
