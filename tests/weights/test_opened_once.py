"""A load parses the header of each file once, and keeps no file open; what changes between header and data is told."""

import shutil
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.checkpoints import files, formats, gguf_header, reader
from kinoform.checkpoints.formats import read_data
from kinoform.checkpoints.hashes import file_hash
from kinoform.checkpoints.headers import Header
from kinoform.families.identify import inspect_path
from kinoform.loading.lora import with_loras
from kinoform.loading.lora_file import open_lora
from kinoform.loading.parts import Parts, released_parts
from kinoform.models.lora import adapters_of
from kinoform.recipes.catalogue import ASSETS
from kinoform.recipes.load import load
from tests.support.comfy_files import write_comfy_folders
from tests.support.diffusers_folder import write_diffusers_folder
from tests.support.official_folder import SINGLE, TEXT_FILE, write_official_folder
from tests.support.refusals import refused
from tests.weights.lora_fixtures import layers, pair, written

CPU = torch.device("cpu")


def official(root: Path) -> Path:
    write_official_folder(root / "wan", shards=3, kind="i2v")
    return root / "wan"


def diffusers(root: Path) -> Path:
    write_diffusers_folder(root / "wan")
    return root / "wan"


def own(root: Path) -> Path:
    shutil.copytree(ASSETS / "mini", root / "wan")
    return root / "wan"


LAYOUTS: dict[str, tuple[Callable[[Path], Path], int, str | None]] = {
    "official, in shards with an index": (official, 6, "i2v-14b-480p"),
    "diffusers": (diffusers, 3, None),
    "kinoform": (own, 3, None),
    "single file": (write_comfy_folders, 3, None),
}
"""How each is written, and how many weight files it has, and which model it is."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often the header of each file was parsed."""
    counts: Counter[Path] = Counter()

    def counted(read: Callable[[Path], Header]) -> Callable[[Path], Header]:
        def call(path: Path) -> Header:
            counts[path.resolve()] += 1
            return read(path)

        return call

    monkeypatch.setattr(reader, "read_header", counted(reader.read_header))
    monkeypatch.setattr(reader, "read_gguf_header", counted(gguf_header.read_gguf_header))
    monkeypatch.setattr(formats, "read_pickle_header", counted(formats.read_pickle_header))
    return counts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_header_is_parsed_once(layout: str, parsed: Counter[Path], tmp_path: Path) -> None:
    write, files, variant = LAYOUTS[layout]
    parts = load(write(tmp_path), device="cpu", variant=variant).parts
    assert len(parsed) == files and set(parsed.values()) == {1}
    parts.tokenizer()
    parts.transformer(torch.float32, CPU)
    parts.text_encoder(torch.float32, CPU)
    parts.codec(CPU)
    assert set(parsed.values()) == {1}


def mapped() -> str:
    return Path("/proc/self/maps").read_text()


def loaded_text(parts: Parts) -> None:
    parts.text_encoder(torch.float32, CPU)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="maps of memory are told by Linux alone")
def test_no_mapping_of_a_pickle_outlives_a_load(tmp_path: Path) -> None:
    write_official_folder(tmp_path / "wan")
    parts = released_parts(tmp_path / "wan")
    assert TEXT_FILE not in mapped()
    loaded_text(parts)
    assert TEXT_FILE not in mapped()


def replaced(path: Path) -> None:
    tensors = load_file(path)
    path.unlink()
    save_file({name: value.half() for name, value in tensors.items()}, path)


@pytest.mark.parametrize(
    ("change", "code"), [(replaced, "weights_changed_meanwhile"), (Path.unlink, "weights_unreadable")]
)
def test_a_file_that_changes_behind_its_header_is_refused(
    change: Callable[[Path], None], code: str, tmp_path: Path
) -> None:
    write_official_folder(tmp_path / "wan")
    parts = released_parts(tmp_path / "wan")
    change(tmp_path / "wan" / SINGLE)
    with refused(code):
        parts.transformer(torch.float32, CPU)


def test_a_lora_is_read_once_from_its_load_to_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, pair())
    opens: Counter[Path] = Counter()
    original = Path.open

    def counted(path: Path, *arguments: Any, **options: Any) -> Any:
        opens[path] += 1
        return original(path, *arguments, **options)

    write_official_folder(tmp_path / "wan")
    base = released_parts(tmp_path / "wan")
    monkeypatch.setattr(Path, "open", counted)
    parts = with_loras(base, [(file, 1.0)], lambda line: None)
    assert opens[file] == 3, "to look at its first bytes, to parse its header, to read it"
    assert parts.lora_hashes == (file_hash(file),)
    opens.clear()
    assert parts.fingerprint() != base.fingerprint()
    parts.transformer(torch.float32, CPU)
    assert not opens[file]


def test_the_bytes_of_a_lora_are_gone_when_a_transformer_has_its_matrices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, pair())
    held: list[weakref.ref[Tensor]] = []

    def kept(*arguments: Any) -> Tensor:
        data = read_data(*arguments)
        if arguments[0] == file:
            held.append(weakref.ref(data))
        return data

    write_official_folder(tmp_path / "wan")
    monkeypatch.setattr(files, "read_data", kept)
    parts = with_loras(released_parts(tmp_path / "wan"), [(file, 1.0)], lambda line: None)
    for count in (1, 2):
        assert [*adapters_of(parts.transformer(torch.float32, CPU))]
        assert len(held) == count and all(data() is None for data in held)
    save_file({name: value + 1 for name, value in pair().items()}, file)
    with refused("weights_changed_meanwhile"):
        parts.transformer(torch.float32, CPU)
    assert parts.lora_hashes != (file_hash(file),)


def test_a_lora_in_shards_is_read_whole_or_refused_as_inspect_does(tmp_path: Path) -> None:
    first, second = (tmp_path / f"style-{number:05d}-of-00002.safetensors" for number in (1, 2))
    down, up = pair().items()
    save_file(dict([down]), first)
    for act in (inspect_path, lambda path: open_lora(path, layers())):
        with refused("weights_missing", second.name):
            act(first)
    save_file(dict([up]), second)
    assert len(open_lora(first, layers()).changes) == 1 and inspect_path(first)[0].sizes["modules"] == 1
