"""Settings that peft keeps of a LoRA decide how strongly it counts, and are read or refused."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors.torch import save_file

from kinoform.families.identify import inspect_path
from kinoform.families.lora_config import PEFT
from tests.support.refusals import refused
from tests.weights.lora_fixtures import DIFFUSERS_Q, RANK, Q, opened, pair, written

OTHER = "blocks.1.attn1.to_q"
OTHER_LAYER = "blocks.1.self_attention.q"


def scales(folder: Path, said: Mapping[str, object]) -> dict[str, float]:
    """alpha / rank of two layers, of a file that says this of itself."""
    tensors = pair(DIFFUSERS_Q) | pair(f"transformer.{OTHER}")
    metadata = {PEFT: json.dumps({f"transformer.{key}": value for key, value in said.items()})}
    file = opened(written(folder, tensors, metadata))
    return {name.removesuffix(".weight"): change.scale for name, change in file.changes.items()}


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_alphas_in_the_metadata_of_diffusers_are_read(prefix: str, tmp_path: Path) -> None:
    other = "blocks.1.attn1.to_q"
    tensors = {f"{prefix}{name}": v for m in ("blocks.0.attn1.to_q", other) for name, v in pair(m).items()}
    said = {f"{prefix}r": RANK, f"{prefix}lora_alpha": 2, f"{prefix}alpha_pattern": {other: 12}}
    file = opened(written(tmp_path, tensors, {PEFT: json.dumps(said)}))
    assert {name: change.scale for name, change in file.changes.items()} == {
        f"{Q}.weight": 0.5, "blocks.1.self_attention.q.weight": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "pattern",
    [
        OTHER, f"^{OTHER}", f"^transformer.{OTHER}",
        r"blocks\.1\.attn1\.to_q", "1.attn1.to_q", r"^blocks\.1\..*", r".*1\.attn1.*",
        r"blocks\.[1-9]\.attn1\.to_[qkv]", r"(blocks\.1|blocks\.7)\.attn1\.to_q$",
        r"^blocks.1.(?:attn1|attn2).to_(q|k)",
    ],
)  # fmt: skip
def test_patterns_choose_modules_as_peft_does(pattern: str, tmp_path: Path) -> None:
    found = scales(tmp_path, {"lora_alpha": RANK, "alpha_pattern": {pattern: 3 * RANK}})
    assert found == {Q: 1.0, OTHER_LAYER: 3.0}


@pytest.mark.parametrize("pattern", ["^attn1.to_q", "ttn1.to_q", r"^\d\.attn1\.to_q", "blocks.1.attn1", "to_k"])
def test_patterns_that_fit_no_module_choose_none(pattern: str, tmp_path: Path) -> None:
    found = scales(tmp_path, {"lora_alpha": RANK, "alpha_pattern": {pattern: 3 * RANK}})
    assert found == {Q: 1.0, OTHER_LAYER: 1.0}


def test_the_first_pattern_that_fits_counts(tmp_path: Path) -> None:
    for patterns, expected in (({"to_q": 8, f"^{OTHER}": 12}, 2.0), ({f"^{OTHER}": 12, "to_q": 8}, 3.0)):
        assert scales(tmp_path, {"lora_alpha": 4, "alpha_pattern": patterns})[OTHER_LAYER] == expected


def test_rank_stabilised_lora_counts_by_the_root_of_its_rank(tmp_path: Path) -> None:
    found = scales(tmp_path, {"lora_alpha": 3, "use_rslora": True, "alpha_pattern": {f"^{OTHER}": 5}})
    assert found == {Q: pytest.approx(3 / math.sqrt(RANK)), OTHER_LAYER: pytest.approx(5 / math.sqrt(RANK))}


def test_the_configuration_beside_a_file_of_peft_counts(tmp_path: Path) -> None:
    file = tmp_path / "adapter_model.safetensors"
    save_file(pair("base_model.model.blocks.0.self_attn.q"), file)
    assert opened(file).scales == (1.0,) and opened(file).files == (file,)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "init_lora_weights": True}))
    assert opened(file).scales == (2.0,) and opened(file).files == (file, config)
    file.rename(tmp_path / "style.safetensors")
    assert opened(tmp_path / "style.safetensors").scales == (1.0,)
    config.write_text(json.dumps({"peft_type": "VERA", "lora_alpha": 1}))
    (tmp_path / "style.safetensors").rename(file)
    with refused("lora_unsupported"):
        opened(file)


@pytest.mark.parametrize(
    "said",
    [{"lora_bias": True}, {"peft_type": "VERA"}, {"init_lora_weights": "pissa_niter_16"},
     {"init_lora_weights": "olora"}, {"layer_replication": [[0, 4]]}],
)  # fmt: skip
def test_methods_that_the_matrices_alone_do_not_tell_are_refused(said: dict[str, object], tmp_path: Path) -> None:
    with refused("lora_unsupported"):
        scales(tmp_path, said)
    (method,) = inspect_path(tmp_path / "style.safetensors")[0].methods
    with refused("lora_unsupported") as caught:
        opened(tmp_path / "style.safetensors")
    assert method in str(caught.value)
    assert scales(tmp_path, {"init_lora_weights": "gaussian", "use_dora": False})[Q] == 1.0


def test_dora_without_its_lengths_is_refused(tmp_path: Path) -> None:
    with refused("lora_incomplete", "DoRA"):
        scales(tmp_path, {"lora_alpha": RANK, "use_dora": True})


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(?=x)y", "a{1000}b", "x.*.*.*y", "(", "a" * 301 + ".*", "(.*)*", "\\1", "[", "[a-z"]
)
def test_patterns_that_could_be_costly_or_are_damaged_are_refused(pattern: str, tmp_path: Path) -> None:
    with refused("lora_unsupported"):
        scales(tmp_path, {"lora_alpha": 8, "alpha_pattern": {pattern: 1}})


def test_many_patterns_are_refused_and_many_names_are_not(tmp_path: Path) -> None:
    with refused("lora_unsupported"):
        scales(tmp_path, {"lora_alpha": 8, "alpha_pattern": {f"a.*{number}": 1 for number in range(17)}})
    names = {f"^blocks.{number}.attn1.to_k": 1 for number in range(5000)}
    assert scales(tmp_path, {"lora_alpha": RANK, "alpha_pattern": names})[Q] == 1.0


DAMAGED = ['{"lora_alpha": ', "[]", '{"lora_alpha": "8"}', '{"lora_alpha": true}', '{"lora_alpha": 1e999}',
           '{"lora_alpha": 8, "alpha_pattern": 3}', '{"transformer.use_rslora": true}', "[" * 100_000,
           '"' + "x" * 1_000_001 + '"']  # fmt: skip
NOT_READ = '{"lora_alpha": 8, "alpha_pattern": {"(a+)+$": 1}}'


@pytest.mark.parametrize(
    ("said", "code"), [*[(said, "lora_damaged") for said in DAMAGED], (NOT_READ, "lora_unsupported")]
)
def test_metadata_that_are_damaged_or_not_read_are_refused(said: str, code: str, tmp_path: Path) -> None:
    with refused(code, "style.safetensors"):
        opened(written(tmp_path, pair(DIFFUSERS_Q), {PEFT: said}))
