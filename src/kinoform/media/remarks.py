"""What there is to say of a file: each remark is the rest of a sentence that begins with its name."""

from collections.abc import Callable
from typing import TypeAlias


class Refused(Exception):
    """Why a file is not read, and what to change."""


Say: TypeAlias = Callable[[str], None]
"""Takes what the user should know of a file that is read."""
