"""Folders of the user: where they are, which a container may not know."""

import os
from pathlib import Path


def user_folder(variable: str, default: str) -> Path | None:
    """The folder that an environment variable names, else `default` below the home folder; None without a home.

    A container that runs under a number without a name, and without HOME, has none.
    """
    place = os.path.expanduser(os.environ.get(variable) or os.path.join("~", default))  # Path's own raises there
    return None if place.startswith("~") else Path(place)
