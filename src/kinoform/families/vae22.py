"""The autoencoder of Wan 2.2's TI2V-5B, whose layers count inside levels.

Sources: the official model; the conversion script of diffusers, and strict loading of mapped random weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kinoform.families.family import CODEC, OWN_NAMES, Config, ConfigForm, Dialect, Family, Shapes
from kinoform.families.names import Names
from kinoform.families.vae21 import (
    DIFFUSERS_QUANT,
    OFFICIAL_QUANT,
    diffusers_half,
    diffusers_residual,
    latent_statistics,
    official_half,
    official_residual,
    resample,
)

if TYPE_CHECKING:
    from kinoform.models.vae22 import VAE22Spec

DOWN, UP = "encoder.levels", "decoder.levels"


def _spec(shapes: Shapes, *, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None) -> VAE22Spec:
    """The sizes from the levels of the encoder, the width of the decoder from its last layers."""
    from kinoform.models.vae22 import WAN22_MEAN, WAN22_STD, VAE22Spec

    dim = shapes.length(
        ("encoder.conv_in.weight", 0), ("encoder.conv_in.bias", 0), (f"{DOWN}.0.blocks.0.norm1.gamma", 0)
    )
    latents = shapes.length(("expand.weight", 0), ("expand.bias", 0), ("decoder.conv_in.weight", 1))
    levels = max(shapes.layers(DOWN), 1)
    multipliers: list[int] = []
    width = dim
    for level in range(levels):
        block = f"{DOWN}.{level}.blocks.#"
        outputs = [(f"{block}.{name}", 0) for name in ("conv2.weight", "conv2.bias", "norm2.gamma", "conv1.bias")]
        width = shapes.length(*outputs, otherwise=width)
        multipliers.append(max(width // dim, 1))
    known = latents == len(WAN22_MEAN)
    return VAE22Spec(
        dim=dim,
        decoder_dim=shapes.length(("decoder.norm_out.gamma", 0), ("decoder.conv_out.weight", 1), otherwise=dim),
        channels=latents,
        multipliers=tuple(multipliers),
        residual_blocks=shapes.layers(f"{DOWN}.0.blocks"),
        time_downsample=tuple(shapes.has(f"{DOWN}.{level}.resample.time_conv.") for level in range(levels - 1)),
        mean=mean or (WAN22_MEAN if known else ()),
        std=std or (WAN22_STD if known else ()),
    )


def _sizes(spec: VAE22Spec) -> Mapping[str, int]:
    return {
        "dim": spec.dim,
        "decoder_dim": spec.decoder_dim,
        "channels": spec.channels,
        "pixel_channels": 12,
        "levels": len(spec.multipliers),
        "residual_blocks": spec.residual_blocks,
    }


def _diffusers_facts(config: Config, shapes: Shapes) -> Mapping[str, Any]:
    return latent_statistics(config, shapes.length(("expand.weight", 0))) if "latents_mean" in config.values else {}


def _diffusers_config(spec: VAE22Spec) -> Mapping[str, object]:
    return {
        "base_dim": spec.dim,
        "decoder_base_dim": spec.decoder_dim,
        "dim_mult": list(spec.multipliers),
        "latents_mean": list(spec.mean),
        "latents_std": list(spec.std),
        "num_res_blocks": spec.residual_blocks,
        "scale_factor_spatial": spec.stride[1],
        "scale_factor_temporal": spec.stride[0],
        "temperal_downsample": list(spec.time_downsample),
        "z_dim": spec.channels,
    }


def official_names(residual_blocks: int = 2, levels: int = 4) -> Names:
    """The table from the official names, in which a resampling counts as one more block of its level."""
    rows: list[tuple[str, str]] = []
    for level in range(levels):
        down, up = f"encoder.downsamples.{level}.downsamples", f"decoder.upsamples.{level}.upsamples"
        for block in range(residual_blocks + 1):
            if block < residual_blocks:
                rows += official_residual(f"{down}.{block}", f"{DOWN}.{level}.blocks.{block}")
            rows += official_residual(f"{up}.{block}", f"{UP}.{level}.blocks.{block}")
        rows += resample(f"{down}.{residual_blocks}", f"{DOWN}.{level}.resample")
        rows += resample(f"{up}.{residual_blocks + 1}", f"{UP}.{level}.resample")
    return Names(rows=(*OFFICIAL_QUANT, *official_half("encoder"), *official_half("decoder"), *rows))


BLOCKS = 2
"""Residual blocks of a level of the encoder, where too few names are there to tell."""


def _official_names_of(held: Iterable[str]) -> Names:
    """The first level of the encoder ends in a resampling, the first of the decoder with one block more before it."""
    names = tuple(held)
    count = max((_number(name, "encoder.downsamples.0.downsamples.") for name in names), default=-1)
    other = max((_number(name, "decoder.upsamples.0.upsamples.") for name in names), default=-1) - 1
    levels = (_number(name, start) for name in names for start in ("encoder.downsamples.", "decoder.upsamples."))
    return official_names(next(n for n in (count, other, BLOCKS) if n > 0), 1 + max(levels, default=0))


def _number(name: str, start: str) -> int:
    """The number behind a start of a name; -1 for other names, and for numbers that no model of this family has."""
    digits = name.removeprefix(start).partition(".")[0] if name.startswith(start) else ""
    return int(digits) if digits.isdecimal() and len(digits) < 3 else -1


def diffusers_names(residual_blocks: int = 2, levels: int = 4) -> Names:
    """The table from diffusers' names."""
    rows: list[tuple[str, str]] = []
    for level in range(levels):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{level}"
        rows += diffusers_residual(f"{down}.resnets.#", f"{DOWN}.{level}.blocks.#")
        rows += diffusers_residual(f"{up}.resnets.#", f"{UP}.{level}.blocks.#")
        rows += resample(f"{down}.downsampler", f"{DOWN}.{level}.resample")
        rows += resample(f"{up}.upsampler", f"{UP}.{level}.resample")
    return Names(rows=(*DIFFUSERS_QUANT, *diffusers_half("encoder"), *diffusers_half("decoder"), *rows))


