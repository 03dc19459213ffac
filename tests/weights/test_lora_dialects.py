"""Every dialect of LoRA files is the change that its formula says, computed here in float64 from the raw tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kinoform.checkpoints.fp8 import Scaled
from kinoform.loading.lora import attach_file, relative_size
from kinoform.models.dit import DiT
from kinoform.models.lora import bare, changes_of, merge, set_strength, unmerge
from kinoform.models.lora_linear import linear_layers
from kinoform.models.packed import PackedLinear
from tests.support.refusals import refused
from tests.weights.lora_fixtures import DIM, base, opened, written

RANK, FFN, STRENGTH = 3, 56, 0.6
QW, UPW, KW = "blocks.0.self_attention.q", "blocks.1.feed_forward.0", "blocks.2.cross_attention.streams.text.k"
LAYERS = {QW: (DIM, DIM), UPW: (FFN, DIM), KW: (DIM, DIM)}
OFFICIAL = {QW: "blocks.0.self_attn.q", UPW: "blocks.1.ffn.0", KW: "blocks.2.cross_attn.k"}
DIFFUSERS = {QW: "blocks.0.attn1.to_q", UPW: "blocks.1.ffn.net.0.proj", KW: "blocks.2.attn2.to_k"}

pytestmark = pytest.mark.filterwarnings("ignore:.*of their size")

Tensors = dict[str, Tensor]
Formula = Callable[[Tensor], Tensor]
"""The difference of a parameter, in float64, from its value."""


@cache
def shared() -> DiT:
    """The model, of which copies alone are changed."""
    return base()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A file, and the parameters that it changes, each by its formula."""

    tensors: Tensors
    changes: Mapping[str, Formula]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def constant(value: Tensor) -> Formula:
    return lambda weight: value.double().reshape(weight.shape)


def of_layers(spell: Callable[[str], str], down: str, up: str, alpha: float | None = None) -> Told:
    """Low-rank changes of three layers, whose modules are spelled so; ranks differ."""
    tensors, changes = Tensors(), dict[str, Formula]()
    for rank, (layer, (out, into)) in enumerate(LAYERS.items(), RANK):
        a, b = drawn(rank, into), drawn(out, rank, seed=1)
        module = spell(layer)
        tensors |= {f"{module}.{down}": a, f"{module}.{up}": b}
        scale = 1.0
        if alpha is not None:
            tensors[f"{module}.alpha"] = torch.tensor(alpha)
            scale = alpha / rank
        changes[f"{layer}.weight"] = constant(b.double() @ a.double() * scale)
    return Told(tensors=tensors, changes=changes)


def dotted(prefix: str, names: Mapping[str, str] = OFFICIAL) -> Callable[[str], str]:
    return lambda layer: prefix + names[layer]


def flat(prefix: str, names: Mapping[str, str] = OFFICIAL) -> Callable[[str], str]:
    return lambda layer: prefix + names[layer].replace(".", "_")


A, B = "lora_A.weight", "lora_B.weight"
D, U = "lora_down.weight", "lora_up.weight"
DEFAULT = ("lora_A.default.weight", "lora_B.default.weight")

SPELLINGS = {
    "diffusion-pipe": of_layers(dotted("diffusion_model."), A, B),
    "ai-toolkit 2.2": of_layers(dotted("diffusion_model.transformer_1."), A, B),
    "finetrainers": of_layers(dotted("transformer.", DIFFUSERS), A, B),
    "bare diffusers": of_layers(dotted("", DIFFUSERS), A, B),
    "old diffusers": of_layers(dotted("transformer.", DIFFUSERS), "lora.down.weight", "lora.up.weight"),
    "musubi": of_layers(flat("lora_unet_"), D, U, 2.0),
    "kohya of diffusers' names": of_layers(flat("lora_unet_", DIFFUSERS), D, U, 2.0),
    "kohya, half dotted": of_layers(lambda layer: OFFICIAL[layer].replace("blocks.", "lora_unet_blocks_"), D, U, 2.0),
    "kohya without alpha": of_layers(flat("lora_unet_"), D, U),
    "VideoX-Fun": of_layers(flat("lora_unet__"), D, U, 8.0),
    "DiffSynth": of_layers(dotted(""), *DEFAULT),
    "DiffSynth, pipe.dit": of_layers(dotted("pipe.dit."), *DEFAULT),
    "PEFT": of_layers(dotted("base_model.model."), A, B),
    "PEFT in diffusers": of_layers(
        dotted("transformer.base_model.model.", DIFFUSERS), "lora_A.default_0.weight", "lora_B.default_0.weight"
    ),
    "bare official": of_layers(dotted(""), D, U, 8.0),
    "LyCORIS": of_layers(flat("lycoris_"), D, U, 1.0),
    "kinoform's own": of_layers(dotted("", {layer: layer for layer in LAYERS}), A, B),
}


