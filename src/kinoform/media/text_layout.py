"""Text on images: a text as lines that fit a width, in the font that comes with Pillow."""

import unicodedata

from PIL import ImageFont

CAPTION_SIZE, LINE_HEIGHT, MAX_LINES = 14, 20, 4
LONGEST_CAPTION = 2000
"""Characters of a text that are looked at; more would not fit four lines of a wide image."""


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into at most four lines, at most `width` pixels wide; the last ends in `...` if words are cut."""
    font = ImageFont.load_default(CAPTION_SIZE)
    lines = _lines(_drawable(text[:LONGEST_CAPTION]), width, font)
    if len(lines) <= MAX_LINES:
        return lines
    last = lines[MAX_LINES - 1]
    while last and font.getlength(last + "...") > width:
        last = last[:-1]
    return [*lines[: MAX_LINES - 1], last + "..."]


def _lines(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Break the text between words, or within a word that is wider than a line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def _drawable(text: str) -> str:
    """Remove accents, since the font that comes with Pillow has ASCII only and shows the rest as boxes."""
    plain = (unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() for letter in text)
    return "".join(ascii_part or letter for ascii_part, letter in zip(plain, text, strict=True))
