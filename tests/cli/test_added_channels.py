"""A video tells what its recipe put onto the model, and is not made again with anything else."""

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kinoform.media.metadata import read_params
from kinoform.recipes.load import load
from tests.support.command_line import Run

DEPTH, POSE = "tests.support.widened_recipes:depth_then_pose", "tests.support.widened_recipes:pose_then_depth"
MAKE = ["generate", "a red ball", "--device", "cpu", "--seed", 7, "-o", "video.mkv"]


@pytest.fixture
def video(kinoform: Run, here: Path, folder: Path) -> Path:
    ran = kinoform(*MAKE, "--model", folder, "--recipe", DEPTH)
    assert ran.code == 0, ran.err
    return here / "video.mkv"


def test_a_video_tells_the_order_of_its_channels(video: Path) -> None:
    model = read_params(video)["model"]
    assert isinstance(model, dict)
    assert list(model["channels"].items()) == [("latents", 4), ("depth", 2), ("pose", 1)]
    assert (model["name"], model["additions_seed"], model["recipe"]) == ("tiny-widened", 5, DEPTH)


def test_a_video_of_a_model_as_it_is_tells_nothing_of_additions(kinoform: Run, model: list[str], here: Path) -> None:
    assert kinoform(*MAKE, *model).code == 0
    assert read_params(here / "video.mkv")["model"].keys() == {"name", "hash"}  # type: ignore[union-attr]


def test_the_hash_tells_additions_apart(folder: Path) -> None:
    addresses = ("tests.support.tiny_recipe:tiny", DEPTH, POSE)
    hashes = [load(folder, recipe=each, device="cpu").parts.fingerprint() for each in (*addresses, DEPTH)]
    assert len(set(hashes)) == 3 and hashes[1] == hashes[3]


def test_a_video_is_made_again_with_its_recipe_alone(kinoform: Run, video: Path, folder: Path) -> None:
    ran = kinoform("rerun", video, "--model", folder, "--recipe", DEPTH, "-o", "again.mkv")
    assert ran.code == 0, ran.err
    assert read_params(Path("again.mkv")) == read_params(video)

    ran = kinoform("rerun", video)
    assert ran.refusal == "model_not_trusted" and '"tiny-widened"' in ran.sentence
    assert f'--recipe "{DEPTH}"' in ran.sentence and "--model" in ran.sentence
    for other, reads in (
        (POSE, '{"latents": 4, "pose": 1, "depth": 2}'),
        ("tests.support.tiny_recipe:tiny", '{"latents": 4}'),
    ):
        again = ["rerun", video, "--model", folder, "--recipe", other, "-o", "other.mkv"]
        ran = kinoform(*again)
        assert ran.refusal == "weights_wrong_model" and not Path("other.mkv").exists()
        assert '{"latents": 4, "depth": 2, "pose": 1}' in ran.sentence and reads in ran.sentence
        ran = kinoform(*again, "--force-model", "--force")
        assert ran.code == 0 and "the video will be another one" in ran.err
        Path("other.mkv").unlink()


@pytest.mark.parametrize(
    ("added", "code", "named"),
    [
        ({"channels": [4, 2, 1]}, "metadata_damaged", "model.channels"),
        ({"channels": {"latents": "4"}}, "metadata_damaged", "model.channels.latents"),
        ({"additions_seed": 0.5}, "metadata_damaged", "model.additions_seed"),
        ({"recipe": ["os:system"]}, "metadata_damaged", "model.recipe"),
        ({"weights": "elsewhere"}, "metadata_unsupported", "'model.weights'"),
    ],
)
def test_a_video_that_tells_nonsense_is_refused(
    kinoform: Run, video: Path, folder: Path, added: dict[str, object], code: str, named: str
) -> None:
    params = read_params(video)
    params["model"] = {**params["model"], **added}  # type: ignore[dict-item]
    written = PngInfo()
    written.add_text("parameters_json", json.dumps(params))
    Image.new("RGB", (16, 16)).save("strange.png", pnginfo=written)
    ran = kinoform("rerun", "strange.png", "--model", folder, "--recipe", DEPTH)
    assert ran.refusal == code and named in ran.sentence
