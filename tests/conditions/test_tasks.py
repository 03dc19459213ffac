"""The word for what is made follows from the model's ways in and from what is given, not from a name."""

from dataclasses import replace

import numpy as np
import pytest

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.media.types import InputImage, InputVideo, Mask
from kinoform.pipelines.request import Request, request
from kinoform.recipe import Recipe, find
from kinoform.recipes.catalogue import ADAPTERS, EMBEDDED, RELEASED
from tests.support.named_inputs import named

IMAGE = InputImage(pixels=np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
CLIP = InputVideo(frames=np.random.default_rng(2).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8))
MASK = Mask(values=np.pad(np.full((1, 64, 32), 255, np.uint8), ((0, 0), (0, 0), (32, 0))))
MADE = [
    ("t2v-1.3b", {}, {}, "t2v"),
    ("t2v-14b", {"num_frames": 1}, {}, "t2i"),
    ("t2i-14b", {}, {}, "t2i"),
    ("t2v-1.3b", {}, {"video": CLIP}, "v2v"),
    ("t2v-1.3b", {}, {"video": CLIP, "mask": MASK}, "v2v"),
    ("mini", {}, {"video": CLIP, "source_prompt": "a ball"}, "v2v"),
    ("mini", {"num_frames": 1}, {"video": CLIP}, "i2i"),
    ("i2v-14b-480p", {}, {"frames": {0: IMAGE}}, "i2v"),
    ("i2v-14b-480p", {}, {"frames": {-81: IMAGE}}, "i2v"),
    ("flf2v-14b", {}, {"frames": {0: IMAGE, -1: IMAGE}}, "flf2v"),
    ("mini:frames", {}, {}, "t2v"),
    ("mini:frames", {}, {"frames": {0: IMAGE}}, "i2v"),
    ("mini:frames", {}, {"frames": {0: IMAGE, 16: IMAGE}}, "flf2v"),
    ("mini:frames", {}, {"frames": {16: IMAGE}}, "frames2v"),
    ("mini:frames", {}, {"frames": {0: IMAGE, 8: IMAGE, 16: IMAGE}}, "frames2v"),
    ("vace-1.3b", {}, {}, "t2v"),
    ("vace-1.3b", {}, {"video": CLIP}, "vace"),
    ("vace-14b", {}, {"reference_images": (IMAGE,)}, "vace"),
    ("mini:vace", {}, {"video": CLIP, "mask": MASK}, "vace"),
    ("mini:reference", {}, {"reference_images": (IMAGE,)}, "r2v"),
    ("mini-factorized", {}, {}, "t2v"),
    ("mini-factorized", {}, {"reference_images": (IMAGE,)}, "r2v"),
]


def recipe_of(name: str) -> Recipe:
    addresses = EMBEDDED | ADAPTERS
    return find(addresses[name]) if name in addresses else RELEASED[name]()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "changes", "inputs", "task"), MADE, ids=lambda each: str(each)[:30])
def test_what_is_made_has_its_word(name: str, changes: dict, inputs: dict, task: str) -> None:
    recipe = recipe_of(name)
    asked = request(recipe, "a ball", 1, inputs=named(**inputs), **changes)
    assert asked.sized(recipe.codec, recipe.transformer.patch).task == task


class Depth(KnownFrames):
    """A conditioner from outside, with a word of its own."""

    def task(self, inputs: Inputs, video: object) -> str | None:
        return "depth2v"


def test_a_conditioner_of_ones_own_has_a_word_of_its_own() -> None:
    asked: Request = request(recipe_of("mini"), "a ball", 1)
    assert replace(asked, conditioners=(Depth(required=False),)).task == "depth2v"
