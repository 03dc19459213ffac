"""Weights are fetched by id: only what is needed, resumed, compared; tried against a hub on this machine."""

import builtins
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kinoform.checkpoints import hub as hub_client
from kinoform.checkpoints.hub import folder_name, is_hub_id
from kinoform.families.folders import check_folder, needed
from kinoform.recipes.load import load
from tests.support.official_folder import write_official_folder
from tests.support.refusals import refused
from tests.weights.stand_in_hub import COMMIT, Hub, serving

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'kinoform[hub]'")

listing = partial(hub_client.listing, choose=needed)
fetch = partial(hub_client.fetch, check=check_folder)

ID = "some-org/Tiny-Wan"
LARGE = bytes(range(256)) * 400

OFFICIAL = {
    "config.json": b"{}",
    "diffusion_pytorch_model.safetensors": LARGE,
    "models_t5_umt5-xxl-enc-bf16.pth": LARGE[1:],
    "Wan2.1_VAE.pth": LARGE[2:],
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth": LARGE[5:],
    "google/umt5-xxl/tokenizer.json": b"[]",
    "google/umt5-xxl/spiece.model": b"pieces",
}
DIFFUSERS = {
    "model_index.json": b"{}",
    "scheduler/scheduler_config.json": b"{}",
    "tokenizer/tokenizer.json": b"[]",
    "text_encoder/config.json": b"{}",
    "text_encoder/model-00001-of-00001.safetensors": LARGE,
    "transformer/config.json": b"{}",
    "transformer/diffusion_pytorch_model.safetensors.index.json": b"{}",
    "transformer/diffusion_pytorch_model-00001-of-00001.safetensors": LARGE[3:],
    "image_encoder/config.json": b"{}",
    "image_encoder/model.safetensors": LARGE[6:],
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": LARGE[4:],
}
OWN = {"manifest.json": b"{}", "transformer.safetensors": LARGE, "autoencoder.safetensors": b"a",
       "text_encoder.safetensors": b"t", "image_encoder.safetensors": b"i", "tokenizer.json": b"[]"}  # fmt: skip
