"""Where the parts of a model lie, in which spelling, and how big each is."""

from dataclasses import dataclass
from pathlib import Path

from kinoform.checkpoints.files import Checkpoint, open_checkpoint, under
from kinoform.checkpoints.fp8 import plain
from kinoform.errors import WeightsError
from kinoform.families.clip_qkv import separated
from kinoform.families.names import Names
from kinoform.loading.tied_embeddings import untied
from kinoform.models.codec import CodecSpec
from kinoform.models.dit import DiTSpec
from kinoform.models.protocols import ContextSpec
from kinoform.models.text import TextSpec
from kinoform.models.vision import VisionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The weights of one part: a path for `open_checkpoint`, and how its tensors are called there.

    `prefix` stands before every name of the part; names under `others` belong to other parts of the same
    file. `names` translates to kinoform's own names (None: they are its own). `config` states the sizes a
    second time. Names that begin as `unused` are read by nobody where they do not stand behind the prefix.
    `family` is the architecture (see `Identity`), `models` the released models whose weights these may be, `doubt`
    what names say against all of them, `notes` what else names say.
    """

    place: Path
    names: Names | None = None
    prefix: str = ""
    others: tuple[str, ...] = ()
    config: Path | None = None
    unused: tuple[str, ...] = ()
    family: str = ""
    models: tuple[str, ...] = ()
    doubt: str = ""
    notes: tuple[str, ...] = ()

    def open(self) -> Checkpoint:
        """Headers only; scaled and packed storage reads as plain numbers. Raises WeightsError."""
        held = under(open_checkpoint(self.place), self.prefix, others=self.others, unused=self.unused)
        return separated(untied(plain(held)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """`path` is the model as the user named it; `tokenizer` a file that `read_tokenizer` understands.

    `codec` is None for models of pixels, `image_encoder` for those that read no images as rows of context.
    """

    path: Path
    transformer: Source
    text_encoder: Source
    codec: Source | None
    tokenizer: Path
    image_encoder: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Parts that the user names one by one, in place of those that would be found."""

    text_encoder: Path | None = None
    codec: Path | None = None
    tokenizer: Path | None = None
    image_encoder: Path | None = None

    @property
    def leaves_parts(self) -> bool:
        """Whether a part beside the transformer is left to the folder of the model."""
        return self.text_encoder is None or self.codec is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Specs:
    """Sizes of the parts of a model. Raises WeightsError when one cannot read what another makes."""

    path: Path
    transformer: DiTSpec
    codec: CodecSpec
    text: TextSpec
    image: VisionSpec | None = None

    def __post_init__(self) -> None:
        if self.transformer.out_channels != self.codec.channels:
            codec, advice = "autoencoder", "use the autoencoder of the same release"
            if self.codec.weightless:
                codec, advice = "codec, which has no weights,", "correct the recipe"
            raise WeightsError(
                f"{self.path}: the transformer makes {self.transformer.out_channels} latent channels, the "
                f"{codec} reads {self.codec.channels}; {advice}",
                code="parts_mismatch",
            )
        for stream in self.transformer.context:
            if stream.name == "text" and getattr(stream, "width", self.text.dim) != self.text.dim:
                raise WeightsError(
                    f"{self.path}: the transformer reads text rows of another width than the {self.text.dim} "
                    "that the text encoder makes; use the text encoder of the same release",
                    code="parts_mismatch",
                )
            if stream.name == "image" and self.image is not None:
                _check_image(self.path, stream, self.image)


def _check_image(path: Path, stream: ContextSpec, image: VisionSpec) -> None:
    width, positions = getattr(stream, "width", image.dim), getattr(stream, "positions", 0)
    if width != image.dim or positions not in (0, 2 * image.rows):  # places are those of a first and a last frame
        of = f" of {positions} rows" if positions else ""
        raise WeightsError(
            f"{path}: the transformer reads images{of} {width} wide, the image encoder makes {image.rows} rows "
            f"{image.dim} wide of each; use the image encoder of the same release",
            code="parts_mismatch",
        )
