"""diffusers and peft load the LoRA files that kinoform saves, and kinoform theirs, with the same velocity."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinoform.conversion.convert import Conversion, convert
from kinoform.families.lora import COMFY_LORA, DIFFUSERS_LORA, KOHYA_LORA, LoRADialect
from kinoform.families.transformer_names import OFFICIAL_NAMES
from kinoform.loading.lora import attach_file, parameter_shapes, save_lora
from kinoform.loading.lora_file import open_lora
from kinoform.models.dit import DiT
from kinoform.models.lora import LoRASpec, adapters_of, attach, merge
from kinoform.models.lora_linear import linear_layers
from tests.conformance.against_diffusers import (
    KINDS,
    SAME,
    gap,
    ours,
    question,
    theirs,
    tiny_transformer,
    with_exact_times,
    write_official_transformer,
)

diffusers: Any = pytest.importorskip(
    "diffusers", reason="the judge, diffusers, is not installed: pip install 'kinoform[conformance]'"
)
pytest.importorskip("peft", reason="diffusers needs peft to load a LoRA: pip install peft")

RANK, ALPHA = 4, 6.0
SEEN = 1000 * SAME
"""What an adapter changes, at least, so that a file that is not applied fails."""

MODULES = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]


def judge(folder: Path, kind: str, model: DiT) -> Any:
    convert(
        write_official_transformer(folder / "official", KINDS[kind], model),
        folder / "theirs",
        Conversion(to="diffusers"),
    )
    return with_exact_times(diffusers.WanTransformer3DModel.from_pretrained(folder / "theirs").eval())


def learned(model: DiT) -> DiT:
    generator = torch.Generator().manual_seed(4)
    found = attach(model, LoRASpec(rank=RANK, alpha=ALPHA), generator=generator)
    for adapter in adapters_of(found)["lora"].values():
        adapter.up.data.copy_(0.1 * torch.randn(adapter.up.shape, generator=generator))
    return found


@pytest.mark.parametrize("form", [COMFY_LORA, DIFFUSERS_LORA, KOHYA_LORA], ids=lambda form: form.name)
@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_diffusers_loads_what_is_saved(kind: str, form: LoRADialect, tmp_path: Path) -> None:
    base = tiny_transformer(KINDS[kind])
    other, asked = judge(tmp_path, kind, base), question(KINDS[kind], 999.0)
    changed = learned(base)
    save_lora(tmp_path / "style.safetensors", changed, dialect=form)
    assert gap(ours(changed, *asked), theirs(other, *asked)) > SEEN
    state, metadata = diffusers.WanPipeline.lora_state_dict(
        str(tmp_path / "style.safetensors"), return_lora_metadata=True
    )
    diffusers.WanPipeline.load_lora_into_transformer(state, other, adapter_name="style", metadata=metadata)
    found = gap(ours(changed, *asked), theirs(other, *asked))
    print(f"{kind}: {found:.1e}")
    assert found < SAME


@pytest.mark.parametrize("saved", ["pipeline", "pipeline with metadata", "rslora with metadata", "model"])
def test_what_diffusers_saves_is_read(saved: str, tmp_path: Path) -> None:
    from diffusers.training_utils import _collate_lora_metadata
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(5)
    base = tiny_transformer(KINDS["t2v"])
    other, asked = judge(tmp_path, "t2v", base), question(KINDS["t2v"], 999.0)
    alpha: Any = RANK if saved == "pipeline" else ALPHA  # without metadata alpha is lost, there as here
    other.add_adapter(
        LoraConfig(
            r=RANK, lora_alpha=alpha, target_modules=MODULES, init_lora_weights=False,
            use_rslora="rslora" in saved,
            alpha_pattern={"attn2.to_v": 2.0} if saved != "pipeline" else {},
        )
    )  # fmt: skip
    if saved == "model":
        other.save_lora_adapter(str(tmp_path))
    else:
        metadata = _collate_lora_metadata({"transformer": other}) if "metadata" in saved else {}
        diffusers.WanPipeline.save_lora_weights(
            str(tmp_path), transformer_lora_layers=get_peft_model_state_dict(other), **metadata
        )
    file = open_lora(tmp_path / "pytorch_lora_weights.safetensors", parameter_shapes(base))
    assert not file.absent and not file.unknown and len(file.changes) == 2 * 10
    changed = attach_file(base, file, 1.0)
    found = gap(ours(changed, *asked), theirs(other, *asked))
    print(f"{saved}: {found:.1e}")
    assert found < SAME
    assert gap(ours(base, *asked), theirs(other, *asked)) > SEEN


def test_a_file_of_mixed_ranks_and_alphas_comes_back_from_diffusers(tmp_path: Path) -> None:
    from diffusers.training_utils import _collate_lora_metadata
    from peft.utils import get_peft_model_state_dict

    base = tiny_transformer(KINDS["t2v"])
    other, asked = judge(tmp_path, "t2v", base), question(KINDS["t2v"], 999.0)
    generator = torch.Generator().manual_seed(6)
    specs = [("blocks.0.*", 3, 3.0), ("blocks.1.*", 5, 2.0)]
    changed = base
    for pattern, rank, alpha in specs:
        changed = attach(changed, LoRASpec(patterns=(pattern,), rank=rank, alpha=alpha), name=f"rank{rank}",
                         generator=generator)  # fmt: skip
    tensors = {}
    for name, adapters in adapters_of(changed).items():
        for adapter in adapters.values():
            adapter.up.data.copy_(0.1 * torch.randn(adapter.up.shape, generator=generator))
        save_lora(tmp_path / "one.safetensors", changed, name, force=True)
        tensors |= load_file(tmp_path / "one.safetensors")
    save_file(tensors, tmp_path / "mixed.safetensors")
    state = diffusers.WanPipeline.lora_state_dict(str(tmp_path / "mixed.safetensors"))
    diffusers.WanPipeline.load_lora_into_transformer(state, other, adapter_name="default")
    diffusers.WanPipeline.save_lora_weights(
        str(tmp_path),
        transformer_lora_layers=get_peft_model_state_dict(other, adapter_name="default"),
        **_collate_lora_metadata({"transformer": other}),
    )
    again = open_lora(tmp_path / "pytorch_lora_weights.safetensors", parameter_shapes(base))
    found = gap(ours(attach_file(base, again, 1.0), *asked), ours(changed, *asked))
    print(f"{found:.1e}, scales {again.scales}")
    assert found < SAME
    assert gap(ours(base, *asked), ours(changed, *asked)) > SEEN


class Named(torch.nn.Module):
    """Layers of a transformer by their official names, as peft sees a model."""

    def __init__(self, base: DiT) -> None:
        super().__init__()
        inside = {name: layer for name, layer in linear_layers(base).items() if name.startswith("blocks.")}
        for own, layer in inside.items():
            name = OFFICIAL_NAMES.theirs(f"{own}.weight")
            place, _, leaf = name.removesuffix(".weight").rpartition(".")
            owner: torch.nn.Module = self
            for word in place.split("."):
                if word not in dict(owner.named_children()):
                    owner.add_module(word, torch.nn.Module())
                owner = owner.get_submodule(word)
            plain = torch.nn.Linear(layer.in_features, layer.out_features)
            plain.weight.data, plain.bias.data = layer.weight.data.clone(), layer.bias.data.clone()
            owner.add_module(leaf, plain)


@pytest.mark.parametrize("kind", ["LoHa", "LoKr", "LoKr of factors", "LoKr whole", "DoRA"])
def test_what_peft_saves_of_other_kinds_is_what_it_computes(kind: str, tmp_path: Path) -> None:
    from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model

    torch.manual_seed(6)
    base, targets = tiny_transformer(KINDS["t2v"]), [r"q", r"ffn.0"]
    alpha: Any = ALPHA
    shared: dict[str, Any] = {"r": RANK, "target_modules": targets}
    config: Any = {
        "LoHa": lambda: LoHaConfig(alpha=alpha, init_weights=False, **shared),
        "LoKr": lambda: LoKrConfig(alpha=alpha, init_weights=False, **shared),
        "LoKr of factors": lambda: LoKrConfig(alpha=alpha, init_weights=False, decompose_both=True, r=2,
                                              target_modules=targets),
        "LoKr whole": lambda: LoKrConfig(alpha=alpha, init_weights=False, r=32, target_modules=targets),
        "DoRA": lambda: LoraConfig(lora_alpha=alpha, use_dora=True, init_lora_weights=False, **shared),
    }[kind]()  # fmt: skip
    judge: Any = get_peft_model(Named(base), config)  # pyright: ignore[reportArgumentType]
    judge.save_pretrained(str(tmp_path))
    file = open_lora(tmp_path / "adapter_model.safetensors", parameter_shapes(base))
    assert not file.absent and not file.unknown and len(file.changes) == 2 * len(base.blocks) + len(base.blocks)
    changed = attach_file(base, file, 1.0)
    merge(changed)
    theirs_merged = dict(judge.merge_and_unload().named_parameters())
    for place in file.changes:
        expected = theirs_merged[OFFICIAL_NAMES.theirs(place)]
        assert (changed.get_parameter(place) - expected).abs().max() < 1e-5 * expected.abs().max()
        assert (base.get_parameter(place) - expected).abs().max() > 1e-3
