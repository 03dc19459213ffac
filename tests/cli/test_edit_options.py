"""No option of the commands that change videos is dead: each changes what is asked for, in the way it says."""

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kinoform.editing.outpaint
import kinoform.editing.report  # noqa: F401  # it takes what is replaced here, and has to keep it
from kinoform.cli.edit import edit
from kinoform.cli.edit_common import again
from kinoform.cli.extend import extend
from kinoform.cli.generate import animate, bridge, generate
from kinoform.cli.inputs import InputOptions
from kinoform.cli.option_groups import (
    EditOptions,
    JoinOptions,
    MachineOptions,
    ModelOptions,
    OutputOptions,
    VideoOptions,
)
from kinoform.cli.outpaint import outpaint
from kinoform.editing.settings import ExtendSettings
from kinoform.errors import KinoformError
from kinoform.media.types import InputVideo
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipes.load import load
from tests.support.command_line import Run

MODEL = {
    "model": "t2v-1.3b", "recipe": "tests.support.tiny_recipe:tiny", "text_encoder": "a", "vae": "a", "tokenizer": "a",
    "image_encoder": "a", "variant": "t2v-1.3b", "vace": ["a"], "lora": ["a.safetensors:0.5"],
    "lora_ignore_unknown": True, "adapter": "a.safetensors",
}  # fmt: skip
VIDEO: dict[str, tuple[object, str]] = {
    "size": ("32x16", "width height"),
    "frames": (5, "num_frames"),
    "fps": (9.0, "fps"),
    "steps": (2, "steps"),
    "guidance_scale": ("2", "guidance_scale"),
    "guidance_rule": ("zero-star", "guidance_rule"),
    "shift": (2.0, "shift"),
    "solver": ("euler", "solver"),
    "sampler": ("flow-edit", "sampler"),
    "negative": ("", "negative_prompt"),
}
OUTPUT: dict[str, tuple[object, str]] = {
    "upscale": (2, "upscale"),
    "codec": ("av1", "codec"),
    "crf": (3, "crf"),
    "force": (True, "force"),
    "as_json": (True, "as_json"),
    "no_metadata": (True, "metadata"),
    "contact_sheet": (True, "sheet"),
}
"""A value of each option, and what it changes."""

READ = {"seconds", "fast", "seed", "count", "prompts", "output", "dry_run"}
"""Options that are read by the commands themselves; the tests of these use them throughout."""


def names(*groups: type) -> set[str]:
    return {field.name for group in groups for field in fields(group)}


def test_every_shared_option_is_tried() -> None:
    assert MODEL.keys() == names(ModelOptions)
    assert VIDEO.keys() | OUTPUT.keys() | READ == names(VideoOptions, OutputOptions)


