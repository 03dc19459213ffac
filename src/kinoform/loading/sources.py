"""The opened parts of a model: what each is, how its tensors are called, and its sizes; learned once and carried."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from kinoform.checkpoints.files import Checkpoint, checkpoint_of, under
from kinoform.checkpoints.fp8 import plain
from kinoform.checkpoints.reader import HeaderReader, OpenedFiles
from kinoform.errors import UsageError, WeightsError
from kinoform.families.family import AVERAGE, OWN_NAMES, UNREAD, Config, Family, Shapes
from kinoform.families.identify import DetectedPart, Identity
from kinoform.families.names import Names
from kinoform.loading.load import match
from kinoform.loading.tokenizer_file import TokenizerFile
from kinoform.models.codec import CodecSpec
from kinoform.models.dit import DiTSpec
from kinoform.models.meta import on_meta
from kinoform.models.protocols import ContextSpec
from kinoform.models.text import TextSpec
from kinoform.models.vision import VisionSpec


@runtime_checkable
class Buildable(Protocol):
    """The sizes of a module."""

    def build(self) -> Any: ...


Spec = TypeVar("Spec", bound=Buildable, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Parts that the user names one by one, in place of those that would be found."""

    text_encoder: Path | None = None
    codec: Path | None = None
    tokenizer: Path | None = None
    image_encoder: Path | None = None

    def of(self, part: str) -> Path | None:
        """The place of one part beside the transformer, if the user named it."""
        return {"text_encoder": self.text_encoder, "codec": self.codec, "image_encoder": self.image_encoder}[part]

    @property
    def leaves_parts(self) -> bool:
        """Return whether a part beside the transformer is left to the folder of the model."""
        return self.text_encoder is None or self.codec is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The wishes of one load, and the reader that parses each header once for it.

    `variant` is the released model that the weights are, where the user says so; `named`: the user has said what is
    made of them, so which released model they are need not be told.
    """

    reader: HeaderReader
    overrides: Overrides
    variant: str | None = None
    named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """The files that hold one part, opened: parsed headers, and no file that stays open.

    `detected` tells what it is, None for a part of kinoform's own, which its recipe describes. Names under the prefixes
    `others` belong to other parts of the same files. `config` states the sizes a second time.
    """

    files: OpenedFiles
    detected: DetectedPart | None = None
    others: tuple[str, ...] = ()
    config: Config | None = None

    @property
    def identity(self) -> Identity | None:
        """The part in words; None for one of kinoform's own."""
        return None if self.detected is None else self.detected.identity

    @property
    def family(self) -> Family | None:
        """The family, None for a part of kinoform's own."""
        return None if self.detected is None else self.detected.family

    @property
    def reads_images(self) -> bool:
        """Return whether this is a transformer that reads the tokens of an image encoder, as its family tells."""
        return self.family is not None and self.family.reads_images

    @property
    def names(self) -> Names:
        """The table from the file's names to kinoform's own."""
        return OWN_NAMES if self.detected is None else self.detected.names

    @property
    def models(self) -> tuple[str, ...]:
        """The released models whose weights these may be."""
        if self.identity is None:
            return ()
        return (self.identity.chosen,) if self.identity.chosen else self.identity.candidates

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about settings and inputs that the names of the weights call for."""
        return () if self.identity is None else self.identity.notes

    def noted(self, note: str) -> "PartFile":
        """The same with one more note."""
        if self.detected is None:
            return self
        identity = replace(self.detected.identity, notes=(*self.notes, note))
        return replace(self, detected=replace(self.detected, identity=identity))

    def checkpoint(self) -> Checkpoint:
        """The tensors of the part without prefix; scaled and packed storage reads as plain numbers.

        Parses no header. Raises WeightsError for storage that is damaged, and when a file has changed.
        """
        dialect = None if self.detected is None else self.detected.dialect
        if self.detected is None or dialect is None:
            return plain(under(checkpoint_of(self.files), "", others=self.others))
        prefix = self.detected.identity.prefix
        last = (prefix.removeprefix(AVERAGE),) if prefix.startswith(AVERAGE) else ()
        held = under(checkpoint_of(self.files), prefix, others=self.others, unused=(*dialect.unused, *last))
        return dialect.prepare(plain(held))

    def shapes(self) -> Shapes:
        """The shapes by kinoform's own names. Raises WeightsError as `checkpoint`."""
        named = ((self.names.ours(name), stored.shape) for name, stored in self.checkpoint().tensors.items())
        own = self.detected is None or self.detected.dialect is None or self.detected.dialect.own
        by_name = {name: shape for name, shape in named if name is not None}
        return Shapes(path=self.files.path, by_name=by_name, own=own, spelled=self.names.spelled)

    def unread(self, spec: object) -> tuple[str, ...]:
        """Shell patterns of tensors, by names in the file or own ones, that no model reads."""
        if self.detected is None or self.detected.family is None or self.detected.dialect is None:
            return UNREAD
        unused = (f"{start}*" for start in self.detected.dialect.unused)
        return (*UNREAD, *self.detected.family.unread(spec), *unused)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPart(Generic[Spec]):
    """One part, opened, and the sizes that its headers and its config.json state."""

    file: PartFile
    spec: Spec

    def check_tensors(self) -> None:
        """Hold the tensors against those of the module. Raises WeightsError as `match`."""
        match(
            on_meta(self.spec.build), self.file.checkpoint(), names=self.file.names, unused=self.file.unread(self.spec)
        )


