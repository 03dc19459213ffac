"""kinoform makes videos from words, images and videos.

>>> import kinoform
>>> pipe = kinoform.load("mini")
>>> video = pipe("a red ball bounces on a blue background", seed=7)
>>> video.save("a.mp4")
"""

from typing import TYPE_CHECKING

from kinoform.lazy import lazy_names
from kinoform.version import __version__ as __version__

if TYPE_CHECKING:
    from kinoform.editing.edit import edit as edit
    from kinoform.editing.extend import extend as extend
    from kinoform.editing.image_to_video import animate as animate
    from kinoform.editing.image_to_video import bridge as bridge
    from kinoform.editing.outpaint import outpaint as outpaint
    from kinoform.media.video import Video as Video
    from kinoform.recipes.load import load as load

PUBLIC: dict[str, dict[str, str]] = {
    "Videos": {
        "kinoform.recipes.load": "load",
        "kinoform.media.video": "Video",
    },
    "Editing": {
        "kinoform.editing.image_to_video": "animate bridge",
        "kinoform.editing.edit": "edit",
        "kinoform.editing.extend": "extend",
        "kinoform.editing.outpaint": "outpaint",
    },
}
"""Names by the module that defines them, in groups of one purpose."""

if not TYPE_CHECKING:
    __all__, __dir__, __getattr__ = lazy_names(__name__, PUBLIC)
