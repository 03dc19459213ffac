"""Make the videos of a level and count what they show, beside the codec's ceiling and chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TypeAlias

from kinoform.errors import UsageError, WeightsError, nearest
from kinoform.evaluation.cost import video_flops
from kinoform.evaluation.making import EXACT, redrawn, video_of
from kinoform.evaluation.prompts import LEVELS, SPLITS, Asked, prompts
from kinoform.evaluation.skill import Evaluation, SplitSkill, Trial, split_skill
from kinoform.evaluation.verdict import attributes, judge
from kinoform.media.video import Video
from kinoform.pipelines.pipeline import Pipeline
from kinoform.world.caption import vocabulary
from kinoform.world.fidelity import foreground_psnr, psnr
from kinoform.world.render import coverage, render
from kinoform.world.score import chance

SETTINGS = ("width", "height", "num_frames", "steps", "guidance_scale", "shift", "solver", "dtype")

Tell: TypeAlias = Callable[[str, int, int], None]
"""Called after each video with level and split, the videos of the split that are done, and all of them."""

Watch: TypeAlias = Callable[[str, int, Video], None]
"""Called with split and number of each video, and the video, which is not kept."""


def evaluate(
    pipeline: Pipeline,
    *,
    level: str = "L1",
    count: int = 200,
    tell: Tell = lambda stage, done, total: None,
    watch: Watch = lambda split, number, video: None,
    **changes: object,
) -> Evaluation:
    """Make `count` videos per split of a level, one at a time, and read them; `changes` go into every request.

    Raises UsageError for an unknown level, a `count` below 1 or a request that cannot be made, and WeightsError
    for a model that does not know the world's words.
    """
    check_judgeable(pipeline, level, count, changes)
    names, guess = attributes(LEVELS[level]), chance(LEVELS[level])

    def judged(split: str) -> SplitSkill:
        trials = []
        for asked in prompts(level, split, count):
            begun = perf_counter()
            video = _video(pipeline, asked, changes)
            seconds = perf_counter() - begun
            watch(split, asked.number, video)
            trials.append(_trial(pipeline, level, asked, video, seconds))
            tell(stage_of(level, split), asked.number + 1, count)
        return split_skill(split, names, trials)

    any_video = pipeline.request("x", seed=0, **changes)
    params = pipeline.params(any_video)
    return Evaluation(
        model=pipeline.recipe.name,
        fingerprint=pipeline.parts.fingerprint(),
        settings={name: params[name] for name in SETTINGS},
        flops=video_flops(pipeline, any_video),
        level=level,
        chance={name: getattr(guess, name) for name in names},
        splits=tuple(judged(split) for split in SPLITS),
    )


def check_judgeable(pipeline: Pipeline, level: str, count: int, changes: Mapping[str, object]) -> None:
    """Refuse before the first video what `evaluate` refuses, and raise what it raises."""
    if level not in LEVELS:
        raise UsageError(f"no level {level[:60]!r}; {nearest(level[:60], LEVELS)}", code="unknown_name")
    if count < 1:
        raise UsageError(f"count must be at least 1, not {count}", code="value_out_of_range")
    pipeline.request("x", seed=0, **changes)
    check_words(pipeline)


def check_words(pipeline: Pipeline) -> None:
    """Raise WeightsError for a model that does not know the world's words."""
    words = vocabulary()
    tokens = pipeline.parts.tokenizer()(words, pipeline.parts.text_spec.length)
    strange = [word for word, unknown in zip(words, tokens.unknown, strict=True) if unknown]
    if strange:
        raise WeightsError(
            f"{pipeline.recipe.name} does not know {len(strange)} of the {len(words)} words of the world's captions, "
            f"such as {strange[0]!r}; evaluate a model that was trained on this world, such as mini",
            code="weights_wrong_vocabulary",
        )


def stage_of(level: str, split: str) -> str:
    """The name by which progress is told."""
    return f"{level} {split}"


def _trial(pipeline: Pipeline, level: str, asked: Asked, video: Video, seconds: float) -> Trial:
    num_frames, height, width, _ = video.frames.shape
    size = {"num_frames": num_frames, "height": height, "width": width}
    rendered = render(asked.scene, **size)
    shown = redrawn(pipeline, rendered)
    return Trial(
        prompt=asked.prompt,
        seed=asked.seed,
        video=judge(asked.scene.story, LEVELS[level], video.frames),
        ceiling=judge(asked.scene.story, LEVELS[level], shown),
        ceiling_psnr=min(EXACT, psnr(shown, rendered)),
        ceiling_foreground_psnr=min(EXACT, foreground_psnr(shown, rendered, coverage(asked.scene, **size))),
        seconds=seconds,
    )


def _video(pipeline: Pipeline, asked: Asked, changes: Mapping[str, object]) -> Video:
    return video_of(pipeline, asked.prompt, asked.seed, **changes)
