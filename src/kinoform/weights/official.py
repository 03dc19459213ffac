"""The official Wan 2.1 text-to-video folder: where its parts lie, and their sizes.

The transformer's sizes stand in config.json; those of the text encoder and the autoencoder stand nowhere
and are read off the shapes of their tensors. Source: the official code and its released folders.
"""

import re
from itertools import count
from pathlib import Path
from typing import Any

from kinoform.errors import UsageError, WeightsError
from kinoform.models.context import TextStream
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.vae import WAN21_MEAN, WAN21_STD, VAESpec
from kinoform.weights.files import Checkpoint, open_checkpoint, read_json
from kinoform.weights.places import Places, Specs

CONFIG = "config.json"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16"
CODEC = "Wan2.1_VAE"
TOKENIZER = Path("google", "umt5-xxl")

MAX_SIZE = 1 << 17
"""Above every width of this family; a config that claims more is damaged."""

WAN22_CODEC_MARK = "decoder.upsamples.0.upsamples.0.residual.2.weight"


def official_places(folder: Path) -> Places:
    """Raises WeightsError when the folder or a part is missing, or when the folder is of another layout."""
    if not folder.is_dir():
        raise WeightsError(f"{folder} is not a folder; give the folder that holds {CONFIG}")
    if (folder / "model_index.json").is_file():
        raise WeightsError(f"{folder} is a diffusers folder; get the official one, which has {CODEC}.pth")
    if (folder / "high_noise_model").is_dir():
        raise WeightsError(f"{folder} is a Wan 2.2 model of two experts; this version reads Wan 2.1 models")
    return Places(
        transformer=folder,
        text_encoder=_either(folder, TEXT_ENCODER),
        codec=_either(folder, CODEC),
        tokenizer=folder / TOKENIZER,
    )


def official_specs(folder: Path, places: Places) -> Specs:
    """Read config.json and the headers. Raises WeightsError when they are not of a Wan 2.1 t2v model."""
    config = read_json(folder / CONFIG)
    _check_kind(folder, config)
    return Specs(
        folder=folder,
        transformer=transformer_spec(folder / CONFIG, config, open_checkpoint(places.transformer)),
        codec=codec_spec(open_checkpoint(places.codec)),
        text=text_spec(open_checkpoint(places.text_encoder), length=_size(folder / CONFIG, config, "text_len")),
    )


def transformer_spec(path: Path, config: dict[str, Any], checkpoint: Checkpoint) -> DiTSpec:
    """From the config at `path`; the width of the text rows, which it omits, from the first text layer."""
    sizes = {key: _size(path, config, key) for key in ("dim", "ffn_dim", "num_heads", "in_dim", "out_dim")}
    layers, held = _size(path, config, "num_layers"), _blocks(checkpoint)
    if layers != held:
        raise WeightsError(f"{path} says {layers} layers, the weights have {held}; they do not belong together")
    eps = config.get("eps", 1e-6)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise WeightsError(f"{path}: eps is {eps!r}, which is no small positive number; fetch the file again")
    width = _length(checkpoint, "text_embedding.0.weight", 1)
    try:
        return DiTSpec(
            dim=sizes["dim"],
            ffn_dim=sizes["ffn_dim"],
            heads=sizes["num_heads"],
            layers=layers,
            in_channels=sizes["in_dim"],
            out_channels=sizes["out_dim"],
            frequency_width=_size(path, config, "freq_dim"),
            eps=eps,
            context=(TextStream(width=width, rows=_size(path, config, "text_len")),),
        )
    except UsageError as error:
        raise WeightsError(f"{path}: {error}; fetch the file again") from error


def text_spec(checkpoint: Checkpoint, *, length: int) -> TextSpec:
    """From the shapes of the official encoder's tensors; `length` is the token limit of a prompt."""
    table = "blocks.0.pos_embedding.embedding.weight"
    try:
        return TextSpec(
            vocab=_length(checkpoint, "token_embedding.weight", 0),
            dim=_length(checkpoint, "token_embedding.weight", 1),
            dim_attention=_length(checkpoint, "blocks.0.attn.q.weight", 0),
            dim_ffn=_length(checkpoint, "blocks.0.ffn.fc1.weight", 0),
            heads=_length(checkpoint, table, 1),
            layers=_blocks(checkpoint),
            buckets=_length(checkpoint, table, 0),
            length=length,
        )
    except UsageError as error:
        raise WeightsError(f"{checkpoint.path}: {error}; this is not the umT5 encoder") from error


def codec_spec(checkpoint: Checkpoint) -> VAESpec:
    """From the encoder's layers: residual blocks, and a resampling after each level but the last."""
    if WAN22_CODEC_MARK in checkpoint.tensors:
        raise WeightsError(f"{checkpoint.path} is the autoencoder of Wan 2.2 TI2V; Wan 2.1 needs {CODEC}.pth")
    dim = _length(checkpoint, "encoder.conv1.weight", 0)
    channels = _length(checkpoint, "conv2.weight", 0)
    width, blocks = dim, 0
    levels: list[tuple[int, bool]] = []
    for place in count():
        layer = f"encoder.downsamples.{place}"
        if f"{layer}.resample.1.weight" in checkpoint.tensors:
            levels.append((width, f"{layer}.time_conv.weight" in checkpoint.tensors))
        elif f"{layer}.residual.6.weight" in checkpoint.tensors:
            width = _length(checkpoint, f"{layer}.residual.6.weight", 0)
            blocks += not levels
        else:
            break
    known = channels == len(WAN21_MEAN)
    return VAESpec(
        dim=dim,
        channels=channels,
        multipliers=(*(size // dim for size, _ in levels), width // dim),
        residual_blocks=blocks,
        time_downsample=tuple(time for _, time in levels),
        mean=WAN21_MEAN if known else (),
        std=WAN21_STD if known else (),
    )


def _either(folder: Path, stem: str) -> Path:
    for suffix in (".safetensors", ".pth"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise WeightsError(f"{folder / stem}.pth does not exist; fetch it, or copy it there (.safetensors will do)")


def _check_kind(folder: Path, config: dict[str, Any]) -> None:
    kind, made_by = config.get("model_type"), config.get("_class_name", "WanModel")
    if kind != "t2v":
        raise WeightsError(f"{folder} is {_article(kind)} model; this version makes films from text only (t2v)")
    if made_by != "WanModel":
        raise WeightsError(f"{folder} is {_article(made_by)}; this version reads WanModel of type t2v only")


def _article(kind: object) -> str:
    return f"a{'n' if str(kind)[:1].lower() in 'aeio' else ''} {kind}" if kind else "an unnamed kind of"


def _size(path: Path, config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value <= MAX_SIZE:
        raise WeightsError(f"{path}: {key} is {value!r}, not a number from 1 to {MAX_SIZE}; fetch the file again")
    return value


def _length(checkpoint: Checkpoint, name: str, axis: int) -> int:
    stored = checkpoint.tensors.get(name)
    if stored is None or len(stored.shape) <= axis or stored.shape[axis] == 0:
        raise WeightsError(f"{checkpoint.path} has no usable tensor {name!r}; these are weights of another model")
    return stored.shape[axis]


def _blocks(checkpoint: Checkpoint) -> int:
    found = (re.match(r"blocks\.(\d+)\.", name) for name in checkpoint.tensors)
    return len({match[1] for match in found if match})
