"""Defaults of other trainers: their levels against formulas of their own, and one training beside them all."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinoform.cli.clip_options import RULES, ClipOptions
from kinoform.cli.engine_options import EngineOptions
from kinoform.conversion.lora_files import lora_format
from kinoform.datasets.buckets import BatchSize
from kinoform.datasets.clips import ClipList
from kinoform.models.dit import DiT
from kinoform.models.lora import LoRASpec, chosen
from kinoform.recipes.catalogue import RELEASED
from kinoform.training.beside import bars, beside, drawn_levels, of_trainer, table
from kinoform.training.clip_plan import ClipPlan
from kinoform.training.like import OURS, TRAINERS, TrainerDefaults, trainer_named
from kinoform.training.names import levels_name, weighting_name
from kinoform.training.optimizer import schedule_of
from tests.support.refusals import refused

SHARES = np.array([0.0105, 0.1005, 0.2505, 0.5005, 0.7505, 0.9005, 0.9895])  # not where a grid jumps


def shift(sigma: np.ndarray, by: float) -> np.ndarray:
    return by * sigma / (1 + (by - 1) * sigma)


def logit_normal(by: float) -> np.ndarray:
    """Quantiles of sigmoid(z) shifted by a number: a million normal numbers of numpy, sorted."""
    z = np.sort(np.random.default_rng(3).standard_normal(1_000_000))
    return shift(1 / (1 + np.exp(-np.quantile(z, SHARES))), by)


def grid(by: float) -> np.ndarray:
    """Quantiles of an entry, drawn evenly, of a scheduler's list of 1000 levels, from noise to clean."""
    entries = shift(np.linspace(1, 0, 1001)[:-1], by)
    return np.sort(entries)[np.floor(SHARES * 1000).astype(int)]


@pytest.mark.parametrize(
    ("name", "transformers", "quantiles"),
    [
        ("musubi", 1, logit_normal(3.0)),
        ("diffusion-pipe", 1, logit_normal(1.0)),
        ("diffsynth", 1, grid(5.0)),
        ("ai-toolkit", 1, logit_normal(1.0)),
        ("ai-toolkit", 2, grid(1.0)),
        ("fastvideo", 1, grid(3.0)),
        ("videox-fun", 1, grid(5.0)),
        ("videox-fun", 2, grid(12.0)),
    ],
)
def test_levels_are_those_that_the_trainer_draws(name: str, transformers: int, quantiles: np.ndarray) -> None:
    levels = trainer_named(name).levels_for(transformers)
    found = levels.quantile(torch.from_numpy(SHARES), 0).numpy()
    np.testing.assert_allclose(found, quantiles, atol=2e-3 if "grid" not in repr(levels).lower() else 1e-12)
    drawn = levels.draw((200_000,), torch.Generator().manual_seed(5), 0).double().numpy()
    np.testing.assert_allclose(np.quantile(drawn, SHARES), quantiles, atol=6e-3)


def test_weights_are_those_of_the_trainer() -> None:
    """DiffSynth's list of weights, by its formula over the 1000 entries of its grid; the others weigh nothing."""
    entries = shift(np.linspace(1, 0, 1001)[:-1], 5.0)
    bell = np.exp(-2 * (entries - 0.5) ** 2)
    bell = (bell - bell.min()) * 1000 / (bell - bell.min()).sum()
    weighting = trainer_named("diffsynth").weighting
    assert weighting is not None
    np.testing.assert_allclose(weighting.weight(torch.from_numpy(entries)).numpy(), bell, atol=2e-3)
    assert [name for name, trainer in TRAINERS.items() if trainer.weighting is not None] == ["diffsynth"]


@pytest.mark.parametrize(
    ("trainer", "scale", "rate"),
    [
        (OURS, 1, 8e-4), (TRAINERS["musubi"], 1 / 32, 2e-4), (TRAINERS["fastvideo"], 2, 1e-5),
        (TRAINERS["videox-fun"], 0.5, 1e-4),
    ],
)  # fmt: skip
def test_a_scale_and_a_rate_are_those_of_the_file(trainer: TrainerDefaults, scale: float, rate: float) -> None:
    row = of_trainer(trainer, width=192)
    assert row.scale == pytest.approx(scale) and row.learning_rate == pytest.approx(rate)
    assert schedule_of(trainer.schedule, warmup=trainer.warmup, total=1000).factor(500) == 1


def test_what_concerns_experts_is_said_for_experts_alone() -> None:
    one, two = (TRAINERS["ai-toolkit"].not_followed(count) for count in (1, 2))
    assert two[: len(one)] == one and len(two) == len(one) + 2 and OURS.not_followed(2) == ()


def test_layers_are_those_of_the_trainer() -> None:
    with torch.device("meta"):
        model = DiT(RELEASED["i2v-14b-480p"]().transformers[0])
    layers = {name: {place.partition("blocks.0.")[2] for place in chosen(model, trainer.targets)} - {""}
              for name, trainer in TRAINERS.items()}  # fmt: skip
    every = {place for place in layers["musubi"]}
    image, output = {place for place in every if ".image." in place}, {place for place in every if place.endswith(".o")}
    assert len(every) == 12 and len(image) == len(output) == 2
    assert layers["diffusion-pipe"] == layers["ai-toolkit"] == every
    assert layers["diffsynth"] == every - image and layers["videox-fun"] == every - image - output
    assert layers["fastvideo"] == {place for place in every - image if "feed_forward" not in place}