RESIDUAL = ("residual.0.gamma", "residual.2.weight", "residual.3.gamma", "residual.6.weight")
CONVOLUTIONS = ("norm1.gamma", "conv1.weight", "norm2.gamma", "conv2.weight")

VAE22 = Family(
    name="vae22",
    part=CODEC,
    description="the autoencoder of Wan 2.2 TI2V",
    dialects=(
        Dialect(
            name="official",
            signatures=frozenset(
                f"{start}.0.{leaf}"
                for start in ("encoder.downsamples.0.downsamples", "decoder.upsamples.0.upsamples")
                for leaf in RESIDUAL
            ),
            needed=3,
            table_of=_official_names_of,
            table_for=lambda spec: official_names(spec.residual_blocks, len(spec.multipliers)),
        ),
        Dialect(
            name="diffusers",
            signatures=frozenset(
                (
                    *(f"encoder.down_blocks.0.resnets.0.{leaf}" for leaf in CONVOLUTIONS),
                    "decoder.up_blocks.0.upsampler.resample.1.weight",
                    "decoder.up_blocks.0.upsampler.time_conv.weight",
                )
            ),
            needed=3,
            table=diffusers_names(levels=9),
        ),
        Dialect(
            name="kinoform",
            signatures=frozenset(f"{UP}.0.blocks.0.{leaf}" for leaf in CONVOLUTIONS),
            needed=3,
            table=OWN_NAMES,
        ),
    ),
    spec=_spec,
    sizes=_sizes,
    channels=(3, 48),
    files={"official": "Wan2.2_VAE", "comfy": "wan2.2_vae"},
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
                "in_channels": 12,
                "is_residual": True,
                "out_channels": 12,
                "patch_size": 2,
            },
            unchecked=frozenset(("latents_mean", "latents_std")),
        ),
    ),
)
