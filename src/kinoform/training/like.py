"""Defaults of trainers of LoRAs, ours among them: what "rank 32, 1e-4" means in each."""

from __future__ import annotations

from dataclasses import dataclass

from kinoform.errors import UsageError, nearest
from kinoform.models.lora import BLOCKS
from kinoform.training.ema import EMASpec
from kinoform.training.levels import GridLevels, InvertibleLevels, LevelSampling, LogitNormalLevels
from kinoform.training.optimizer import AdamSpec
from kinoform.training.weighting import Bell, Weighting

WITHOUT_AVERAGE = EMASpec(decay=0.0, every=1)
"""An average that is always the last weights."""

WITHOUT_CLIP = float("inf")

BETAS, DECAY = (0.9, 0.999), 0.01
"""Settings of AdamW in PyTorch and bitsandbytes, where a trainer names none."""

TEXT_ALONE = "!streams.image.*"
"""Pattern that leaves out the keys and values of an image's tokens, as trainers do that name q, k, v, o."""

EIGHT_BITS = "its optimizer keeps moments in 8 bits; here they are float32, and the steps else the same"
BFLOAT16 = "its LoRA learns in bfloat16; here it is float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerDefaults:
    """Settings of a trainer for a LoRA on Wan, where nobody says anything.

    `title` is its name for people. `alpha` None is the rank, `clip` the bound of the gradients' norm. `schedule` is a
    name of `optimizer.schedule_of`, warmed up over `warmup` steps, at most `warmup_share` of them. Models whose width
    is below `usual_width` learn faster in proportion, None where none do. `expert_levels` are those of a model of
    several transformers, None where they are the same. `otherwise` are sentences about what is not followed, and
    `experts_otherwise` those about several transformers; `source` says where the settings stand.
    """

    title: str
    rank: int
    alpha: float | None
    targets: tuple[str, ...]
    adam: AdamSpec
    clip: float
    schedule: str
    warmup: int
    levels: InvertibleLevels
    weighting: Weighting | None
    caption_dropout: float
    batch: int
    ema: EMASpec = WITHOUT_AVERAGE
    warmup_share: float = 1.0
    usual_width: int | None = None
    expert_levels: InvertibleLevels | None = None
    otherwise: tuple[str, ...] = ()
    experts_otherwise: tuple[str, ...] = ()
    source: str = ""

    @property
    def scale(self) -> float:
        """Factor of the change of a layer."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def rate(self, width: int) -> float:
        """Return the learning rate for a model of a width."""
        return self.adam.learning_rate * (1.0 if self.usual_width is None else max(1.0, self.usual_width / width))

    def levels_for(self, transformers: int) -> InvertibleLevels:
        """Return the noise levels that a model of so many transformers learns; each has its part of them."""
        return self.expert_levels if self.expert_levels is not None and transformers > 1 else self.levels

    def not_followed(self, transformers: int) -> tuple[str, ...]:
        """Return the sentences that concern a model of so many transformers."""
        return (*self.otherwise, *self.experts_otherwise) if transformers > 1 else self.otherwise


OURS = TrainerDefaults(
    title="kinoform",
    rank=32,
    alpha=None,
    targets=BLOCKS,
    adam=AdamSpec(learning_rate=1e-4),
    clip=1.0,
    schedule="hold",
    warmup=20,
    warmup_share=0.1,
    usual_width=1536,
    levels=LevelSampling(shift=5.0),
    weighting=None,
    caption_dropout=0.1,
    batch=8,
    ema=EMASpec(decay=0.98, every=1),
)

MUSUBI = TrainerDefaults(
    title="musubi-tuner",
    rank=32,
    alpha=1.0,
    targets=BLOCKS,
    adam=AdamSpec(learning_rate=2e-4, betas=BETAS, weight_decay=DECAY),
    clip=1.0,
    schedule="constant",
    warmup=0,
    levels=LogitNormalLevels(shift=3.0, stratified=False),
    weighting=None,
    caption_dropout=0.0,
    batch=1,
    otherwise=(
        "it tells the network the timestep and one more; here it is told the timestep of the noise",
        "it squeezes the levels into its min_timestep and max_timestep; here --levels-range cuts a part of them out, "
        "as its preserve_distribution_shape does",
        EIGHT_BITS,
    ),
    experts_otherwise=("of two experts it trains one LoRA; here each learns its own",),
    source="the command of docs/wan.md; its network_alpha is 1 where it is not given",
)

DIFFUSION_PIPE = TrainerDefaults(
    title="diffusion-pipe",
    rank=32,
    alpha=None,
    targets=BLOCKS,
    adam=AdamSpec(learning_rate=2e-5, betas=(0.9, 0.99), weight_decay=DECAY),
    clip=1.0,
    schedule="constant",
    warmup=100,
    levels=LogitNormalLevels(stratified=False),
    weighting=None,
    caption_dropout=0.0,
    batch=1,
    otherwise=(f"{BFLOAT16}, which needs no Kahan summation",),
    source="examples/main_example.toml",
)

DIFFSYNTH = TrainerDefaults(
    title="DiffSynth-Studio",
    rank=32,
    alpha=None,
    targets=(*BLOCKS, TEXT_ALONE),
    adam=AdamSpec(learning_rate=1e-4, betas=BETAS, weight_decay=DECAY),
    clip=WITHOUT_CLIP,
    schedule="constant",
    warmup=0,
    levels=GridLevels(shift=5.0, stratified=False),
    weighting=Bell(shift=5.0),
    caption_dropout=0.0,
    batch=1,
    otherwise=(
        "it tells the network timesteps in bfloat16, 294 different ones of 1000; here they are float32",
        BFLOAT16,
    ),
    source="examples/wanvideo/model_training/lora, diffusion/flow_match.py",
)

AI_TOOLKIT = TrainerDefaults(
    title="ai-toolkit",
    rank=32,
    alpha=None,
    targets=BLOCKS,
    adam=AdamSpec(learning_rate=1e-4, betas=BETAS, epsilon=1e-6, weight_decay=1e-4),
    clip=1.0,
    schedule="constant",
    warmup=0,
    levels=LogitNormalLevels(stratified=False),
    expert_levels=GridLevels(shift=1.0, stratified=False),
    weighting=None,
    caption_dropout=0.05,
    batch=1,
    ema=EMASpec(decay=0.99, every=1),
    otherwise=(EIGHT_BITS,),
    experts_otherwise=(
        "it changes between two experts every 10 steps; here one learns after the other",
        "for two experts its example averages no weights; here they are averaged, unless --ema is 0",
    ),
    source="config/examples/train_lora_wan21_1b_24gb.yaml and train_lora_wan22_14b_24gb.yaml",
)

FASTVIDEO = TrainerDefaults(
    title="FastVideo",
    rank=16,
    alpha=32.0,
    targets=("self_attention.*", "cross_attention.*", TEXT_ALONE),
    adam=AdamSpec(learning_rate=1e-5, betas=BETAS, weight_decay=DECAY),
    clip=1.0,
    schedule="constant",
    warmup=0,
    levels=GridLevels(shift=3.0, stratified=False),
    weighting=None,
    caption_dropout=0.0,
    batch=1,
    otherwise=(
        "its pipeline.flow_shift does not reach the levels that it trains, which keep the shift 3 of its model class",
        "over several processes it never brings its LoRAs together; here all learn one",
    ),
    source="examples/train/configs/fine_tuning/wan, fastvideo/train/models/wan/wan.py",
)

VIDEOX_FUN = TrainerDefaults(
    title="VideoX-Fun",
    rank=64,
    alpha=32.0,
    targets=("self_attention.[qkv]", "cross_attention.q", "cross_attention.streams.text.*", "feed_forward.*"),
    adam=AdamSpec(learning_rate=1e-4, betas=BETAS, epsilon=1e-10, weight_decay=0.03),
    clip=0.05,
    schedule="constant",
    warmup=0,
    levels=GridLevels(shift=5.0, stratified=False),
    expert_levels=GridLevels(shift=12.0, stratified=False),
    weighting=None,
    caption_dropout=0.1,
    batch=1,
    otherwise=("it takes every second or third frame of a video; here the model's rate is kept",),
    source="scripts/wan2.1/train_lora.sh, config/wan2.1 and wan2.2",
)

TRAINERS: dict[str, TrainerDefaults] = {
    "musubi": MUSUBI, "diffusion-pipe": DIFFUSION_PIPE, "diffsynth": DIFFSYNTH, "ai-toolkit": AI_TOOLKIT,
    "fastvideo": FASTVIDEO, "videox-fun": VIDEOX_FUN,
}  # fmt: skip
"""Trainers that `--like` names."""


def trainer_named(name: str | None) -> TrainerDefaults:
    """Return the settings of a trainer, ours for None. Raises UsageError for a name that none has."""
    if name is None:
        return OURS
    if name not in TRAINERS:
        raise UsageError(f"no trainer {name[:40]!r}; {nearest(name[:40], TRAINERS)}", code="unknown_name")
    return TRAINERS[name]
