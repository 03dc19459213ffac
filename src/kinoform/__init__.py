"""kinoform makes films from words, pictures and films.

>>> import kinoform
>>> pipe = kinoform.load("mini")
>>> film = pipe("a red ball bounces on a blue background", seed=7)
>>> film.save("a.mp4")
"""

from typing import TYPE_CHECKING

from kinoform.version import __version__

__all__ = ["Film", "__version__", "load"]

if TYPE_CHECKING:
    from kinoform.media.film import Film
    from kinoform.recipes.load import load


def __getattr__(name: str) -> object:
    """Load the heavy parts when they are first asked for, so that `import kinoform` stays light."""
    if name == "Film":
        from kinoform.media.film import Film

        return Film
    if name == "load":
        from kinoform.recipes.load import load

        return load
    raise AttributeError(f"module 'kinoform' has no attribute {name!r}")
