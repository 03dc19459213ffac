"""The cache of encoded examples: what comes back is what went in, and nothing in the folder is trusted."""

import hashlib
import json
import os
import random
import signal
import time
import warnings
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.conditions.protocols import ConditionerOutput, InpaintingConstraint, LatentConstraints
from kinoform.models.vace_blocks import VaceContext
from kinoform.training.cache import fill as filling
from kinoform.training.cache import store
from kinoform.training.cache.examples import EncodedClip, ExampleCache, prompt_key, trimmed
from kinoform.training.cache.fill import FillPlan, fill
from kinoform.types import InContextSegment
from tests.support.full_disk import full_disk
from tests.support.refusals import refused

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="processes are forked and killed here"),
    pytest.mark.filterwarnings("ignore:.*left out"),
]


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill, unlike a power failure, loses nothing that was written."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def opened(folder: Path, *, codec: str = "a", text: str = "t", dtype: torch.dtype = torch.bfloat16) -> ExampleCache:
    return ExampleCache(folder, clips={"codec": codec}, text={"encoder": text}, dtype=dtype)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def everything() -> ConditionerOutput:
    """Return a condition with a value at every extension point."""
    return ConditionerOutput(
        context={"image": noise(1, 1, 5, 4)},
        channels=noise(2, 1, 3, 2, 2, 2),
        clean=torch.tensor([True, False, False]),
        branches={
            "vace": VaceContext(latents=noise(3, 1, 6, 2, 2, 2), scale=0.5),
            "guests": (noise(4, 1, 3, 1, 2, 2),),
        },
        segments=(InContextSegment(latents=noise(5, 1, 3, 1, 4, 2), group="images"),),
        constraints=LatentConstraints(
            prefix_frames=1,
            prefix_latents=noise(6, 1, 3, 1, 2, 2),
            inpainting=InpaintingConstraint(
                latents=noise(7, 1, 3, 2, 2, 2), mask=noise(8, 1, 1, 2, 2, 2) > 0, noised=False
            ),
        ),
        dropped_for_cfg=frozenset({"guests"}),
    )


def clip_of(latents: Tensor, condition: ConditionerOutput) -> EncodedClip:
    return EncodedClip(latents=latents, condition=condition, prefix="task: ")


