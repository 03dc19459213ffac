"""Run a plan: autoencoder, gate, text encoder, transformer; every stage resumes where it was stopped."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kinoform.errors import KinoformError, UsageError
from kinoform.loading.parts import Parts
from kinoform.mini.training.autoencoder_stage import AutoencoderStage
from kinoform.mini.training.dataset import HELD_BACK, Videos
from kinoform.mini.training.plan import Plan, TransformerPlan
from kinoform.mini.training.text_stage import TextStage
from kinoform.mini.training.transformer_stage import TransformerStage
from kinoform.models.codec import to_uint8
from kinoform.models.dit import DiT
from kinoform.models.text import TextEncoder
from kinoform.models.tokenizer import Tokenizer, build_word_tokenizer, load_tokenizer
from kinoform.models.vae import VAE
from kinoform.training.distributed import ProcessGroup, Rank, SingleProcess, spawn
from kinoform.training.frozen import FrozenParts, TrainedEncoder
from kinoform.training.loop import finished
from kinoform.training.stage import RunOptions
from kinoform.world.reader import read as read_video
from kinoform.world.score import compare

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The parts of a trained model, the tokenizer as its file's text, and what each stage reports.

    `codec` is None where the recipe's has no weights.
    """

    codec: VAE | None
    text_encoder: TextEncoder
    tokenizer_json: str
    transformer: DiT
    report: dict[str, object]


def prepare_tokenizer(plan: Plan | TransformerPlan, folder: Path) -> Tokenizer:
    """Write the plan's vocabulary as tokenizer.json below `folder` and load it."""
    folder.mkdir(parents=True, exist_ok=True)
    build_word_tokenizer(plan.words).save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


def train_autoencoder(plan: Plan, folder: Path, options: RunOptions) -> tuple[VAE, dict[str, object]]:
    """Stage one, and its gate. Raises KinoformError when reconstructions cannot be read well enough."""
    config, training = plan.autoencoder, plan.autoencoder_training
    assert config is not None and training is not None, "a plan has both, or a codec without weights"
    stage = AutoencoderStage(config)
    vae, report = finished(stage, folder / "autoencoder", training, options)
    assert isinstance(vae, VAE)
    right = [readable(vae, replace(config.videos, level=level), plan.gate_videos) for level in plan.levels]
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


def train_plan(
    plan: Plan, folder: Path, options: RunOptions, show: Show | None = None, *, processes: int = 1
) -> Trained:
    """All stages below `folder`, without the first where the codec has no weights. `show` draws videos meanwhile.

    With `processes` above 1 the transformer's batches are shared by as many processes, each with the number
    of threads that this one has; the others wait for the first. A run may go on with another number.
    """
    tokenizer = prepare_tokenizer(plan, folder)
    # The modules of these stages are used as they are, and would stay compiled.
    quiet = replace(options, sample_every=0, compile=False)
    codec: VAE | None = None
    report: dict[str, object] = {}
    if not plan.recipe.codec.weightless:
        codec, report["autoencoder"] = train_autoencoder(plan, folder, quiet)
    encoder, report["text_encoder"] = train_text(plan, folder, tokenizer, quiet)
    frozen = FrozenParts(codec=codec or plan.recipe.codec.build(), tokenizer=tokenizer, text_encoder=encoder)
    transformer, report["transformer"] = _shared(plan, frozen, folder, options, show, processes)
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
    """The encoder of reference images, if any, and the transformer below `folder`; all else is that of `parts`.

    Raises UsageError when codec, text encoder or vocabulary of the plan are not those of `parts`.
    """
    recipe, said = plan.recipe, " ".join(plan.words)
    if (parts.codec_spec, parts.text_spec) != (recipe.codec, recipe.text):
        raise UsageError(
            f"{recipe.name} has not the codec and the text encoder of {plan.base}; derive its recipe so",
            code="recipe_mismatch",
        )
    codec, tokenizer = parts.codec(CPU), prepare_tokenizer(plan, folder)
    assert isinstance(codec, VAE), "the base has an autoencoder"
    if tokenizer.split(said) != parts.tokenizer().split(said):
        raise UsageError(
            f"the words of the plan are not the vocabulary of {plan.base}, in its order; give those",
            code="vocabulary_mismatch",
        )
    frozen = FrozenParts(codec=codec, tokenizer=tokenizer, text_encoder=parts.text_encoder(torch.float32, CPU))
    encoder = None
    if plan.encoder is not None:
        encoder = plan.encoder.train(parts.transformer(torch.float32, CPU), frozen, folder / "encoder", options)
    transformer, report = _shared(plan, frozen, folder, options, show, processes, encoder)
    return Trained(
        codec=codec,
        text_encoder=frozen.text_encoder,
        tokenizer_json=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        transformer=transformer,
        report={"base": plan.base, **({} if encoder is None else {"encoder": encoder.report}), "transformer": report},
    )


def _shared(
    plan: Plan | TransformerPlan, frozen: FrozenParts, folder: Path, options: RunOptions, show: Show | None,
    processes: int, encoder: TrainedEncoder | None = None,
) -> tuple[DiT, dict[str, object]]:  # fmt: skip
    """The transformer, whose batches are shared by as many processes."""
    if processes > 1:
        Rank(0, processes).slice(plan.transformer.batch)  # refused here rather than in every process
        spawn(processes, _train_transformer, (plan, frozen, folder, replace(options, on_progress=None), show, encoder))
    return _train_transformer(SingleProcess(), plan, frozen, folder, options, show, encoder)


def _train_transformer(
    group: ProcessGroup, plan: Plan | TransformerPlan, frozen: FrozenParts, folder: Path, options: RunOptions,
    show: Show | None, encoder: TrainedEncoder | None,
) -> tuple[DiT, dict[str, object]]:  # fmt: skip
    draw = None if show is None else lambda model, path: show(model, frozen, path)
    stage = TransformerStage(plan.transformer, frozen, draw, group.rank, encoder)
    _, report = finished(stage, folder / "transformer", plan.transformer_training, options, group)
    return stage.transformer(), report


@torch.no_grad()
def readable(vae: VAE, videos: Videos, count: int) -> float:
    """The share of videos that the reader reads wholly right after encoding and decoding."""
    scenes, _ = videos.scenes(HELD_BACK, count)
    if not scenes:
        raise UsageError("judge at least one video", code="value_out_of_range")
    right = 0
    for scene in scenes:
        latents, _ = vae.encode(videos.pixels([scene]))
        pixels, _ = vae.decode(latents)
        right += compare(scene.story, read_video(to_uint8(pixels[0]))).all_right
    return right / count
