"""Folders of whole models: the official one, and that of a diffusers pipeline.

Sources: the official code and its released folders; https://github.com/huggingface/diffusers and what it saves.
"""

from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families import FAMILIES
from kinoform.families.family import Config, read_config, shown
from kinoform.families.folders import (
    CONFIG,
    DIFFUSERS_TOKENIZER,
    INDEX,
    OFFICIAL_TOKENIZER,
    diffusers_transformers,
    official_transformers,
)
from kinoform.families.released import model_types
from kinoform.loading.detect import detect_part
from kinoform.loading.experts import settled
from kinoform.loading.sources import FoundModel, OpenedPart, Opening, PartFile
from kinoform.loading.tokenizer_file import tokenizer_at
from kinoform.models.dit import DiTSpec

DIFFUSERS_FOLDERS = {
    "transformer": "transformer",
    "text_encoder": "text_encoder",
    "codec": "vae",
    "image_encoder": "image_encoder",
}
"""Folders of diffusers, by the part that they hold."""


def find_official(folder: Path, opening: Opening) -> FoundModel:
    """Raises WeightsError when a transformer is missing, or of another model than its config.json says."""
    transformers: dict[str, PartFile] = {}
    for noise, place in official_transformers(folder).items():
        config = read_config(place / CONFIG)
        _check_kind(place, config)
        transformers[noise] = detect_part(place, "transformer", opening, config=config, expert=noise)
    model = settled(folder, transformers, opening, whole=opening.overrides.leaves_parts)
    return FoundModel(
        path=folder,
        transformers=model.files,
        model=model.model,
        part=lambda part, transformer: detect_part(_official_file(folder, part, transformer), part, opening),
        tokenizer=lambda text: tokenizer_at(folder / OFFICIAL_TOKENIZER, opening.reader),
    )


def find_diffusers(folder: Path, opening: Opening) -> FoundModel:
    """Raises WeightsError when a transformer is missing, of another model, or not that of its pipeline."""
    made_by = read_config(folder / INDEX).values.get("_class_name") if (folder / INDEX).is_file() else None
    if not (folder / DIFFUSERS_FOLDERS["transformer"]).is_dir():
        raise WeightsError(
            f"{folder} is a folder of {shown(made_by)} without {DIFFUSERS_FOLDERS['transformer']}/; give one of a Wan "
            f"pipeline, such as {FAMILIES[0].pipelines[0]}",
            code="config_unsupported",
        )

    def part_file(place: Path, part: str, expert: str = "") -> PartFile:
        # A part without settings has the sizes of all released models where no shape tells.
        config = read_config(place / CONFIG) if (place / CONFIG).is_file() else None
        return detect_part(place, part, opening, config=config, expert=expert)

    held = {noise: part_file(at, "transformer", noise) for noise, at in diffusers_transformers(folder).items()}
    model = settled(folder, held, opening, whole=opening.overrides.leaves_parts)
    first, *others = model.files
    family = first.family
    assert family is not None, "parts that only a recipe describes are refused"
    known = any(made_by in family.pipelines for family in FAMILIES)
    if known and made_by not in family.pipelines:
        raise WeightsError(
            f"{folder} is a {made_by} with {family.description}; they do not belong together, fetch the folder again",
            code="config_contradicts_weights",
        )
    if made_by is not None and not known:
        first = first.noted(f"its pipeline is {shown(made_by)}, which kinoform does not know; it is read by its parts")
    return FoundModel(
        path=folder,
        transformers=(first, *others),
        model=model.model,
        part=lambda part, transformer: part_file(folder / DIFFUSERS_FOLDERS[part], part),
        tokenizer=lambda text: tokenizer_at(folder / DIFFUSERS_TOKENIZER, opening.reader),
    )


def _check_kind(folder: Path, config: Config) -> None:
    kind = config.values.get("model_type")
    if not isinstance(kind, str) or kind not in model_types():
        raise WeightsError(
            f"{folder} is {_article(kind)} model; kinoform makes videos with {', '.join(model_types())} models",
            code="config_unsupported",
        )
    makers = next(family.saved_by for family in FAMILIES if family.model_type == kind)
    made_by = config.values.get("_class_name", makers[0])
    if made_by not in makers:
        raise WeightsError(
            f"{folder} is {_article(made_by)}; kinoform reads {' and '.join(makers)} of type {kind}",
            code="config_unsupported",
        )


def _article(kind: object) -> str:
    return f"a{'n' if str(kind)[:1].lower() in 'aeio' else ''} {str(kind)[:40]}" if kind else "an unnamed kind of"


def _official_file(folder: Path, part: str, transformer: OpenedPart[DiTSpec]) -> Path:
    """The file of a part beside the transformer; a codec's is that which makes the latents of this transformer."""
    families = [family for family in FAMILIES if family.part == part and "official" in family.files]
    found = {family: file for family in families if (file := _stored(folder / family.files["official"])) is not None}
    wanted = next((each for each in families if each.channels[1] in (0, transformer.spec.out_channels)), families[0])
    if wanted in found:
        return found[wanted]
    name = f"{wanted.files['official']}.pth"
    for other, file in found.items():
        raise WeightsError(
            f"{file} is {other.description}; this transformer needs {wanted.description}, {name}",
            code="weights_wrong_model",
        )
    raise WeightsError(
        f"{folder / name} does not exist; fetch it, or copy it there (.safetensors will do)", code="weights_missing"
    )


def _stored(stem: Path) -> Path | None:
    """The file of this name that is there, with either suffix."""
    files = (stem.with_name(stem.name + suffix) for suffix in (".safetensors", ".pth"))
    return next((file for file in files if file.is_file()), None)
