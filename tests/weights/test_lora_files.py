"""LoRA files: every name in them is applied, left out or refused, and what is applied is what the file says."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoform.checkpoints.fp8 import Scaled
from kinoform.errors import KinoformError
from kinoform.families.lora import (
    COMFY_LORA,
    DIFFUSERS_LORA,
    KOHYA_LORA,
    LoRADialect,
)
from kinoform.families.lora_config import PEFT
from kinoform.loading.lora import attach_file, parameter_shapes, relative_size, save_lora, with_loras
from kinoform.loading.lora_file import open_lora
from kinoform.loading.parts import Parts, released_parts
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiT
from kinoform.models.lora import LoRASpec, adapters_of, attach, merge
from kinoform.models.lora_linear import linear_layers
from kinoform.models.packed import PackedLinear
from tests.support.official_folder import TRANSFORMER, write_official_folder
from tests.support.refusals import refused
from tests.weights.fuzz_files import damaged_safetensors
from tests.weights.lora_fixtures import (
    DIFFUSERS_Q,
    DIM,
    OFFICIAL_Q,
    Q_WEIGHT,
    RANK,
    Q,
    base,
    changes,
    opened,
    pair,
    written,
)

CPU = torch.device("cpu")
FORMS = {"comfy": COMFY_LORA, "diffusers": DIFFUSERS_LORA, "kohya": KOHYA_LORA}
WITH_IMAGE = replace(TRANSFORMER, context=(*TRANSFORMER.context, ImageContext(width=12)))


def learned(model: DiT, spec: LoRASpec, seed: int = 1) -> DiT:
    generator = torch.Generator().manual_seed(seed)
    found = attach(model, spec, generator=generator)
    for adapter in adapters_of(found)["lora"].values():
        adapter.up.data.copy_(0.05 * torch.randn(adapter.up.shape, generator=generator))
    return found


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor], within: float = 0.0) -> bool:
    return first.keys() == second.keys() and all((first[n] - second[n]).abs().max() <= within for n in first)


@pytest.mark.parametrize("alpha", [None, 1.5])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_saved_is_read_back(form: str, alpha: float | None, tmp_path: Path) -> None:
    model = learned(base(WITH_IMAGE), LoRASpec(rank=RANK, alpha=alpha))
    save_lora(tmp_path / "a.safetensors", model, dialect=FORMS[form], base="0123456789abcdef")
    file = open_lora(tmp_path / "a.safetensors", parameter_shapes(model))
    assert file.dialect == form and not file.absent and not file.unknown
    assert len(file.changes) == TRANSFORMER.layers * 12
    rounding = 1e-7 if form == "diffusers" and alpha else 0.0
    assert same(changes(attach_file(base(WITH_IMAGE), file, 1.0)), changes(model), rounding)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as held:
        told = held.metadata()
    kept = RANK if form == "diffusers" else alpha or RANK
    assert told == {"format": "pt", "rank": "4", "alpha": f"{kept:g}", "base_model_hash": "0123456789abcdef"}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_same_adapter_is_saved_as_the_same_bytes(form: LoRADialect, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_lora(tmp_path / f"{name}.safetensors", learned(base(), LoRASpec(rank=2)), dialect=form)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_names_are_those_of_the_official_code_and_of_diffusers(tmp_path: Path) -> None:
    model = learned(base(WITH_IMAGE), LoRASpec(patterns=("blocks.1.*",), rank=2))
    for name, form in FORMS.items():
        save_lora(tmp_path / f"{name}.safetensors", model, dialect=form)
    comfy, diffusers, kohya = (load_file(tmp_path / f"{name}.safetensors").keys() for name in FORMS)
    modules = [f"{part}.{name}" for part in ("self_attn", "cross_attn") for name in "qkvo"]
    modules += ["cross_attn.k_img", "cross_attn.v_img", "ffn.0", "ffn.2"]
    endings = ("lora_A.weight", "lora_B.weight", "alpha")
    assert comfy == {f"diffusion_model.blocks.1.{module}.{ending}" for module in modules for ending in endings}
    assert kohya == {
        f"lora_unet_blocks_1_{module.replace('.', '_')}.{ending}"
        for module in modules
        for ending in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    modules = [f"attn{part}.{name}" for part in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0")]
    modules += ["attn2.add_k_proj", "attn2.add_v_proj", "ffn.net.0.proj", "ffn.net.2"]
    assert diffusers == {f"transformer.blocks.1.{module}.{ending}" for module in modules for ending in endings[:2]}


def test_saving_is_refused_where_it_would_write_nothing_of_use(tmp_path: Path) -> None:
    model = learned(base(), LoRASpec(rank=2))
    with refused("unknown_name", "'other'"):
        save_lora(tmp_path / "a.safetensors", model, "other")
    with refused("wrong_suffix", ".safetensors"):
        save_lora(tmp_path / "a.pt", model)
    adapters_of(model)["lora"][Q].up.data[0, 0] = float("nan")
    with refused("not_finite", "self_attn.q"):
        save_lora(tmp_path / "a.safetensors", model)
    assert not list(tmp_path.iterdir())


ENDINGS = (
    "lora_A.weight lora_B.weight", "lora_down.weight lora_up.weight", "lora_A.default.weight lora_B.default.weight",
    "lora_A.default_0.weight lora_B.default_0.weight", "lora.down.weight lora.up.weight",
    "lora_linear_layer.down.weight lora_linear_layer.up.weight",
)  # fmt: skip
MODULES = (
    OFFICIAL_Q, f"model.{OFFICIAL_Q}", DIFFUSERS_Q, "blocks.0.self_attn.q", "base_model.model.blocks.0.self_attn.q",
    "transformer.base_model.model.blocks.0.attn1.to_q", "pipe.dit.blocks.0.self_attn.q", "blocks.0.attn1.to_q", Q,
)  # fmt: skip


SPELLINGS = [(module, ENDINGS[0]) for module in MODULES] + [(DIFFUSERS_Q, ending) for ending in ENDINGS[1:]]


@pytest.mark.parametrize(("module", "ending"), SPELLINGS)
def test_all_spellings_of_a_pair_are_one_change(module: str, ending: str, tmp_path: Path) -> None:
    tensors = dict(zip((f"{module}.{end}" for end in ending.split()), pair().values(), strict=True))
    model = attach_file(base(), opened(written(tmp_path, tensors)), 1.0)
    down, up = pair().values()
    assert [*changes(model)] == [Q] and torch.allclose(changes(model)[Q], up @ down, atol=1e-6)


def test_attention_processors_of_older_trainers_name_the_layer_behind_themselves(tmp_path: Path) -> None:
    endings = ("down.weight", "up.weight")
    place = "blocks.0.attn1.processor.{}_lora"
    tensors = {
        f"{place.format(layer)}.{end}": value
        for layer in ("to_q", "to_out")
        for end, value in zip(endings, pair().values(), strict=True)
    }
    assert opened(written(tmp_path, tensors)).changes.keys() == {Q_WEIGHT, "blocks.0.self_attention.o.weight"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_alpha_over_rank_is_the_scale_and_without_alpha_it_is_one(dtype: torch.dtype, tmp_path: Path) -> None:
    assert opened(written(tmp_path, pair())).scales == (1.0,)
    file = opened(written(tmp_path, pair() | {f"{OFFICIAL_Q}.alpha": torch.tensor(2, dtype=dtype)}))
    assert file.scales == (2 / RANK,)
    down, up = pair().values()
    assert torch.allclose(changes(attach_file(base(), file, 0.5))[Q], 0.5 * 2 / RANK * up @ down, atol=1e-6)
    assert "rank 4, alpha / rank 0.5 x strength 0.8 = 0.4" in file.description(0.8)


def test_layers_of_other_wan_models_are_left_out_and_counted(tmp_path: Path) -> None:
    absent = (
        "diffusion_model.blocks.0.cross_attn.k_img",
        "diffusion_model.img_emb.proj.1",
        "diffusion_model.vace_blocks.0.self_attn.q",
        "transformer_2.blocks.0.self_attn.q",
    )
    tensors = pair() | {name: value for module in absent for name, value in pair(module).items()}
    file = opened(written(tmp_path, tensors))
    assert (len(file.changes), file.unknown) == (1, ()) and len(file.absent) == 8
    counts = ("2 tensors applied (changes: 1 low rank)", "8 known elsewhere", "2 of VACE", "0 unknown; rank 4")
    assert all(count in file.description(1.0) for count in counts)
    image = parameter_shapes(base(replace(WITH_IMAGE, context=(*TRANSFORMER.context, ImageContext(width=DIM)))))
    assert len(open_lora(file.path, image).changes) == 3


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_model.blocks.0.self_attn.z.lora_A.weight",
        "diffusion_model.blocks.99.self_attn.q.lora_A.weight",
        "diffusion_model.blocks.99.cross_attn.k_img.lora_A.weight",
        "anything",
    ],
)
def test_unknown_names_are_refused_unless_waived(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, pair() | {name: torch.zeros(RANK, DIM)})
    with refused("lora_unknown_keys", "--lora-ignore-unknown"):
        opened(path)
    file = opened(path, ignore_unknown=True)
    assert file.unknown == (name,) and [*file.changes] == [Q_WEIGHT]


def test_a_file_that_would_change_nothing_is_refused(tmp_path: Path) -> None:
    with refused("lora_wrong_model", "the image source"):
        opened(written(tmp_path, pair("diffusion_model.blocks.0.cross_attn.k_img")))
    with refused("lora_wrong_model"):
        opened(written(tmp_path, pair("diffusion_model.blocks.0.self_attn.z")), ignore_unknown=True)


def test_a_whole_model_is_no_lora(tmp_path: Path) -> None:
    with refused("lora_missing", "--model"):
        opened(written(tmp_path, {"blocks.0.self_attn.q.weight": torch.zeros(DIM, DIM)}))


A, B, ALPHA = (f"{OFFICIAL_Q}.{end}" for end in ("lora_A.weight", "lora_B.weight", "alpha"))


def loha() -> dict[str, Tensor]:
    shapes = {f"w{n}_{side}": (DIM, 4) if side == "a" else (4, DIM) for n in (1, 2) for side in "ab"}
    return {f"{OFFICIAL_Q}.hada_{name}": torch.zeros(shape) for name, shape in shapes.items()}


def lokr(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {f"{OFFICIAL_Q}.lokr_{name}": torch.zeros(shape) for name, shape in shapes.items()}


BAD: Mapping[str, tuple[dict[str, Tensor], str, str]] = {
    "half": ({A: torch.zeros(4, DIM)}, "lora_incomplete", OFFICIAL_Q),
    "other half": ({B: torch.zeros(DIM, 4), **pair(OFFICIAL_Q.replace("0", "1"))}, "lora_incomplete", OFFICIAL_Q),
    "ranks": ({A: torch.zeros(4, DIM), B: torch.zeros(DIM, 5)}, "lora_damaged", "4 and 5"),
    "no rank": ({A: torch.zeros(0, DIM), B: torch.zeros(DIM, 0)}, "lora_damaged", "0 and 0"),
    "great rank": ({A: torch.zeros(4097, DIM), B: torch.zeros(DIM, 4097)}, "lora_damaged", "4096"),
    "size": (pair(into=DIM + 8), "lora_wrong_model", str(DIM + 8)),
    "another layer's size": (pair(out=DIM + 8), "lora_wrong_model", OFFICIAL_Q),
    "integers": ({A: torch.zeros(4, DIM, dtype=torch.int8), B: torch.zeros(DIM, 4)}, "lora_unsupported", OFFICIAL_Q),
    "twice": (pair() | pair(f"model.{OFFICIAL_Q}"), "lora_ambiguous", OFFICIAL_Q),
    "kernel behind": ({A: torch.zeros(4, DIM), B: torch.zeros(DIM // 2, 4, 2)}, "lora_damaged", "matrix"),
    "LoHa of two ranks": (
        loha() | {f"{OFFICIAL_Q}.hada_w1_a": torch.zeros(DIM, 3), f"{OFFICIAL_Q}.hada_w1_b": torch.zeros(3, DIM)},
        "lora_damaged",
        "3 and 4",
    ),
    "LoHa with a kernel": (loha() | {f"{OFFICIAL_Q}.hada_w1_a": torch.zeros(DIM, 4, 1)}, "lora_damaged", "hada_w1_a"),
    "LoKr whole and in parts": (
        lokr(w1=(2, 2), w1_a=(2, 1), w1_b=(1, 2), w2=(DIM // 2, DIM // 2)),
        "lora_damaged",
        "lokr_w1_a",
    ),
    "LoKr with a kernel": (lokr(w1=(2, 2), w2_a=(DIM // 2, 2, 1), w2_b=(2, DIM // 2)), "lora_damaged", "lokr_w2_a"),
    "LoKr of another size": (lokr(w1=(3, 3), w2=(DIM // 2, DIM // 2)), "lora_wrong_model", str(3 * DIM // 2)),
    "modulation twice": (
        {f"diffusion_model.blocks.0.{name}": torch.zeros(1, 6, DIM) for name in ("diff_m", "modulation.diff")},
        "lora_ambiguous",
        "diff_m",
    ),
    "DoRA of a norm": (
        {f"diffusion_model.blocks.0.norm3.{name}": torch.ones(DIM) for name in ("diff", "dora_scale")},
        "lora_damaged",
        "norm3",
    ),
    "shape of NaN": (
        pair() | {"diffusion_model.patch_embedding.reshape_weight": torch.full((5,), float("nan"))},
        "lora_other_inputs",
        "patch_embedding",
    ),
    "alphas": (pair() | {ALPHA: torch.ones(3)}, "lora_damaged", OFFICIAL_Q),
    **{
        f"alpha {value}": (pair() | {ALPHA: torch.tensor(value)}, "lora_damaged", OFFICIAL_Q)
        for value in (0.0, -1.0, float("nan"), float("inf"), 1e9)
    },
}


@pytest.mark.parametrize("kind", BAD)
def test_files_that_cannot_be_right_are_refused_by_their_header(kind: str, tmp_path: Path) -> None:
    tensors, code, named = BAD[kind]
    with refused(code, named) as caught:
        opened(written(tmp_path, tensors))
    assert "style.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "code"),
    [(float("nan"), "weights_not_finite"), (float("inf"), "weights_not_finite"), (1e30, "weights_overflow_dtype")],
)
def test_numbers_that_would_spoil_a_video_are_refused(value: float, code: str, tmp_path: Path) -> None:
    tensors = pair()
    tensors[A][1, 2] = value
    model = base()
    linear_layers(model)[Q].weight.data = linear_layers(model)[Q].weight.data.half()
    with refused(code):
        attach_file(model, opened(written(tmp_path, tensors)), 1.0)


def test_adapters_of_a_file_compute_in_the_dtype_of_their_layer(tmp_path: Path) -> None:
    model = base().bfloat16()
    adapter = adapters_of(attach_file(model, opened(written(tmp_path, pair())), 1.0))["lora_style"][Q]
    assert adapter.down.dtype == adapter.up.dtype == torch.bfloat16
    assert not adapter.down.requires_grad and not adapter.up.requires_grad


def test_files_stand_beside_weights_that_are_packed(tmp_path: Path) -> None:
    plain, kept = base(), base()
    for model in (plain, kept):
        layer = linear_layers(model)[Q]
        rows = layer.weight.data.to(torch.float8_e4m3fn)
        layer.weight.data = rows.float()
        if model is kept:
            packing = Scaled(dtype=torch.float8_e4m3fn, columns=DIM)
            kept.set_submodule(Q, PackedLinear(rows.view(torch.uint8), packing, layer.bias, torch.float32))
    file, x = opened(written(tmp_path, pair())), torch.randn(3, DIM, generator=torch.Generator().manual_seed(3))
    plain, kept = (attach_file(model, file, 0.5) for model in (plain, kept))
    assert torch.equal(linear_layers(kept)[Q](x), linear_layers(plain)[Q](x))
    assert relative_size(kept, "lora_style") == relative_size(plain, "lora_style")


def test_layers_that_no_official_model_has_keep_their_own_names(tmp_path: Path) -> None:
    own = replace(TRANSFORMER, context=(*TRANSFORMER.context, TextContext(width=5, length=4, name="melody")))
    model = learned(base(own), LoRASpec(patterns=("streams.melody.*", "self_attention.q"), rank=2))
    for form in FORMS.values():
        save_lora(tmp_path / "style.safetensors", model, dialect=form, force=True)
        file = open_lora(tmp_path / "style.safetensors", parameter_shapes(model))
        assert same(changes(attach_file(base(own), file, 1.0)), changes(model))
        with refused("lora_unknown_keys", "melody"):
            opened(tmp_path / "style.safetensors")


def test_changes_of_an_unusual_size_are_warned_of(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    file = opened(written(tmp_path, pair()))
    model = attach_file(base(), file, 0.1)
    assert not recwarn.list
    layer = linear_layers(model)[Q]
    assert relative_size(model, "lora_style") == pytest.approx((changes(model)[Q].norm() / layer.weight.norm()).item())
    for strength in (100.0, 1e-6):
        with pytest.warns(UserWarning, match=r"style\.safetensors at strength"):
            attach_file(base(), file, strength)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("models") / "official"
    write_official_folder(folder)
    return released_parts(folder, variant=None)


def test_parts_load_with_loras_on_them(parts: Parts, tmp_path: Path) -> None:
    path, lines = written(tmp_path, pair()), []
    changed = with_loras(parts, [(path, 0.5), (path, -0.25)], lines.append)
    assert len(lines) == 2 and all("2 tensors applied" in line for line in lines)
    model = changed.transformer(torch.float32, CPU)
    assert [*adapters_of(model)] == ["lora_style", "lora_style_2"]
    down, up = pair().values()
    assert torch.allclose(changes(model)[Q], 0.25 * up @ down, atol=1e-6)
    merge(model)
    assert len(lines) == 4 and "at strength 1, " in lines[2]
    changed.transformer(torch.float32, CPU)
    assert len(lines) == 4
    plain = parts.transformer(torch.float32, CPU)
    assert not adapters_of(plain)
    assert torch.allclose(linear_layers(model)[Q].weight, linear_layers(plain)[Q].weight + 0.25 * up @ down, atol=1e-6)


def test_parts_that_are_kept_stay_free_of_loras(parts: Parts, tmp_path: Path) -> None:
    shared = parts.transformer(torch.float32, CPU)
    changed = with_loras(
        replace(parts, transformers=(lambda dtype, device: shared,)), [(written(tmp_path, pair()), 1.0)], print
    )
    for _ in range(2):
        assert [*adapters_of(changed.transformer(torch.float32, CPU))] == ["lora_style"]
    assert not adapters_of(shared)


def test_the_fingerprint_tells_files_and_strengths_apart(parts: Parts, tmp_path: Path) -> None:
    path = written(tmp_path, pair())
    other = tmp_path / "other.safetensors"
    save_file(pair("diffusion_model.blocks.0.ffn.0", out=56), other)
    chosen = [[], [(path, 1.0)], [(path, 0.5)], [(other, 1.0)], [(path, 1.0), (other, 1.0)]]
    found = [with_loras(parts, each, lambda line: None).fingerprint() for each in chosen]
    assert len(set(found)) == len(found) and found[0] == parts.fingerprint()
    assert found[1] == with_loras(parts, [(path, 1.0)], lambda line: None).fingerprint()


def test_strengths_are_checked_before_any_file(parts: Parts) -> None:
    with refused("value_out_of_range", "nan"):
        with_loras(parts, [(Path("nowhere"), float("nan"))], print)
    with refused("weights_missing", "nowhere.safetensors"):
        with_loras(parts, [(Path("nowhere.safetensors"), 1.0)], print)


def test_damaged_files_are_read_or_refused_in_words(tmp_path: Path) -> None:
    said = {PEFT: json.dumps({"transformer.lora_alpha": 2, "transformer.alpha_pattern": {"to_q": 3}})}
    whole = written(tmp_path, pair(DIFFUSERS_Q) | {f"{DIFFUSERS_Q}.alpha": torch.tensor(2.0)}, said).read_bytes()
    dice, model, count = random.Random(0), base(), 0
    layers = parameter_shapes(model)
    for _ in range(150):
        (tmp_path / "broken.safetensors").write_bytes(damaged_safetensors(dice, whole))
        try:
            attach_file(model, open_lora(tmp_path / "broken.safetensors", layers), 0.1)
        except KinoformError as error:
            assert "broken.safetensors" in str(error)
            count += 1
    assert 50 < count < 150
