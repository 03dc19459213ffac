"""Links in place of paths: whoever takes a path says that links are not fetched, and what to do."""

import shutil
from pathlib import Path

import pytest

from kinoform.checkpoints.hub import is_hub_id
from kinoform.checkpoints.latents import read_latents
from kinoform.files import check_no_link
from kinoform.media.metadata import read_params
from kinoform.media.read import read_clip, read_image, read_mask
from kinoform.recipes.load import load
from tests.support.refusals import refused

LINKS = ("https://example.org/a.png", "http://example.org/a", "s3://bucket/a.mp4", "gs://bucket/a", "ftp://example.org/a",
         "hf://ORG/NAME/a.safetensors", "data:image/png;base64,iVBORw0KGgo=", "HTTPS://example.org/a")  # fmt: skip


@pytest.mark.parametrize("link", LINKS)
def test_links_are_refused_wherever_a_path_is_taken(link):
    path = Path(link)  # which has one slash less
    for take in (read_image, read_clip, read_mask, load, check_no_link):
        for given in (link, path):
            with refused("link_not_fetched") as error:
                take(given)
            assert "download it first" in str(error.value) and "\n" not in str(error.value)
    for take in (read_params, read_latents):
        with refused("link_not_fetched"):
            take(path)
    with refused("link_not_fetched"):
        load("mini", codec=link)
    with refused("link_not_fetched"):
        load("mini", loras=[(link, 1.0)])


@pytest.mark.parametrize("words", [
    ("generate", "a ball", "--image", "https://example.org/a.png"),
    ("generate", "a ball", "--model", "https://huggingface.co/ORG/NAME"),
    ("edit", "https://example.org/a.mp4", "--mask", "https://example.org/b.png", "--prompt", "a ball"),
    ("info", "https://example.org/a.mp4"), ("verify", "https://example.org/a.safetensors"),
    ("inspect", "s3://bucket/a.safetensors"), ("decode", "https://example.org/a.latents.safetensors"),
    ("generate", "a ball", "--config", "https://example.org/a.toml"),
])  # fmt: skip
def test_commands_refuse_links(words, kinoform, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kinoform(*words).refusal == "link_not_fetched"


def test_the_path_of_a_file_link_works(tmp_path):
    place = tmp_path / "a b.png"
    shutil.copy(Path(__file__).parents[2] / "examples" / "inputs" / "mini" / "first.png", place)
    for link in (place.as_uri(), f"file://localhost{place}", f"file:{place}"):
        with refused("link_not_fetched") as error:
            read_image(link)
        assert read_image(str(error.value).split("give the path alone: ")[1]).size == read_image(place).size


def test_a_page_of_the_hub_is_named_as_download_takes_it():
    for link in (
        "https://huggingface.co/ORG/NAME-1.3B",
        "https://huggingface.co/ORG/NAME-1.3B/resolve/main/a.safetensors",
    ):
        with refused("link_not_fetched") as error:
            load(link)
        assert str(error.value).endswith("download it first: kinoform download ORG/NAME-1.3B")
    assert is_hub_id("ORG/NAME-1.3B")


def test_a_file_that_is_there_may_have_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Path("http:/example.org/a.png")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"hello")
    check_no_link(place)
    for name in ("C:/a.png", "http:a.png", "a:b/c.png", "a.png", ""):
        check_no_link(name)