def same(one: object, other: object, dtype: torch.dtype) -> bool:
    """Tell whether two are equal when floating numbers of the first are rounded."""
    if isinstance(one, Tensor):
        assert isinstance(other, Tensor) and one.dtype == other.dtype
        return torch.equal(one.to(dtype).to(one.dtype) if one.is_floating_point() else one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], dtype) for key in one)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(same(a, b, dtype) for a, b in zip(one, other, strict=True))
    if is_dataclass(one):
        assert type(one) is type(other)
        return all(same(getattr(one, item.name), getattr(other, item.name), dtype) for item in fields(one))
    return one == other


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_all_that_a_condition_holds_comes_back(dtype: torch.dtype, tmp_path: Path) -> None:
    latents = noise(0, 3, 2, 4, 4)
    with opened(tmp_path, dtype=dtype) as cache:
        cache.write("ab" * 16, clip_of(latents, everything()))
        cache.write("cd" * 16, clip_of(latents, ConditionerOutput()))
    assert cache.rounding == 0 if dtype == torch.float32 else 1e-4 < cache.rounding < 3e-3
    again = opened(tmp_path, dtype=dtype)
    assert again.missing(["ab" * 16, "ef" * 16, "ef" * 16]) == ["ef" * 16]
    kept = again.read("ab" * 16)
    assert same(clip_of(latents, everything()), kept, dtype) and again.prefix("ab" * 16) == "task: "
    assert again.read("cd" * 16).condition == ConditionerOutput()
    with refused("cache_entry_missing"):
        again.read("ef" * 16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_text_comes_back_bit_for_bit_without_its_zeros_on_disk(dtype: torch.dtype, tmp_path: Path) -> None:
    rows = torch.cat([noise(1, 7, 64), torch.zeros(505, 64)]).to(dtype)
    rows[3] = 0.0
    rows[7, 0] = -0.0  # a number with a bit
    empty = torch.zeros(4, 64, dtype=dtype)
    with opened(tmp_path) as cache:
        cache.write_rows("a ball", rows)
        cache.write_rows("", empty)
    assert cache.text.bytes < 12 * 64 * dtype.itemsize + 1500 and len(trimmed(rows)) == 8
    again = opened(tmp_path)
    for prompt, expected in (("a ball", rows), ("", empty)):
        whole = torch.uint8
        assert torch.equal(again.rows(prompt).view(whole), expected.view(whole)) and again.has_rows(prompt)
    assert again.missing_rows(["", "a ball", "two balls"]) == ["two balls"]


def test_a_new_caption_or_text_encoder_leaves_the_clips(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.write("ab" * 16, clip_of(noise(0, 3, 1, 2, 2), everything()))
        cache.write_rows("a ball", noise(1, 3, 4))
    other = opened(tmp_path, text="u")
    assert other.has("ab" * 16) and not other.has_rows("a ball") and not other.clips.stale
    (said,) = other.stale()
    assert "1 captions" in said and "saved 't', now 'u'".replace("'", "") in said.replace("'", "")


def test_what_another_model_encoded_is_said_not_read_and_removed_when_asked(tmp_path: Path) -> None:
    cache = opened(tmp_path, codec="b")
    for codec in "ab":
        with opened(tmp_path, codec=codec) as made:
            for key in ("ab" * 16, "cd" * 16):
                made.write(key, clip_of(noise(ord(codec), 3, 1, 2, 2), ConditionerOutput()))
    cache.refresh()
    assert not torch.equal(opened(tmp_path).read("ab" * 16).latents, cache.read("ab" * 16).latents)
    (said,) = cache.stale()
    assert "2 clips" in said and "codec: saved a, now b" in said
    cache.clips.prune(["cd" * 16])
    assert not cache.stale() and len(store.shards_in(tmp_path)) == 1
    again = opened(tmp_path, codec="b")
    assert again.has("cd" * 16) and not again.has("ab" * 16)
    assert torch.equal(again.read("cd" * 16).latents, cache.read("cd" * 16).latents)


def filled(folder: Path) -> Path:
    with opened(folder) as cache:
        cache.write("ab" * 16, clip_of(noise(0, 3, 1, 2, 2), everything()))
    return store.shards_in(folder)[0]


def test_a_shard_that_was_cut_anywhere_counts_as_not_there(tmp_path: Path) -> None:
    shard = filled(tmp_path)
    content = shard.read_bytes()
    for tenth in range(10):
        shard.write_bytes(content[: len(content) * tenth // 10])
        with pytest.warns(UserWarning, match="encoded again"):
            cache = opened(tmp_path)
        assert not cache.has("ab" * 16)
        assert [bad.path for bad in cache.clips.check()] == [shard]
    with pytest.warns(UserWarning):
        opened(tmp_path).clips.prune(None)
    assert not list(tmp_path.glob("clips-*"))


def test_a_changed_byte_is_found_by_the_check(tmp_path: Path) -> None:
    shard = filled(tmp_path)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    (bad,) = opened(tmp_path).clips.check()
    assert bad.path == shard and "hash" in bad.reason


def forged(folder: Path, shard: Path, change) -> ExampleCache:
    """Write a shard whose name is right for its bytes, and whose contents `change` made."""
    metadata = json.loads(shard.read_bytes()[8 : 8 + int.from_bytes(shard.read_bytes()[:8], "little")])["__metadata__"]
    tensors, nodes = load_file(shard), json.loads(metadata["entries"])
    change(tensors, nodes["ab" * 16])
    shard.unlink()
    save_file(tensors, folder / "new", {**metadata, "entries": json.dumps(nodes)})
    name = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    (folder / "new").rename(folder / f"clips-{name}.safetensors")
    return opened(folder)


def _latents(tensors, node) -> Tensor:
    return tensors["ab" * 16 + ".latents"]


FORGED = {
    "NaN": lambda tensors, node: _latents(tensors, node).view(-1)[0].fill_(float("nan")),
    "a missing tensor": lambda tensors, node: tensors.pop("ab" * 16 + ".latents"),
    "a strange type": lambda tensors, node: node["map"]["condition"].update(type="Popen"),
    "a strange field": lambda tensors, node: node["map"]["condition"]["fields"].update(shell={"value": 1}),
    "no condition": lambda tensors, node: node["map"].update(condition={"value": None}),
    "context that is none": lambda tensors, node: node["map"]["condition"]["fields"].update(context={"value": 1}),
    "a deep entry": lambda tensors, node: node["map"].update(condition=json.loads('{"list": [' * 20 + "]}" * 20)),
    "bits for floats": lambda tensors, node: tensors.update({"ab" * 16 + ".latents": torch.ones(3, 1, 2, 2) > 0}),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_shard_of_a_stranger_is_refused(what: str, tmp_path: Path) -> None:
    cache = forged(tmp_path, filled(tmp_path), FORGED[what])
    assert len(cache.clips.check()) == 1
    with refused("cache_damaged", str(tmp_path)):
        cache.read("ab" * 16)


def test_nothing_is_kept_that_is_not_finite_or_cannot_be_read_again(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    with refused("not_finite"):
        cache.write("ab" * 16, clip_of(noise(0, 3, 1, 2, 2) * torch.inf, ConditionerOutput()))
    with refused("cache_cannot_keep"):
        cache.write("ab" * 16, clip_of(noise(0, 3, 1, 2, 2), ConditionerOutput(branches={"own": object()})))
    cache.flush()
    assert not store.shards_in(tmp_path)


def test_a_full_disk_leaves_what_is_there(tmp_path: Path) -> None:
    filled(tmp_path)
    cache = opened(tmp_path)
    with full_disk(10_000), refused("disk_full"), cache:
        cache.write("cd" * 16, clip_of(noise(0, 3, 50, 20, 20), ConditionerOutput()))
        cache.flush()
    assert len(list(tmp_path.iterdir())) == 1 and opened(tmp_path).read("ab" * 16)


@dataclass(frozen=True)
class Clip:
    key: str
    name: str


class Encoders:
    """Encoders of a stand-in: latents that the key decides, and a slow hand."""

    def __init__(self, seconds: float = 0.0, bad: str = "-") -> None:
        self.seconds, self.bad, self.count, self.closed = seconds, bad, 0, False

    def close(self) -> None:
        self.closed = True

    def clip(self, clip: Clip) -> EncodedClip:
        self.count += 1
        time.sleep(self.seconds)
        if clip.name.startswith(self.bad):
            raise store.UsageError(f"{clip.name} is damaged", code="media_damaged")
        seed = int(clip.key[:8], 16)
        condition = replace(everything(), context={"image": noise(seed + 1, 1, 5, 4)})
        return clip_of(noise(seed, 3, 1, 4, 4), condition)

    def rows(self, prompts: list[str]) -> Tensor:
        return torch.stack([noise(len(prompt), 6, 4) for prompt in prompts])


CLIPS = [Clip(hashlib.sha256(str(n).encode()).hexdigest()[:32], f"{n}.mp4") for n in range(60)]
PROMPTS = ["", *("a" * n for n in range(1, 40))]


def prompts(cache: ExampleCache) -> list[str]:
    return PROMPTS


def plan(folder: Path, encoders: Encoders | None = None, seconds: float = 0.0) -> FillPlan:
    encode = partial(Encoders, seconds) if encoders is None else lambda: encoders
    return FillPlan(cache=opened(folder), clips=CLIPS, prompts=prompts, encoders=encode)


def check_whole(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache, encoders = opened(folder), Encoders()
    assert not cache.missing([clip.key for clip in CLIPS]) and not cache.missing_rows(PROMPTS)
    for clip in CLIPS:
        assert same(encoders.clip(clip), cache.read(clip.key), torch.bfloat16)
    assert torch.equal(cache.rows(PROMPTS[7]), encoders.rows(PROMPTS[7:8])[0])
    assert not cache.clips.check() and not cache.text.check()


def test_filling_encodes_what_is_missing_and_says_how_far_it_is(tmp_path: Path) -> None:
    encoders, told = Encoders(), list[tuple[str, int, int]]()
    with opened(tmp_path) as cache:
        cache.write(CLIPS[3].key, encoders.clip(CLIPS[3]))
    fill(plan(tmp_path, encoders), on_stage=lambda *stage: told.append(stage))
    assert encoders.count == len(CLIPS) and encoders.closed  # with the one that was there
    clips, text = ([done for stage, done, _ in told if stage == name] for name in ("clips", "text"))
    assert clips == list(range(1, len(CLIPS) + 1)) and (text[0], text[-1]) == (0, len(PROMPTS))
    check_whole(tmp_path)
    fill(plan(tmp_path, encoders))
    assert encoders.count == len(CLIPS)


def test_clips_that_cannot_be_read_are_passed_over_up_to_a_limit(tmp_path: Path) -> None:
    bad = replace(plan(tmp_path, Encoders(bad="1")), most_bad=11)
    with pytest.warns(UserWarning, match="1.mp4 is left out"):
        fill(bad)
    assert bad.cache.missing(bad.keys) == [clip.key for clip in CLIPS if clip.name.startswith("1")]
    with refused("too_many_bad_clips"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fill(plan(tmp_path, Encoders(bad="1")))


def forked(work) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def test_killed_at_twenty_moments_a_cache_loses_only_the_shard_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SHARD_BYTES", 1000)  # a shard for each clip or two
    monkeypatch.setattr(filling, "PORTION", 7)
    chance, before = random.Random(3), set[str]()
    keys = [clip.key for clip in CLIPS]
    for _ in range(20):
        child = forked(lambda: fill(plan(tmp_path, Encoders(0.002))))
        time.sleep(chance.uniform(0.01, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cache = opened(tmp_path)
        there = set(keys) - set(cache.missing(keys))
        assert there >= before and not cache.clips.check()
        before = there
    fill(plan(tmp_path, Encoders()))
    check_whole(tmp_path)
    assert not list(tmp_path.glob(".*.safetensors")), "what killed runs left is removed"


def test_two_commands_that_fill_one_cache_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "PORTION", 5)
    children = [forked(lambda: fill(plan(tmp_path, Encoders(0.01)))) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    check_whole(tmp_path)
    cache = opened(tmp_path)
    assert sum(len(shard.nodes) for shard in cache.clips.shards.values()) == len(CLIPS), "none was encoded twice"


def test_processes_of_one_command_fill_a_cache(tmp_path: Path) -> None:
    fill(plan(tmp_path), processes=2)
    check_whole(tmp_path)


def test_keys_of_prompts_differ() -> None:
    assert prompt_key("a") != prompt_key("a ") and prompt_key("\ud800")