@pytest.mark.parametrize("option", MODEL)
def test_an_option_of_the_model_is_asked_of_the_loader(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    asked: list[object] = []
    monkeypatch.setattr("kinoform.recipes.load.load", lambda *words, **options: asked.append((words, options)))
    for model in (ModelOptions(), replace(ModelOptions(), **{option: MODEL[option]})):
        model.load(MachineOptions())
    assert asked[0] != asked[1]


@pytest.mark.parametrize("option", VIDEO)
def test_an_option_of_the_video_changes_what_it_says(option: str) -> None:
    value, expected = VIDEO[option]
    assert replace(VideoOptions(), **{option: value}).changes().keys() == {*expected.split()}


@pytest.mark.parametrize("option", OUTPUT)
def test_an_option_of_the_file_changes_what_it_says(option: str) -> None:
    value, expected = OUTPUT[option]
    before, after = OutputOptions().save_options(1), replace(OutputOptions(), **{option: value}).save_options(1)
    assert {field.name for field in fields(before) if getattr(before, field.name) != getattr(after, field.name)} == {
        expected
    }


@pytest.mark.parametrize("command", [edit, extend, outpaint])
def test_a_command_has_its_own_options_and_the_shared_ones(command: Any) -> None:
    here = inspect.signature(command).parameters
    missing = {"seconds", "fps", "fast", "count", "prompts", "upscale"} | ({"size"} if command is outpaint else set())
    shared = names(ModelOptions, VideoOptions, MachineOptions, OutputOptions)
    assert shared - missing <= here.keys() and {"video", "prompt", "even", "resume", "preview"} <= here.keys()


@pytest.mark.parametrize(("command", "images"), [(animate, {"image"}), (bridge, {"first", "last"})])
def test_videos_from_images_have_the_options_of_generate(command: Any, images: set[str]) -> None:
    here, there = (inspect.signature(each).parameters for each in (command, generate))
    others = names(InputOptions) - {"exact_size", "input"} | {"prompts", "sampler"}
    assert here.keys() == there.keys() - others | images
    differ = {name for name in here.keys() & there.keys() - images if here[name].default != there[name].default}
    assert differ == {"model", "prompt"} and here["model"].default == "mini:frames"


EDIT = {
    "mask": (["--mask", "m.png"], {"mask"}),
    "reference": (["--reference", "a.png", "--reference", "b.png"], {"reference_images"}),
    "strength": (["--strength", "0.5"], {"strength"}),
    "source_prompt": (["--source-prompt", "a cat"], {"source_prompt", "model"}),
    "from_prompt": (["--from-prompt", "a cat"], {"source_prompt", "model"}),
    "context_scale": (["--context-scale", "2"], {"context_scale"}),
    "grow": (["--grow", "3"], {"settings"}),
    "feather": (["--feather", "3.5"], {"settings"}),
    "margin": (["--margin", "2"], {"settings"}),
    "overlap": (["--overlap", "2"], {"settings"}),
    "hide_source": (["--hide-source"], {"settings"}),
    "fit_mask": (["--fit-mask"], {"settings"}),
    "no_colour_match": (["--no-colour-match"], {"settings"}),
    "model": (["--model", "vace-1.3b"], {"model"}),
    "prompt": (["--prompt", "a dog"], {"prompt"}),
    "seed": (["--seed", "8"], {"seed"}),
    "steps": (["--steps", "3"], {"steps"}),
}
EXTEND = {
    "frames": (["--frames", "3"], {"num_frames"}),
    "seconds": (["--seconds", "0.5"], {"num_frames"}),
    "before": (["--before"], {"settings"}),
    "context": (["--context", "5"], {"settings", "num_frames"}),
    "reference": (["--reference", "a.png"], {"reference_images"}),
    "no_colour_match": (["--no-colour-match"], {"settings"}),
    "input": (["--input", "context_scale=2"], {"context_scale"}),
    "guidance_scale": (["--guidance-scale", "3"], {"guidance_scale"}),
}
OUTPAINT = {
    "to": (["--to", "64x48"], {"width", "height"}),
    "anchor": (["--anchor", "top-left"], {"anchor"}),
    "reference": (["--reference", "a.png"], {"reference_images"}),
    "feather": (["--feather", "3.5"], {"settings"}),
    "overlap": (["--overlap", "2"], {"settings"}),
    "no_colour_match": (["--no-colour-match"], {"settings"}),
    "frames": (["--frames", "5"], {"num_frames"}),
    "input": (["--input", "strength=0.5"], {"strength"}),
}
CASES = [(name, option, *case) for name, own in (("edit", EDIT), ("extend", EXTEND), ("outpaint", OUTPAINT))
         for option, case in own.items()]  # fmt: skip


class Asked(KinoformError):
    """Ends a command where the engine would begin."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the engine was asked for."""
    told: dict[str, object] = {}

    mini = load("mini", device="cpu")

    def loaded(chosen: Any, machine: MachineOptions) -> Pipeline:
        told["model"] = chosen.model
        return mini

    def ask(pipeline: object, video: object, prompt: str, **words: object) -> None:
        told.update({name: value for name, value in words.items() if name != "on_progress"}, prompt=prompt)
        raise Asked("asked")

    monkeypatch.setattr("kinoform.cli.option_groups.ModelOptions.load", loaded)
    clip = InputVideo(frames=np.zeros((9, 16, 24, 3), np.uint8), fps=8.0)
    monkeypatch.setattr("kinoform.media.read.read_clip", lambda path, **options: clip)
    for place in ("edit_plan.plan_edit", "extend_plan.plan_extend", "outpaint.plan_outpaint"):
        monkeypatch.setattr(f"kinoform.editing.{place}", ask)
    return told


@pytest.mark.parametrize(
    ("command", "option", "words", "expected"), CASES, ids=[f"{name}-{option}" for name, option, *_ in CASES]
)
def test_an_option_reaches_the_engine(
    kinoform: Run, here: Path, asked: dict[str, object], command: str, option: str, words: list[str], expected: set[str]
) -> None:
    usual = ["--prompt", "a cat moves left", "--seed", "7"] + (["--to", "48x32"] if command == "outpaint" else [])
    assert kinoform(command, "video.mp4", *usual).sentence == "asked"
    before = dict(asked)
    asked.clear()
    assert kinoform(command, "video.mp4", *usual, *words).sentence == "asked"
    assert {name for name in before.keys() | asked.keys() if before.get(name) != asked.get(name)} == expected


def test_what_is_left_open_is_as_the_page_says(kinoform: Run, here: Path, asked: dict[str, object]) -> None:
    words = ["video.mp4", "--prompt", "a cat", "--seed", "7"]
    kinoform("edit", *words)
    assert asked["model"] == "mini:vace"
    kinoform("edit", *words, "--source-prompt", "a dog")
    assert asked["model"] == "mini"
    kinoform("extend", *words)
    assert (asked["num_frames"], asked["settings"]) == (17 - 9, ExtendSettings())
    kinoform("extend", *words, "--seconds", "0.5")
    assert asked["num_frames"] == 4


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["extend", "video.mp4", "--prompt", "a", "--frames", "2", "--seconds", "1"], "options_conflict", "--seconds"),
        (["extend", "video.mp4", "--prompt", "a", "--seconds", "nan"], "value_out_of_range", "--seconds"),
        (["outpaint", "video.mp4", "--prompt", "a", "--to", "64"], "bad_value", "'64'"),
        (
            ["outpaint", "video.mp4", "--prompt", "a", "--to", "48x32", "--feather", "nan"],
            "value_out_of_range",
            "feather",
        ),
        (["edit", "video.mp4", "--prompt", "a", "--solver", "eulr"], "unknown_solver", "'eulr'"),
        (["edit", "video.mp4", "--prompt", "a", "--input", "video=b.mp4"], "input_unknown", "'video'"),
        (["extend", "video.mp4", "--prompt", "a", "--input", "mask=m.png"], "input_unknown", "'mask'"),
        (["extend", "video.mp4", "--prompt", "a", "--input", "frame=0=a.png"], "input_unknown", "'frame'"),
    ],
)
def test_words_that_cannot_be_meant(
    kinoform: Run, here: Path, asked: dict[str, object], words: list[str], code: str, named: str
) -> None:
    ran = kinoform(*words)
    assert ran.refusal == code and named in ran.sentence and not list(here.iterdir())


