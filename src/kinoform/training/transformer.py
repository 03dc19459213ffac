"""Stage three: the transformer learns to turn noise and a caption into a film, by flow matching."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from kinoform.models.codec import Codec
from kinoform.models.dit import DiT, DiTSpec, initialise, keeps_float32
from kinoform.models.text import TextEncoder, encode
from kinoform.models.tokenizer import Tokenizer
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import grid_of
from kinoform.training.films import Films, step_generator
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


class Batch(NamedTuple):
    x0: Float[Tensor, "b c f h w"]
    noise: Float[Tensor, "b c f h w"]
    sigma: Float[Tensor, " b"]
    rows: Float[Tensor, "b n w"]


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


class _Denoiser(nn.Module):
    """Everything from noisy latents to velocity as one module, to be called with rounded weights."""

    def __init__(self, model: DiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Latents, sigma: Float[Tensor, " b"], rows: Float[Tensor, "b n d"]) -> Velocity:
        conditions = Conditions(context={"text": rows})
        prepared = self.model.prepare(conditions, grid_of(x, self.model.spec.patch))
        return self.model(x, timesteps(sigma), prepared)


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
        self._model = config.transformer.build()
        self._denoiser = _Denoiser(self._model)
        initialise(self._model, torch.Generator().manual_seed(config.seed))
        batch = self.batch(0)
        self.samples_per_step = config.batch
        self.flops_per_step = 3.0 * self._part.of * count_flops(lambda: self.loss(batch))

    def modules(self) -> nn.Module:
        return self._model

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
            sigma=config.levels.draw((config.batch,), generator)[mine],
            rows=frozen.rows(prompts[mine]),
        )

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        x = noised(batch.x0, batch.sigma, batch.noise)
        rounded = {
            f"model.{name}": weight if keeps_float32(name) else weight.to(self.config.precision)
            for name, weight in self._model.named_parameters()
        }
        velocity = functional_call(self._denoiser, rounded, (x, batch.sigma, batch.rows))
        return flow_matching_loss(velocity, batch.noise, batch.x0)

    def sample(self, step: int, folder: Path) -> None:
        """Films of the averaged weights, drawn by the function that was handed over."""
        if self._show is not None:
            self._show(self._model, folder / f"step-{step:08d}.png")
