"""Makes the README's image: the embedded model's videos of the world's seeds 0 to 5, as they come."""

from pathlib import Path

import numpy as np

import kinoform
from kinoform.media.contact_sheet import video_grid
from kinoform.world.caption import caption
from kinoform.world.sampling import scene_from_seed

TARGET = Path(__file__).parent / "images" / "six_videos.webp"


def main() -> None:
    pipe = kinoform.load("mini")
    prompts = [caption(scene_from_seed(seed).story, np.random.default_rng(seed)) for seed in range(6)]
    videos = [pipe(prompt, seed=seed) for seed, prompt in enumerate(prompts)]
    print(video_grid(videos, upscale=3).save(TARGET, force=True))
    for seed, prompt in enumerate(prompts):
        print(f"seed {seed}: {prompt}")


if __name__ == "__main__":
    main()