NEEDLESS = {
    "README.md": b"#", "modeling.py": b"import os", "assets/logo.png": b"png", "examples/a.jpg": b"",
    "transformer/diffusion_pytorch_model.fp16.safetensors": b"x", "text_encoder/pytorch_model.bin": b"x",
    "image_encoder/pytorch_model.bin": b"x", "tokenizer/custom.py": b"x",
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub(id=ID, files=OFFICIAL | NEEDLESS)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def read(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {
        str(name): (folder / name).read_bytes()
        for name in (f.relative_to(folder) for f in files)
        if name.parts[0] != ".cache"
    }


@pytest.mark.parametrize("whole", [OFFICIAL, DIFFUSERS, OWN], ids=["official", "diffusers", "kinoform"])
def test_only_what_is_needed_is_fetched(whole: dict[str, bytes], hub: Hub, tmp_path: Path) -> None:
    hub.files = whole | NEEDLESS
    found = listing(ID)
    assert {each.name: each.bytes for each in found.files} == {name: len(data) for name, data in whole.items()}
    assert found.commit == COMMIT and not hub.asked, "listed before anything is fetched"
    told: list[tuple[int, int]] = []
    fetch(found, tmp_path / "model", lambda done, total: told.append((done, total)))
    assert read(tmp_path / "model") == whole
    assert told == sorted(told) and told[0][0] == 0 and told[-1] == (found.bytes, found.bytes)


def test_what_is_there_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    fetch(listing(ID), tmp_path, silent)
    hub.asked.clear()
    fetch(listing(ID), tmp_path, silent)
    assert not hub.asked
    (tmp_path / "config.json").write_bytes(b"[]")
    fetch(listing(ID), tmp_path, silent)
    assert {name for _, name, _ in hub.asked} == {"config.json"} and read(tmp_path) == OFFICIAL


def silent(done: int, total: int) -> None:
    """Progress that nobody hears."""


def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.files, hub.break_at = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": LARGE}, 60_000
    found = listing(ID, only=hub.files)
    with refused("network_unreachable") as caught:
        fetch(found, tmp_path, silent)
    assert "\n" not in str(caught.value) and ID in str(caught.value)
    hub.break_at = hub.status = None
    hub.asked.clear()
    fetch(found, tmp_path, silent)
    assert read(tmp_path) == hub.files
    first = [place for method, name, place in hub.asked if method == "GET" and name.startswith("diffusion")]
    assert first and 0 < first[0] <= 60_000, "not from the beginning"


@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors"])
def test_another_file_than_the_listed_one_is_removed(name: str, hub: Hub, tmp_path: Path) -> None:
    found = listing(ID)
    data = hub.files[name]
    hub.files = hub.files | {name: data[:-1] + bytes([data[-1] ^ 1])}
    with refused("download_damaged"):
        fetch(found, tmp_path, silent)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    "name", ["../x.json", "/etc/x.json", "a/../../x.json", "a\\x.json", "c:x.json", ".cache/x.json", "a\nb"]
)
def test_names_that_lead_elsewhere_are_refused(name: str, hub: Hub, tmp_path: Path) -> None:
    hub.files = OFFICIAL | {name: b"x"}
    with refused("download_damaged"):
        listing(ID)


def test_files_may_be_named_but_only_weights(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"split_files/vae/wan_2.1_vae.safetensors": LARGE, "run.py": b"import os", "README.md": b"#"}
    with refused("download_ambiguous", "--file"):
        listing(ID)
    found = listing(ID, only=["split_files/vae/wan_2.1_vae.safetensors"])
    fetch(found, tmp_path, silent)
    assert read(tmp_path) == {"split_files/vae/wan_2.1_vae.safetensors": LARGE}
    for name, code in (("run.py", "bad_value"), ("vae.safetensors", "unknown_name")):
        with refused(code, name):
            listing(ID, only=[name])


def test_safetensors_stand_before_pickles(hub: Hub) -> None:
    hub.files = OFFICIAL | {"Wan2.1_VAE.safetensors": LARGE}
    names = {each.name for each in listing(ID).files}
    assert "Wan2.1_VAE.safetensors" in names and "Wan2.1_VAE.pth" not in names
    assert "models_t5_umt5-xxl-enc-bf16.pth" in names


@pytest.mark.parametrize(("status", "code"), [(404, "unknown_model"), (403, "download_forbidden")])
def test_what_the_hub_refuses_is_one_sentence(status: int, code: str, hub: Hub) -> None:
    hub.status = status
    with refused(code, "hf auth login") as caught:
        listing(ID)
    assert "\n" not in str(caught.value)


def test_without_a_network_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with refused("network_unreachable", "HF_HUB_OFFLINE") as caught:
        listing(ID)
    assert "\n" not in str(caught.value)


def test_without_the_package_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def imported(name: str, *words: Any, **options: Any) -> Any:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *words, **options)

    monkeypatch.setattr(builtins, "__import__", imported)
    with refused("package_missing", "pip install 'kinoform[hub]'"):
        listing(ID)


def test_a_full_disk_is_told_before_the_work(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = listing(ID)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("kinoform.checkpoints.hub.shutil.disk_usage", lambda place: usage)
    with refused("disk_full"):
        fetch(found, tmp_path, silent)
    assert not hub.asked


@pytest.mark.parametrize("id", ["mini", "a/b/c", "/a", "a/", "../b", "a/..", "a b/c", "", "a/" + "b" * 200])
def test_what_is_no_id_is_not_asked_for(id: str) -> None:
    assert not is_hub_id(id)
    with refused("unknown_model", "ORG/NAME"):
        listing(id)


def test_a_path_that_exists_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("org/name") and folder_name("org/name") == "org--name"
    os.makedirs("org/name")
    assert not is_hub_id("org/name")
    with refused("bad_value", "'../main'"):
        listing("other/name", revision="../main")


def test_a_fetched_model_is_loaded_by_its_id(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with refused("unknown_model", f"kinoform download {ID}"):
        load(ID, device="cpu")
    write_official_folder(tmp_path / "model")
    hub.files = read(tmp_path / "model")
    fetch(listing(ID), tmp_path / "cache" / "kinoform" / "hub" / folder_name(ID), silent)
    loaded, expected = (load(place, device="cpu").parts for place in (ID, tmp_path / "model"))
    assert loaded.transformer_spec == expected.transformer_spec and loaded.fingerprint() == expected.fingerprint()


BESIDE = {name: data for name, data in OFFICIAL.items() if not name.startswith(("config", "diffusion", "models_clip"))}
EXPERTS = {
    "official": BESIDE | {f"{noise}_noise_model/{name}": LARGE for noise in ("high", "low") for name in (
                    "config.json", "diffusion_pytorch_model.safetensors.index.json",
                    "diffusion_pytorch_model-00001-of-00002.safetensors",
                    "diffusion_pytorch_model-00002-of-00002.safetensors")},
    "diffusers": DIFFUSERS | {"transformer_2/config.json": b"{}",
                              "transformer_2/diffusion_pytorch_model.safetensors": LARGE},
    "official, of TI2V-5B": {name: data for name, data in OFFICIAL.items() if "VAE" not in name}
                            | {"Wan2.2_VAE.pth": LARGE},
}  # fmt: skip


@pytest.mark.parametrize("name", EXPERTS)
def test_models_of_wan_22_are_fetched_whole(name: str, hub: Hub) -> None:
    hub.files = EXPERTS[name] | NEEDLESS
    assert {item.name for item in listing(ID).files} == EXPERTS[name].keys()


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("official", "low_noise_model/"),
        ("official", "high_noise_model/diffusion_pytorch_model-00002"),
        ("official", "high_noise_model/diffusion_pytorch_model-"),
        ("official", "models_t5"),
        ("diffusers", "transformer_2/diffusion"),
        ("diffusers", "transformer/diffusion"),
    ],
)
def test_models_of_which_half_would_be_fetched_are_refused_before_the_first_byte(
    name: str, lost: str, hub: Hub
) -> None:
    needless = {name: data for name, data in NEEDLESS.items() if not name.startswith("transformer")}
    hub.files = {name: data for name, data in (EXPERTS[name] | needless).items() if not name.startswith(lost)}
    with refused("download_incomplete"):
        listing(ID)
    wanted = next(name for name in hub.files if name.endswith(".safetensors"))
    assert listing(ID, only=[wanted]).bytes == len(LARGE), "what is named is fetched all the same"
    assert not hub.asked


