"""Changes that are no plain LoRA are named and refused, never applied in part; `inspect` names them too."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kinoform.families.identify import inspect_path
from tests.support.refusals import refused
from tests.weights.lora_fixtures import DIFFUSERS_Q, DIM, OFFICIAL_Q, Q_WEIGHT, RANK, opened, pair, written

VECTOR, MATRIX = torch.ones(DIM), torch.ones(DIM, DIM)

BESIDE: Mapping[str, tuple[str, ...]] = {
    "LoKr with a first core": (f"{OFFICIAL_Q}.lokr_t1",),
    "OFT or BOFT": (f"{OFFICIAL_Q}.oft_blocks", f"{OFFICIAL_Q}.oft_R.default.weight", f"{OFFICIAL_Q}.boft_s.default"),
    "(IA)3": (f"{OFFICIAL_Q}.ia3_l", f"{OFFICIAL_Q}.ia3_l.default", f"{OFFICIAL_Q}.on_input"),
    "VeRA": (f"{OFFICIAL_Q}.vera_lambda_b", "base_model.vera_A.default"),
    "GLoRA": (f"{OFFICIAL_Q}.a1.weight", f"{OFFICIAL_Q}.glora_A"),
    "AdaLoRA": (f"{OFFICIAL_Q}.lora_E", f"{OFFICIAL_Q}.lora_ranknum.default"),
    "LoRA with biases": (
        f"{OFFICIAL_Q}.lora_B.bias", f"{DIFFUSERS_Q}.lora_B.default.bias",
        f"{OFFICIAL_Q}.lora_up.bias",
    ),
    "another method of peft": (f"{OFFICIAL_Q}.hra_u", f"{OFFICIAL_Q}.fourierft_spectrum.default"),
    "a method without a name": (f"{OFFICIAL_Q}.lora_gate", f"{OFFICIAL_Q}.wonder.default"),
}  # fmt: skip
CASES = [(method, name) for method, names in BESIDE.items() for name in names]


@pytest.mark.parametrize(("method", "name"), CASES)
def test_what_would_be_dropped_from_a_change_is_named_and_cannot_be_waived(
    method: str, name: str, tmp_path: Path
) -> None:
    path = written(tmp_path, pair() | {name: VECTOR})
    for waived in (False, True):
        with refused("lora_unsupported") as caught:
            opened(path, ignore_unknown=waived)
        assert method in str(caught.value) and name in str(caught.value)
        assert "--lora-ignore-unknown" not in str(caught.value) and "diffusion_model.)" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "name"), [case for case in CASES if " name" not in case[0] and "beside" not in case[0]]
)
def test_inspect_names_the_method_too(method: str, name: str, tmp_path: Path) -> None:
    (found,) = inspect_path(written(tmp_path, pair() | {name: VECTOR}))
    assert (found.part, found.methods, found.unknown) == ("lora", (method,), ())


@pytest.mark.parametrize(
    ("method", "ends"),
    [("VeRA", ("vera_lambda_b", "vera_lambda_d")), ("OFT or BOFT", ("oft_blocks", "alpha"))],
)  # fmt: skip
@pytest.mark.parametrize(
    "module", [OFFICIAL_Q, "lycoris_blocks_0_self_attn_q", "base_model.model.blocks.0.self_attn.q"]
)
def test_files_of_one_method_alone_are_known_as_that(
    method: str, ends: tuple[str, ...], module: str, tmp_path: Path
) -> None:
    path = written(tmp_path, {f"{module}.{end}": MATRIX.clone() for end in ends})
    with refused("lora_unsupported") as caught:
        opened(path, ignore_unknown=True)
    assert method in str(caught.value)
    assert inspect_path(path)[0].methods == (method,)


def test_changes_of_parts_of_other_models_alone_are_left_out_with_them(tmp_path: Path) -> None:
    names = ("blocks.0.cross_attn.norm_k_img.diff", "img_emb.proj.0.diff_b", "vace_blocks.0.norm3.diff")
    file = opened(written(tmp_path, pair() | {f"diffusion_model.{name}": VECTOR.clone() for name in names}))
    assert [*file.changes] == [Q_WEIGHT] and len(file.absent) == 3 and not file.unknown


def blocks(dim: int, count: int, ending: str = "lora_A.weight") -> dict[str, Tensor]:
    down, up = torch.zeros(2, dim, dtype=torch.bfloat16), torch.zeros(dim, 2, dtype=torch.bfloat16)
    ends = ((ending, down), (ending.replace("A", "B"), up))
    return {
        f"diffusion_model.blocks.{block}.self_attn.q.{end}": value.clone()
        for block in range(count)
        for end, value in ends
    }


@pytest.mark.parametrize(
    "beside", [{}, {"diffusion_model.blocks.0.norm3.diff": VECTOR, "diffusion_model.odd": torch.ones(3)}]
)
@pytest.mark.parametrize(
    ("dim", "count", "model"),
    [(5120, 40, "t2v-14b"), (1536, 30, "t2v-1.3b"), (3072, 30, "ti2v-5b"), (640, 2, "no released")],
)
def test_the_size_is_judged_first_and_the_model_named(
    dim: int, count: int, model: str, beside: dict[str, Tensor], tmp_path: Path
) -> None:
    path = written(tmp_path, blocks(dim, count) | beside)
    for waived in (False, True):
        with refused("lora_wrong_model") as caught:
            opened(path, ignore_unknown=waived)
        assert model in str(caught.value) and str(dim) in str(caught.value) and str(DIM) in str(caught.value)
        assert "--lora-ignore-unknown" not in str(caught.value)


def test_a_file_for_another_family_is_called_that(tmp_path: Path) -> None:
    for waived in (False, True):
        with refused("lora_wrong_model") as caught:
            opened(written(tmp_path, pair("transformer.double_blocks.0.img_attn.proj")), ignore_unknown=waived)
        assert "Flux" in str(caught.value)


def test_bare_official_names_are_called_official(tmp_path: Path) -> None:
    down, up = pair().values()
    alpha = torch.tensor(2, dtype=torch.int64)
    name = "blocks.0.self_attn.q"
    path = written(tmp_path, {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": alpha})
    assert inspect_path(path)[0].dialect == "official"
    assert opened(path).scales == (2 / RANK,)
