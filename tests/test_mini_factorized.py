"""The embedded factorized model: small, whole, and as skilled as it was, in words and from images.

The skill test is a fixed small sample of `kinoform evaluate mini-factorized`; its floors lie well below what the
shipped weights reach on it, so that only a real regression fails, and far above chance.
"""

import pytest

import kinoform
from kinoform.evaluation.benchmark import ModelUnderTest, default_tasks
from kinoform.evaluation.evaluate import evaluate
from kinoform.evaluation.tasks import SPLITS
from kinoform.loading.own import read_manifest
from kinoform.pipelines.pipeline import Pipeline
from kinoform.recipes.catalogue import ASSETS
from tests.support.unchecked import unchecked

MOST_BYTES = 12_000_000
VIDEOS = 10
"""Of each split, and of each case of identity."""

WORDS = {"background": 0.9, "colour": 0.8, "motion": 0.6, "shape": 0.5}
IMAGES = {"reference": {"colour": 0.8, "identity": 0.5}, "other reference": {"colour": 0.8, "identity": 0.5}}
BLIND = 0.3
"""The measure can fail: what no prompt names and no image shows does not come by itself."""


@pytest.fixture(scope="module")
def factorized() -> Pipeline:
    return kinoform.load("mini-factorized", device="cpu")


def test_its_folder_is_small_and_whole() -> None:
    folder = ASSETS / "mini-factorized"
    files = {file.name: file.stat().st_size for file in folder.iterdir()}
    assert sum(files.values()) <= MOST_BYTES
    assert set(read_manifest(folder).parts) == set(files) - {"manifest.json"}


def test_it_saw_as_many_videos_as_mini_for_as_many_operations() -> None:
    ours, full = (read_manifest(ASSETS / name).made["transformer"] for name in ("mini-factorized", "mini"))
    assert ours["samples"] == full["samples"]
    assert ours["flops"] == pytest.approx(full["flops"], rel=0.05)


def test_codec_and_text_encoder_are_those_of_mini() -> None:
    for file in ("autoencoder.safetensors", "text_encoder.safetensors", "tokenizer.json"):
        assert (ASSETS / "mini-factorized" / file).read_bytes() == (ASSETS / "mini" / file).read_bytes(), file


def test_it_follows_words_and_images(factorized: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinoform.evaluation.evaluate.redrawn", lambda pipeline, frames: frames)  # no ceiling is asked
    tasks = default_tasks([ModelUnderTest(pipeline=factorized)], ["L1"])
    with unchecked():  # as users run it, and in less time
        found = evaluate(factorized, tasks, count=VIDEOS)
    right = {name: sum(found.case(f"L1 {split}").skill[name].right for split in SPLITS) for name in WORDS}
    cases = {case.name: case.skill for case in found.cases}
    print(right, {name: {mark: each.right for mark, each in skill.items()} for name, skill in cases.items()})
    assert {name: right[name] for name, floor in WORDS.items() if right[name] < floor * 2 * VIDEOS} == {}
    for name, floors in IMAGES.items():
        for mark, floor in floors.items():
            assert cases[name][mark].right >= floor * VIDEOS, (name, mark)
    assert cases["no reference"]["identity"].right <= BLIND * VIDEOS
