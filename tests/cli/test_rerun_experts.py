"""A video of two transformers tells both, and is made again from itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kinoform.media.metadata import read_params
from kinoform.media.read import read_clip
from kinoform.pipelines.generate import encode_prompts, noise_of, text_field
from kinoform.recipes.load import load
from kinoform.solvers.euler import Euler
from tests.support.command_line import Run
from tests.support.tiny_recipe import tiny, write_tiny_of_two

WORDS = ("--recipe", "tests.support.tiny_recipe:tiny_of_two", "--device", "cpu")


@pytest.fixture(scope="module")
def folder_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_of_two(tmp_path_factory.mktemp("two") / "model")


def test_a_video_of_two_transformers_is_made_again(kinoform: Run, here: Path, folder_of_two: Path) -> None:
    folder = folder_of_two
    assert kinoform("generate", "a red ball", "--model", folder, *WORDS, "--seed", 1, "-o", "video.mkv").code == 0
    assert kinoform("rerun", "video.mkv", "--model", folder, *WORDS, "-o", "again.mkv").code == 0
    first, again = (read_params(here / name) for name in ("video.mkv", "again.mkv"))
    assert first["guidance_scale"] == {"high": 4.0, "low": 2.0} and first["boundaries"] == [0.6] and again == first
    assert np.array_equal(read_clip(here / "video.mkv").frames, read_clip(here / "again.mkv").frames)


def lora(name: str, *modules: str) -> str:
    dim, draw = tiny().transformer.dim, torch.Generator().manual_seed(3)
    values = {
        f"{module}.lora_{letter}.weight": torch.randn(shape, generator=draw)
        for module in modules
        for letter, shape in (("A", (2, dim)), ("B", (dim, 2)))
    }
    save_file(values, name)
    return name


def test_loras_of_each_transformer_are_stored_and_found_again(kinoform: Run, here: Path, folder_of_two: Path) -> None:
    style = lora("style.safetensors", "diffusion_model.blocks.0.self_attn.q")
    noise = lora("wan2.2_low_noise_lora.safetensors", "diffusion_model.blocks.0.self_attn.k")
    split = lora("both.safetensors", "transformer.blocks.0.attn1.to_q", "transformer_2.blocks.0.attn1.to_k")
    model = ("--model", folder_of_two, *WORDS)
    words = ("--lora", f"high={style}:0.5", "--lora", noise, "--lora", f"{split}:0.25")
    plain = kinoform("generate", "a ball", *model, "--seed", 1, "-o", "plain.mkv")
    made = kinoform("generate", "a ball", *model, *words, "--seed", 1, "-o", "video.mkv")
    assert plain.code == made.code == 0
    told = [line for line in made.err.splitlines() if "tensors applied" in line]
    assert [line.split(": ")[:2] for line in told] == [
        ["high", style], ["high", split], ["low", noise], ["low", split],
    ]  # fmt: skip
    first = read_params(here / "video.mkv")
    assert first["loras"] == {"lora:0": {"high": 0.5}, "lora:1": {"low": 1.0}, "lora:2": {"high": 0.25, "low": 0.25}}
    assert kinoform("rerun", "video.mkv", *model, "-o", "again.mkv").code == 0
    assert read_params(here / "again.mkv") == first
    video, again, without = (read_clip(here / f"{name}.mkv").frames for name in ("video", "again", "plain"))
    assert np.array_equal(video, again) and not np.array_equal(video, without)
    asked = kinoform("generate", "a ball", *model, "--lora", style, "-o", "x.mkv")
    assert asked.refusal == "expert_not_said" and f"--lora high={style}" in asked.sentence


def test_a_guidance_scale_of_each_is_said_by_flag_environment_or_file(
    kinoform: Run, here: Path, folder_of_two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of_two

    def scale(*words: str) -> object:
        ran = kinoform("generate", "a ball", "--model", folder, *WORDS, *words, "--json", "--force", "-o", "x.gif")
        assert ran.code == 0, ran.err
        return ran.told[0]["guidance_scale"]

    (here / "kinoform.toml").write_text("guidance_scale = 5\n")
    assert scale() == 5.0
    (here / "kinoform.toml").write_text("guidance_scale = 'high=5,low=2.5'\n")
    assert scale() == {"high": 5.0, "low": 2.5}
    monkeypatch.setenv("KINOFORM_GUIDANCE_SCALE", "low = 1, high = 6")
    assert scale() == {"high": 6.0, "low": 1.0}
    assert scale("--guidance-scale", "high=3,low=1.5") == {"high": 3.0, "low": 1.5}
    said = ("generate", "a ball", "--model", folder, *WORDS, "--guidance-scale", "high=4,low=1")
    plan, told = kinoform(*said, "--dry-run").out, kinoform(*said, "--dry-run", "--json").told[0]["plan"]
    assert "guidance high=4,low=1" in plan and "expert high: 4 evaluations in 8 forwards, guidance 4" in plan
    assert told["guidance_scale"] == {"high": 4.0, "low": 1.0}


PHASES = ("--steps", "8", "--shift", "5", "--solver", "euler", "--guidance", "high=3.5@0-0.25,high=1@0.25-1,low=1")


def test_the_first_phase_is_guided_and_without_the_lora(kinoform: Run, here: Path, folder_of_two: Path) -> None:
    """The command of docs/guidance.md, against a loop made by hand, and made again from the video itself."""
    for name, module in (("a", "self_attn.q"), ("b", "cross_attn.k")):
        lora(f"{name}.safetensors", f"diffusion_model.blocks.0.{module}")
    loras = ("--lora", "high=a.safetensors:0@0-0.25,0.1@0.25-1", "--lora", "low=b.safetensors:0.1")
    model = ("--model", folder_of_two, *WORDS)
    ran = kinoform("generate", "a ball", *model, *loras, *PHASES, "--seed", 1, "-o", "video.mkv")
    assert ran.code == 0, ran.err
    first = read_params(here / "video.mkv")
    assert first["guidance_scale"] == {
        "high": [{"value": 3.5, "steps": [0.0, 0.25]}, {"value": 1.0, "steps": [0.25, 1.0]}], "low": 1.0,
    }  # fmt: skip
    late = [{"value": 0.0, "steps": [0.0, 0.25]}, {"value": 0.1, "steps": [0.25, 1.0]}]
    assert first["loras"] == {"lora:0": {"high": late}, "lora:1": {"low": 0.1}}
    assert kinoform("rerun", "video.mkv", *model, "-o", "again.mkv").code == 0
    assert read_params(here / "again.mkv") == first
    video, again = (read_clip(here / f"{name}.mkv").frames for name in ("video", "again"))
    assert np.array_equal(video, again) and np.array_equal(video[:, ::2, ::2], by_hand(folder_of_two))
    plan = kinoform("generate", "a ball", *model, *loras, *PHASES, "--dry-run", "--json").told[0]["plan"]
    assert plan["evaluations"]["forwards"] == 2 * 2 + 6 and plan["guidance_scale"] == first["guidance_scale"]


@torch.no_grad()
def by_hand(folder: Path) -> np.ndarray:
    """Frames by Euler's steps: two of the high transformer alone with guidance 3.5, then each with its own file."""
    files = {"a.safetensors": {"high": 0.1}, "b.safetensors": {"low": 0.1}}
    plain, adapted = (load(folder, recipe=WORDS[1], device="cpu", loras=loras) for loras in ((), tuple(files.items())))
    asked = plain.request("a ball", seed=1, steps=8, shift=5.0, solver=Euler(), guidance_scale={"high": 3.5, "low": 1})
    (rows,) = encode_prompts(plain.parts, [asked], plain.machine, lambda progress: None)
    x, levels = noise_of(plain.parts.codec_spec, asked)(), asked.levels
    (high, _), (with_a, with_b) = (
        [each(torch.float32, torch.device("cpu")) for each in pipe.parts.transformers] for pipe in (plain, adapted)
    )
    turns = [high, high, *(with_a if level.timestep >= 600 else with_b for level in levels[2:-1])]
    for index, model in enumerate(turns):
        velocity = text_field(model, (rows[0], rows[1]), x, 3.5 if index < 2 else 1.0)(x, levels[index])
        x = x + (levels[index + 1].sigma - levels[index].sigma) * velocity
    return plain.frames(x, lambda progress: None)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("--lora", "high=a.safetensors:0@0-0.3,1@0.4-1"), "schedule_gap", "0.3-0.4"),
        (("--lora", "a.safetensors:high=0@0-0.5,high=1@0.3-1"), "schedule_overlap", "0.3-0.5"),
        (("--lora", "high=a.safetensors:nan@0-1"), "value_out_of_range", "nan"),
        (("--guidance", "high=4,low=3@0-0.5"), "schedule_gap", "0.5-1"),
        (("--guidance", "4@0-0.5,101@0.5-1"), "value_out_of_range", "0.5-1"),
        (("--guidance", "text=4,mid.text=3"), "unknown_expert", "mid.text"),
    ],
)
def test_schedules_that_do_not_hold_are_refused_before_a_weight_is_read(
    kinoform: Run, here: Path, folder_of_two: Path, words: tuple[str, ...], code: str, named: str
) -> None:
    lora("a.safetensors", "diffusion_model.blocks.0.self_attn.q")
    ran = kinoform("generate", "a ball", "--model", folder_of_two, *WORDS, *words, "--dry-run")
    assert ran.refusal == code and named in ran.sentence


