"""Kinds of input: how each is read from what people hand over, checked, recorded in a video, and read again.

Nothing heavy is imported here before something is read, since the command line makes its options from these.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from kinoform.errors import UsageError
from kinoform.numbers import Number, Whole, real_of, whole_of

if TYPE_CHECKING:
    from kinoform.media.decoder_client import MediaDecoder
    from kinoform.media.types import InputFile, InputImage, InputVideo, Mask, Origin

T_co = TypeVar("T_co", covariant=True)

MOST_TEXT = 20_000
"""Characters of a prompt, or of another input of text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Circumstances under which inputs are read.

    Videos and masks that know their times are taken at `fps` frames per second, None for as they are, and no more than
    `num_frames` frames of each are read, None for all. `fit_mask` brings masks of any size to that of their video;
    where all is read to its `end`, also masks of any length. `others` are the inputs read so far, by name. `pick` names
    the frames to take of a video by their number and rate (None where it is not known), in place of those at `fps`.
    `start` is the first frame taken of videos and masks, at that rate; `decoder` decodes files, None: a process each.
    """

    fps: Number | None = None
    num_frames: Whole | None = None
    fit_mask: bool = False
    end: bool = False
    others: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    pick: Callable[[int, float | None], Sequence[int]] | None = None
    start: Whole | None = None
    decoder: MediaDecoder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputKind(Generic[T_co]):
    """Kind of input that holds one value. Subclass it for a kind of your own.

    `noun` is what the command line and the docs call a value, `option` its type there; a `repeatable` one is a list of
    these. `after` is the input that must be read before, and `private` text stays out of logs.
    """

    noun: ClassVar[str]
    option: ClassVar[Any] = str
    repeatable: ClassVar[bool] = False
    private: ClassVar[bool] = False

    @property
    def after(self) -> str | None:
        """Return the name of the input that is read before this one; None where the order does not matter."""
        return None

    @property
    def shorthands(self) -> Mapping[str, tuple[int, str]]:
        """Return further names of a part of the input: its number there, and its help."""
        return {}

    def parse(self, texts: Sequence[Any], name: str) -> object:
        """Return what `read` takes from the words of the command line: one, or several where repeatable.

        Raises UsageError for words that are no such value.
        """
        return _only(texts, name)

    def read(self, value: Any, name: str, options: ReadOptions) -> T_co:
        """Return the value of a path, an array or whatever else stands for it. Raises UsageError for anything else."""
        return self.check(value, name)

    def check(self, value: Any, name: str) -> Any:
        """Return a value that was read, as a plain one. Raises UsageError for another type, or out of range."""
        return value

    def empty(self) -> Any:
        """Return the value of an input that is not given."""
        return None

    def says(self, value: Any) -> bool:
        """Tell whether a value says anything; one that does not counts as not given."""
        return True

    def files(self, value: Any) -> Iterator[tuple[str, Origin | None]]:
        """Yield each file with its number among those of this input, "" for the only one."""
        yield from ()

    def record(self, value: Any) -> object:
        """Return what a video's metadata say besides the files: text, a number, true or false; None for nothing."""
        return None

    def restore(self, files: Mapping[str, Path], recorded: object) -> object:
        """Return what `read` takes from what `files` and `record` said. Raises UsageError for what they cannot say."""
        if recorded is not None or set(files) != {""}:
            raise _not_of_kind(self)
        return files[""]


