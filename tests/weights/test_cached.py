"""Weights that another program fetched into the cache of Hugging Face are found there, by id, by name and by folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kinoform.checkpoints.file_sets import weight_sets
from kinoform.recipes.load import load
from tests.support.diffusers_folder import write_diffusers_folder
from tests.support.official_folder import write_official_folder
from tests.support.refusals import refused

COMMIT, OTHER = "a1" * 20, "b2" * 20
ID = "some-org/Tiny-Wan"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def cached(root: Path, id: str, write: Callable[[Path], None], commit: str = COMMIT) -> Path:
    """A repository as huggingface_hub lays it out: files are links into blobs, which have no endings."""
    folder = root / f"models--{id.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    write(snapshot)
    (folder / "blobs").mkdir(exist_ok=True)
    for number, file in enumerate([each for each in sorted(snapshot.rglob("*")) if each.is_file()]):
        blob = folder / "blobs" / f"{commit[:8]}{number:056d}"
        shutil.move(file, blob)
        file.symlink_to(blob)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.mark.parametrize("write", [write_official_folder, write_diffusers_folder])
@pytest.mark.parametrize("said", [{}, {"HF_HOME": "hf"}, {"HF_HUB_CACHE": "hf/hub"}])
def test_the_snapshot_is_found_by_its_id(
    said: dict[str, str], write: Callable[[Path], None], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, place in said.items():
        monkeypatch.setenv(name, str(home / place))
    cached(home / ("hf/hub" if said else "cache/huggingface/hub"), ID, write)
    pipe = load(ID, device="cpu")
    write(home / "plain")
    assert pipe.parts.transformer_spec == load(home / "plain", device="cpu").parts.transformer_spec
    assert [each.name for each in (home / "cache").glob("*")] != ["kinoform"], "nothing is copied"


def test_what_kinoform_fetched_stands_before_it(home: Path) -> None:
    cached(home / "cache/huggingface/hub", ID, write_official_folder)
    write_diffusers_folder(home / "cache" / "kinoform" / "hub" / "some-org--Tiny-Wan")
    (home / "cache/kinoform/hub/some-org--Tiny-Wan/model_index.json").write_text('{"boundary_ratio": 0.9}')
    with refused("expert_alone"):
        load(ID, device="cpu")


@pytest.mark.parametrize("ending", ["", "-Diffusers"])
def test_a_released_model_is_found_by_its_name(ending: str, home: Path) -> None:
    with refused("weights_missing") as caught:
        load("t2i-14b", device="cpu")
    assert "kinoform download t2i-14b" in str(caught.value)
    cached(home / "cache/huggingface/hub", "Wan-AI/Wan2.1-T2V-14B" + ending, write_diffusers_folder)
    for name in ("t2v-14b", "t2i-14b"):
        assert load(name, device="cpu").recipe.name == name


def test_its_folder_stands_for_the_snapshot_of_its_branch(home: Path) -> None:
    folder = cached(home, ID, write_official_folder)
    cached(home, ID, write_diffusers_folder, commit=OTHER)
    for place in (folder, folder / "snapshots", folder / "snapshots" / COMMIT):
        load(place, device="cpu")
    assert {COMMIT in str(each.path) for each in weight_sets(folder)} == {True}, "inspect looks at the same one"
    (folder / "refs" / "main").unlink()
    with refused("weights_ambiguous"):
        load(folder, device="cpu")
    shutil.rmtree(folder / "snapshots" / COMMIT)
    load(folder, device="cpu")
    shutil.rmtree(folder / "snapshots")
    with refused("weights_missing") as caught:
        load(folder, device="cpu")
    assert f"kinoform download {ID}" in str(caught.value)
