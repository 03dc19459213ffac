"""Stage three: the transformer learns to turn noise and a caption into a film, by flow matching."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from kinoform.errors import UsageError
from kinoform.models.codec import Codec
from kinoform.models.dit import DiT, DiTSpec, initialise, keeps_float32
from kinoform.models.text import TextEncoder, encode
from kinoform.models.tokenizer import Tokenizer
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import Patch, grid_of
from kinoform.training.films import Films, step_generator
from kinoform.training.lesson import Facts, LessonSpec, Probe, Tap, facts_of
from kinoform.training.objective import LevelSampling, flow_matching_loss, noised, timesteps
from kinoform.training.team import Part
from kinoform.types import Conditions, Latents, Velocity
from kinoform.world.caption import caption


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """`dropout` is the share of films whose caption is replaced by `negative_prompt`, for guidance.

    `precision` is that of the products in the blocks, whose weights are rounded to it as generation rounds
    them; the weights that learn are float32.
    """

    transformer: DiTSpec
    films: Films
    levels: LevelSampling
    negative_prompt: str
    batch: int = 32
    dropout: float = 0.1
    seed: int = 3
    precision: torch.dtype = torch.float32
    lesson: LessonSpec = field(default_factory=LessonSpec)


class Batch(NamedTuple):
    x0: Float[Tensor, "b c f h w"]
    noise: Float[Tensor, "b c f h w"]
    sigma: Float[Tensor, " b"]
    rows: Float[Tensor, "b n w"]
    facts: Facts


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """The parts that are already trained."""

    codec: Codec
    tokenizer: Tokenizer
    text_encoder: TextEncoder

    @torch.no_grad()
    def rows(self, prompts: list[str]) -> Float[Tensor, "b n w"]:
        """Text features of prompts, exactly as generation makes them."""
        return encode(self.text_encoder, self.tokenizer(prompts, self.text_encoder.spec.length))


class Pupil(nn.Module):
    """The transformer, and for this stage only the probe that asks what its tokens show."""

    def __init__(self, spec: DiTSpec, lesson: LessonSpec, stride: Patch) -> None:
        super().__init__()
        if lesson.layer >= spec.layers:
            raise UsageError(f"the lesson asks block {lesson.layer}, counted from 0; the model has {spec.layers}")
        self.model = replace(spec, branches=(*spec.branches, Tap(layer=lesson.layer))).build()
        self.probe = Probe(spec.dim, stride, spec.patch, spec.eps)

    def forward(
        self, x: Latents, sigma: Float[Tensor, " b"], rows: Float[Tensor, "b n r"]
    ) -> tuple[Velocity, Float[Tensor, "b l d"]]:
        """The velocity, and the tokens behind the block that is asked."""
        tapped: list[Tensor] = []
        conditions = Conditions(context={"text": rows}, branches={"tap": tapped})
        prepared = self.model.prepare(conditions, grid_of(x, self.model.spec.patch))
        return self.model(x, timesteps(sigma), prepared), tapped[0]


class TransformerStage:
    """One sample is a film, a caption of it, a noise level and noise; all anew at every step.

    `part` is what this process makes of every batch; levels and noise are those of the whole batch whatever
    the parts. Raises UsageError when the batch cannot be dealt out evenly.
    """

    def __init__(
        self,
        config: TransformerConfig,
        frozen: Frozen,
        show: Callable[[DiT, Path], None] | None = None,
        part: Part | None = None,
    ) -> None:
        self.config, self._frozen, self._show = config, frozen, show
        self._part = part or Part()
        self._pupil = Pupil(config.transformer, config.lesson, frozen.codec.stride)
        generator = torch.Generator().manual_seed(config.seed)
        initialise(self._pupil.model, generator)
        nn.init.normal_(self._pupil.probe.linear.weight, std=0.02, generator=generator)
        nn.init.zeros_(self._pupil.probe.linear.bias)
        batch = self.batch(0)
        self.samples_per_step = config.batch
        self.flops_per_step = 3.0 * self._part.of * count_flops(lambda: self.loss(batch))

    def modules(self) -> nn.Module:
        return self._pupil

    def transformer(self) -> DiT:
        """The transformer by itself, as its spec builds it, with the weights that it has now."""
        model = self.config.transformer.build()
        model.load_state_dict(self._pupil.model.state_dict())
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def batch(self, step: int) -> Batch:
        config, frozen, mine = self.config, self._frozen, self._part.slice(self.config.batch)
        scenes, words = config.films.scenes(step, config.batch)
        captions = [caption(scene.story, words) for scene in scenes]
        dropped = words.random(config.batch) < config.dropout
        prompts = [config.negative_prompt if drop else c for c, drop in zip(captions, dropped, strict=True)]
        x0, _ = frozen.codec.encode(config.films.pixels(scenes[mine]))
        generator = step_generator(config.seed, step)
        return Batch(
            x0=x0,
            noise=torch.randn(config.batch, *x0.shape[1:], generator=generator)[mine],
            sigma=config.levels.draw((config.batch,), generator, step)[mine],
            rows=frozen.rows(prompts[mine]),
            facts=facts_of(
                scenes[mine], config.films, frozen.codec.stride, config.transformer.patch, config.lesson.present
            ),
        )

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        x = noised(batch.x0, batch.sigma, batch.noise)
        rounded = {
            f"model.{name}": weight if keeps_float32(name) else weight.to(self.config.precision)
            for name, weight in self._pupil.model.named_parameters()
        }
        velocity, tokens = functional_call(self._pupil, rounded, (x, batch.sigma, batch.rows))
        denoising = flow_matching_loss(velocity, batch.noise, batch.x0)
        return denoising + self._pupil.probe(tokens, batch.facts, self.config.lesson)

    def sample(self, step: int, folder: Path) -> None:
        """Films of the averaged weights, drawn by the function that was handed over."""
        if self._show is not None:
            self._show(self.transformer(), folder / f"step-{step:08d}.png")
