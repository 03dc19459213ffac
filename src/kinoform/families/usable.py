"""Parts that kinoform makes videos with, and the released model that each is: the same answer everywhere."""

from collections.abc import Sequence

from kinoform.errors import WeightsError
from kinoform.families import FAMILIES, family_named, released_models
from kinoform.families.family import TRANSFORMER, Family
from kinoform.families.identity import Identity


def check_family(place: object, identity: Identity) -> None:
    """Raises WeightsError for a part that kinoform does not build, by what it is."""
    family = family_named(identity.family)
    if family is None:
        raise WeightsError(
            f"{place} is a {identity.part} of a kind that only its recipe describes; give its folder, which has a "
            "manifest.json, as the model",
            code="weights_unsupported_model",
        )
    if not family.supported:
        versions = sorted({model.version for model in released_models() if model.recipes})
        needed = f"a transformer of Wan {' or '.join(versions)} ({', '.join(model_types())})"
        raise WeightsError(
            f"{place} is {family.description}; kinoform makes videos with {needed}", code="weights_unsupported_model"
        )


def model_types() -> tuple[str, ...]:
    """The tasks of the transformers that kinoform makes videos with, as the official config.json calls them."""
    return tuple(family.model_type for family in FAMILIES if family.part == TRANSFORMER and family.supported)


def other_model(sentence: str, *, lacks: bool, strange: bool) -> WeightsError:
    """The refusal of a part that lacks tensors of its model, has tensors that it does not know, or both."""
    code = "weights_incomplete" if not strange else "weights_wrong_model" if lacks else "weights_unknown_keys"
    return WeightsError(f"{sentence}; these are weights of another model", code=code)


def one_model(place: object, models: Sequence[str], *, family: Family, doubt: str = "", whole: bool = False) -> str:
    """The one released model that a transformer is; of another size, the smallest of its family.

    `models` are those that its structure and its names leave, `doubt` what names say against all of them (see
    `Identity`). A `whole` folder has all parts in it, which no expert of Wan 2.2 has alone. Raises WeightsError where
    names contradict the structure, more than one model is left, or none that kinoform makes videos with.
    """
    run = {model.name for model in released_models() if model.recipes}
    kin = [model.name for model in family.released if model.recipes]
    if doubt:
        like = " or ".join(name for name in models if name in run) or f"a model like {kin[0]}"
        raise WeightsError(
            f"{place}: its name says {doubt}, its structure is that of {like}; if it is that all the same, say "
            f"--variant {next((name for name in models if name in run), kin[0])}",
            code="name_contradicts_weights",
        )
    possible = [name for name in models if name in run] if whole else list(models)
    if models and not run.intersection(possible):
        raise WeightsError(
            f"{place} is {' or '.join(models)}, with which kinoform makes no videos", code="weights_unsupported_model"
        )
    if len(possible) > 1:
        raise WeightsError(
            f"{place} may be {' or '.join(possible)}, which have the same structure; say which with --variant",
            code="weights_ambiguous",
        )
    return possible[0] if possible else kin[0]
