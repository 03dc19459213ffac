"""Bernini-R, which edits in context, with the defaults of its official command line.

Source: bytedance/Bernini; its paper, arXiv 2605.22344.
"""

from dataclasses import replace

from kinoform.conditions.in_context import EditingTask, InContext
from kinoform.loading.additions import Additions
from kinoform.models.segments import SegmentRotation
from kinoform.recipe import Recipe
from kinoform.recipes.wan21 import t2v_1_3b
from kinoform.recipes.wan22 import t2v_a14b
from kinoform.solvers.guidance.bernini import R2V_APG, RV2V, T2V_APG, V2V, V2V_APG
from kinoform.solvers.guidance.rule import Guidance

WEIGHTS = {"text": 4.0, "images": 4.5, "video": 1.25}
"""Guidance of the prompt, of images in context and of a video in context."""

LOW = 0.8
"""Share of the guidance that the expert of low noise has."""

ASSISTANT = "You are a helpful assistant"
VIDEO, IMAGE, REFERENCES = "video", "frames", "reference_images"


def _task(name: str, rule: Guidance, words: str, *given: str, still: bool | None = None) -> EditingTask:
    """Return a task that is known by the inputs `given`, and by how many frames are made where `still` says so."""
    task = _named(name, rule, words)
    return replace(task, given=frozenset(given), still=still)


def _named(name: str, rule: Guidance, words: str) -> EditingTask:
    """Return a task that nothing tells but its name."""
    return EditingTask(name=name, guidance_rule=rule, prefix=f"{ASSISTANT}{words}")


TASKS = (
    _task("t2i", T2V_APG, " specialized in text-to-image generation.", still=True),
    _task("t2v", T2V_APG, " specialized in text-to-video generation."),
    _task("i2i", V2V, " specialized in image editing.", IMAGE, still=True),
    _task("i2v", V2V_APG, " specialized in image-to-video generation.", IMAGE),
    _task("r2i", R2V_APG, " specialized in subject-to-image generation.", REFERENCES, still=True),
    _task("r2v", R2V_APG, " specialized in subject-to-video generation.", REFERENCES),
    _task("v2v", V2V_APG, " specialized in video editing.", VIDEO),
    _task("vi2v", RV2V, " specialized in video editing on content propagation.", VIDEO, IMAGE),
    _task("rv2v", RV2V, " specialized in video editing with reference.", VIDEO, REFERENCES),
    _named("ads2v", V2V_APG, " specialized in ads insertion."),
    _named("vrc2v", RV2V, " for editing. You may need to adjust the subject's action or position."),
    _named(
        "mv2v",
        V2V_APG,
        " for editing. You might need to adjust the video's style, lighting, colors, textures, and the subject's pose "
        "or action.",
    ),
)
"""Tasks that the models were trained on, and what stood before every prompt; of several that fit, the first."""

IN_CONTEXT = InContext(tasks=TASKS, fallback=_named("general", RV2V, "."))


def bernini_1_3b() -> Recipe:
    """Return the recipe of Bernini-R 1.3B: T2V-1.3B trained to edit in context, 848x480.

    81 frames at 16 fps, 40 steps of UniPC, shift 5.
    """
    return replace(_edited(t2v_1_3b()), name="bernini-1.3b", guidance_scale=WEIGHTS)


def bernini_a14b() -> Recipe:
    """Return the recipe of Bernini-R: the two experts of T2V-A14B trained to edit in context, as Bernini-R 1.3B.

    The expert of high noise makes the steps from timestep 875 on.
    """
    guidance_scale = {"high": WEIGHTS, "low": {name: LOW * number for name, number in WEIGHTS.items()}}
    return replace(_edited(t2v_a14b()), name="bernini-a14b", guidance_scale=guidance_scale)


def _edited(base: Recipe) -> Recipe:
    """Return the recipe of a text-to-video model that reads segments."""
    return replace(
        base,
        width=848,
        height=480,
        steps=40,
        shift=5.0,
        conditioners=(IN_CONTEXT,),
        additions=Additions(segments=SegmentRotation()),
    )
