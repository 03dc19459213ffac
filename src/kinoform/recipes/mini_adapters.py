"""The adapters of the embedded model: known frames, films to change, pictures of what shall appear.

Each is the embedded model with something put onto it; how they were trained is in recipes/mini_adapter_plans.py, what
they can do in docs/editing.md.
"""

from dataclasses import replace

from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.references import LatentRows, ReferenceRows, ReferenceTokens
from kinoform.conditions.vace import Vace
from kinoform.models.context import ReaderSpec, ReferenceStream, WordStream
from kinoform.models.guests import ReferenceGuests
from kinoform.models.side_blocks import SideBlocks
from kinoform.recipe import Recipe
from kinoform.recipes.mini import LATENT_CHANNELS, mini
from kinoform.weights.additions import Additions

TIME, SIDE = 4, 8
"""The strides of the codec, of which a latent cell has TIME frames (but for the first) of SIDE x SIDE pixels."""


def frames() -> Recipe:
    """Any frames of the film are known; none, and it is a film from words."""
    return replace(
        mini(),
        name="mini:frames",
        guidance=1.5,
        conditioners=(KnownFrames(required=False, impose=True),),
        additions=Additions(channels={"frames": TIME + LATENT_CHANNELS}),
    )


def vace() -> Recipe:
    """A film is changed where a mask is white, with pictures of what shall appear."""
    return replace(
        mini(),
        name="mini:vace",
        conditioners=(Vace(),),
        additions=Additions(branches=(SideBlocks(layers=(0,), channels=2 * LATENT_CHANNELS + SIDE * SIDE),)),
    )


def reference_guests() -> Recipe:
    """Pictures of what shall appear, as tokens that the film's self-attention sees."""
    return replace(
        mini(),
        name="mini:reference",
        conditioners=(ReferenceTokens(),),
        additions=Additions(branches=(ReferenceGuests(),)),
    )


REFERENCE_ROWS = ReferenceRows(rows=LatentRows(channels=LATENT_CHANNELS))
READ = ReferenceStream(width=REFERENCE_ROWS.width, reader=ReaderSpec())
"""Patches of the pictures' latents, and the stream that reads them."""


def reference_stream() -> Recipe:
    """The same pictures as rows of a gated stream of cross-attention; what `reference` is compared with."""
    return replace(
        mini(),
        name="mini:reference",
        conditioners=(REFERENCE_ROWS,),
        additions=Additions(context=(READ,)),
    )


SAID = WordStream(width=REFERENCE_ROWS.width)
"""Two rows that stand behind the prompt's, as "green" and "star" would."""


def reference_words() -> Recipe:
    """The same picture as words of the prompt."""
    return replace(
        mini(),
        name="mini:reference",
        conditioners=(replace(REFERENCE_ROWS, most=1),),
        additions=Additions(context=(SAID,)),
    )


def reference() -> Recipe:
    """The best of the three, which ships; docs/editing.md has the table."""
    return reference_words()