@pytest.mark.parametrize("told", [{"boundary_ratio": 0.875}, {"transformer_2": ["diffusers", "WanTransformer3DModel"]}])
def test_settings_that_tell_of_a_second_expert_end_it_before_the_first_weight(
    told: dict[str, object], hub: Hub, tmp_path: Path
) -> None:
    hub.files = DIFFUSERS | {"model_index.json": json.dumps(told).encode()}
    with refused("expert_alone"):
        fetch(listing(ID), tmp_path, silent)
    assert all(name.endswith(".json") for _, name, _ in hub.asked)


@pytest.mark.parametrize(
    ("needed", "without"),
    [
        (OFFICIAL, "models_t5_umt5-xxl-enc-bf16.pth"),
        (OFFICIAL, "Wan2.1_VAE.pth"),
        (OFFICIAL, "google/umt5-xxl/"),
        (DIFFUSERS, "vae/"),
        (DIFFUSERS, "text_encoder/model"),
        (DIFFUSERS, "tokenizer/"),
        (DIFFUSERS, "transformer/diffusion_pytorch_model-0"),
    ],
)
def test_what_would_be_no_whole_model_is_refused(needed: dict[str, bytes], without: str, hub: Hub) -> None:
    hub.files = {name: data for name, data in (needed | NEEDLESS).items() if not name.startswith(without)}
    if without.startswith("transformer"):
        hub.files["transformer/diffusion_pytorch_model-00001-of-00002.safetensors"] = LARGE
    if without.startswith("text_encoder"):
        del hub.files["text_encoder/pytorch_model.bin"]
    with refused("download_incomplete"):
        listing(ID)


@pytest.mark.parametrize(
    ("part", "theirs", "wanted"),
    [
        ("transformer", ("diffusion_pytorch_model.fp16.safetensors",), 1),
        ("text_encoder", ("model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors",
                          "model.safetensors.index.fp16.json"), 3),
        ("text_encoder", ("pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json", "training_args.bin"), 2),
    ],
)  # fmt: skip
def test_a_part_of_which_only_a_variant_or_a_pickle_exists_is_fetched_as_that(
    part: str, theirs: tuple[str, ...], wanted: int, hub: Hub
) -> None:
    rest = {name: data for name, data in DIFFUSERS.items() if not name.startswith(f"{part}/")}
    hub.files = rest | {f"{part}/config.json": b"{}"} | {f"{part}/{name}": LARGE for name in theirs}
    names = {each.name for each in listing(ID).files}
    assert names - rest.keys() == {f"{part}/config.json", *(f"{part}/{name}" for name in theirs[:wanted])}
    hub.files[f"{part}/diffusion_pytorch_model.bf16.safetensors"] = LARGE
    hub.files[f"{part}/diffusion_pytorch_model.fp32.safetensors"] = LARGE
    with refused("download_ambiguous"):
        listing(ID)
