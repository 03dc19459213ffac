"""Makes the images and videos in `inputs/` with the world: the same ones every time, from sentences and a seed.

    python examples/make_inputs.py

`inputs/` has the size of the large models, 832x480 and 33 frames; `inputs/mini/` that of the embedded one. `clips/` are
eight small clips with captions, of objects in a colour and with a word that the embedded model has never seen: brown.
`edits/` are four small clips to be made of others: each beside its source, a mask of what changes, and a reference.
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
CLIPS = {
    "ball": "a brown ball moves left on a blue background",
    "star": "a brown star spins on a yellow background",
    "ring": "a brown ring moves up on a green background",
    "square": "a brown square moves right on a pink background",
    "triangle": "a brown triangle bounces on a white background",
    "cross": "a brown cross moves down on an orange background",
    "large_ball": "a large brown ball stays still on a red background",
    "small_star": "a small brown star moves in a circle on a purple background",
}
"""Captions of the clips in `clips/`, by their names."""

EDITS = {
    "ball": ("a red ball moves left on a blue background", "a green ball moves left on a blue background"),
    "star": ("a yellow star spins on a white background", "a purple star spins on a white background"),
    "cross": ("an orange cross moves up on a green background", "a pink cross moves up on a green background"),
    "square": ("a blue square moves right on a yellow background", "a red square moves right on a yellow background"),
}
"""Captions of source and target of the clips in `edits/`, by their names."""

BROWN, CYAN = (115, 65, 30), (50, 210, 225)
CLIP = {"num_frames": 17, "height": 128, "width": 128}
GROWN = 1.25
"""Factor by which the mask is larger than the object, so that its edge changes too."""


def main(target: Path = TARGET) -> None:
    for folder, size in ((target, LARGE), (target / "mini", MINI)):
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, **size)
        print(folder)
    beside = target.parent if target == TARGET else target
    make_clips(beside / "clips")
    make_edits(beside / "edits")


def make_clips(folder: Path) -> None:
    """Write each clip of CLIPS beside its caption, in a text file of the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, caption in CLIPS.items():
        save_video(folder / f"{name}.mp4", render(in_brown(caption), **CLIP))
        (folder / f"{name}.txt").write_text(f"{caption}\n", encoding="utf-8")
    print(folder)


def make_edits(folder: Path) -> None:
    """Write each clip of EDITS beside its caption, its source, the mask of the object, and an image of the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (before, after) in EDITS.items():
        source, (new,) = staged(before), staged(after).things
        scene = replace(source, things=tuple(replace(thing, subject=new.subject) for thing in source.things))
        save_video(folder / f"{name}.mp4", render(scene, **MINI))
        save_video(folder / f"{name}.source.mp4", render(source, **MINI))
        masks = np.rint(255 * coverage(grown(scene), **MINI)[0]).astype(np.uint8)
        save_video(folder / f"{name}.mask.mp4", masks[..., None].repeat(3, axis=3))
        shown = portrait(scene.things[0], np.random.default_rng(SEED), height=MINI["height"], width=MINI["width"])
        save_image(folder / f"{name}.reference.png", shown)
        (folder / f"{name}.txt").write_text(f"{after}\n", encoding="utf-8")
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


def in_brown(caption: str) -> Scene:
    """Stage a caption of a brown object, which the world has not: one of another colour, painted over."""
    scene = staged(caption.replace("brown", "cyan"))
    over = tuple(brown - cyan for brown, cyan in zip(BROWN, CYAN, strict=True))
    return replace(scene, things=tuple(replace(thing, jitter=over) for thing in scene.things))


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
