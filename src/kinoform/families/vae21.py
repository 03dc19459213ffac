"""The autoencoder of Wan 2.1, which Wan 2.2's A14B models share.

Sources: the official model; the conversion script of diffusers, and strict loading of mapped random weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kinoform.errors import WeightsError
from kinoform.families.family import CODEC, OWN_NAMES, Config, ConfigForm, Dialect, Family, Shapes
from kinoform.families.names import Names

if TYPE_CHECKING:
    from kinoform.models.vae import VAESpec


def _spec(shapes: Shapes, *, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None) -> VAESpec:
    """The sizes from the encoder's layers: residual blocks, and a resampling after each level but the last."""
    from kinoform.models.vae import WAN21_MEAN, WAN21_STD, VAESpec

    down = "encoder.downsamples"
    dim = shapes.length(("encoder.conv_in.weight", 0), ("encoder.conv_in.bias", 0), (f"{down}.0.norm1.gamma", 0))
    latents = shapes.length(("expand.weight", 0), ("expand.bias", 0), ("decoder.conv_in.weight", 1))
    width, blocks = dim, 0
    levels: list[tuple[int, bool]] = []
    for index in range(shapes.layers(down)):
        layer = f"{down}.{index}"
        if shapes.has(f"{layer}.resample.") or shapes.has(f"{layer}.time_conv."):
            levels.append((width, shapes.has(f"{layer}.time_conv.")))
        else:
            outputs = [(f"{layer}.conv2.{leaf}", 0) for leaf in ("weight", "bias")]
            width = shapes.length(*outputs, (f"{layer}.norm2.gamma", 0), otherwise=width)
            blocks += not levels
    multipliers = (*(size // dim for size, _ in levels), width // dim)
    if 0 in multipliers:
        raise WeightsError(
            f"{shapes.path} has a level narrower than the {dim} channels of the first; these are weights of another "
            "model",
            code="weights_wrong_model",
        )
    known = latents == len(WAN21_MEAN)
    return VAESpec(
        dim=dim,
        channels=latents,
        multipliers=multipliers,
        residual_blocks=blocks,
        time_downsample=tuple(time for _, time in levels),
        mean=mean or (WAN21_MEAN if known else ()),
        std=std or (WAN21_STD if known else ()),
    )


def _sizes(spec: VAESpec) -> Mapping[str, int]:
    return {
        "dim": spec.dim,
        "decoder_dim": spec.dim,
        "channels": spec.channels,
        "pixel_channels": 3,
        "levels": len(spec.multipliers),
        "residual_blocks": spec.residual_blocks,
    }


def _diffusers_facts(config: Config, shapes: Shapes) -> Mapping[str, Any]:
    if "latents_mean" not in config.values:
        return {}
    latents = shapes.length(("expand.weight", 0))
    return latent_statistics(config, latents)


def latent_statistics(config: Config, channels: int) -> Mapping[str, tuple[float, ...]]:
    """Mean and spread of the latents as diffusers' config.json states them. Raises WeightsError for damaged ones."""
    std = config.numbers("latents_std", channels)
    if min(std) <= 0:
        raise WeightsError(
            f"{config.path}: latents_std holds {min(std)}, which is no spread; fetch the file again",
            code="config_damaged",
        )
    return {"mean": config.numbers("latents_mean", channels), "std": std}


def _diffusers_config(spec: VAESpec) -> Mapping[str, object]:
    return {
        "base_dim": spec.dim,
        "dim_mult": list(spec.multipliers),
        "latents_mean": list(spec.mean),
        "latents_std": list(spec.std),
        "num_res_blocks": spec.residual_blocks,
        "temperal_downsample": list(spec.time_downsample),
        "z_dim": spec.channels,
    }


def official_residual(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """The official names of a residual block."""
    return (
        (f"{theirs}.residual.0.gamma", f"{ours}.norm1.gamma"),
        (f"{theirs}.residual.2.*", f"{ours}.conv1.*"),
        (f"{theirs}.residual.3.gamma", f"{ours}.norm2.gamma"),
        (f"{theirs}.residual.6.*", f"{ours}.conv2.*"),
        (f"{theirs}.shortcut.*", f"{ours}.shortcut.*"),
    )


def resample(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """The names of a resampling, official ones and those of diffusers."""
    return ((f"{theirs}.resample.1.*", f"{ours}.resample.*"), (f"{theirs}.time_conv.*", f"{ours}.time_conv.*"))


def official_half(half: str) -> tuple[tuple[str, str], ...]:
    """The official names of what encoder and decoder have around their levels."""
    middle = f"{half}.middle.#"
    return (
        (f"{half}.conv1.*", f"{half}.conv_in.*"),
        *official_residual(middle, middle),
        (f"{middle}.norm.gamma", f"{middle}.norm.gamma"),
        (f"{middle}.to_qkv.*", f"{middle}.to_qkv.*"),
        (f"{middle}.proj.*", f"{middle}.proj.*"),
        (f"{half}.head.0.gamma", f"{half}.norm_out.gamma"),
        (f"{half}.head.2.*", f"{half}.conv_out.*"),
    )


def diffusers_residual(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """The names of a residual block in diffusers."""
    return (
        (f"{theirs}.norm1.gamma", f"{ours}.norm1.gamma"),
        (f"{theirs}.conv1.*", f"{ours}.conv1.*"),
        (f"{theirs}.norm2.gamma", f"{ours}.norm2.gamma"),
        (f"{theirs}.conv2.*", f"{ours}.conv2.*"),
        (f"{theirs}.conv_shortcut.*", f"{ours}.shortcut.*"),
    )


def diffusers_half(half: str) -> tuple[tuple[str, str], ...]:
    """The names of what encoder and decoder have around their levels in diffusers."""
    attention = f"{half}.mid_block.attentions.0"
    return (
        (f"{half}.conv_in.*", f"{half}.conv_in.*"),
        *diffusers_residual(f"{half}.mid_block.resnets.0", f"{half}.middle.0"),
        (f"{attention}.norm.gamma", f"{half}.middle.1.norm.gamma"),
        (f"{attention}.to_qkv.*", f"{half}.middle.1.to_qkv.*"),
        (f"{attention}.proj.*", f"{half}.middle.1.proj.*"),
        *diffusers_residual(f"{half}.mid_block.resnets.1", f"{half}.middle.2"),
        (f"{half}.norm_out.gamma", f"{half}.norm_out.gamma"),
        (f"{half}.conv_out.*", f"{half}.conv_out.*"),
    )


OFFICIAL_QUANT = (("conv1.*", "moments.*"), ("conv2.*", "expand.*"))
DIFFUSERS_QUANT = (("quant_conv.*", "moments.*"), ("post_quant_conv.*", "expand.*"))

OFFICIAL_NAMES = Names(
    rows=(
        *OFFICIAL_QUANT,
        *official_half("encoder"),
        *official_residual("encoder.downsamples.#", "encoder.downsamples.#"),
        *resample("encoder.downsamples.#", "encoder.downsamples.#"),
        *official_half("decoder"),
        *official_residual("decoder.upsamples.#", "decoder.upsamples.#"),
        *resample("decoder.upsamples.#", "decoder.upsamples.#"),
    )
)


def diffusers_names(residual_blocks: int = 2, levels: int = 4) -> Names:
    """The table from diffusers' names; those of its decoder count inside levels, kinoform's and the official do not."""
    down = "encoder.down_blocks.#"
    rows: list[tuple[str, str]] = []
    for level in range(levels):
        first = level * (residual_blocks + 2)
        up = f"decoder.up_blocks.{level}"
        for block in range(residual_blocks + 1):
            rows += diffusers_residual(f"{up}.resnets.{block}", f"decoder.upsamples.{first + block}")
        if level < levels - 1:
            rows += resample(f"{up}.upsamplers.0", f"decoder.upsamples.{first + residual_blocks + 1}")
    return Names(
        rows=(
            *DIFFUSERS_QUANT,
            *diffusers_half("encoder"),
            *diffusers_residual(down, "encoder.downsamples.#"),
            *resample(down, "encoder.downsamples.#"),
            *diffusers_half("decoder"),
            *rows,
        )
    )


def _diffusers_names_of(held: Iterable[str]) -> Names:
    return diffusers_names(*diffusers_counts(held))


def diffusers_counts(held: Iterable[str]) -> tuple[int, int]:
    """Residual blocks of a level on the way down, and levels, as the names of diffusers' decoder count them."""
    up = r"decoder\.up_blocks\.(\d)\.resnets\.(\d)\."
    found = [(int(match[1]), int(match[2])) for name in held if (match := re.match(up, name))]
    return max((block for _, block in found), default=0), 1 + max((level for level, _ in found), default=0)


def _diffusers_names_for(spec: VAESpec) -> Names:
    return diffusers_names(spec.residual_blocks, len(spec.multipliers))


def _signatures(*places: str, leaves: tuple[str, ...]) -> frozenset[str]:
    return frozenset(f"{place}.{leaf}" for place in places for leaf in leaves)


VAE21 = Family(
    name="vae21",
    part=CODEC,
    description="the autoencoder of Wan 2.1",
    dialects=(
        Dialect(
            name="official",
            signatures=_signatures(
                "encoder.downsamples.0",
                "decoder.upsamples.0",
                leaves=("residual.0.gamma", "residual.2.weight", "residual.3.gamma", "residual.6.weight"),
            ),
            needed=3,
            table=OFFICIAL_NAMES,
        ),
        Dialect(
            name="diffusers",
            signatures=_signatures(
                "encoder.down_blocks.0", leaves=("norm1.gamma", "conv1.weight", "norm2.gamma", "conv2.weight")
            )
            | _signatures("decoder.up_blocks.0.upsamplers.0", leaves=("resample.1.weight", "time_conv.weight")),
            needed=3,
            table_of=_diffusers_names_of,
            table_for=_diffusers_names_for,
        ),
        Dialect(
            name="kinoform",
            signatures=_signatures(
                "decoder.upsamples.0", leaves=("norm1.gamma", "conv1.weight", "norm2.gamma", "conv2.weight")
            ),
            needed=3,
            table=OWN_NAMES,
        ),
    ),
    spec=_spec,
    sizes=_sizes,
    channels=(3, 16),
    files={"official": "Wan2.1_VAE", "comfy": "wan_2.1_vae"},
    fits=lambda shapes: not shapes.has("shortcut."),
    configs=(
        ConfigForm(
            dialect="diffusers",
            key="base_dim",
            facts=_diffusers_facts,
            stated=_diffusers_config,
            constant={
                "_class_name": "AutoencoderKLWan",
                "_diffusers_version": "0.42.1",
                "attn_scales": [],
                "dropout": 0.0,
            },
            unchecked=frozenset(("latents_mean", "latents_std")),
        ),
    ),
)
