"""No option of the commands that change videos is dead: each changes what is asked for, in the way it says."""

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kinoform.editing.encode_check  # it takes what is replaced here, and has to keep it
import kinoform.editing.outpaint  # noqa: F401
from command_line import Run
from kinoform.cli.animate import OTHER_INPUTS, animate
from kinoform.cli.bridge import bridge
from kinoform.cli.edit import edit
from kinoform.cli.edit_common import Shared, again
from kinoform.cli.extend import extend
from kinoform.cli.generate import generate
from kinoform.cli.outpaint import outpaint
from kinoform.errors import KinoformError
from kinoform.media.types import InputVideo
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipes.load import load

SHARED: dict[str, tuple[object, str]] = {
    "model": ("t2v-1.3b", "loaded"),
    "recipe": ("tiny_recipe:tiny", "loaded"),
    "text_encoder": ("a", "loaded"),
    "vae": ("a", "loaded"),
    "tokenizer": ("a", "loaded"),
    "image_encoder": ("a", "loaded"),
    "variant": ("t2v-1.3b", "loaded"),
    "lora": (["a.safetensors:0.5"], "loaded"),
    "lora_ignore_unknown": (True, "loaded"),
    "dtype": ("bfloat16", "loaded"),
    "device": ("cpu", "loaded"),
    "size": ("32x16", "width height"),
    "frames": (5, "num_frames"),
    "steps": (2, "steps"),
    "guidance_scale": (2.0, "guidance_scale"),
    "guidance_rule": ("zero-star", "guidance_rule"),
    "shift": (2.0, "shift"),
    "solver": ("euler", "solver"),
    "sampler": ("flow-edit", "sampler"),
    "negative": ("", "negative_prompt"),
    "codec": ("av1", "codec"),
    "crf": (3, "crf"),
    "force": (True, "force"),
    "as_json": (True, "as_json"),
    "no_metadata": (True, "metadata"),
    "contact_sheet": (True, "sheet"),
}
"""A value of each option, and what it changes."""

NAMED = {"seed", "output", "resume", "even"}
"""Options that are read by the commands themselves; the tests of these use them throughout."""


def meant(shared: Shared) -> dict[str, object]:
    how = shared.how()
    return {
        "loaded": shared.chosen(),
        **shared.changes(),
        **{field.name: getattr(how, field.name) for field in fields(how)},
    }


def test_every_shared_option_is_tried() -> None:
    assert SHARED.keys() | NAMED == {field.name for field in fields(Shared)}


@pytest.mark.parametrize("option", SHARED)
def test_a_shared_option_changes_what_it_says(option: str) -> None:
    value, expected = SHARED[option]
    before, after = meant(Shared()), meant(replace(Shared(), **{option: value}))
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == {*expected.split()}


@pytest.mark.parametrize("command", [edit, extend, outpaint])
def test_a_command_has_its_own_options_and_the_shared_ones(command: Any) -> None:
    here = inspect.signature(command).parameters
    missing = {"outpaint": {"size"}}.get(command.__name__, set())
    assert {field.name for field in fields(Shared)} - missing <= here.keys()
    assert {"video", "prompt"} <= here.keys() and "options" not in here


@pytest.mark.parametrize(("command", "images"), [(animate, {"image"}), (bridge, {"first", "last"})])
def test_videos_from_images_have_the_options_of_generate(command: Any, images: set[str]) -> None:
    here, there = (inspect.signature(each).parameters for each in (command, generate))
    assert here.keys() == there.keys() - {*OTHER_INPUTS} | images
    differ = {name for name in here.keys() & there.keys() if here[name].default != there[name].default}
    assert differ == {"model", "prompt"} and here["model"].default == "mini:frames"


EDIT = {
    "mask": (["--mask", "m.png"], {"mask"}),
    "reference": (["--reference", "a.png", "--reference", "b.png"], {"references"}),
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
    "before": (["--before"], {"before"}),
    "context": (["--context", "5"], {"context", "num_frames"}),
    "reference": (["--reference", "a.png"], {"references"}),
    "no_colour_match": (["--no-colour-match"], {"match_colours"}),
    "guidance_scale": (["--guidance-scale", "3"], {"guidance_scale"}),
}
OUTPAINT = {
    "to": (["--to", "64x48"], {"width", "height"}),
    "anchor": (["--anchor", "top-left"], {"anchor"}),
    "reference": (["--reference", "a.png"], {"references"}),
    "feather": (["--feather", "3.5"], {"settings"}),
    "overlap": (["--overlap", "2"], {"settings"}),
    "no_colour_match": (["--no-colour-match"], {"settings"}),
    "frames": (["--frames", "5"], {"num_frames"}),
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

    def loaded(chosen: Any) -> Pipeline:
        told["model"] = chosen.model
        return mini

    def ask(pipeline: object, video: object, prompt: str, **words: object) -> None:
        told.update({name: value for name, value in words.items() if name != "tell"}, prompt=prompt)
        raise Asked("asked")

    monkeypatch.setattr("kinoform.cli.model_options.Chosen.load", loaded)
    clip = InputVideo(frames=np.zeros((9, 16, 24, 3), np.uint8), fps=8.0)
    monkeypatch.setattr("kinoform.media.read.read_clip", lambda path, **options: clip)
    for place in ("plan.plan_edit", "continuing.plan_extend", "outpaint.plan_outpaint"):
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
    assert (asked["num_frames"], asked["before"]) == (17 - 9, False)
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
    shared = Shared(
        model="/home/me/wan", lora=["styles/a.safetensors:0.5"], recipe="mine:video", output="x.mp4", steps=4,
        negative="1/2",
    )  # fmt: skip
    words = again("edit", Path("/videos/a.mp4"), shared, prompt="a/b", mask=Path("/m/mask.png"), grow=0, feather=None,
                  hide_source=True, no_colour_match=False, reference=[Path("r/1.png"), Path("r/2.png")])  # fmt: skip
    assert words == (
        "edit", "a.mp4", "--prompt", "a/b", "--mask", "mask.png", "--grow", "0", "--hide-source",
        "--reference", "1.png", "--reference", "2.png", "--model", "wan", "--lora", "a.safetensors:0.5",
        "--steps", "4", "--negative", "1/2",
    )  # fmt: skip
