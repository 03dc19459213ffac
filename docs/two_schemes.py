"""Makes the image of docs/wan22.md: videos of mini and of mini-factorized beside one another, as they come.

Six columns, the world's seeds 0 to 5 of one object. Rows: mini, mini-factorized, images of other objects, and what
mini-factorized makes of these when the prompt names none.
"""

from pathlib import Path

import numpy as np

import kinoform
from kinoform.evaluation.tasks import with_another_object
from kinoform.media.contact_sheet import video_grid
from kinoform.media.video import Video
from kinoform.world.caption import caption, unnamed_caption
from kinoform.world.portrait import portrait
from kinoform.world.sampling import L1, scene_from_seed

TARGET = Path(__file__).parent / "images" / "two_schemes.webp"
SEEDS = range(6)


def main() -> None:
    full, factorized = kinoform.load("mini"), kinoform.load("mini-factorized")
    scenes = [scene_from_seed(seed, L1) for seed in SEEDS]
    prompts = [caption(scene.story, np.random.default_rng(seed)) for seed, scene in enumerate(scenes)]
    nameless = [unnamed_caption(scene.story, np.random.default_rng(seed)) for seed, scene in enumerate(scenes)]
    others = [with_another_object(scene, np.random.default_rng(seed)) for seed, scene in enumerate(scenes)]
    images = [portrait(scene.things[0], np.random.default_rng(seed)) for seed, scene in enumerate(others)]
    told = [pipe(prompt, seed=seed) for pipe in (full, factorized) for seed, prompt in enumerate(prompts)]
    still = [np.repeat(image[None], len(told[0].frames), axis=0) for image in images]
    shown = [
        factorized(prompt, reference_images=[image], seed=seed)
        for seed, (prompt, image) in enumerate(zip(nameless, images, strict=True))
    ]
    videos = [*told, *(Video(frames=frames, fps=full.recipe.fps) for frames in still), *shown]
    print(video_grid(videos, columns=len(SEEDS), upscale=2).save(TARGET, force=True))
    for seed in SEEDS:
        print(f"seed {seed}: {prompts[seed]} | {nameless[seed]}")


if __name__ == "__main__":
    main()
