"""A diffusers folder of a Wan 2.1 pipeline: model_index.json and a folder a part, each with its own config.json.

Source: https://github.com/huggingface/diffusers and the folders that it saves.
"""

from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families import FAMILIES
from kinoform.families.family import read_config, shown
from kinoform.families.folders import CONFIG, INDEX
from kinoform.loading.detect import detect_part, settled
from kinoform.loading.sources import FoundModel, Opening, PartFile
from kinoform.loading.tokenizer_file import tokenizer_at

TRANSFORMER, TEXT_ENCODER, CODEC, TOKENIZER = "transformer", "text_encoder", "vae", "tokenizer"
IMAGE_ENCODER = "image_encoder"


def find_diffusers(folder: Path, opening: Opening) -> FoundModel:
    """Raises WeightsError when the transformer is missing, of another model, or not that of its pipeline."""
    made_by = read_config(folder / INDEX).values.get("_class_name") if (folder / INDEX).is_file() else None
    if not (folder / TRANSFORMER).is_dir():
        raise WeightsError(
            f"{folder} is a folder of {shown(made_by)} without {TRANSFORMER}/; give one of a Wan pipeline, such as "
            f"{FAMILIES[0].pipelines[0]}",
            code="config_unsupported",
        )
    file = _part(folder / TRANSFORMER, "transformer", opening)
    file = settled(folder, file, opening, whole=opening.overrides.leaves_parts)
    family = file.family
    assert family is not None, "parts that only a recipe describes are refused"
    known = {pipeline for each in FAMILIES for pipeline in each.pipelines}
    if made_by in known and made_by not in family.pipelines:
        raise WeightsError(
            f"{folder} is a {made_by} with {family.description}; they do not belong together, fetch the folder again",
            code="config_contradicts_weights",
        )
    if made_by is not None and made_by not in known:
        file = file.noted(f"its pipeline is {shown(made_by)}, which kinoform does not know; it is read by its parts")
    folders = {"text_encoder": folder / TEXT_ENCODER, "codec": folder / CODEC, "image_encoder": folder / IMAGE_ENCODER}
    return FoundModel(
        path=folder,
        transformers=(file,),
        part=lambda part, transformer: _part(folders[part], part, opening),
        tokenizer=lambda text: tokenizer_at(folder / TOKENIZER, opening.reader),
    )


def _part(folder: Path, part: str, opening: Opening) -> PartFile:
    """A part with its settings; one that has none has the sizes of all released models where no shape tells."""
    config = read_config(folder / CONFIG) if (folder / CONFIG).is_file() else None
    return detect_part(folder, part, opening, config=config)
