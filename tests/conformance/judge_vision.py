"""The CLIP vision tower: its pixels, and the features before its last block."""

import torch
from torch import Tensor

from kinoform.models.vision import VisionSpec, image_features, preprocess
from tests.conformance.golden import Golden
from tests.support.tower_files import tower_of


@torch.inference_mode()
def judge(golden: Golden) -> dict[str, Tensor]:
    c = golden.config
    spec = VisionSpec(
        image=c["image_size"], patch=c["patch_size"], dim=c["dim"], heads=c["num_heads"], layers=c["num_layers"],
        dim_ffn=c["dim"] * c["mlp_ratio"], eps=c["norm_eps"],
    )  # fmt: skip
    encoder, found = tower_of(spec, golden.weights), {}
    for sample in range(len(c["images"])):
        pixels = golden.inputs[f"image{sample}"].transpose(0, 1)
        found[f"out.pixels{sample}"] = preprocess(pixels, spec.image)
        found[f"out.features{sample}"] = image_features(encoder, pixels)
    return found


JUDGES = {"clip_visual": judge}
