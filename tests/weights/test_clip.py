"""Three spellings of one vision tower give the same encoder; damaged towers are refused by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoform.families.clip import CLIP
from kinoform.loading.sources import PartFile
from tests.support.diffusers_folder import huggingface_tower
from tests.support.official_folder import VISION, tower
from tests.support.refusals import refused
from tests.support.tower_files import opened_tower, source_tower, tower_of

PARTS = "qkv"


def openclip_tower() -> dict[str, Tensor]:
    """The tiny tower as OpenCLIP stores it, beside a text tower whose names differ by their prefix alone."""
    words = (
        ("cls_embedding", "class_embedding"), ("pos_embedding", "positional_embedding"), ("head", "proj"),
        ("patch_embedding", "conv1"), ("pre_norm", "ln_pre"), ("post_norm", "ln_post"),
        ("transformer.", "transformer.resblocks."), ("norm", "ln_"), ("attn.to_qkv.", "attn.in_proj_"),
        ("attn.proj", "attn.out_proj"), ("mlp.0", "mlp.c_fc"), ("mlp.2", "mlp.c_proj"),
    )  # fmt: skip
    found = {}
    for name, value in tower().items():
        for old, new in words:
            name = name.replace(old, new)
        found[name] = value.reshape(value.shape[-2:]) if value.dim() == 3 else value
    found["visual.class_embedding"] = found["visual.class_embedding"].flatten()
    text = {"transformer.resblocks.0.attn.in_proj_weight": torch.ones(6, 2), "positional_embedding": torch.ones(7, 2)}
    return found | text | {"logit_scale": torch.ones(()), "ln_final.weight": torch.ones(2)}


SPELLINGS = {
    "official": lambda: tower() | {"textual.norm.weight": torch.ones(3), "log_scale": torch.ones(())},
    "transformers": huggingface_tower,
    "transformers, version 5": lambda: {n.removeprefix("vision_model."): v for n, v in huggingface_tower().items()},
    "transformers, with head": lambda: huggingface_tower() | {
        "visual_projection.weight": torch.ones(5, VISION.dim),
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
    },
    "OpenCLIP": openclip_tower,
}  # fmt: skip


def source(folder: Path, tensors: dict[str, Tensor]) -> PartFile:
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "clip_vision_h.safetensors")
    return opened_tower(folder / "clip_vision_h.safetensors")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_the_same_encoder(spelling: str, tmp_path: Path) -> None:
    found = source(tmp_path, SPELLINGS[spelling]())
    assert found.family is CLIP and CLIP.spec(found.shapes()) == VISION
    expected = tower_of(VISION, tower()).state_dict()
    loaded = source_tower(VISION, found).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.items())


def test_a_tower_without_its_unused_parts_is_whole(tmp_path: Path) -> None:
    kept = {n: v for n, v in huggingface_tower().items() if "post_layernorm" not in n and ".layers.2.mlp." not in n}
    source_tower(VISION, source(tmp_path, kept))


def test_thirds_come_in_the_order_q_k_v() -> None:
    name = "visual.transformer.1.attn.to_qkv.weight"
    loaded = tower_of(VISION, tower()).state_dict()
    for place, part in enumerate(PARTS):
        third = tower()[name][place * VISION.dim : (place + 1) * VISION.dim]
        assert torch.equal(loaded[f"blocks.1.{part}.weight"], third)


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"visual.transformer.0.attn.to_qkv.weight": torch.ones(241, 80)}, "weights_wrong_shape", "[241, 80]"),
        ({"visual.transformer.0.attn.to_qkv.weight": torch.ones(237, 80)}, "weights_wrong_shape", "to_q"),
        ({"visual.cls_embedding": torch.ones(2, 1, 80)}, "weights_wrong_model", "2"),
        ({"visual.pos_embedding": torch.ones(1, 6, 80)}, "weights_wrong_shape", "pos_embedding"),
        ({"visual.pos_embedding": torch.ones(1, 1, 80)}, "weights_wrong_model", "0 pixels"),
        ({"visual.cls_embedding": torch.ones(1, 1, 79)}, "weights_wrong_model", "79"),
        ({"visual.stranger": torch.ones(1)}, "weights_unknown_keys", "stranger"),
        ({"visual.pre_norm.weight": torch.ones(80, dtype=torch.int8)}, "weights_unsupported_storage", "int8"),
    ],
)
def test_damaged_towers_are_refused_by_name(change: dict[str, Tensor], code: str, named: str, tmp_path: Path) -> None:
    with refused(code, named) as caught:
        found = source(tmp_path, tower() | change)
        source_tower(CLIP.spec(found.shapes()), found)
    assert "\n" not in str(caught.value) and "clip_vision_h.safetensors" in str(caught.value)


def test_half_of_a_released_tower_is_no_tower(tmp_path: Path) -> None:
    """Fewer blocks would load, and the features be those of another depth."""
    shapes = source(tmp_path, tower()).shapes()
    wide = {**shapes.by_name, "class_embedding": (1280,)}
    with refused("weights_incomplete", "3 of the 32"):
        CLIP.spec(type(shapes)(path=shapes.path, by_name=wide))
