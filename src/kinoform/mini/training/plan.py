"""Training of a small model in three stages, or of another transformer on the parts of a finished model.

A stage begins when the one before it is good enough. Every stage resumes where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
import torch

from kinoform.errors import KinoformError, UsageError
from kinoform.files import check_folder_writable
from kinoform.loading.own import HOLDS, Modules, save_own
from kinoform.loading.parts import Parts
from kinoform.media.contact_sheet import save_contact_sheet
from kinoform.media.video import Video
from kinoform.mini.training.autoencoder_stage import AutoencoderConfig, AutoencoderStage
from kinoform.mini.training.dataset import HELD_BACK, Videos
from kinoform.mini.training.text_stage import TextConfig, TextStage
from kinoform.mini.training.transformer_stage import TransformerConfig, TransformerStage
from kinoform.models.codec import to_uint8
from kinoform.models.dit import DiT
from kinoform.models.text import TextEncoder
from kinoform.models.tokenizer import Tokenizer, build_word_tokenizer, load_tokenizer
from kinoform.models.vae import VAE
from kinoform.models.vae22 import VAE22
from kinoform.pipelines.experts import in_memory
from kinoform.pipelines.generate import decode, denoise, noise_of
from kinoform.pipelines.request import request
from kinoform.recipe import Recipe
from kinoform.training.checkpoint import held
from kinoform.training.distributed import ProcessGroup, Rank
from kinoform.training.frozen import EncoderPlan, FrozenParts, TrainedEncoder
from kinoform.training.loop import finished
from kinoform.training.metrics import bar
from kinoform.training.plan import TrainingRun, shared
from kinoform.training.stage import RunOptions, TrainingSpec
from kinoform.world.reader import read as read_video
from kinoform.world.sampling import L1, L2, L3, Difficulty
from kinoform.world.score import compare

CPU = torch.device("cpu")
Autoencoder: TypeAlias = "VAE | VAE22"
SHARD_BYTES = 14_000_000
PROMPTS = (
    "a red ball bounces on a blue background",
    "a white star spins on a green background",
    "a yellow square moves left on a purple background",
    "a black ring grows on a pink background",
)
"""Prompts of the videos that are drawn during a training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelPlan:
    """Fields that plans of whole models share; `words` is the vocabulary of the tokenizer, in order."""

    recipe: Recipe
    words: tuple[str, ...]
    transformer: TransformerConfig
    transformer_training: TrainingSpec
    output_name: ClassVar[str] = "model"

    @property
    def run_name(self) -> str:
        return self.recipe.name

    def check_output(self, path: Path, *, force: bool) -> None:
        check_folder_writable(path, holds=HOLDS, force=force)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(_ModelPlan):
    """Plan of a model from nothing, in three stages: autoencoder, text encoder, transformer.

    `gate` is the share of reconstructed videos, `gate_videos` of each of `levels`, that the reader must read
    wholly right before the transformer is trained. Where the codec of the recipe has no weights there is neither
    an autoencoder nor a gate. Raises UsageError when recipe and plan disagree about that.
    """

    autoencoder: AutoencoderConfig | None = None
    autoencoder_training: TrainingSpec | None = None
    text: TextConfig
    text_training: TrainingSpec
    levels: tuple[Difficulty, ...] = (L1, L2, L3)
    gate: float = 0.9
    gate_videos: int = 100

    def __post_init__(self) -> None:
        codec = self.recipe.codec
        for name, part in (("autoencoder", self.autoencoder), ("autoencoder_training", self.autoencoder_training)):
            if codec.weightless is not (part is None):
                held, advice = ("no weights", "leave out") if codec.weightless else ("weights", "give")
                raise UsageError(
                    f"the codec of {self.recipe.name} has {held} to train; {advice} {name} in the plan",
                    code="plan_invalid",
                )

    def train(self, run: TrainingRun) -> Trained:
        """See `TrainingPlan`."""
        with held(run.folder):
            show = show_videos(self.recipe)
            return train_plan(self, run.folder, run.options, show, processes=run.processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerPlan(_ModelPlan):
    """Plan of a transformer on the codec and the text encoder of the finished model called `base`, to compare the two.

    `words` is the base's vocabulary, in order. `encoder` is how that of its reference images, if any, learns first.
    """

    base: str
    encoder: EncoderPlan | None = None

    def train(self, run: TrainingRun) -> Trained:
        """See `TrainingPlan`."""
        parts = run.load_parts(self.base)
        with held(run.folder):
            show = show_videos(self.recipe)
            return train_on_base(self, parts, run.folder, run.options, show, processes=run.processes)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The parts of a trained model, the tokenizer as its file's text, and what each stage reports.

    `codec` is None where the recipe's has no weights.
    """

    codec: Autoencoder | None
    text_encoder: TextEncoder
    tokenizer_json: str
    transformer: DiT
    report: dict[str, object]

    def save(self, path: Path, *, recipe: str | None, force: bool) -> None:
        """Write a folder of weights; `recipe` must be an address, since the model is loaded by it."""
        assert recipe is not None, "its plan has a recipe"
        parts = Modules(transformer=self.transformer, autoencoder=self.codec, text_encoder=self.text_encoder)
        save_own(
            path, parts, tokenizer_json=self.tokenizer_json, recipe=recipe, made=self.report,
            max_shard_bytes=SHARD_BYTES, force=force,
        )  # fmt: skip


def prepare_tokenizer(plan: Plan | TransformerPlan, folder: Path) -> Tokenizer:
    """Write the plan's vocabulary as tokenizer.json below `folder` and load it."""
    folder.mkdir(parents=True, exist_ok=True)
    build_word_tokenizer(plan.words).save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


def train_autoencoder(plan: Plan, folder: Path, options: RunOptions) -> tuple[Autoencoder, dict[str, object]]:
    """Stage one, and its gate. Raises KinoformError when reconstructions cannot be read well enough."""
    config, training = plan.autoencoder, plan.autoencoder_training
    assert config is not None and training is not None, "a plan has both, or a codec without weights"
    stage = AutoencoderStage(config)
    vae, report = finished(stage, folder / "autoencoder", training, options)
    assert isinstance(vae, VAE | VAE22)
    videos = [replace(config.videos, level=level) for level in plan.levels]
    with bar(len(videos) * plan.gate_videos, shown=options.show_progress, title="videos read") as draw:
        right = [
            readable(vae, item, plan.gate_videos, on_read=lambda count, n=n: draw(n * plan.gate_videos + count, None))
            for n, item in enumerate(videos)
        ]
    if min(right) < plan.gate:
        raise KinoformError(
            f"of the reconstructed videos of each level {', '.join(f'{share:.0%}' for share in right)} are read wholly "
            f"right, not all above the gate of {plan.gate:.0%}; give the latents more channels, train the "
            "autoencoder longer or make videos larger before training a transformer on it",
            code="gate_not_passed",
        )
    return vae, report | {"readable": right}


def train_text(
    plan: Plan, folder: Path, tokenizer: Tokenizer, options: RunOptions
) -> tuple[TextEncoder, dict[str, object]]:
    """Stage two; the probes are dropped, the encoder is frozen."""
    stage = TextStage(plan.text, tokenizer)
    _, report = finished(stage, folder / "text", plan.text_training, options)
    probes = stage.modules()
    encoder = probes.encoder
    assert isinstance(encoder, TextEncoder)
    return encoder, report | {"accuracy": stage.accuracy(stage.batch(HELD_BACK))}


Show = Callable[[DiT, FrozenParts, Path], None]
"""Draws videos of a transformer, as an image at a path."""


def show_videos(recipe: Recipe) -> Callable[[DiT, FrozenParts, Path], None]:
    """Return a picklable function that draws PROMPTS, one video a row, seeds 0 to 3."""
    return partial(_show, recipe)


def _show(recipe: Recipe, model: DiT, frozen: FrozenParts, path: Path) -> None:
    rows = frozen.rows([*PROMPTS, recipe.negative_prompt])
    videos = []
    for seed, prompt in enumerate(PROMPTS):
        shown = request(recipe, prompt, seed)
        pair = (rows[seed : seed + 1], rows[-1:])
        latents = denoise(in_memory(model), shown, pair, noise_of(recipe.codec, shown), lambda progress: None)
        videos.append(decode(frozen.codec, latents, torch.device("cpu"), lambda progress: None)[::2])
    frames = np.concatenate(videos)
    caption = {"prompt": " / ".join(PROMPTS)}
    save_contact_sheet(Video(frames=frames, fps=recipe.fps, params=caption), path, force=True)


def train_plan(
    plan: Plan, folder: Path, options: RunOptions, show: Show | None = None, *, processes: int = 1
) -> Trained:
    """Train all stages below `folder`, without the first where the codec has no weights; `show` draws videos meanwhile.

    With `processes` above 1 the transformer's batches are shared by as many processes, each with the number
    of threads that this one has; the others wait for the first. A run may go on with another number.
    """
    tokenizer = prepare_tokenizer(plan, folder)
    # The modules of these stages are used as they are, and would stay compiled.
    quiet = replace(options, sample_every=0, compile=False)
    codec: Autoencoder | None = None
    report: dict[str, object] = {}
    if not plan.recipe.codec.weightless:
        codec, report["autoencoder"] = train_autoencoder(plan, folder, quiet)
    encoder, report["text_encoder"] = train_text(plan, folder, tokenizer, quiet)
    frozen = FrozenParts(codec=codec or plan.recipe.codec.build(), tokenizer=tokenizer, text_encoder=encoder)
    transformer, report["transformer"] = _transformer(plan, frozen, folder, options, show, processes)
    return Trained(
        codec=codec,
        text_encoder=encoder,
        tokenizer_json=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        transformer=transformer,
        report=report,
    )


def train_on_base(
    plan: TransformerPlan,
    parts: Parts,
    folder: Path,
    options: RunOptions,
    show: Show | None = None,
    *,
    processes: int = 1,
) -> Trained:
    """Train the encoder of reference images, if any, and the transformer below `folder`; all else is that of `parts`.

    Raises UsageError when codec, text encoder or vocabulary of the plan are not those of `parts`.
    """
    recipe, words = plan.recipe, " ".join(plan.words)
    if (parts.codec_spec, parts.text_spec) != (recipe.codec, recipe.text):
        raise UsageError(
            f"{recipe.name} has not the codec and the text encoder of {plan.base}; derive its recipe so",
            code="recipe_mismatch",
        )
    codec, tokenizer = parts.codec(CPU), prepare_tokenizer(plan, folder)
    assert isinstance(codec, VAE | VAE22), "the base has an autoencoder"
    if tokenizer.split(words) != parts.tokenizer().split(words):
        raise UsageError(
            f"the words of the plan are not the vocabulary of {plan.base}, in its order; give those",
            code="vocabulary_mismatch",
        )
    frozen = FrozenParts(codec=codec, tokenizer=tokenizer, text_encoder=parts.text_encoder(torch.float32, CPU))
    encoder = None
    if plan.encoder is not None:
        encoder = plan.encoder.train(parts.transformer(torch.float32, CPU), frozen, folder / "encoder", options)
    transformer, report = _transformer(plan, frozen, folder, options, show, processes, encoder)
    return Trained(
        codec=codec,
        text_encoder=frozen.text_encoder,
        tokenizer_json=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        transformer=transformer,
        report={"base": plan.base, **({} if encoder is None else {"encoder": encoder.report}), "transformer": report},
    )


def _transformer(
    plan: Plan | TransformerPlan, frozen: FrozenParts, folder: Path, options: RunOptions, show: Show | None,
    processes: int, encoder: TrainedEncoder | None = None,
) -> tuple[DiT, dict[str, object]]:  # fmt: skip
    """Train the transformer, its batches shared by as many processes."""
    Rank(0, processes).slice(plan.transformer.batch)  # refused here rather than in every process
    return shared(processes, _train_transformer, options, plan, frozen, folder, show, encoder)


def _train_transformer(
    group: ProcessGroup, options: RunOptions, plan: Plan | TransformerPlan, frozen: FrozenParts, folder: Path,
    show: Show | None, encoder: TrainedEncoder | None,
) -> tuple[DiT, dict[str, object]]:  # fmt: skip
    draw = None if show is None else lambda model, path: show(model, frozen, path)
    stage = TransformerStage(plan.transformer, frozen, draw, group.rank, encoder)
    _, report = finished(stage, folder / "transformer", plan.transformer_training, options, group)
    return stage.transformer(), report


@torch.no_grad()
def readable(
    vae: Autoencoder, videos: Videos, count: int, *, on_read: Callable[[int], None] = lambda count: None
) -> float:
    """Return the share of videos that the reader reads wholly right after encoding and decoding.

    `on_read` is called after each of them with the number of those that were read.
    """
    scenes, _ = videos.scenes(HELD_BACK, count)
    if not scenes:
        raise UsageError("judge at least one video", code="value_out_of_range")
    right = 0
    for number, scene in enumerate(scenes, start=1):
        latents, _ = vae.encode(videos.pixels([scene]))
        pixels, _ = vae.decode(latents)
        right += compare(scene.story, read_video(to_uint8(pixels[0]))).all_right
        on_read(number)
    return right / count
