"""The official Wan 2.1 folder: where its parts lie, and which kinds of model it may hold.

Source: the official code and its released folders.
"""

from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families import FAMILIES
from kinoform.families.family import Config, read_config
from kinoform.families.released import model_types
from kinoform.loading.detect import detect_part, settled
from kinoform.loading.sources import FoundModel, Opening
from kinoform.loading.tokenizer_file import tokenizer_at

CONFIG = "config.json"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16"
CODEC = "Wan2.1_VAE"
CODEC_22 = "Wan2.2_VAE"
IMAGE_ENCODER = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
TOKENIZER = Path("google", "umt5-xxl")


def find_official(folder: Path, opening: Opening) -> FoundModel:
    """Raises WeightsError when the transformer is missing, or of another model than config.json says."""
    config = read_config(folder / CONFIG)
    _check_kind(folder, config)
    transformer = detect_part(folder, "transformer", opening, config=config)
    places = {"text_encoder": _text_encoder, "codec": _codec, "image_encoder": _image_encoder}
    return FoundModel(
        path=folder,
        transformers=(settled(folder, transformer, opening, whole=opening.overrides.leaves_parts),),
        part=lambda part, transformer: detect_part(places[part](folder), part, opening),
        tokenizer=lambda text: tokenizer_at(folder / TOKENIZER, opening.reader),
    )


def _check_kind(folder: Path, config: Config) -> None:
    kind = config.values.get("model_type")
    if not isinstance(kind, str) or kind not in model_types():
        raise WeightsError(
            f"{folder} is {_article(kind)} model; kinoform makes videos with {', '.join(model_types())} models",
            code="config_unsupported",
        )
    maker = next(family.saved_by for family in FAMILIES if family.model_type == kind)
    made_by = config.values.get("_class_name", maker)
    if made_by != maker:
        raise WeightsError(
            f"{folder} is {_article(made_by)}; kinoform reads {maker} of type {kind}", code="config_unsupported"
        )


def _article(kind: object) -> str:
    return f"a{'n' if str(kind)[:1].lower() in 'aeio' else ''} {str(kind)[:40]}" if kind else "an unnamed kind of"


def _text_encoder(folder: Path) -> Path:
    return _either(folder, TEXT_ENCODER)


def _image_encoder(folder: Path) -> Path:
    return _either(folder, IMAGE_ENCODER)


def _codec(folder: Path) -> Path:
    if (folder / f"{CODEC_22}.pth").is_file() and not (folder / f"{CODEC}.pth").is_file():
        raise WeightsError(
            f"{folder / CODEC_22}.pth is the autoencoder of Wan 2.2 TI2V; Wan 2.1 needs {CODEC}.pth",
            code="weights_wrong_model",
        )
    return _either(folder, CODEC)


def _either(folder: Path, stem: str) -> Path:
    for suffix in (".safetensors", ".pth"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise WeightsError(
        f"{folder / stem}.pth does not exist; fetch it, or copy it there (.safetensors will do)", code="weights_missing"
    )