@pytest.mark.parametrize(
    "words", [["edit", "video.mp4"], ["outpaint", "video.mp4", "--prompt", "a"], ["animate", "a.png"]]
)
def test_what_has_to_be_said_is_asked_for(kinoform: Run, words: list[str]) -> None:
    ran = kinoform(*words)
    assert ran.code == 2 and "Missing option" in ran.err and ran.out == ""


def test_the_words_that_make_a_video_again_name_no_folder() -> None:
    video, output = VideoOptions(steps=4, negative="1/2"), OutputOptions(output="x.mp4")
    model = ModelOptions(model="/home/me/wan", lora=["styles/a.safetensors:0.5", "high=b/c:1"], recipe="mine:video")
    inputs = InputOptions(mask=Path("/m/mask.png"), reference=[Path("r/1.png"), Path("r/2.png")])
    join = JoinOptions(grow=0, hide_source=True)
    options = EditOptions(model=model, video=video, machine=MachineOptions(), output=output, even=True)
    words = again("edit", Path("/videos/a.mp4"), "a/b", options, inputs, join)
    assert words == (
        "edit", "a.mp4", "--prompt", "a/b", "--model", "wan", "--lora", "a.safetensors:0.5", "--lora", "high=c:1",
        "--negative", "1/2", "--steps", "4", "--even", "--mask", "mask.png", "--reference", "1.png",
        "--reference", "2.png", "--grow", "0", "--hide-source",
    )  # fmt: skip