def test_a_histogram_has_every_level_once_and_the_mean_weight_of_each_part() -> None:
    diffsynth = trainer_named("diffsynth")
    shares, weights = drawn_levels(diffsynth.levels.within(0.9, 1.0), diffsynth.weighting)
    assert shares == (0,) * 9 + (1,) and weights[:9] == (None,) * 9
    assert weights[9] == pytest.approx(0.30, abs=0.05)  # what the expert of high noise learns of a mean of 1
    shares, _ = drawn_levels(OURS.levels, OURS.weighting)
    assert sum(shares) == pytest.approx(1)
    # S(u) <= s is u <= s / (s + 5 (1 - s))
    edges = [edge / (edge + 5 * (1 - edge)) for edge in np.linspace(0, 1, 11)]
    np.testing.assert_allclose(shares, np.diff(edges), atol=1e-3)


def test_each_expert_has_a_row_with_the_levels_that_it_learns() -> None:
    diffsynth = trainer_named("diffsynth")
    plan = ClipPlan(
        name="lora", recipe=RELEASED["t2v-a14b"](), lora=LoRASpec(rank=8, alpha=4.0), levels=diffsynth.levels,
        weighting=diffsynth.weighting, base="t2v-a14b", clips=ClipList(clips=(), notes=()), batch=BatchSize(tokens=1),
        training=EngineOptions(accumulate=2).training_spec(diffsynth, 1e-4, 10), dialect=lora_format("comfy"),
    )  # fmt: skip
    high, low, ours, *_ = beside(plan)
    assert (high.title, low.title, ours.title) == ("this training, high", "this training, low", "kinoform")
    assert (low.scale, low.batch, low.clip) == (0.5, 16, None)
    assert high.levels.endswith("at 875-1000") and sum(high.shares[:8]) == 0 == low.shares[9]
    assert max(weight or 0 for weight in high.weights) < max(weight or 0 for weight in low.weights) / 2


def test_a_table_has_a_line_for_each_and_says_what_is_in_it() -> None:
    rows = [of_trainer(trainer, 1536) for trainer in (OURS, *TRAINERS.values())]
    lines = list(table(rows))
    assert len(lines) == len(rows) + 2 and all(row.title in line for row, line in zip(rows, lines[1:], strict=False))
    assert bars((0.0, None, 0.5, 1.0)) == "..▄█"


def rows_of_the_page() -> dict[str, list[str]]:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    section = page.partition('### "Rank 32, 1e-4"')[2].partition("Why ours")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {first: cells for first, *cells in rows}


def in_brackets(usual: str, experts: str) -> str:
    return usual if usual == experts else f"{usual} ({experts})"


def thirds(trainer: TrainerDefaults, transformers: int) -> str:
    below, middle = (trainer.levels_for(transformers).share_below(level, 0) for level in (0.5, 0.9))
    return f"{100 * below:.0f}, {100 * (middle - below):.0f}, {100 * (1 - middle):.0f} %"


def name_of_levels(trainer: TrainerDefaults, transformers: int) -> str:
    return levels_name(replace(trainer.levels_for(transformers), stratified=True))  # type: ignore[type-var]


def test_the_page_shows_the_defaults_of_the_code() -> None:
    trainers, rows = (OURS, *TRAINERS.values()), rows_of_the_page()
    with torch.device("meta"):
        model = DiT(RELEASED["i2v-14b-480p"]().transformers[0])
    expected = {
        "": [trainer.title for trainer in trainers],
        "rank": [f"{trainer.rank}" for trainer in trainers],
        "scale alpha / rank": [f"{trainer.scale:g}" for trainer in trainers],
        "layers of a block, of 12": [f"{len(chosen(model, each.targets)) // 40}" for each in trainers],
        "learning rate": [f"{trainer.rate(5120):.0e}" for trainer in trainers],
        "weight decay": [f"{trainer.adam.weight_decay:.4f}".rstrip("0").rstrip(".") for trainer in trainers],
        "AdamW's betas": [", ".join(map(str, trainer.adam.betas)) for trainer in trainers],
        "bound of the gradients": [f"{each.clip:g}" if math.isfinite(each.clip) else "none" for each in trainers],
        "schedule, warm-up": [f"{trainer.schedule}, {trainer.warmup}" for trainer in trainers],
        "average of the weights": [f"{trainer.ema.decay:g}" if trainer.ema.decay else "none" for trainer in trainers],
        "noise levels": [in_brackets(*(name_of_levels(each, count) for count in (1, 2))) for each in trainers],
        "below 0.5, 0.5 to 0.9, above": [in_brackets(thirds(each, 1), thirds(each, 2)) for each in trainers],
        "drawn in strata": ["yes" if trainer.levels.stratified else "no" for trainer in trainers],
        "weight of the loss": [weighting_name(trainer.weighting) for trainer in trainers],
        "captions left out": [f"{trainer.caption_dropout:g}" for trainer in trainers],
        "clips in a batch": [f"{trainer.batch}" for trainer in trainers],
    }
    assert {name: rows.get(name) for name in expected} == expected
    ours = ClipOptions()
    assert rows["frames of a long video"][0] == f"`{RULES[0]}`" and rows["file"][0] == f"`{ours.lora_format}`"
    spec = EngineOptions().training_spec(ours.usual, 1e-4, 400)
    assert (spec.optimizer.adam, spec.ema, spec.clip) == (OURS.adam, OURS.ema, OURS.clip)


def test_an_unknown_trainer_is_refused_with_the_nearest() -> None:
    with refused("unknown_name", "did you mean 'diffsynth'"):
        trainer_named("difsynth")