def hadamard(weight: str, out: int, into: int, alpha: float | None) -> Told:
    one_a, one_b, two_a, two_b = (
        drawn(out, RANK), drawn(RANK, into, seed=1), drawn(out, RANK, seed=2), drawn(RANK, into, seed=3)
    )  # fmt: skip
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    module = f"lycoris_{OFFICIAL[weight].replace('.', '_')}"
    tensors = {f"{module}.{name}": value for name, value in zip(names, (one_a, one_b, two_a, two_b), strict=True)}
    if alpha is not None:
        tensors[f"{module}.alpha"] = torch.tensor(alpha)
    total = (one_a.double() @ one_b.double()) * (two_a.double() @ two_b.double())
    return Told(tensors=tensors, changes={f"{weight}.weight": constant(total * (alpha or RANK) / RANK)})


def kronecker(first: bool, second: bool, core: bool = False) -> Told:
    """LoKr of the feed-forward, 7 x 4 by 8 x 6; each factor whole or not."""
    module = "diffusion_model.blocks.1.ffn.0"
    one_a, one_b, two_a, two_b = drawn(7, RANK), drawn(RANK, 4), drawn(8, RANK), drawn(RANK, 6)
    middle = drawn(RANK, RANK, seed=4)
    one, two = one_a.double() @ one_b.double(), two_a.double() @ two_b.double()
    tensors = {"lokr_w1": one.float()} if first else {"lokr_w1_a": one_a, "lokr_w1_b": one_b}
    if core:
        outward = two_a.T.contiguous()  # a core's first matrix stands the other way
        tensors |= {"lokr_t2": middle, "lokr_w2_a": outward, "lokr_w2_b": two_b}
        two = outward.double().T @ middle.double() @ two_b.double()
    else:
        tensors |= {"lokr_w2": two.float()} if second else {"lokr_w2_a": two_a, "lokr_w2_b": two_b}
    scale = 1.0 if first and second else 2.0 / RANK
    total = torch.stack([torch.cat([number * two for number in row], dim=1) for row in one]).flatten(0, 1) * scale
    return Told(
        tensors={f"{module}.{name}": value for name, value in tensors.items()} | {f"{module}.alpha": torch.tensor(2.0)},
        changes={f"{UPW}.weight": constant(total)},
    )


def dora(ending: str, shape: tuple[int, ...], *, columns: bool = False) -> Told:
    a, b, lengths = drawn(RANK, DIM), drawn(DIM, RANK), 1 + drawn(DIM).abs()
    module = "diffusion_model.blocks.0.self_attn.q"

    def formula(weight: Tensor) -> Tensor:
        changed = weight.double() + b.double() @ a.double() * 1.5 / RANK
        norms = changed.norm(dim=0, keepdim=True) if columns else changed.norm(dim=1, keepdim=True)
        return lengths.double().view_as(norms) * changed / norms - weight.double()

    tensors = {f"{module}.{D}": a, f"{module}.{U}": b, f"{module}.alpha": torch.tensor(1.5)}
    return Told(tensors=tensors | {f"{module}.{ending}": lengths.view(shape)}, changes={f"{QW}.weight": formula})


def tucker() -> Told:
    module = "lora_unet_blocks_0_self_attn_q"
    a, middle, b = drawn(RANK, DIM), drawn(4, RANK), drawn(DIM, 4)
    tensors = {f"{module}.{D}": a, f"{module}.lora_mid.weight": middle, f"{module}.{U}": b}
    total = b.double() @ middle.double() @ a.double()
    return Told(tensors=tensors, changes={f"{QW}.weight": constant(total)})


