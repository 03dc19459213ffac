"""`kinoform download` lists what it will fetch, fetches it into the cache, and says where it is."""

from pathlib import Path

import pytest

from command_line import Run
from weights.stand_in_hub import Hub, serving

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'kinoform[hub]'")

NEEDED = {"config.json": 2, "diffusion_pytorch_model.safetensors": 9000, "models_t5_umt5-xxl-enc-bf16.pth": 5,
          "Wan2.1_VAE.pth": 4, "google/umt5-xxl/tokenizer.json": 3}  # fmt: skip
FILES = {name: bytes(size) for name, size in NEEDED.items()} | {"config.json": b"{}", "README.md": b"#"}


def test_a_model_is_listed_and_fetched(
    kinoform: Run, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(Hub(id="Wan-AI/Wan2.1-T2V-1.3B", files=FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        home = tmp_path / "cache" / "kinoform"
        ran = kinoform("download", "t2v-1.3b", "--list", "--json")
        (told,) = ran.told
        assert ran.code == 0 and not told["fetched"] and told["folder"] == str(home / "t2v-1.3b")
        assert {each["file"]: each["bytes"] for each in told["files"]} == NEEDED and not home.exists()
        ran = kinoform("download", "t2v-1.3b")
        assert ran.code == 0 and ran.out.strip() == str(home / "t2v-1.3b")
        assert ran.err.index("diffusion_pytorch_model.safetensors") < ran.err.index("in all")
        assert {name: (home / "t2v-1.3b" / name).stat().st_size for name in NEEDED} == NEEDED
        ran = kinoform("download", hub.id, "--json")
        assert ran.told[0]["folder"] == str(home / "hub" / "Wan-AI--Wan2.1-T2V-1.3B")
        ran = kinoform("download", hub.id, "--file", "config.json", "-o", "there")
        assert ran.code == 0 and (here / "there" / "config.json").read_bytes() == b"{}"
        assert not (here / "there" / "diffusion_pytorch_model.safetensors").exists()


def test_what_is_no_id_or_not_there_is_one_sentence(kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Hub(id="some/model", files=FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for word, expected in (("model", "ORG/NAME"), ("some/other", "has no some/other")):
            ran = kinoform("download", word)
            assert ran.code == 2 and expected in ran.sentence
    assert not list(here.iterdir())


def test_a_download_that_was_interrupted_says_what_stays(kinoform: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kinoform.weights.hub.fetch", interrupted)
    with serving(Hub(id="Wan-AI/Wan2.1-T2V-1.3B", files=FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        ran = kinoform("download", "t2v-1.3b")
    assert ran.code == 130 and ran.refusal == "interrupted" and "half-made" not in ran.sentence
