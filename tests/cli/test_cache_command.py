"""`kinoform cache`: what a cache holds is said, damage is found, and what is of no use is removed when asked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kinoform.conditions.protocols import NOTHING
from kinoform.media.video import Video
from kinoform.training.cache.examples import EncodedClip, ExampleCache
from tests.support.command_line import Run


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for codec, keys in (("old", "ab"), ("new", "abc")):
        with ExampleCache(tmp_path / "cache", clips={"codec": codec}, text={"encoder": "t"}) as cache:
            for key in keys:
                cache.write(key * 32, EncodedClip(latents=torch.full((3, 1, 2, 2), 0.5), condition=NOTHING))
            cache.write_rows("a ball", torch.ones(3, 4))
    return tmp_path / "cache"


def test_a_cache_is_shown_checked_and_pruned(kinoform: Run, cache: Path) -> None:
    ran = kinoform("cache", cache, "--check", "--json")
    assert ran.code == 0
    (told,) = ran.told
    assert [(group["kind"], group["entries"]) for group in told["groups"]] == [("clips", 3), ("clips", 2), ("text", 1)]
    new, old, _ = told["groups"]
    assert new["stale"] is None and old["stale"] == "codec: saved old, now new" and new["latents"] == {"3x1x2x2": 3}
    assert "3 in 1 shards" in kinoform("cache", cache).out

    ran = kinoform("cache", cache, "--prune", "--json")
    assert len(ran.told[0]["removed"]) == 1 and len(list(cache.glob("*.safetensors"))) == 2
    assert len(kinoform("cache", cache, "--json").told[0]["groups"]) == 2


def test_damage_is_told_by_the_exit_code_and_pruned(kinoform: Run, cache: Path) -> None:
    shard = max(cache.glob("clips-*"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 64
    shard.write_bytes(content)
    assert kinoform("cache", cache).code == 0, "only the headers are read"
    ran = kinoform("cache", cache, "--check")
    assert ran.refusal == "cache_damaged" and shard.name in ran.sentence
    assert kinoform("cache", cache, "--prune").code == 0 and not shard.exists()
    assert kinoform("cache", cache, "--check").code == 0


def test_what_is_no_cache_is_refused(kinoform: Run, tmp_path: Path) -> None:
    assert kinoform("cache", tmp_path).refusal == "cache_missing"
    assert kinoform("cache", tmp_path / "none").refusal == "file_missing"


def test_clips_of_a_dataset_are_encoded_once_and_a_new_caption_encodes_no_clip(kinoform: Run, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("ball", "star"):
        frames = np.random.default_rng(ord(name[0])).integers(0, 256, (9, 48, 64, 3), np.uint8)
        Video(frames=frames, fps=8.0).save(tmp_path / "clips" / f"{name}.mp4")
        (tmp_path / "clips" / f"{name}.txt").write_text(f"a {name}")
    words = ("cache", tmp_path / "clips", "--model", "mini", "--clip-frames", "9", "--clip-size", "64x64", "--json")
    (told,) = kinoform(*words).told
    assert told["folder"] == str(tmp_path / "clips.cache")
    assert [(group["kind"], group["entries"]) for group in told["groups"]] == [("clips", 2), ("text", 3)]
    before = sorted((tmp_path / "clips.cache").glob("clips-*"))
    (tmp_path / "clips" / "ball.txt").write_text("another ball")
    (told,) = kinoform(*words).told
    assert told["groups"][1]["entries"] == 4
    assert sorted((tmp_path / "clips.cache").glob("clips-*")) == before
    assert kinoform("cache", tmp_path / "clips", "--check").code == 0
    assert kinoform("cache", tmp_path / "clips", "--model", "mini", "--processes", "0").refusal == "value_out_of_range"