@dataclass(frozen=True, slots=True, kw_only=True)
class _OneFileKind(InputKind[T_co]):
    """One file, which knows its origin."""

    option: ClassVar[Any] = Path

    def files(self, value: Any) -> Iterator[tuple[str, Origin | None]]:
        yield "", value.origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKind(_OneFileKind["InputImage"]):
    """One image: a path, an image of Pillow, or an array."""

    noun: ClassVar[str] = "image"

    def read(self, value: Any, name: str, options: ReadOptions) -> InputImage:
        from kinoform.media.coerce import image_of

        return image_of(value, decoder=options.decoder)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesKind(InputKind["tuple[InputImage, ...]"]):
    """Images in order."""

    noun: ClassVar[str] = "image"
    option: ClassVar[Any] = Path
    repeatable: ClassVar[bool] = True

    def parse(self, texts: Sequence[Any], name: str) -> object:
        return tuple(texts)

    def read(self, value: Any, name: str, options: ReadOptions) -> tuple[InputImage, ...]:
        from kinoform.media.coerce import image_of

        return tuple(image_of(item, decoder=options.decoder) for item in value)

    def check(self, value: Any, name: str) -> Any:
        return tuple(value)

    def empty(self) -> Any:
        return ()

    def says(self, value: Any) -> bool:
        return bool(value)

    def files(self, value: Any) -> Iterator[tuple[str, Origin | None]]:
        for number, image in enumerate(value):
            yield str(number), image.origin

    def restore(self, files: Mapping[str, Path], recorded: object) -> object:
        if recorded is not None or not all(re.fullmatch(r"\d{1,6}", number) for number in files):
            raise _not_of_kind(self)
        return [files[number] for number in sorted(files, key=int)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedImagesKind(InputKind["Mapping[int, InputImage]"]):
    """Images by the number of a frame: counted from 0, negative ones from the end.

    `named` are numbers with a name of their own, each with its help.
    """

    noun: ClassVar[str] = "number=image"
    repeatable: ClassVar[bool] = True

    named: tuple[tuple[str, int, str], ...] = ()

    @property
    def shorthands(self) -> Mapping[str, tuple[int, str]]:
        return {name: (number, help) for name, number, help in self.named}

    def parse(self, texts: Sequence[Any], name: str) -> object:
        """Return pairs of number and path. Raises UsageError for text that is not NUMBER=FILE."""
        pairs: list[tuple[int, Path]] = []
        for text in texts:
            match = re.fullmatch(r"(-?\d{1,6})=(.+)", str(text))
            if match is None:
                raise UsageError(
                    f"{name}: {text!r} is not NUMBER=FILE; write for example 0=first.png", code="bad_value"
                )
            pairs.append((int(match[1]), Path(match[2])))
        return pairs

    def read(self, value: Any, name: str, options: ReadOptions) -> Mapping[int, InputImage]:
        """Return images of a mapping, or of pairs. Raises UsageError for a number that is none, or is given twice."""
        from kinoform.media.coerce import image_of

        images: dict[int, InputImage] = {}
        for given, item in pairs_of(value):
            number = whole_of(given)
            if number is None:
                raise UsageError(
                    f"an image is given for frame {given!r}; give a whole number", code="not_a_whole_number"
                )
            if number in images:
                same = "".join(f"; {name} is frame {at}" for name, at, _ in self.named)
                raise UsageError(f"frame {number} is given twice{same}", code="frame_given_twice")
            images[number] = image_of(item, decoder=options.decoder)
        return images

    def check(self, value: Any, name: str) -> Any:
        return dict(value)

    def empty(self) -> Any:
        return {}

    def says(self, value: Any) -> bool:
        return bool(value)

    def files(self, value: Any) -> Iterator[tuple[str, Origin | None]]:
        for number, image in value.items():
            yield str(number), image.origin

    def restore(self, files: Mapping[str, Path], recorded: object) -> object:
        if recorded is not None or not all(re.fullmatch(r"-?\d{1,6}", number) for number in files):
            raise _not_of_kind(self)
        return {int(number): path for number, path in files.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoKind(_OneFileKind["InputVideo"]):
    """A video: a path, a folder of frames, an array, or a list of images."""

    noun: ClassVar[str] = "video"

    def read(self, value: Any, name: str, options: ReadOptions) -> InputVideo:
        from kinoform.media.coerce import clip_of, frames_of

        if options.pick is not None and options.fps is not None:
            return frames_of(clip_of(value, decoder=options.decoder), options.pick, fps=options.fps)
        return clip_of(
            value, fps=options.fps, num_frames=options.num_frames, start=options.start, decoder=options.decoder
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskKind(_OneFileKind["Mask"]):
    """A mask, white where the video changes that the input `of` holds; it is brought to the size of that."""

    noun: ClassVar[str] = "mask"

    of: str | None = None

    @property
    def after(self) -> str | None:
        return self.of

    def read(self, value: Any, name: str, options: ReadOptions) -> Mask:
        from kinoform.conditions.mask_fitting import fitted_mask
        from kinoform.media.coerce import mask_of

        video = options.others.get(self.of or "")
        mask = mask_of(
            value, fps=options.fps, num_frames=options.num_frames, start=options.start, video=video,
            decoder=options.decoder,
        )  # fmt: skip
        return mask if video is None else fitted_mask(mask, video, fit=options.fit_mask, whole=options.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind(_OneFileKind["InputFile"]):
    """A file of at most `largest` bytes, handed on as it is."""

    noun: ClassVar[str] = "file"

    largest: int = 2**20

    def read(self, value: Any, name: str, options: ReadOptions) -> InputFile:
        from kinoform.media.coerce import file_of

        return file_of(value, name, largest=self.largest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlainKind(InputKind[T_co]):
    """A value that the metadata hold themselves."""

    def record(self, value: Any) -> object:
        return value

    def restore(self, files: Mapping[str, Path], recorded: object) -> object:
        if recorded is None or files:
            raise _not_of_kind(self)
        return recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberKind(_PlainKind[float]):
    """A number from `least` to `most`, or above `least` where that is `exclusive`."""

    noun: ClassVar[str] = "number"
    option: ClassVar[Any] = float

    least: float = float("-inf")
    most: float = float("inf")
    exclusive: bool = False

    def parse(self, texts: Sequence[Any], name: str) -> object:
        text = _only(texts, name)
        try:
            return float(str(text))
        except ValueError as error:
            raise UsageError(f"the {name} must be a number, not {text!r}", code="bad_value") from error

    def check(self, value: Any, name: str) -> Any:
        number = real_of(value)
        inside = (
            number is not None and self.least <= number <= self.most and not (self.exclusive and number == self.least)
        )
        if number is None or not inside or number in (float("inf"), float("-inf")):
            raise UsageError(
                f"the {name} must be {self.range}, not {value!r}",
                code="wrong_type" if number is None else "value_out_of_range",
            )
        return number

    @property
    def range(self) -> str:
        """Return the numbers that are legal, in words."""
        if self.exclusive:
            return f"above {self.least:g} and at most {self.most:g}"
        return f"a number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextKind(_PlainKind[str]):
    """Text without control characters."""

    noun: ClassVar[str] = "text"
    private: ClassVar[bool] = True

    def check(self, value: Any, name: str) -> Any:
        check_text(value, name)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagKind(_PlainKind[bool]):
    """True or false."""

    noun: ClassVar[str] = "true or false"
    option: ClassVar[Any] = bool

    def parse(self, texts: Sequence[Any], name: str) -> object:
        text = _only(texts, name)
        if str(text).lower() not in ("true", "false"):
            raise UsageError(f"the {name} must be true or false, not {text!r}", code="bad_value")
        return str(text).lower() == "true"

    def check(self, value: Any, name: str) -> Any:
        if not isinstance(value, bool):
            raise UsageError(f"the {name} must be true or false, not {value!r}", code="wrong_type")
        return value

    def empty(self) -> Any:
        return False

    def says(self, value: Any) -> bool:
        return bool(value)


def pairs_of(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of a mapping; other values are pairs already."""
    return cast("Mapping[Any, Any]", value).items() if isinstance(value, Mapping) else value


def check_text(text: object, name: str) -> None:
    """Raise UsageError for control characters (but tab and line ends), lone surrogates, or endless text."""
    if not isinstance(text, str):
        raise UsageError(f"the {name} must be text, not {text!r}", code="wrong_type")
    if len(text) > MOST_TEXT:
        raise UsageError(f"the {name} has {len(text)} characters; at most {MOST_TEXT} are read", code="too_long")
    for index, character in enumerate(text):
        category = unicodedata.category(character)
        if category == "Cs" or (category == "Cc" and character not in "\t\n\r"):
            raise UsageError(
                f"the {name} holds U+{ord(character):04X} at character {index + 1}; remove it",
                code="character_not_allowed",
            )


def _only(texts: Sequence[Any], name: str) -> Any:
    if len(texts) > 1:
        raise UsageError(f"the {name} is given {len(texts)} times; give it once", code="options_conflict")
    return texts[0]


def _not_of_kind(kind: InputKind[Any]) -> UsageError:
    return UsageError(f"what the video records of it is not {kind.noun}", code="metadata_damaged")
