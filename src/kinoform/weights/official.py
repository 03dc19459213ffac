"""The official Wan 2.1 text-to-video folder: where its parts lie, and what its config.json says.

Source: the official code and its released folders.
"""

from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.models.dit import DiTSpec
from kinoform.models.text import UMT5_XXL
from kinoform.weights.claims import Config, read_config
from kinoform.weights.places import Given, Places, Source, Specs
from kinoform.weights.recognise import recognised
from kinoform.weights.sizes import codec_spec, shapes_of, text_spec, transformer_spec
from kinoform.weights.vocabulary import vocabulary_file

CONFIG = "config.json"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16"
CODEC = "Wan2.1_VAE"
CODEC_22 = "Wan2.2_VAE"
TOKENIZER = Path("google", "umt5-xxl")


def official_places(folder: Path, given: Given, *, variant: str | None = None) -> Places:
    """Raises WeightsError when the folder or a part is missing, or is of another model."""
    if not folder.is_dir():
        raise WeightsError(f"{folder} is not a folder; give the folder that holds {CONFIG}")
    if (folder / "high_noise_model").is_dir():
        raise WeightsError(f"{folder} is a Wan 2.2 model of two experts; kinoform makes films with Wan 2.1 t2v models")
    _check_kind(folder, read_config(folder / CONFIG))
    return Places(
        path=folder,
        transformer=recognised(folder, "transformer", config=folder / CONFIG, variant=variant),
        text_encoder=recognised(given.text_encoder or _either(folder, TEXT_ENCODER), "text_encoder"),
        codec=recognised(given.codec or _codec(folder), "codec"),
        tokenizer=vocabulary_file(given.tokenizer or folder / TOKENIZER),
    )


def official_specs(places: Places) -> Specs:
    """From the headers. Raises WeightsError when config.json contradicts them."""
    config = None if places.transformer.config is None else read_config(places.transformer.config)
    rows = UMT5_XXL.length if config is None else config.number("text_len")
    text, codec = places.text_encoder, places.codec
    return Specs(
        path=places.path,
        transformer=_transformer(places.transformer, config, rows),
        codec=codec_spec(shapes_of(codec.open(), codec.names)),
        text=text_spec(shapes_of(text.open(), text.names), length=rows),
    )


def _transformer(source: Source, config: Config | None, rows: int) -> DiTSpec:
    shapes = shapes_of(source.open(), source.names)
    if config is None:
        return transformer_spec(shapes, rows=rows)
    heads, eps = config.number("num_heads"), config.small("eps", 1e-6)
    spec = transformer_spec(shapes, heads=heads, rows=rows, eps=eps)
    config.check(
        {
            "dim": spec.dim,
            "ffn_dim": spec.ffn_dim,
            "num_layers": spec.layers,
            "in_dim": spec.in_channels,
            "out_dim": spec.out_channels,
            "freq_dim": spec.frequency_width,
        }
    )
    return spec


def _check_kind(folder: Path, config: Config) -> None:
    kind, made_by = config.values.get("model_type"), config.values.get("_class_name", "WanModel")
    if kind != "t2v":
        raise WeightsError(f"{folder} is {_article(kind)} model; kinoform makes films from text only (t2v)")
    if made_by != "WanModel":
        raise WeightsError(f"{folder} is {_article(made_by)}; kinoform reads WanModel of type t2v only")


def _article(kind: object) -> str:
    return f"a{'n' if str(kind)[:1].lower() in 'aeio' else ''} {str(kind)[:40]}" if kind else "an unnamed kind of"


def _codec(folder: Path) -> Path:
    if (folder / f"{CODEC_22}.pth").is_file() and not (folder / f"{CODEC}.pth").is_file():
        raise WeightsError(f"{folder / CODEC_22}.pth is the autoencoder of Wan 2.2 TI2V; Wan 2.1 needs {CODEC}.pth")
    return _either(folder, CODEC)


def _either(folder: Path, stem: str) -> Path:
    for suffix in (".safetensors", ".pth"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise WeightsError(f"{folder / stem}.pth does not exist; fetch it, or copy it there (.safetensors will do)")
