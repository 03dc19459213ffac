"""kinoform makes videos from words, images and videos.

>>> import kinoform
>>> pipe = kinoform.load("mini")
>>> video = pipe("a red ball bounces on a blue background", seed=7)
>>> video.save("a.mp4")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from kinoform.version import __version__

__all__ = ["Video", "__version__", "animate", "bridge", "edit", "extend", "load", "outpaint"]

if TYPE_CHECKING:
    from kinoform.editing.edit import edit
    from kinoform.editing.extend import extend
    from kinoform.editing.image_to_video import animate, bridge
    from kinoform.editing.outpaint import outpaint
    from kinoform.media.video import Video
    from kinoform.recipes.load import load

PLACES = {
    "Video": "kinoform.media.video",
    "animate": "kinoform.editing.image_to_video",
    "bridge": "kinoform.editing.image_to_video",
    "edit": "kinoform.editing.edit",
    "extend": "kinoform.editing.extend",
    "load": "kinoform.recipes.load",
    "outpaint": "kinoform.editing.outpaint",
}


def __dir__() -> list[str]:
    """All names, also those that are not loaded yet."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    """Load the heavy parts when they are first asked for, so that `import kinoform` stays light."""
    if name not in PLACES:
        raise AttributeError(f"module 'kinoform' has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)
