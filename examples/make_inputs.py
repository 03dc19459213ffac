"""Makes the images and videos in `inputs/` with the world: the same ones every time, from sentences and a seed.

    python examples/make_inputs.py

`inputs/` has the size of the large models, 832x480 and 33 frames; `inputs/mini/` that of the embedded one.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from kinoform import Video
from kinoform.mini import Scene, coverage, parse, place, portrait, render

TARGET = Path(__file__).parent / "inputs"
FPS = 16.0
SEED = 3
VIDEO = "a red ball moves right on a blue background"
REFERENCES = {
    "reference.png": "a green star rests on a white background",
    "second_reference.png": "a purple ring rests on a white background",
}
LARGE = {"num_frames": 33, "height": 480, "width": 832}
MINI = {"num_frames": 17, "height": 64, "width": 64}
GROWN = 1.25
"""Factor by which the mask is larger than the object, so that its edge changes too."""


def main(target: Path = TARGET) -> None:
    for folder, size in ((target, LARGE), (target / "mini", MINI)):
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, **size)
        print(folder)


def make(folder: Path, *, num_frames: int, height: int, width: int) -> None:
    """A video, its first and last frame, the mask of what moves in it (also of frame 0 alone), and two references."""
    scene = staged(VIDEO)
    frames = render(scene, num_frames=num_frames, height=height, width=width)
    save_video(folder / "video.mp4", frames)
    save_image(folder / "first.png", frames[0])
    save_image(folder / "last.png", frames[-1])
    masks = np.rint(255 * coverage(grown(scene), num_frames=num_frames, height=height, width=width)[0]).astype(np.uint8)
    save_video(folder / "mask.mp4", masks[..., None].repeat(3, axis=3))
    save_image(folder / "mask.png", masks[0])
    for name, sentence in REFERENCES.items():
        thing, generator = staged(sentence).things[0], np.random.default_rng(SEED)
        save_image(folder / name, portrait(thing, generator, height=height, width=height))


def staged(sentence: str) -> Scene:
    return place(parse(sentence), np.random.default_rng(SEED))


def grown(scene: Scene) -> Scene:
    return replace(scene, things=tuple(replace(thing, radius=GROWN * thing.radius) for thing in scene.things))


def save_video(path: Path, frames: np.ndarray) -> None:
    Video(frames=frames, fps=FPS).save(path, force=True, metadata=False)


def save_image(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path, optimize=True)


if __name__ == "__main__":
    main()