WHOLE = {
    "blocks.0.norm3.diff": "blocks.0.cross_norm.weight", "blocks.0.norm3.diff_b": "blocks.0.cross_norm.bias",
    "blocks.1.self_attn.norm_q.diff": "blocks.1.self_attention.norm_q.weight",
    "blocks.1.self_attn.q.diff_b": "blocks.1.self_attention.q.bias",
    "blocks.1.self_attn.k.diff": "blocks.1.self_attention.k.weight",
    "blocks.2.diff_m": "blocks.2.modulation", "head.diff_m": "head.modulation", "head.head.diff": "head.linear.weight",
    "head.head.diff_b": "head.linear.bias", "patch_embedding.diff": "patch_embedding.weight",
    "patch_embedding.diff_b": "patch_embedding.bias", "text_embedding.0.diff": "context.text.layers.0.weight",
    "time_embedding.2.diff_b": "time_embedding.2.bias", "time_projection.1.diff": "time_projection.1.weight",
    "blocks.1.norm3.w_norm": "blocks.1.cross_norm.weight", "blocks.1.norm3.b_norm": "blocks.1.cross_norm.bias",
}  # fmt: skip


def whole(prefix: str) -> Told:
    parameters = dict(shared().named_parameters())
    values = {name: drawn(*parameters[own].shape, seed=index) for index, (name, own) in enumerate(WHOLE.items())}
    return Told(
        tensors={f"{prefix}{name}": value for name, value in values.items()},
        changes={own: constant(values[name]) for name, own in WHOLE.items()},
    )


def replaced() -> Told:
    """Whole parameters as trainers of peft keep them, and as ComfyUI reads them."""
    bias, table, norm = drawn(DIM), drawn(1, 2, DIM), drawn(DIM, seed=9)
    return Told(
        tensors={
            "base_model.model.patch_embedding.modules_to_save.default.bias": bias,
            "transformer.scale_shift_table": table,
            "diffusion_model.blocks.0.norm3.set_weight": norm,
            "diffusion_model.blocks.0.norm3.diff_b": bias.clone(),
        },
        changes={
            "patch_embedding.bias": lambda old: bias.double() - old.double(),
            "head.modulation": lambda old: table.double() - old.double(),
            "blocks.0.cross_norm.weight": lambda old: norm.double() - old.double(),
            "blocks.0.cross_norm.bias": constant(bias),
        },
    )


def convolution() -> Told:
    a, b = drawn(RANK, 16, 1, 2, 2), drawn(DIM, RANK, 1, 1, 1)
    module = "diffusion_model.patch_embedding"
    total = torch.einsum("or,rcfhw->ocfhw", b.double()[..., 0, 0, 0], a.double())
    return Told(tensors={f"{module}.{A}": a, f"{module}.{B}": b}, changes={"patch_embedding.weight": constant(total)})


def lightx2v() -> Told:
    """Low rank and whole differences of one layer beside each other, as files of step distillation have them."""
    a, b, rest, bias = drawn(RANK, DIM), drawn(DIM, RANK), drawn(DIM, DIM), drawn(DIM)
    module = "diffusion_model.blocks.0.self_attn.q"
    return Told(
        tensors={f"{module}.{D}": a, f"{module}.{U}": b, f"{module}.diff_b": bias, f"{module}.diff": rest},
        changes={
            f"{QW}.weight": constant(b.double() @ a.double() + rest.double()),
            f"{QW}.bias": constant(bias),
        },
    )


KINDS = {
    "LoHa": hadamard(QW, DIM, DIM, 1.5),
    "LoHa without alpha": hadamard(UPW, FFN, DIM, None),
    "LoKr whole": kronecker(True, True),
    "LoKr first whole": kronecker(True, False),
    "LoKr second whole": kronecker(False, True),
    "LoKr of factors": kronecker(False, False),
    "LoKr with a core": kronecker(True, False, core=True),
    "DoRA of kohya": dora("dora_scale", (DIM, 1)),
    "DoRA of LyCORIS, by columns": dora("dora_scale", (1, DIM), columns=True),
    "DoRA of ai-toolkit": dora("magnitude", (DIM,)),
    "DoRA of PEFT": dora("lora_magnitude_vector.weight", (DIM,)),
    "Tucker": tucker(),
    "whole differences": whole("diffusion_model."),
    "whole parameters": replaced(),
    "convolution": convolution(),
    "LightX2V": lightx2v(),
}


def effective(model: DiT) -> dict[str, Tensor]:
    """Every parameter as it counts."""
    merge(model)
    values = {name: value.detach().clone() for name, value in model.named_parameters() if ".adapters." not in name}
    unmerge(model)
    return values


def check(model: DiT, changes: Mapping[str, Formula], strength: float) -> None:
    before = dict(shared().named_parameters())
    for name, value in effective(model).items():
        if name not in changes or not strength:
            assert torch.equal(value, before[name]), name
            continue
        wanted = before[name].double() + strength * changes[name](before[name])
        assert (value - wanted).abs().max() <= 2e-6 * wanted.abs().max(), name


