"""The JSON files of a diffusers folder that belong to the whole model, not to one part.

Keys and values: folders saved by diffusers 0.42 and transformers 5.
"""

from kinoform.conversion.model_contents import Part
from kinoform.families import released_models
from kinoform.families.family import Family
from kinoform.families.transformer import MADE_FOR
from kinoform.models.tokenizer import END, PAD, UNKNOWN
from kinoform.models.vision import MEAN, STD, VisionSpec

T5, AS_IT_IS = "T5TokenizerFast", "PreTrainedTokenizerFast"
"""Classes of transformers: one builds a T5 tokenizer anew from its pieces, the other obeys tokenizer.json."""


def image_processor(spec: VisionSpec) -> dict[str, object]:
    """Return how diffusers' pipelines prepare images, which is not how the official code does (docs/weights.md)."""
    return {
        "crop_size": {"height": spec.image, "width": spec.image},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(MEAN),
        "image_processor_type": "CLIPImageProcessor",
        "image_std": list(STD),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": spec.image},
    }


def scheduler(transformer: Part, model: str) -> dict[str, object]:
    """diffusers' nearest relative of the official UniPC; its noise levels differ (docs/weights.md).

    The shift is that of the released model, of one of no released size that of the largest of its family that is no
    expert. `model` is the one that two experts make.
    """
    assert transformer.family is not None, "whole models of a recipe's own have no scheduler of diffusers"
    named = (item for item in released_models() if item.name == transformer.identity.chosen or model == item.model)
    largest = [
        *transformer.family.released,
        *(item for item in transformer.family.released if not item.noise and not item.tuning),
    ][-1]
    return {
        "_class_name": "UniPCMultistepScheduler",
        "_diffusers_version": MADE_FOR,
        "flow_shift": next(named, largest).shift,
        "num_train_timesteps": 1000,
        "predict_x0": True,
        "prediction_type": "flow_prediction",
        "solver_order": 2,
        "solver_type": "bh2",
        "use_flow_sigmas": True,
    }


def pipeline(tokenizer: str, family: Family, transformer: str, *, image: bool, model: str) -> dict[str, object]:
    """model_index.json; `tokenizer` is the class that reads the tokenizer's files, `image`: with an encoder.

    `transformer` is the class of the transformer, `model` the one that two experts make.
    """
    seeing = {
        "image_encoder": ["transformers", "CLIPVisionModel"],
        "image_processor": ["transformers", "CLIPImageProcessor"],
    }
    boundaries = [item.boundary for item in family.released if item.noise and item.model == model]
    return {
        "_class_name": family.pipelines[0],
        "_diffusers_version": MADE_FOR,
        "boundary_ratio": next(iter(boundaries), None),
        **family.index,
        **(seeing if image else {}),
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", tokenizer],
        "transformer": ["diffusers", transformer],
        "transformer_2": ["diffusers", transformer] if model else [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }


def tokenizer_config(tokenizer: str, length: int) -> dict[str, object]:
    """`length` is the token limit of a prompt."""
    specials = {"pad_token": PAD, "eos_token": END, "unk_token": UNKNOWN}
    # Left out, 100 tokens that no released vocabulary has would be added.
    extra = {"extra_ids": 0} if tokenizer == T5 else {}
    return {"tokenizer_class": tokenizer, "model_max_length": length, **specials, **extra}
