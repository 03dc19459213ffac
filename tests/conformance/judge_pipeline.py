"""From an image to the channels of image-to-video: the recipe's conditioner, in the size of `Request.sized`."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import video_of
from kinoform.conditions.standard_inputs import FRAMES
from kinoform.media.types import InputImage
from kinoform.models.vae import VAE
from kinoform.pipelines.request import Request, request
from kinoform.recipes.wan22 import i2v_a14b
from tests.conditions.in_hand import InHand
from tests.conformance.golden import Golden
from tests.conformance.judge_vae import model_of
from tests.support.narrowing import of_type, some


@torch.inference_mode()
def judge(golden: Golden) -> dict[str, Tensor]:
    """Size, pixels and channels of each case, and the tables of sizes."""
    codec = of_type(VAE, model_of(golden))
    found: dict[str, Tensor] = {}
    for number, (width, height, area, frames) in enumerate(golden.config["cases"]):
        pixels = golden.inputs[f"picture{number}"].numpy()
        assert pixels.shape == (height, width, 3)
        asked = _sized(codec, pixels, area, frames)
        image = asked.inputs[FRAMES][0]
        first, *_ = video_of({0: image}, asked.video, codec.stride[0], proportions=image.size)
        found[f"out.size{number}"] = torch.tensor([asked.width, asked.height])
        found[f"out.resized{number}"] = first[0, :, 0]
        (conditioner,) = asked.conditioners
        given = conditioner.encode(asked.inputs, asked.video, InHand(made_codec=codec))
        found[f"out.y{number}"] = some(given.channels)[0]
    for number, area in enumerate(golden.config["size_areas"]):
        sizes = [_sized(codec, np.zeros((h, w, 3), np.uint8), area) for w, h in golden.inputs["sizes.wh"].tolist()]
        found[f"out.sizes.area{number}"] = torch.tensor([[size.width, size.height] for size in sizes])
    return found


def _sized(codec: VAE, pixels: np.ndarray, area: int, frames: int = 1) -> Request:
    """A video of an image at frame 0, asked for with sides that have this area, in the size that the image gives it."""
    recipe = replace(i2v_a14b(), codec=codec.spec)
    height = next(side for side in range(math.isqrt(area), 0, -1) if area % side == 0)
    asked = request(
        recipe, "a cat", seed=0, width=area // height, height=height, num_frames=frames,
        inputs=Inputs({FRAMES: {0: InputImage(pixels=pixels)}}),
    )  # fmt: skip
    return asked.sized(recipe.codec, recipe.transformers[0].patch)


JUDGES = {"pipeline22_i2v": judge}
