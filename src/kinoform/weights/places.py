"""Where the parts of a model lie, and how big each is: what a kind of folder has to tell about itself."""

from dataclasses import dataclass
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.models.dit import DiTSpec
from kinoform.models.text import TextSpec
from kinoform.models.tokenizer import JSON_FILE, SENTENCEPIECE_FILE
from kinoform.models.vae import VAESpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Paths for `open_checkpoint`, and the folder of the tokenizer."""

    transformer: Path
    text_encoder: Path
    codec: Path
    tokenizer: Path

    @property
    def tokenizer_file(self) -> Path:
        """The file that `load_tokenizer` will read. Raises WeightsError when there is none."""
        for name in (JSON_FILE, SENTENCEPIECE_FILE):
            if (self.tokenizer / name).is_file():
                return self.tokenizer / name
        raise WeightsError(f"no tokenizer in {self.tokenizer}: {JSON_FILE} or {SENTENCEPIECE_FILE} must be there")


@dataclass(frozen=True, slots=True, kw_only=True)
class Specs:
    """Sizes of the parts in a folder. Raises WeightsError when one cannot read what another makes."""

    folder: Path
    transformer: DiTSpec
    codec: VAESpec
    text: TextSpec

    def __post_init__(self) -> None:
        if self.transformer.out_channels != self.codec.channels:
            raise WeightsError(
                f"{self.folder}: the transformer makes {self.transformer.out_channels} latent channels, the "
                f"autoencoder reads {self.codec.channels}; use the autoencoder of the same release"
            )
        for stream in self.transformer.context:
            if stream.name == "text" and getattr(stream, "width", self.text.dim) != self.text.dim:
                raise WeightsError(
                    f"{self.folder}: the transformer reads text rows of another width than the {self.text.dim} "
                    "that the text encoder makes; use the text encoder of the same release"
                )
