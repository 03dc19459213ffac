"""Write the table of docs/inputs.md anew from the fields that declare the inputs: `python docs/inputs_table.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kinoform.conditions.inputs import InputField, Inputs
from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.standard_inputs import STANDARD_INPUTS
from kinoform.datasets.item import FIRST, LAST
from kinoform.errors import UsageError
from kinoform.media.types import InputImage
from kinoform.recipe import find
from kinoform.recipes.catalogue import ADAPTERS, EMBEDDED, RELEASED, takers

PAGE = Path(__file__).parent / "inputs.md"
HEAD = ("| option | Python | takes it | what it does |", "|---|---|---|---|")


def rows(item: InputField[Any]) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Yield option, keyword, the models that take it, and help of a field and of its parts."""
    for name, (number, help) in item.kind.shorthands.items():
        taking = tuple(model for model in takers(item) if takes_frame(model, item, number))
        yield f"`--{name.replace('_', '-')} FILE`", f"`{name}=`", taking, help
    value = "" if item.kind.option is bool else f" {item.kind.noun.upper()}"
    often = ", again and again" if item.kind.repeatable else ""
    yield f"`--{item.key.replace('_', '-')}{value}`{often}", f"`{item.name}=`", takers(item), item.help


def takes_frame(model: str, item: InputField[Any], number: int) -> bool:
    """Tell whether a model takes an image of the frame of a number, alone, or the first and the last together."""
    address = (EMBEDDED | ADAPTERS).get(model)
    recipe = RELEASED[model]() if address is None else find(address)
    video = VideoSize(num_frames=recipe.num_frames, height=recipe.height, width=recipe.width)
    row = np.linspace(0, 255, video.width).astype(np.uint8)
    image = InputImage(pixels=np.tile(row[None, :, None], (video.height, 1, 3)))

    def taken(*numbers: int) -> bool:
        try:
            for conditioner in recipe.conditioners:
                conditioner.check(Inputs({item: dict.fromkeys(numbers, image)}), video)
        except UsageError:
            return False
        return True

    return taken(number) or taken(FIRST, LAST)


def table() -> str:
    """Return the table in Markdown."""
    lines = [
        f"| {option} | {keyword} | {', '.join(taking)} | {help} |"
        for item in STANDARD_INPUTS
        for option, keyword, taking, help in rows(item)
    ]
    return "\n".join([*HEAD, *lines])


def written(page: str) -> str:
    """Return the page with the table in the place of the one it has."""
    before, _, rest = page.partition(HEAD[0])
    behind = rest[rest.index("\n\n") :]
    return before + table() + behind


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
