"""The official Wan 2.1 folder: where its parts lie, and which kinds of model it may hold.

Source: the official code and its released folders.
"""

from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families import FAMILIES
from kinoform.families.config_file import Config, read_config
from kinoform.families.transformer import text_rows
from kinoform.families.usable import model_types
from kinoform.loading.detect import detect_part, settled
from kinoform.loading.sources import OpenedModel, Opening, opened
from kinoform.loading.tokenizer_file import tokenizer_at

CONFIG = "config.json"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16"
CODEC = "Wan2.1_VAE"
CODEC_22 = "Wan2.2_VAE"
IMAGE_ENCODER = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
TOKENIZER = Path("google", "umt5-xxl")


def open_official(folder: Path, opening: Opening) -> OpenedModel:
    """Raises WeightsError when a part is missing, is of another model, or contradicts config.json."""
    config, given = read_config(folder / CONFIG), opening.overrides
    _check_kind(folder, config)
    file = detect_part(folder, "transformer", opening, config=config)
    file = settled(folder, file, opening, whole=given.leaves_parts)
    text = detect_part(given.text_encoder or _either(folder, TEXT_ENCODER), "text_encoder", opening)
    codec = opened(detect_part(given.codec or _codec(folder), "codec", opening))
    tokenizer = tokenizer_at(given.tokenizer or folder / TOKENIZER, opening.reader)
    image = None
    if file.reads_images:
        place = given.image_encoder or _either(folder, IMAGE_ENCODER)
        image = opened(detect_part(place, "image_encoder", opening))
    transformer = opened(file)
    return OpenedModel(
        path=folder,
        transformer=transformer,
        text_encoder=opened(text, length=text_rows(transformer.spec)),
        codec=codec,
        codec_spec=codec.spec,
        tokenizer=tokenizer,
        image_encoder=image,
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
