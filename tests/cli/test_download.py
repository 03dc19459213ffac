"""`kinoform download` lists what it will fetch, fetches it into the cache, and says where it is."""

import shutil
from pathlib import Path

import pytest

from kinoform.recipes.load import load
from tests.support.command_line import Run
from tests.support.expert_folders import write_expert_folder
from tests.support.official_folder import write_official_folder
from tests.weights.stand_in_hub import Hub, serving

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
            assert ran.refusal == "unknown_model" and expected in ran.sentence
    assert not list(here.iterdir())


def test_a_download_that_was_interrupted_says_what_stays(kinoform: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*words: object, check: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kinoform.checkpoints.hub.fetch", interrupted)
    with serving(Hub(id="Wan-AI/Wan2.1-T2V-1.3B", files=FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        ran = kinoform("download", "t2v-1.3b")
    assert ran.code == 130 and ran.refusal == "interrupted" and "half-made" not in ran.sentence


def test_names_that_share_weights_or_need_none_are_explained(
    kinoform: Run, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(Hub(id="Wan-AI/Wan2.1-T2V-14B", files=FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        ran = kinoform("download", "t2i-14b", "--json")
        assert ran.code == 0 and ran.told[0]["folder"] == str(tmp_path / "cache" / "kinoform" / "t2v-14b")
        assert "t2v-14b" in ran.err
    assert kinoform("download", "mini").refusal == "nothing_to_fetch"
    assert "t2v-14b" in kinoform("download", "t2v14b").sentence


def test_what_a_broken_download_left_out_names_the_command(
    kinoform: Run, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "kinoform" / "t2v-1.3b"
    for name in (None, "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/tokenizer.json"):
        if name is not None:
            shutil.rmtree(folder, ignore_errors=True)
            write_official_folder(folder)
            (folder / name).unlink()
        ran = kinoform("generate", "a", "--model", "t2v-1.3b", "--device", "cpu")
        assert ran.code == 3 and "kinoform download t2v-1.3b" in ran.sentence


def test_the_home_s_short_name_is_understood(kinoform: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    write_official_folder(here / "m")
    words = ("generate", "a", "--size", "32x32", "--frames", "5", "--dry-run", "--device", "cpu")
    assert kinoform(*words, "--model=~/m").code == 0
    (here / "kinoform.toml").write_text('model = "~/m"')
    assert kinoform(*words, "--vae=~/m/Wan2.1_VAE.pth").code == 0
    assert (
        kinoform(*words, "--lora=~/absent.safetensors:0.5").refusal
        == kinoform(*words, "--lora", str(here / "absent.safetensors")).refusal
    )
    assert kinoform("inspect", "~/m").code == kinoform("verify", "~/m").code == 0


def test_both_experts_are_fetched_and_make_the_model(
    kinoform: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_expert_folder(tmp_path / "model", "official", shards=2)
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with serving(Hub(id="Wan-AI/Wan2.2-T2V-A14B", files=files | {"README.md": b"#"})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        ran = kinoform("download", "t2v-a14b")
        assert ran.code == 0 and ran.out.strip() == str(tmp_path / "cache" / "kinoform" / "t2v-a14b")
        assert kinoform("download", hub.id).code == 0
    assert {str(file.relative_to(ran.out.strip())) for file in Path(ran.out.strip()).rglob("*") if file.is_file()} == {
        *files
    }
    for name in ("t2v-a14b", hub.id):
        assert load(name, device="cpu").recipe.name == "t2v-a14b"
