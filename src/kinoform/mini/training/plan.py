"""A small model from nothing, in three stages, each of which begins only when the one before it is good enough; or
another transformer on the parts of a finished model."""

from dataclasses import dataclass

from kinoform.errors import UsageError
from kinoform.mini.training.autoencoder_stage import AutoencoderConfig
from kinoform.mini.training.text_stage import TextConfig
from kinoform.mini.training.transformer_stage import TransformerConfig
from kinoform.recipe import Recipe
from kinoform.training.frozen import EncoderPlan
from kinoform.training.stage import TrainingSpec
from kinoform.world.sampling import L1, L2, L3, Difficulty


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What each stage trains and how; `words` is the vocabulary of the tokenizer, in order.

    `gate` is the share of reconstructed videos, `gate_videos` of each of `levels`, that the reader must read
    wholly right before the transformer is trained. Where the codec of the recipe has no weights there is neither
    an autoencoder nor a gate. Raises UsageError when recipe and plan disagree about that.
    """

    recipe: Recipe
    words: tuple[str, ...]
    autoencoder: AutoencoderConfig | None = None
    autoencoder_training: TrainingSpec | None = None
    text: TextConfig
    text_training: TrainingSpec
    transformer: TransformerConfig
    transformer_training: TrainingSpec
    levels: tuple[Difficulty, ...] = (L1, L2, L3)
    gate: float = 0.9
    gate_videos: int = 100

    def __post_init__(self) -> None:
        codec = self.recipe.codec
        for name, given in (("autoencoder", self.autoencoder), ("autoencoder_training", self.autoencoder_training)):
            if codec.weightless is not (given is None):
                held, advice = ("no weights", "leave out") if codec.weightless else ("weights", "give")
                raise UsageError(
                    f"the codec of {self.recipe.name} has {held} to train; {advice} {name} in the plan",
                    code="plan_invalid",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerPlan:
    """A transformer on the codec and the text encoder of the finished model called `base`, so that two can be compared.

    `words` is the base's vocabulary, in order. `encoder` is how that of its reference images, if any, learns first.
    """

    base: str
    recipe: Recipe
    words: tuple[str, ...]
    transformer: TransformerConfig
    transformer_training: TrainingSpec
    encoder: EncoderPlan | None = None