@pytest.mark.parametrize(
    ("scale", "code", "named"),
    [
        ("4,3", "expert_not_said", "high=4,low=3"),
        ("4,3,2", "expert_not_said", "1=4,2=3,3=2"),
        ("high=4", "expert_missing", "low"),
        ("high=4,lwo=3", "unknown_expert", "lwo"),
        ("high=4,low=3,high=2", "said_twice", "high"),
        ("high=4,3", "bad_value", "high=4,3"),
        ("high=4,low=", "bad_value", "high=4,low="),
        ("high=4,low=nan", "value_out_of_range", "low"),
    ],
)
def test_scales_that_do_not_say_each_expert_once(
    kinoform: Run, folder_of_two: Path, scale: str, code: str, named: str
) -> None:
    ran = kinoform("generate", "a ball", "--model", folder_of_two, *WORDS, "--guidance-scale", scale, "--dry-run")
    assert ran.refusal == code and named in ran.sentence


def test_a_folder_of_two_is_refused_for_a_recipe_of_one(kinoform: Run, folder_of_two: Path) -> None:
    ran = kinoform(
        "generate",
        "a red ball",
        "--model",
        folder_of_two,
        "--recipe",
        "tests.support.tiny_recipe:tiny",
        "--device",
        "cpu",
    )
    assert ran.refusal == "recipe_contradicts_weights"
