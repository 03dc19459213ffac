"""Names for videos that nobody named: legal on every system, and telling what is inside."""

import re
import unicodedata

LONGEST_SLUG = 48


def default_name(prompt: str, seed: int, suffix: str = ".mp4") -> str:
    """`kinoform_<slug>_<seed><suffix>`, where the slug is what the prompt has of letters and digits.

    Only `a-z 0-9 - _` are used, since these alone are safe on every file system and in every shell; accents
    are dropped, and a prompt in another script becomes `video`.
    """
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:LONGEST_SLUG].strip("-")
    return f"kinoform_{slug or 'video'}_{seed}{suffix}"
