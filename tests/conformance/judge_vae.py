"""The files of both autoencoders; each holds one half of the model."""

import re
from typing import Any

import torch
from torch import Tensor

from kinoform.families.names import Names
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.families.vae22 import official_names
from kinoform.models.vae import VAE, VAESpec
from kinoform.models.vae22 import VAE22, VAE22Spec
from tests.conformance.golden import Golden

SIZES = {
    "dim": "dim", "dec_dim": "decoder_dim", "z_dim": "channels", "dim_mult": "multipliers",
    "num_res_blocks": "residual_blocks", "temperal_downsample": "time_downsample",
}  # fmt: skip
"""Our names of the sizes that a config may hold; what it does not hold is as released."""


def model_of(golden: Golden) -> VAE | VAE22:
    """The autoencoder of a file that holds at least one half of it; the kind is told by the nesting of its blocks."""
    sizes = {SIZES[key]: _plain(value) for key, value in golden.config.items() if key in SIZES}
    sizes |= {key: tuple(golden.inputs[key].tolist()) for key in ("mean", "std")}
    nested = any(re.search(r"samples\.\d+\.(down|up)samples\.", name) for name in golden.weights)
    spec = VAE22Spec(**sizes) if nested else VAESpec(**sizes)
    return _filled(spec.build(), golden, official_names() if nested else VAE21)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _filled(model: VAE | VAE22, golden: Golden, names: Names) -> VAE | VAE22:
    found = model.load_state_dict({names.ours(n) or n: w for n, w in golden.weights.items()}, strict=False)
    encodes = any(name.startswith("encoder.") for name in golden.weights)
    other = ("decoder.", "expand.") if encodes else ("encoder.", "moments.")
    assert not found.unexpected_keys, found.unexpected_keys
    assert all(name.startswith(other) for name in found.missing_keys), found.missing_keys
    return model.eval()


@torch.inference_mode()
def judge_encode(golden: Golden) -> dict[str, Tensor]:
    model = model_of(golden)
    found = {}
    for name, video in golden.inputs.items():
        if name.startswith("video"):
            number = name.removeprefix("video")
            assert model.encoder is not None and model.moments is not None
            features, _ = model.encoder(video, None)
            found[f"out.moments{number}"] = model.moments(features)
            found[f"out.latent{number}"], _ = model.encode(video)
    return found


@torch.inference_mode()
def judge_decode(golden: Golden) -> dict[str, Tensor]:
    model = model_of(golden)
    return {
        f"out.video{name.removeprefix('latent')}": model.decode(latents)[0]
        for name, latents in golden.inputs.items()
        if name.startswith("latent")
    }


JUDGES = {
    "vae21_encode": judge_encode,
    "vae21_decode": judge_decode,
    "vae22_encode": judge_encode,
    "vae22_decode": judge_decode,
}