@pytest.mark.parametrize("told", [*SPELLINGS.values(), *KINDS.values()], ids=[*SPELLINGS, *KINDS])
def test_a_file_is_the_change_that_its_formula_says(told: Told, tmp_path: Path) -> None:
    file = opened(written(tmp_path, told.tensors))
    assert file.applied == len(told.tensors) and not file.absent and not file.unknown
    assert file.changes.keys() == told.changes.keys()
    model = attach_file(shared(), file, STRENGTH)
    check(model, told.changes, STRENGTH)
    attached, x = model, drawn(5, DIM, seed=7)
    for layer in (layer for layer in LAYERS if f"{layer}.weight" in told.changes):
        weight, bias = (shared().get_parameter(f"{layer}.{leaf}").double() for leaf in ("weight", "bias"))
        weight = weight + STRENGTH * told.changes[f"{layer}.weight"](weight)
        if f"{layer}.bias" in told.changes:
            bias = bias + STRENGTH * told.changes[f"{layer}.bias"](bias)
        wanted = x.double() @ weight.T + bias
        assert (linear_layers(attached)[layer](x) - wanted).abs().max() <= 5e-6 * wanted.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_strength_that_changes_is_followed_and_zero_is_the_base(kind: str, tmp_path: Path) -> None:
    told = KINDS[kind]
    first = attach_file(shared(), opened(written(tmp_path, told.tensors)), 1.0)
    model = attach_file(first, opened(tmp_path / "style.safetensors"), 0.0)
    (name, second) = changes_of(model)
    addresses = {place: model.get_parameter(place).data_ptr() for place in told.changes if "blocks.0" not in place}
    for strength in (0.0, -0.5, 0.0, STRENGTH):
        set_strength(model, name, strength)
        set_strength(model, second, 0.0)
        check(model, told.changes, strength)
    assert addresses == {place: model.get_parameter(place).data_ptr() for place in addresses}
    check(first, told.changes, 1.0)  # which shares nothing that changed
    check(bare(model), {}, 0.0)


@pytest.mark.parametrize("kind", ["LoHa", "LoKr of factors", "DoRA of kohya", "LightX2V", "Tucker"])
def test_changes_stand_beside_weights_that_are_packed(kind: str, tmp_path: Path) -> None:
    plain, packed, x = base(), base(), drawn(4, DIM)
    for layer in LAYERS:
        held = linear_layers(plain)[layer]
        rows = held.weight.data.to(torch.float8_e4m3fn)
        held.weight.data = rows.float()
        packing = Scaled(dtype=torch.float8_e4m3fn, columns=held.in_features)
        bias = nn.Parameter(held.bias.data, requires_grad=False)
        packed.set_submodule(layer, PackedLinear(rows.view(torch.uint8), packing, bias, torch.float32))
    file = opened(written(tmp_path, KINDS[kind].tensors))
    plain, packed = (attach_file(model, file, STRENGTH) for model in (plain, packed))
    for layer in LAYERS:
        assert torch.equal(linear_layers(packed)[layer](x), linear_layers(plain)[layer](x))


ELSEWHERE = {
    "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": "a text encoder",
    "text_encoders.umt5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight": "a text encoder",
    "diffusion_model.blocks.0.to_gate_compress.lora_A.weight": "sparse attention",
    "diffusion_model.blocks.0.to_gate_compress.diff_b": "sparse attention",
    "lora_unet_blocks_0_cross_attn_k_img.lora_down.weight": "the image source",
    "diffusion_model.img_emb.proj.1.diff": "the image source",
    "diffusion_model.blocks.1.cross_attn.norm_k_img.diff": "the image source",
    "vace_blocks.1.self_attn.q.lora_A.default.weight": "VACE",
    "lora_unet_vace_blocks_0_ffn_0.alpha": "VACE",
    "diffusion_model.transformer_2.blocks.0.self_attn.q.lora_A.weight": "the other expert",
    "diffusion_model.face_adapter.fuser_blocks.0.linear1_kv.lora_A.weight": "Wan2.2-Animate",
}


