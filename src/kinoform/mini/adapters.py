"""The adapters of the embedded model: known frames, videos to change, images of what shall appear.

Each is the embedded model with something put onto it; how they were trained is in mini/plans.py, what
they can do in docs/editing.md.
"""

from dataclasses import replace

from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.references import LatentRows, ReferenceRows, ReferenceTokens
from kinoform.conditions.vace import Vace
from kinoform.loading.additions import Additions
from kinoform.mini.recipe import LATENT_CHANNELS, mini
from kinoform.models.context import ReaderSpec, ReferenceStream, WordStream
from kinoform.models.in_context import ReferenceGuests
from kinoform.models.side_blocks import SideBlocks
from kinoform.recipe import Recipe

TIME, SIDE = 4, 8
"""The strides of the codec, of which a latent cell has TIME frames (but for the first) of SIDE x SIDE pixels."""


def frames() -> Recipe:
    """Any frames of the video are known; none, and it is a video from words."""
    return replace(
        mini(),
        name="mini:frames",
        guidance_scale=1.5,
        conditioners=(KnownFrames(required=False, impose=True),),
        additions=Additions(channels={"frames": TIME + LATENT_CHANNELS}),
    )


def vace() -> Recipe:
    """A video is changed where a mask is white, with images of what shall appear."""
    return replace(
        mini(),
        name="mini:vace",
        conditioners=(Vace(),),
        additions=Additions(branches=(SideBlocks(layers=(0,), channels=2 * LATENT_CHANNELS + SIDE * SIDE),)),
    )


def reference_guests() -> Recipe:
    """Images of what shall appear, as tokens that the video's self-attention sees."""
    return replace(
        mini(),
        name="mini:reference",
        conditioners=(ReferenceTokens(),),
        additions=Additions(branches=(ReferenceGuests(),)),
    )


REFERENCE_ROWS = ReferenceRows(rows=LatentRows(channels=LATENT_CHANNELS))
READ = ReferenceStream(width=REFERENCE_ROWS.width, reader=ReaderSpec())
"""Patches of the images' latents, and the stream that reads them."""


def reference_stream() -> Recipe:
    """The same images as rows of a gated stream of cross-attention; what `reference` is compared with."""
    return replace(
        mini(),
        name="mini:reference",
        conditioners=(REFERENCE_ROWS,),
        additions=Additions(context=(READ,)),
    )


SAID = WordStream(width=REFERENCE_ROWS.width)
"""Two rows that stand behind the prompt's, as "green" and "star" would."""


def reference_words() -> Recipe:
    """The same image as words of the prompt."""
    return replace(
        mini(),
        name="mini:reference",
        conditioners=(replace(REFERENCE_ROWS, most=1),),
        additions=Additions(context=(SAID,)),
    )


def reference() -> Recipe:
    """The best of the three, which ships; docs/editing.md has the table."""
    return reference_words()
