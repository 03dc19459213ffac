"""Makes the image of docs/editing.md: one video of the world, and what the embedded model makes of it, seed 1."""

from pathlib import Path

import kinoform
from kinoform.media.contact_sheet import video_grid
from kinoform.media.read import read_clip
from kinoform.media.video import Video

INPUTS = Path(__file__).parents[1] / "examples" / "inputs" / "mini"
TARGET = Path(__file__).parent / "images" / "editing.webp"
SHOWN = "a red ball moves right on a blue background"
SEED = 1


def main() -> None:
    source = read_clip(INPUTS / "video.mp4")
    vace, frames, reference = (kinoform.load(f"mini:{name}") for name in ("vace", "frames", "reference"))
    mask, first, last, star = (INPUTS / f"{name}" for name in ("mask.mp4", "first.png", "last.png", "reference.png"))
    longer = kinoform.extend(vace, source, SHOWN, num_frames=8, seed=SEED).video
    videos = [
        Video(frames=source.frames, fps=frames.recipe.fps),
        kinoform.edit(vace, source, "a green star moves right on a blue background", mask=mask, seed=SEED).video,
        Video(frames=longer.frames[8:], fps=frames.recipe.fps),
        kinoform.animate(frames, first, SHOWN, seed=SEED),
        kinoform.bridge(frames, first, last, SHOWN, seed=SEED),
        reference("moves right on a blue background", reference_images=[star], seed=SEED),
    ]
    print(video_grid(videos, upscale=3).save(TARGET, force=True))


if __name__ == "__main__":
    main()
