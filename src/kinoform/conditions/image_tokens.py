"""Pictures as rows for cross-attention, from the image encoder.

Source: the official Wan 2.1 image-to-video and first-last-frame pipelines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kinoform.conditions.demand import Demand
from kinoform.conditions.fitting import FLOATS, signal
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import in_film_order
from kinoform.conditions.ports import Encoders, FilmSize, Given, Units
from kinoform.errors import UsageError
from kinoform.models.vision import image_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTokens:
    """The context stream `image`: rows of the first known frame, or of the first and the last (`pictures` 1 or 2).

    The pictures are encoded as they were given, neither resized nor cropped to the film. Raises UsageError for
    another number of pictures.
    """

    pictures: int = 1

    def __post_init__(self) -> None:
        if self.pictures not in (1, 2):
            raise UsageError(f"the rows of 1 or 2 pictures are read, not of {self.pictures}", code="value_out_of_range")

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"frames"})

    def size(self, inputs: Inputs, asked: FilmSize, units: Units) -> FilmSize:
        return asked

    def check(self, inputs: Inputs, film: FilmSize) -> None:
        """Raises UsageError when fewer frames are known than the model reads, and as `in_film_order`."""
        known = in_film_order(inputs.frames, film.num_frames)
        if len(known) < self.pictures:
            needs = "a picture for frame 0" if self.pictures == 1 else "pictures for frames 0 and -1"
            raise UsageError(f"this model needs {needs}, and {len(known) or 'none'} is given", code="input_missing")

    def demand(self, inputs: Inputs, film: FilmSize, units: Units, picture_rows: int) -> Demand:
        held = max((FLOATS * each.pixels.nbytes for each in inputs.frames.values()), default=0)
        return Demand(pictures=self.pictures, held=held, rows={"image": self.pictures * picture_rows})

    @torch.no_grad()
    def give(self, inputs: Inputs, film: FilmSize, encoders: Encoders) -> Given:
        known = list(in_film_order(inputs.frames, film.num_frames).values())
        read = known[:1] if self.pictures == 1 else [known[0], known[-1]]
        encoder = encoders.image()
        # One at a time: a picture's rows must not depend on what else is given.
        rows = [image_rows(encoder, signal(picture.pixels[None]).to(encoders.device)) for picture in read]
        return Given(context={"image": torch.cat(rows, dim=1)})