def test_what_other_parts_and_models_have_is_named_and_left_out(tmp_path: Path) -> None:
    tensors = SPELLINGS["diffusion-pipe"].tensors | {name: torch.ones(2, DIM) for name in ELSEWHERE}
    file = opened(written(tmp_path, tensors))
    assert file.absent.keys() == ELSEWHERE.keys() and not file.unknown
    assert all(part in file.absent[name] for name, part in ELSEWHERE.items())
    assert f"{len(ELSEWHERE)} known elsewhere" in file.description(1.0)


def test_an_image_to_video_file_leaves_its_inputs_out_on_text_to_video(tmp_path: Path) -> None:
    wide = {"diffusion_model.patch_embedding.diff": torch.ones(DIM, 36, 1, 2, 2)}
    file = opened(written(tmp_path, SPELLINGS["diffusion-pipe"].tensors | wide))
    assert len(file.absent) == 1 and len(file.changes) == len(LAYERS)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("patch_embedding.diff", torch.ones(DIM, 48, 1, 2, 2), "Wan-Fun control"),
        ("patch_embedding.reshape_weight", torch.tensor([DIM, 52, 1, 2, 2]), "Wan 2.2"),
        ("patch_embedding.lora_down.weight", torch.ones(RANK, 20, 1, 2, 2), "no released model"),
    ],
)
def test_inputs_that_no_such_model_has_are_refused_by_name(
    name: str, value: Tensor, named: str, tmp_path: Path
) -> None:
    tensors = SPELLINGS["diffusion-pipe"].tensors | {f"diffusion_model.{name}": value}
    for waived in (False, True):
        with refused("lora_other_inputs", named, "16"):
            opened(written(tmp_path, tensors), ignore_unknown=waived)


@pytest.mark.parametrize(
    ("tensors", "code", "named"),
    [
        ({"blocks.0.self_attn.q.hada_w1_a": drawn(DIM, 2)}, "lora_incomplete", "hada_w1_b"),
        ({"blocks.0.self_attn.q.lokr_w1": drawn(4, 4)}, "lora_incomplete", "lokr_w2_a"),
        ({f"blocks.0.self_attn.q.lokr_{n}": drawn(4, 4) for n in ("w1", "w2")}, "lora_wrong_model", "16 to 16"),
        ({"blocks.0.norm3.diff": drawn(DIM + 1)}, "lora_wrong_model", "norm3"),
        ({"blocks.0.self_attn.q.diff": drawn(2 * DIM, DIM // 2)}, "lora_wrong_model", "12 wide"),
        ({"blocks.0.self_attn.q.dora_scale": drawn(DIM, 1)}, "lora_incomplete", "down"),
        (KINDS["DoRA of kohya"].tensors | {"diffusion_model.blocks.0.self_attn.q.dora_scale": drawn(5)},
         "lora_wrong_model", "[5]"),
        ({"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": drawn(2, DIM)}, "lora_wrong_model", "Flux"),
        ({"transformer_blocks.0.attn1.to_q.lora_A.weight": drawn(2, DIM)}, "lora_wrong_model", "LTX"),
        ({"blocks.0.self_attn.q_proj.lora_A.weight": drawn(2, DIM)}, "lora_wrong_model", "Cosmos"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_right_are_refused_in_every_kind(
    tensors: Tensors, code: str, named: str, tmp_path: Path
) -> None:
    with refused(code, named, "style.safetensors"):
        opened(written(tmp_path, tensors))


@pytest.mark.parametrize("kind", ["LoHa", "LoKr of factors", "whole differences", "DoRA of kohya"])
def test_numbers_that_are_none_are_refused_in_every_kind(kind: str, tmp_path: Path) -> None:
    for name, value in KINDS[kind].tensors.items():
        if name.endswith("alpha"):
            continue
        spoiled = value.clone()
        spoiled.view(-1)[0] = float("nan")
        with refused("weights_not_finite"):
            attach_file(shared(), opened(written(tmp_path, KINDS[kind].tensors | {name: spoiled})), 1.0)


def test_the_relative_size_of_every_kind_is_that_of_the_whole_matrices(tmp_path: Path) -> None:
    """Rows are sampled of matrices with more than 127 of them."""
    for told in KINDS.values():
        model = attach_file(shared(), opened(written(tmp_path, told.tensors)), STRENGTH)
        before = dict(shared().named_parameters())
        change = sum((STRENGTH * formula(before[name])).square().sum() for name, formula in told.changes.items())
        weights = sum(before[name].double().square().sum() for name in told.changes)
        assert relative_size(model, "lora_style") == pytest.approx(float(change / weights) ** 0.5, rel=1e-3)
