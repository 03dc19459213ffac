"""The official Wan 2.1 folder: where its parts lie, and what its config.json says.

Source: the official code and its released folders.
"""

from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families.config_file import Config, read_config, shown
from kinoform.families.folders import check_folder
from kinoform.families.specs import codec_spec, shapes_of, side_blocks, text_spec, transformer_spec, vision_spec
from kinoform.families.usable import FAMILIES, READ_IMAGES
from kinoform.loading.detect import recognised, settled
from kinoform.loading.diffusers import diffusers_transformer
from kinoform.loading.sources import Given, Places, Source, Specs
from kinoform.loading.tokenizer_file import vocabulary_file
from kinoform.models.dit import DiTSpec
from kinoform.models.text import UMT5_XXL

CONFIG = "config.json"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16"
CODEC = "Wan2.1_VAE"
CODEC_22 = "Wan2.2_VAE"
IMAGE_ENCODER = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
TOKENIZER = Path("google", "umt5-xxl")

KINDS = {
    "t2v": ("wan21-t2v", "WanModel"),
    "i2v": ("wan21-i2v", "WanModel"),
    "flf2v": ("wan21-flf2v", "WanModel"),
    "vace": ("wan21-vace", "VaceWanModel"),
}
"""What config.json calls a model: the family of its transformer, and the class that saved it."""


def official_places(folder: Path, given: Given, *, variant: str | None = None, named: bool = False) -> Places:
    """Raises WeightsError when the folder or a part is missing, or is of another model; `named` as in `settled`."""
    if not folder.is_dir():
        raise WeightsError(f"{folder} is not a folder; give the folder that holds {CONFIG}", code="weights_missing")
    check_folder(folder)
    _check_kind(folder, read_config(folder / CONFIG))
    transformer = recognised(folder, "transformer", config=folder / CONFIG, variant=variant)
    transformer = settled(folder, transformer, whole=given.leaves_parts, named=named or variant is not None)
    seeing = transformer.family in READ_IMAGES
    return Places(
        path=folder,
        transformer=transformer,
        text_encoder=recognised(given.text_encoder or _either(folder, TEXT_ENCODER), "text_encoder"),
        codec=recognised(given.codec or _codec(folder), "codec"),
        tokenizer=vocabulary_file(given.tokenizer or folder / TOKENIZER),
        image_encoder=_image_encoder(folder, given) if seeing else None,
    )


def official_specs(places: Places) -> Specs:
    """From the headers. Raises WeightsError when config.json contradicts them."""
    config = None if places.transformer.config is None else read_config(places.transformer.config)
    rows = UMT5_XXL.length if config is None or _of_diffusers(config) else config.number("text_len")
    text, codec, image = places.text_encoder, places.codec, places.image_encoder
    assert codec is not None, "all released models have an autoencoder"
    return Specs(
        path=places.path,
        transformer=_transformer(places.transformer, config, rows),
        codec=codec_spec(shapes_of(codec.open(), codec.names)),
        text=text_spec(shapes_of(text.open(), text.names), length=rows),
        image=None if image is None else vision_spec(shapes_of(image.open(), image.names)),
    )


def _transformer(source: Source, config: Config | None, rows: int) -> DiTSpec:
    shapes = shapes_of(source.open(), source.names)
    if config is None:
        return transformer_spec(shapes, rows=rows)
    if _of_diffusers(config):
        return diffusers_transformer(source)
    family, _ = KINDS.get(str(config.values.get("model_type")), ("", ""))
    if source.family != family:
        kind, held = shown(config.values.get("model_type")), FAMILIES[source.family]
        raise WeightsError(
            f"{config.path}: model_type is {kind}, the weights are {held}; they do not belong together",
            code="config_contradicts_weights",
        )
    heads, eps = config.number("num_heads"), config.small("eps", 1e-6)
    sides = config.rising("vace_layers", shapes.blocks())
    spec = transformer_spec(shapes, heads=heads, rows=rows, eps=eps, side_layers=sides)
    if (side := side_blocks(spec)) is not None:
        config.check({"vace_in_dim": side.channels})
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


def _of_diffusers(config: Config) -> bool:
    """Whether the settings beside a single file are those of a transformer in diffusers' layout."""
    return "num_attention_heads" in config.values


def _check_kind(folder: Path, config: Config) -> None:
    kind = config.values.get("model_type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise WeightsError(
            f"{folder} is {_article(kind)} model; kinoform makes videos with {', '.join(KINDS)} models",
            code="config_unsupported",
        )
    _, maker = KINDS[kind]
    made_by = config.values.get("_class_name", maker)
    if made_by != maker:
        raise WeightsError(
            f"{folder} is {_article(made_by)}; kinoform reads {maker} of type {kind}", code="config_unsupported"
        )


def _article(kind: object) -> str:
    return f"a{'n' if str(kind)[:1].lower() in 'aeio' else ''} {str(kind)[:40]}" if kind else "an unnamed kind of"


def _codec(folder: Path) -> Path:
    if (folder / f"{CODEC_22}.pth").is_file() and not (folder / f"{CODEC}.pth").is_file():
        raise WeightsError(
            f"{folder / CODEC_22}.pth is the autoencoder of Wan 2.2 TI2V; Wan 2.1 needs {CODEC}.pth",
            code="weights_wrong_model",
        )
    return _either(folder, CODEC)


def _image_encoder(folder: Path, given: Given) -> Source:
    return recognised(given.image_encoder or _either(folder, IMAGE_ENCODER), "image_encoder")


def _either(folder: Path, stem: str) -> Path:
    for suffix in (".safetensors", ".pth"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise WeightsError(
        f"{folder / stem}.pth does not exist; fetch it, or copy it there (.safetensors will do)", code="weights_missing"
    )
