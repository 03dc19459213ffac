"""Parts that kinoform makes videos with, and the released model that each is: the same answer everywhere."""

from collections.abc import Sequence

from kinoform.errors import WeightsError
from kinoform.families.identity import Identity
from kinoform.families.released import RELEASED, fitting

WANTED = {
    "transformer": ("wan21-t2v", "wan21-i2v", "wan21-flf2v", "wan21-vace"),
    "text_encoder": ("umt5",),
    "codec": ("vae21",),
    "image_encoder": ("clip",),
}
READ_IMAGES = ("wan21-i2v", "wan21-flf2v")
"""Families whose transformers read rows of an image encoder."""

FAMILIES = {
    "wan21-t2v": "a text-to-video transformer",
    "wan21-i2v": "an image-to-video transformer of Wan 2.1",
    "wan21-flf2v": "a first-last-frame transformer of Wan 2.1",
    "wan21-vace": "a VACE transformer of Wan 2.1",
    "wan22-i2v": "an image-to-video expert of Wan 2.2",
    "wan22-ti2v": "the TI2V-5B transformer of Wan 2.2",
    "vae21": "the autoencoder of Wan 2.1",
    "vae22": "the autoencoder of Wan 2.2 TI2V",
    "umt5": "a umT5 text encoder",
    "clip": "a CLIP image encoder",
    "lora": "a LoRA, which changes a model and is none",
}
RUN = frozenset(model.name for model in RELEASED if model.version == "2.1")
"""The released models that kinoform makes videos with."""


def check_family(place: object, identity: Identity) -> None:
    """Raises WeightsError for a part that kinoform does not build, by what it is."""
    wanted = WANTED.get(identity.part, WANTED["transformer"])
    if identity.family == "kinoform":
        raise WeightsError(
            f"{place} is a {identity.part} of a kind that only its recipe describes; give its folder, which has a "
            "manifest.json, as the model",
            code="weights_unsupported_model",
        )
    if identity.family not in wanted:
        held = FAMILIES.get(identity.family, f"a {identity.family}")
        needed = FAMILIES[wanted[0]] if len(wanted) == 1 else "a transformer of Wan 2.1 (t2v, i2v, flf2v or vace)"
        raise WeightsError(f"{place} is {held}; kinoform makes videos with {needed}", code="weights_unsupported_model")


def other_model(sentence: str, *, lacks: bool, strange: bool) -> WeightsError:
    """The refusal of a part that lacks tensors of its model, has tensors that it does not know, or both."""
    code = "weights_incomplete" if not strange else "weights_wrong_model" if lacks else "weights_unknown_keys"
    return WeightsError(f"{sentence}; these are weights of another model", code=code)


def one_model(place: object, models: Sequence[str], *, family: str, doubt: str = "", whole: bool = False) -> str:
    """The one released model that a transformer is; of another size, the smallest of its family.

    `models` are those that its structure and its names leave, `doubt` what names say against all of them (see
    `Identity`). A `whole` folder has all parts in it, which no expert of Wan 2.2 has alone. Raises WeightsError where
    names contradict the structure, more than one model is left, or none that kinoform makes videos with.
    """
    kin = [model.name for model in fitting(family, {}) if model.name in RUN]
    if doubt:
        like = " or ".join(name for name in models if name in RUN) or f"a model like {kin[0]}"
        raise WeightsError(
            f"{place}: its name says {doubt}, its structure is that of {like}; if it is that all the same, say "
            f"--variant {next((name for name in models if name in RUN), kin[0])}",
            code="name_contradicts_weights",
        )
    possible = [name for name in models if name in RUN] if whole else list(models)
    if models and not RUN.intersection(possible):
        raise WeightsError(
            f"{place} is {' or '.join(models)}, with which kinoform makes no videos", code="weights_unsupported_model"
        )
    if len(possible) > 1:
        raise WeightsError(
            f"{place} may be {' or '.join(possible)}, which have the same structure; say which with --variant",
            code="weights_ambiguous",
        )
    return possible[0] if possible else kin[0]