def opened(file: PartFile, **facts: object) -> OpenedPart[Any]:
    """Add the sizes, which the shapes, the config.json beside them and further `facts` tell.

    Raises WeightsError when the shapes are of no such model, or config.json contradicts them.
    """
    family = file.family
    assert family is not None, "parts of kinoform's own have the sizes of their recipe"
    if file.config is None:
        return OpenedPart(file=file, spec=family.spec(file.shapes(), **facts))
    return OpenedPart(file=file, spec=family.read(file.shapes(), file.config))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model of one layout: its transformers, and functions that open the other parts where the layout has them.

    `model` is the name of the released model that it is, "" where only a recipe tells what is made of it. `part` takes
    the part's name and the first transformer, which it must fit; `tokenizer` the text encoder. Both raise
    WeightsError.
    """

    path: Path
    transformers: tuple[PartFile, ...]
    model: str
    part: Callable[[str, "OpenedPart[DiTSpec]"], PartFile]
    tokenizer: Callable[[PartFile], TokenizerFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """The opened parts of a model; `path` is the model as the user named it, `model` as in `FoundModel`.

    `transformers` are one, or several experts, that of the highest noise first. `codec` is None for models of pixels,
    whose `codec_spec` has no weights; `image_encoder` for those that read no images as context tokens. Raises
    WeightsError when one part cannot read what another makes, UsageError for transformers that differ in their inputs.
    """

    path: Path
    transformers: tuple[OpenedPart[DiTSpec], ...]
    text_encoder: OpenedPart[TextSpec]
    codec: OpenedPart[CodecSpec] | None
    codec_spec: CodecSpec
    tokenizer: TokenizerFile
    image_encoder: OpenedPart[VisionSpec] | None = None
    model: str = ""

    def __post_init__(self) -> None:
        check_alike(tuple(part.spec for part in self.transformers))
        for part in self.transformers:
            self._check(part.spec, self.text_encoder.spec)

    def _check(self, transformer: DiTSpec, text: TextSpec) -> None:
        check_codec(self.path, transformer, self.codec_spec, self.codec)
        for stream in transformer.context:
            if stream.name == "text" and getattr(stream, "width", text.dim) != text.dim:
                raise WeightsError(
                    f"{self.path}: the transformer reads text rows of another width than the {text.dim} "
                    "that the text encoder makes; use the text encoder of the same release",
                    code="parts_mismatch",
                )
            if stream.name == "image" and self.image_encoder is not None:
                _check_image(self.path, stream, self.image_encoder.spec)


def check_codec(path: Path, transformer: DiTSpec, codec: CodecSpec, part: OpenedPart[CodecSpec] | None = None) -> None:
    """Raise WeightsError unless the codec, read from `part`, reads what the transformer makes."""
    if transformer.out_channels == codec.channels:
        return
    name, advice = "autoencoder", "use the autoencoder of the same release"
    if part is not None:
        name = f"autoencoder {part.file.files.shown}"
    if codec.weightless:
        name, advice = "codec, which has no weights,", "correct the recipe"
    raise WeightsError(
        f"{path}: the transformer makes {transformer.out_channels} latent channels, the {name} reads "
        f"{codec.channels}; {advice}",
        code="parts_mismatch",
    )


def check_alike(specs: tuple[DiTSpec, ...]) -> None:
    """Raise UsageError unless the transformers of a model read and make the same things."""
    if len({_interface(spec) for spec in specs}) != 1:
        raise UsageError(
            "the transformers of a model must have the same patch, channels, context sources and branches",
            code="transformers_differ",
        )


def _interface(spec: DiTSpec) -> tuple[object, ...]:
    context, branches = (tuple(item.name for item in items) for items in (spec.context, spec.branches))
    return spec.patch, spec.in_channels, spec.out_channels, context, branches


def _check_image(path: Path, stream: ContextSpec, image: VisionSpec) -> None:
    width, positions = getattr(stream, "width", image.dim), getattr(stream, "positions", 0)
    if width != image.dim or positions not in (0, 2 * image.tokens):  # places are those of a first and a last frame
        of = f" of {positions} rows" if positions else ""
        raise WeightsError(
            f"{path}: the transformer reads images{of} {width} wide, the image encoder makes {image.tokens} tokens "
            f"{image.dim} wide of each; use the image encoder of the same release",
            code="parts_mismatch",
        )
