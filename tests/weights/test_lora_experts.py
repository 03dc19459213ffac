"""A LoRA file goes onto the expert that is said, or that its tensors or its name tell, and is asked for elsewhere."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.families.lora_config import PEFT
from kinoform.loading.lora import OpenedLoRAs, open_loras
from kinoform.models.dit import DiTSpec
from kinoform.plan.transformer import transformer_count
from kinoform.plan.workload import adapted_specs
from kinoform.solvers.by_expert import PerExpert
from tests.support.official_folder import TRANSFORMER
from tests.support.refusals import refused
from tests.support.unchecked import unchecked
from tests.weights.lora_fixtures import DIM, OFFICIAL_Q, RANK, Q, pair, written

PAIR = (TRANSFORMER, TRANSFORMER)
K = "blocks.0.self_attention.k"
FIRST, SECOND = "transformer.blocks.0.attn1.to_q", "transformer_2.blocks.0.attn1.to_k"
NUMBERED = "diffusion_model.transformer_{}.blocks.0.self_attn.{}"


def opened(
    folder: Path, tensors: Mapping[str, Tensor], strength: PerExpert = 1.0, *, name: str = "style.safetensors",
    specs: tuple[DiTSpec, ...] = PAIR, metadata: dict[str, str] | None = None,
) -> tuple[OpenedLoRAs, list[str]]:  # fmt: skip
    """Return the LoRAs that are put onto the experts, and the lines that report them."""
    heard: list[str] = []
    path = written(folder, tensors, metadata).rename(folder / name)
    return open_loras(specs, [(path, strength)], heard.append), heard


def layers(loras: OpenedLoRAs) -> list[list[str]]:
    """The layers that the file changes, of each expert onto which it goes."""
    return [[name.removesuffix(".weight") for file, _ in applied for name in file.changes] for applied in loras.applied]


NAMES = {
    "wan2.2_t2v_A14b_high_noise_lora_rank64_lightx2v_4step_1217.safetensors": "high",
    "wan2.2_i2v_A14b_low_noise_lora_rank64_lightx2v_4step_1022.safetensors": "low",
    "style_HighNoise.safetensors": "high",
    "low-noise-model.safetensors": "low",
    "Wan2.2-Lightning_T2V-v1.1-A14B-4steps-lora_HIGH_fp16.safetensors": "high",
    "Wan22_A14B_T2V_LOW_Lightning_4steps_lora_250928_rank64.safetensors": "low",
}


@pytest.mark.parametrize(("name", "expert"), NAMES.items())
def test_the_name_of_a_file_tells_its_expert(name: str, expert: str, tmp_path: Path) -> None:
    loras, heard = opened(tmp_path, pair(), 0.8, name=name)
    assert loras.strengths == ({expert: 0.8},) and layers(loras) == [[Q] * (expert == "high"), [Q] * (expert == "low")]
    assert [line.partition(" tensors")[0] for line in heard] == [f"{expert}: {name}: 2"]


def test_a_folder_tells_the_expert_of_the_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "low_noise").mkdir()
    assert opened(tmp_path / "low_noise", pair())[0].strengths == ({"low": 1.0},)


@pytest.mark.parametrize(
    "name",
    ["style.safetensors", "high_quality.safetensors", "wan2.2_low_poly.safetensors", "LOW_LIGHT.safetensors",
     "wan2.2_high_noise_low_noise.safetensors"],
)  # fmt: skip
def test_a_file_that_tells_no_expert_must_be_said(name: str, tmp_path: Path) -> None:
    with refused("expert_not_said", f"--lora high={name}", f"{name}:high=1,low=1"):
        opened(tmp_path, pair(), name=name)


@pytest.mark.parametrize(
    ("tensors", "changed"),
    [
        (pair(FIRST) | pair(SECOND), [[Q], [K]]),
        (pair(OFFICIAL_Q) | pair(SECOND), [[Q], [K]]),
        (pair(NUMBERED.format(1, "q")) | pair(NUMBERED.format(2, "k")), [[Q], [K]]),
        (pair(SECOND), [[], [K]]),
        (pair(NUMBERED.format(1, "q")), [[Q], []]),
    ],
)
def test_names_of_tensors_tell_the_expert_and_a_file_of_both_is_split(
    tensors: dict[str, Tensor], changed: list[list[str]], tmp_path: Path
) -> None:
    loras, heard = opened(tmp_path, tensors, 0.5)
    held = [name for name, own in zip(("high", "low"), changed, strict=True) if own]
    assert layers(loras) == changed and loras.strengths == (dict.fromkeys(held, 0.5),)
    left_out = f"{len(tensors) - 2} known elsewhere"
    assert heard and all("2 tensors applied" in line and left_out in line and " 0 unknown" in line for line in heard)


def test_the_other_expert_counts_as_known_and_strange_names_as_unknown(tmp_path: Path) -> None:
    strange = {"diffusion_model.strange.lora_A.weight": torch.zeros(RANK, DIM)}
    with refused("lora_unknown_keys"):
        opened(tmp_path, pair(FIRST) | pair(SECOND) | strange)
    path = tmp_path / "style.safetensors"
    heard: list[str] = []
    open_loras(PAIR, [(path, 1.0)], heard.append, ignore_unknown=True)
    counts = [line.partition(": style.safetensors: ")[::2] for line in heard]
    assert [(name, text.partition(";")[0]) for name, text in counts] == [
        (name, "2 tensors applied (changes: 1 low rank), 2 known elsewhere (2 of the other expert), 1 unknown")
        for name in ("high", "low")
    ]


def test_what_is_said_counts_against_the_names_and_is_noted(tmp_path: Path) -> None:
    loras, heard = opened(tmp_path, pair(), {"low": 1.0}, name="style_high_noise.safetensors")
    assert layers(loras) == [[], [Q]]
    assert heard[1:] == ["style_high_noise.safetensors: its name says that it is for high, and it goes onto low, "
                         "as was said"]  # fmt: skip
    loras, heard = opened(tmp_path, pair(SECOND), {"high": 1.0})
    assert layers(loras) == [[K], []] and "the names in it say that it is for low" in heard[1]
    both, heard = opened(tmp_path, pair(FIRST) | pair(SECOND), {"high": 1.0})
    assert layers(both) == [[Q], []] and len(heard) == 1


def test_names_that_tell_different_experts_are_not_chosen_between(tmp_path: Path) -> None:
    with refused("expert_not_said", "for high by its name", "for low by the names in it"):
        opened(tmp_path, pair(SECOND), name="style_high_noise.safetensors")
    assert layers(opened(tmp_path, pair(FIRST) | pair(SECOND), name="a_high_noise.safetensors")[0]) == [[Q], [K]]


def test_a_strength_of_each_is_its_own_and_planned(tmp_path: Path) -> None:
    loras, _ = opened(tmp_path, pair(), {"low": 0.5, "high": 2.0})
    assert [[strength for _, strength in applied] for applied in loras.applied] == [[2.0], [0.5]]
    one, _ = opened(tmp_path, pair(), {"low": 0.5})
    plain, *counts = (transformer_count(spec).parameters for spec in (TRANSFORMER, *adapted_specs(PAIR, one.ranks)))
    assert [count - plain for count in counts] == [0, 2 * RANK * DIM]


@pytest.mark.parametrize(
    ("strength", "code"),
    [
        ({"hgih": 1.0}, "unknown_expert"),
        ({}, "expert_missing"),
        ((1.0, 0.5), "expert_not_said"),
        ({"high": 101.0}, "value_out_of_range"),
    ],
)
def test_strengths_of_no_expert_are_refused(strength: Any, code: str, tmp_path: Path) -> None:
    with unchecked(), refused(code):
        opened(tmp_path, pair(), strength)


def test_a_model_of_one_has_no_names_and_of_three_has_numbers(tmp_path: Path) -> None:
    named = "style_high_noise.safetensors"
    assert opened(tmp_path, pair(), 0.5, name=named, specs=PAIR[:1])[0].strengths == (0.5,)
    with refused("one_transformer"):
        opened(tmp_path, pair(), {"high": 1.0}, specs=PAIR[:1])
    three = (*PAIR, replace(TRANSFORMER, layers=2))
    with refused("expert_not_said", "--lora 1=style.safetensors"):
        opened(tmp_path, pair(), specs=three)
    assert layers(opened(tmp_path, pair(), {"3": 1.0}, specs=three)[0]) == [[], [], [Q]]


def test_alphas_in_the_metadata_are_those_of_each_expert(tmp_path: Path) -> None:
    said = {"transformer.lora_alpha": 2 * RANK, "transformer_2.lora_alpha": 3 * RANK}
    loras, _ = opened(tmp_path, pair(FIRST) | pair(SECOND), metadata={PEFT: json.dumps(said)})
    assert [file.scales for applied in loras.applied for file, _ in applied] == [(2.0,), (3.0,)]
