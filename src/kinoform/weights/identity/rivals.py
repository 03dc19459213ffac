"""Other weights beside those that a folder means: which of the two is wanted is asked, not guessed."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from kinoform.errors import KinoformError, WeightsError
from kinoform.weights.identity.identify import identify_set
from kinoform.weights.identity.sets import sets_in

ARGUMENTS = {
    "text_encoder": "--text-encoder FILE",
    "codec": "--vae FILE",
    "image_encoder": "--image-encoder FILE",
    "transformer": "--model FILE",
}


def check_alone(folder: Path, part: str, chosen: Iterable[Path]) -> None:
    """Raises WeightsError where the folder holds that part a second time, under any name, beside the chosen files."""
    files = tuple(chosen)
    for rival in rivals(folder, part, files):
        raise WeightsError(
            f"{folder} holds a {part.replace('_', ' ')} in {files[0].name} and another in {rival.name}; pass "
            f"{ARGUMENTS[part]}, or move one of them away",
            code="weights_ambiguous",
        )


def rivals(folder: Path, part: str, chosen: Iterable[Path]) -> Iterator[Path]:
    """The first files of other sets in a folder that hold that part; what cannot be read is none."""
    taken = set(chosen)
    names = [each.name for each in folder.iterdir() if each.is_file()]
    for weights in sets_in(folder, names):
        if taken.isdisjoint(weights.files):
            try:
                held = identify_set(weights)
            except KinoformError:
                continue
            if any(each.part == part for each in held):
                yield weights.path
