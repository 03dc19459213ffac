"""A film to begin from: redone by a strength, inside a mask only, or changed by a sampler; with any model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch

from kinoform.conditions.clips import (
    by,
    check_film_given,
    check_strength,
    clip_chunks,
    free_cells,
    kept_mask,
    legal_length,
)
from kinoform.conditions.demand import Demand
from kinoform.conditions.fitting import FLOATS, kept_part
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.ports import NOTHING, Canvas, Encoders, FilmSize, Given, Known, Units
from kinoform.errors import UsageError
from kinoform.media.material import Clip
from kinoform.models.codec import encode_film
from kinoform.ops.patch import Patch
from kinoform.types import Latents

NEED_FILM = ("mask", "strength", "source_prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFilm:
    """Start latents and a start level (SDEdit, Meng et al. 2021); nothing without a film.

    Black of a mask stays: its latents are re-imposed after each step, with the film's noise at that level
    (blended diffusion, Avrahami et al. 2022), and the rest is redone wholly unless the inputs say less.
    Without a mask `strength` is the default. A longer film loses its end, a shorter one shortens what is made.
    """

    strength: float = 0.7

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"film", *NEED_FILM})

    def task(self, inputs: Inputs, film: FilmSize) -> str | None:
        """v2v, or i2i where one frame is made."""
        if inputs.film is None:
            return None
        return "i2i" if film.num_frames == 1 else "v2v"

    def size(self, inputs: Inputs, asked: FilmSize, units: Units) -> FilmSize:
        """Raises UsageError for a film that is too short; warns when frames are lost or missing."""
        clip = inputs.film
        if clip is None:
            return asked
        there, length = len(clip.frames), legal_length(clip, asked, units)
        if length < there:
            warnings.warn(f"{clip.name} has {there} frames; the first {length} are taken", stacklevel=2)
        if length < asked.num_frames:
            warnings.warn(
                f"{length} frames are made instead of {asked.num_frames}, the length of {clip.name}", stacklevel=2
            )
        return replace(asked, num_frames=length)

    def check(self, inputs: Inputs, film: FilmSize) -> None:
        """Raises UsageError for what needs a film and has none, a strength out of range, or a mask that does
        not fit or is of one colour; warns when the film is resized or cropped."""
        check_film_given(inputs, *NEED_FILM)
        clip = inputs.film
        if clip is None:
            return
        check_strength(inputs.strength)
        _tell_fit(clip, film)
        if inputs.mask is not None:
            white = kept_mask(inputs.mask, clip, film)
            if not white.any():
                raise UsageError(
                    f"{inputs.mask.name} shows no white; white is what changes, so nothing would", code="mask_empty"
                )
            if white.all():
                raise UsageError(
                    f"{inputs.mask.name} is white everywhere; leave it out to change the whole film", code="mask_full"
                )

    def demand(self, inputs: Inputs, film: FilmSize, units: Units, picture_rows: int) -> Demand:
        if inputs.film is None:
            return Demand()
        held = FLOATS * units.stride[0] * inputs.film.frames[0].nbytes
        return Demand(films=1, held=held, strength=self._strength(inputs))

    @torch.no_grad()
    def give(self, inputs: Inputs, film: FilmSize, encoders: Encoders) -> Given:
        """Raises UsageError when the mask leaves no latent cell black, which only the codec knows."""
        if inputs.film is None:
            return NOTHING
        codec = encoders.codec()
        chunks = clip_chunks(inputs.film, film, codec.stride[0])
        start = encode_film(codec, (chunk.to(encoders.device) for chunk in chunks))
        known = self._known(inputs, film, start, codec.stride)
        return Given(canvas=Canvas(start=start, strength=self._strength(inputs), known=known))

    def _strength(self, inputs: Inputs) -> float:
        if inputs.strength is not None:
            return inputs.strength
        # A sampler that changes films begins from the film itself, so that the mask alone does not redo it.
        return self.strength if inputs.mask is None or inputs.source_prompt is not None else 1.0

    def _known(self, inputs: Inputs, film: FilmSize, start: Latents, stride: Patch) -> Known | None:
        if inputs.film is None or inputs.mask is None:
            return None
        free = free_cells(kept_mask(inputs.mask, inputs.film, film), film, stride)
        if free.all():
            time, height, width = stride
            raise UsageError(
                f"no part of {inputs.mask.name} is black over {width}x{height} pixels and {time} frames of the film, "
                "so nothing would stay; give it larger black parts",
                code="mask_full",
            )
        return Known(latents=start, mask=~free[None, None].to(start.device))


def _tell_fit(clip: Clip, film: FilmSize) -> None:
    """Warn of a film in another size than the one to be made."""
    if clip.size == (film.height, film.width):
        return
    rows, columns = kept_part(clip.size, (film.height, film.width))
    kept = rows.stop - rows.start, columns.stop - columns.start
    cropped = "" if kept == clip.size else f", of which the middle {by(kept)} is taken"
    warnings.warn(f"{clip.name} of {by(clip.size)}{cropped} is brought to {film.width}x{film.height}", stacklevel=3)
