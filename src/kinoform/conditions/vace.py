"""VACE: a film to follow or to change, where it changes, and pictures of what shall appear, for side blocks.

Source: VACE (Jiang et al., 2025), with the official Wan 2.1 pipeline.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from kinoform.conditions.clips import WHITE, by, check_film_given, check_same, check_strength
from kinoform.conditions.demand import Demand
from kinoform.conditions.fitting import Size, check_shows
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.packing import (
    control_size,
    covering,
    film_halves,
    film_latents,
    grey_halves,
    on_white,
    packed,
    packed_mask,
    reference_latents,
    shown_frames,
)
from kinoform.conditions.ports import Canvas, Encoders, FilmSize, Given, Units
from kinoform.errors import UsageError
from kinoform.media.material import Clip, Mask
from kinoform.models.side_blocks import Control
from kinoform.numbers import real

MOST_SCALE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vace:
    """What `branch` of the transformer reads; without a film and a mask, everything is to be made.

    A video counts with all of its frames, whatever its rate; as many are shown as there is room for, evenly.
    References stand as latent frames before the film, are denoised with it and cut off. With a strength below 1
    it is begun from the film and its references, not from noise alone.
    """

    branch: str = "vace"

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"film", "mask", "references", "strength", "context_scale"})

    @property
    def every_frame(self) -> bool:
        return True

    def task(self, inputs: Inputs, film: FilmSize) -> str | None:
        return "vace" if inputs.film is not None or inputs.references else None

    def size(self, inputs: Inputs, asked: FilmSize, units: Units) -> FilmSize:
        """That of the film that is given, within the number of tokens of the one that is asked for.

        Raises UsageError for a film too short or too small for any.
        """
        if inputs.film is None:
            return asked
        name, frames, least = inputs.film.name, len(inputs.film.frames), 1 + units.stride[0]
        if frames < least:
            raise UsageError(
                f"{name} has {frames} frames; a film to follow or to change has {least} at least",
                code="video_too_short",
            )
        film = control_size(frames, inputs.film.size, asked, units)
        if not film.height:
            smallest = f"{units.side[1]}x{units.side[0]}"
            raise UsageError(
                f"{name} is {by(inputs.film.size)}; a film to follow or to change is {smallest} at least",
                code="video_too_small",
            )
        return film

    def check(self, inputs: Inputs, film: FilmSize) -> None:
        """Raises UsageError for a mask that does not fit its film, a strength without a film or out of range, a
        reference of one colour, and a context scale outside 0 to 10.

        Warns of a film that is resized, cropped or sampled.
        """
        if inputs.mask is not None:
            check_mask(inputs.mask, inputs.film)
        check_film_given(inputs, "strength")
        check_strength(inputs.strength)
        check_shows(inputs.references)
        if inputs.context_scale is not None:
            real("the context scale", inputs.context_scale, 0.0, MOST_SCALE)
        clip, made = inputs.film, (film.height, film.width)
        if clip is not None and (len(clip.frames), clip.size) != (film.num_frames, made):
            was, becomes = f"{len(clip.frames)} frames of {by(clip.size)}", f"{film.num_frames} of {by(made)}"
            warnings.warn(f"{clip.name} of {was} is read as {becomes}", stacklevel=2)

    def demand(self, inputs: Inputs, film: FilmSize, units: Units, picture_rows: int) -> Demand:
        lead, time = len(inputs.references), units.stride[0]
        pixels = film.num_frames * film.height * film.width
        redone = _redone(inputs)
        return Demand(
            films=1 if inputs.film is None else 2 if redone is None else 3,
            stills=lead,
            held=0 if inputs.film is None else 4 * pixels,  # red, green, blue and mask, a byte each
            branches={self.branch: lead + 1 + (film.num_frames - 1) // time},
            lead=lead,
            strength=redone,
        )

    @torch.no_grad()
    def give(self, inputs: Inputs, film: FilmSize, encoders: Encoders) -> Given:
        codec, device, size = encoders.codec(), encoders.device, (film.height, film.width)
        redone, start = _redone(inputs), None
        if inputs.film is None:
            mask = _everywhere(film.num_frames, size)
            halves = grey_halves(codec, film, device)
        else:
            places = shown_frames(len(inputs.film.frames), film.num_frames)
            mask = _fitted(inputs.mask, places, size)
            frames = covering((inputs.film.frames[place] for place in places), size)
            halves = film_halves(codec, frames, mask, device)
            start = None if redone is None else film_latents(codec, frames, device)
        pictures = [on_white(picture.pixels, size) for picture in inputs.references]
        references = list(reference_latents(codec, pictures, device))
        control = Control(
            latents=packed(halves, references, packed_mask(mask, codec.stride)),
            scale=1.0 if inputs.context_scale is None else float(inputs.context_scale),
        )
        shown = [each[:, : codec.channels] for each in references]
        canvas = Canvas(
            lead=len(shown),
            pictures=torch.cat(shown, dim=2) if shown else None,
            start=start,
            strength=1.0 if redone is None else redone,
        )
        return Given(branches={self.branch: control}, canvas=canvas)


def check_mask(mask: Mask, film: Clip | None) -> None:
    """Raise UsageError for a mask without a film, of another size or length than its film, or without white."""
    if film is None:
        raise UsageError(
            f"{mask.name} says where a film changes, and no film is given; give the film as well", code="input_missing"
        )
    check_same(mask, film)
    if not (mask.values >= WHITE).any():
        raise UsageError(f"{mask.name} has no white, so nothing would change; white is what changes", code="mask_empty")


def _redone(inputs: Inputs) -> float | None:
    """The strength of a start from the film; None for one from noise alone."""
    return None if inputs.film is None or inputs.strength in (None, 1) else inputs.strength


def _everywhere(frames: int, size: Size) -> UInt8[Tensor, "t height width"]:
    return torch.full((), 255, dtype=torch.uint8).expand(frames, *size)


def _fitted(mask: Mask | None, places: list[int], size: Size) -> UInt8[Tensor, "t height width"]:
    """A mask in the frames and the size of a film, resized as the film is."""
    if mask is None:
        return _everywhere(len(places), size)
    frames = [0] if len(mask.values) == 1 else places
    values = covering((mask.values[place, :, :, None] for place in frames), size)
    return values[:, 0].expand(len(places), -1, -1)
