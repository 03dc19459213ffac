"""The files of both autoencoders; each holds one half of the model."""

import torch
from torch import Tensor

from kinoform.families.names import Names
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.families.vae22 import official_names
from kinoform.models.vae import VAE, VAESpec
from kinoform.models.vae22 import VAE22, VAE22Spec
from tests.conformance.golden import Golden


def model_of(golden: Golden) -> VAE | VAE22:
    c = golden.config
    sizes = {
        "dim": c["dim"],
        "channels": c["z_dim"],
        "multipliers": tuple(c["dim_mult"]),
        "residual_blocks": c["num_res_blocks"],
        "time_downsample": tuple(c["temperal_downsample"]),
        "mean": tuple(golden.inputs["mean"].tolist()),
        "std": tuple(golden.inputs["std"].tolist()),
    }
    nested = "dec_dim" in c
    spec = VAE22Spec(**sizes, decoder_dim=c["dec_dim"]) if nested else VAESpec(**sizes)
    return _filled(spec.build(), golden, official_names() if nested else VAE21)


def _filled(model: VAE | VAE22, golden: Golden, names: Names) -> VAE | VAE22:
    c = golden.config
    found = model.load_state_dict({names.ours(n) or n: w for n, w in golden.weights.items()}, strict=False)
    other = ("decoder.", "expand.") if c["half"] == "encode" else ("encoder.", "moments.")
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
