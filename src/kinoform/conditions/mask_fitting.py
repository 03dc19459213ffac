"""A mask brought to the size and length of its video: what is safe is done and said, the rest where it is asked for."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from kinoform.conditions.clip_checks import by
from kinoform.conditions.resize import Size
from kinoform.errors import UsageError
from kinoform.media.types import InputVideo, Mask

Values = UInt8[np.ndarray, "_ height width"]


def fitted_mask(mask: Mask, video: InputVideo, *, fit: bool, whole: bool = True) -> Mask:
    """The mask in the size and length of the video.

    Half and twice the size, and one frame too few or too many, are fitted in any case: white stays where it was.
    With `fit` any other size is stretched, and any other length spread over the video's, unless either was read in part
    and is not `whole`. Warns of what is done.
    Raises UsageError for what would have to be guessed.
    """
    values = _long(_large(mask, video, fit=fit), mask, video, fit=fit, whole=whole)
    return mask if values is mask.values else replace(mask, values=values)


def _large(mask: Mask, video: InputVideo, *, fit: bool) -> Values:
    if mask.size == video.size:
        return mask.values
    named = f"{mask.name} is {by(mask.size)} and {video.name} {by(video.size)}"
    if mask.size == video.size[::-1] and mask.size[0] != mask.size[1]:
        raise UsageError(
            f"{named}, so it lies on its side; turn it so that it stands as the video is shown",
            code="mask_size_differs",
        )
    if not (fit or _halved(mask.size, video.size) or _halved(video.size, mask.size)):
        raise UsageError(
            f"{named}; give a mask of that size, or pass --fit-mask (fit_mask=True in Python) to stretch it",
            code="mask_size_differs",
        )
    warnings.warn(f"{named}; it is stretched to that", stacklevel=5)
    return np.stack([_stretched(frame, video.size) for frame in mask.values])


def _halved(small: Size, large: Size) -> bool:
    """Tell whether one is half as large as the other, odd sides rounded in either direction."""
    return all(abs(2 * one - other) <= 1 for one, other in zip(small, large, strict=True))


def _stretched(frame: UInt8[np.ndarray, "rows columns"], size: Size) -> UInt8[np.ndarray, "height width"]:
    """Resize by the area that each pixel covers: nothing white is lost that covers half of a pixel."""
    values = torch.as_tensor(frame.astype(np.float32))[None, None]
    return np.rint(F.interpolate(values, size=size, mode="area")[0, 0].numpy()).astype(np.uint8)


def _long(values: Values, mask: Mask, video: InputVideo, *, fit: bool, whole: bool) -> Values:
    there, wanted = len(values), len(video.frames)
    if there in (1, wanted):
        return values
    named = f"{mask.name} has {there} frames and {video.name} {wanted}"
    if abs(there - wanted) == 1:
        warnings.warn(
            f"{named}; " + ("its last one stays" if there < wanted else "its last one is left out"), stacklevel=5
        )
        return np.concatenate([values, values[-1:]])[:wanted]
    if not (fit and whole):
        spread = ", or pass --fit-mask (fit_mask=True in Python) to spread it over the video" if whole else ""
        raise UsageError(
            f"{named}; give a mask of one frame, which stands for all, or of {wanted}{spread}",
            code="mask_length_differs",
        )
    warnings.warn(f"{named}; it is spread over them", stacklevel=5)
    return values[np.arange(wanted) * there // wanted]
