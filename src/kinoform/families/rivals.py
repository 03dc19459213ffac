"""Other weights beside those that a folder means: which of the two is wanted is asked, not guessed."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import KinoformError, WeightsError
from kinoform.families.identify import identify_opened
from kinoform.families.weight_sets import open_set, sets_in

ARGUMENTS = {
    "text_encoder": "--text-encoder FILE",
    "codec": "--vae FILE",
    "image_encoder": "--image-encoder FILE",
    "transformer": "--model FILE",
}


def check_alone(folder: Path, part: str, chosen: Iterable[Path], reader: HeaderReader) -> None:
    """Raises WeightsError where the folder holds that part a second time, under any name, beside the chosen files."""
    files = tuple(chosen)
    for rival in rivals(folder, part, files, reader):
        raise WeightsError(
            f"{folder} holds a {part.replace('_', ' ')} in {files[0].name} and another in {rival.name}; pass "
            f"{ARGUMENTS.get(part, 'the file of one')}, or move one of them away",
            code="weights_ambiguous",
        )


def files_with(part: str, folder: Path, reader: HeaderReader) -> list[Path]:
    """The first files of the sets in a folder that hold that part."""
    return sorted(rivals(folder, part, (), reader))


def rivals(folder: Path, part: str, chosen: Iterable[Path], reader: HeaderReader) -> Iterator[Path]:
    """The first files of other sets in a folder that hold that part; what cannot be read is none."""
    taken = set(chosen)
    names = [each.name for each in folder.iterdir() if each.is_file()]
    for weights in sets_in(folder, names):
        if taken.isdisjoint(weights.files):
            with suppress(KinoformError):
                if any(each.part == part for each in identify_opened(open_set(weights, reader))):
                    yield weights.path
