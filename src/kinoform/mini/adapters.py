"""Adapters of the embedded model: known frames, videos to change, reference images.

Plans of their trainings are in mini/plans.py; docs/editing.md shows their results.
"""

from dataclasses import replace

from kinoform.conditions.in_context import EditingTask, InContext
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.references import ContextReferences, InContextReferences, LatentFeatures
from kinoform.conditions.vace import Vace
from kinoform.loading.additions import Additions
from kinoform.mini.recipe import LATENT_CHANNELS, mini
from kinoform.models.context import PseudoWordContext, ReferenceContext, ReferenceEncoderSpec
from kinoform.models.in_context import InContextImages
from kinoform.models.segments import SegmentRotation
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.recipe import Recipe
from kinoform.solvers.euler import Euler
from kinoform.solvers.guidance.bernini import RV2V

TIME, SIDE = 4, 8
"""Strides of the codec: a latent cell has TIME frames (the first one 1) of SIDE x SIDE pixels."""


def frames() -> Recipe:
    """Return the recipe of `mini:frames`: any frames of the video may be known."""
    return replace(
        mini(),
        name="mini:frames",
        guidance_scale=1.5,
        conditioners=(KnownFrames(required=False, impose=True),),
        additions=Additions(channels={"frames": TIME + LATENT_CHANNELS}),
    )


def fast() -> Recipe:
    """Return the recipe of `mini:fast`: four steps without guidance, at the levels that it was distilled for."""
    return replace(
        mini(),
        name="mini:fast",
        solver=Euler(exact_timesteps=True),
        steps=4,
        shift=5.0,
        guidance_scale=1.0,
        fast_steps=4,
    )


def vace() -> Recipe:
    """Return the recipe of `mini:vace`: a video is changed where a mask is white, perhaps with reference images."""
    return replace(
        mini(),
        name="mini:vace",
        conditioners=(Vace(),),
        additions=Additions(branches=(VaceBlocks(layers=(0,), channels=2 * LATENT_CHANNELS + SIDE * SIDE),)),
    )


def context() -> Recipe:
    """Return the recipe of `mini:context`: source video and references in the sequence of the video, as Bernini-R's.

    Images are guided as the prompt is; the video is not, so that what nothing else says stays as it is there.
    """
    return replace(
        mini(),
        name="mini:context",
        guidance_rule=RV2V,
        guidance_scale={"text": 2.5, "images": 2.5, "video": 1.0},
        conditioners=(InContext(tasks=(), fallback=EditingTask(name="edit", prefix=""), most=4, longest=64),),
        additions=Additions(segments=SegmentRotation()),
    )


def in_context_references() -> Recipe:
    """Return the recipe with reference images as tokens that the video's self-attention sees."""
    return replace(
        mini(),
        name="mini:reference",
        conditioners=(InContextReferences(),),
        additions=Additions(branches=(InContextImages(),)),
    )


CONTEXT_REFERENCES = ContextReferences(features=LatentFeatures(channels=LATENT_CHANNELS))
READ = ReferenceContext(width=CONTEXT_REFERENCES.width, encoder=ReferenceEncoderSpec())
"""Patches of the images' latents, and the stream that reads them."""


def reference_context() -> Recipe:
    """Return the recipe with reference images as rows of a gated stream of cross-attention."""
    return replace(
        mini(),
        name="mini:reference",
        conditioners=(CONTEXT_REFERENCES,),
        additions=Additions(context=(READ,)),
    )


WORDS = PseudoWordContext(width=CONTEXT_REFERENCES.width)
"""Two rows that stand behind the prompt's, as "green" and "star" would."""


def reference_pseudo_words() -> Recipe:
    """Return the recipe with a reference image as words of the prompt."""
    return replace(
        mini(),
        name="mini:reference",
        conditioners=(replace(CONTEXT_REFERENCES, most=1),),
        additions=Additions(context=(WORDS,)),
    )


def reference() -> Recipe:
    """Return the best of these three, which ships as `mini:reference`; docs/editing.md compares them."""
    return reference_pseudo_words()
