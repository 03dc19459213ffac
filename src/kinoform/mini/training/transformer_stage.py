"""Stage three: the transformer learns to turn noise and a caption into a video, by flow matching."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.references import ContextReferences
from kinoform.errors import UsageError
from kinoform.media.types import InputImage
from kinoform.mini.training.dataset import Videos
from kinoform.mini.training.probe_loss import FeatureTap, ProbeHead, ProbeLoss, ProbeTargets, probe_targets
from kinoform.models.dit import DiT, DiTSpec, initialise, keeps_float32
from kinoform.ops.drawing import seeded
from kinoform.ops.patch import Patch
from kinoform.solvers.levels import noised
from kinoform.training.distributed import Rank
from kinoform.training.frozen import CodecOnly, FrozenParts, TrainedEncoder
from kinoform.training.levels import Levels
from kinoform.training.objective import flow_matching_loss, predict_velocity
from kinoform.training.rng import step_generator
from kinoform.training.stage import step_flops
from kinoform.types import Conditions, Latents, Velocity
from kinoform.world.caption import caption, unnamed_caption
from kinoform.world.portrait import off_palette_colour, portrait, recoloured
from kinoform.world.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceImages:
    """Images beside captions: `share` of the videos of one object have an image of it.

    Of their captions `unnamed` leave its colour and its shape to the image, which `rows` encodes. Of these videos
    `off_palette` show the object in a colour that no word names, as the image does.
    """

    rows: ContextReferences
    share: float = 0.4
    unnamed: float = 0.6
    off_palette: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """Settings of the transformer's stage.

    `dropout` is the share of videos whose caption is replaced by `negative_prompt`, for guidance, without image.

    `precision` is that of the products in the blocks, whose weights are rounded to it as generation rounds
    them; the weights that learn are float32.
    """

    transformer: DiTSpec
    videos: Videos
    levels: Levels
    negative_prompt: str
    batch: int = 32
    dropout: float = 0.1
    seed: int = 3
    precision: torch.dtype = torch.float32
    probe_loss: ProbeLoss = field(default_factory=ProbeLoss)
    reference_images: ReferenceImages | None = None


class Images(TypedDict):
    shown: Int[Tensor, " k"]
    context: dict[str, Tensor]


class TransformerBatch(NamedTuple):
    """Batch of samples; `context` are the streams besides text of the samples with the indices `shown`, if any."""

    x0: Float[Tensor, "b c f h w"]
    noise: Float[Tensor, "b c f h w"]
    sigma: Float[Tensor, " b"]
    rows: Float[Tensor, "b n w"]
    targets: ProbeTargets
    shown: Int[Tensor, " k"]
    context: dict[str, Tensor]

    def parts(self) -> Iterator[tuple[Tensor | slice, dict[str, Tensor]]]:
        """Group samples with the same context sources besides text; yield their indices and those streams."""
        if not self.context:
            yield slice(None), {}
            return
        yield self.shown, self.context
        others = torch.ones(len(self.sigma), dtype=torch.bool, device=self.shown.device)
        others[self.shown] = False
        if others.any():
            yield others.nonzero()[:, 0], {}


class ProbedModel(nn.Module):
    """Transformer and, for this stage only, the probe that predicts what its tokens show."""

    def __init__(self, spec: DiTSpec, probe_loss: ProbeLoss, stride: Patch) -> None:
        super().__init__()
        if probe_loss.layer >= spec.layers:
            raise UsageError(
                f"the probe reads block {probe_loss.layer}, counted from 0; the model has {spec.layers}",
                code="value_out_of_range",
            )
        self.model = replace(spec, branches=(*spec.branches, FeatureTap(layer=probe_loss.layer))).build()
        self.probe = ProbeHead(spec.dim, stride, spec.patch, spec.eps)

    def forward(
        self, x: Latents, sigma: Float[Tensor, " b"], context: dict[str, Tensor]
    ) -> tuple[Velocity, Float[Tensor, "b l d"]]:
        """Return the velocity, and the tokens behind the block that is read."""
        tapped: list[Tensor] = []
        conditions = Conditions(context=context, branches={"tap": tapped})
        return predict_velocity(self.model, x, sigma, conditions), tapped[0]


class TransformerStage:
    """Flow matching on samples of a video, a caption, a noise level and noise, all drawn anew at every step.

    `rank` gives this process its part of every batch; levels and noise are drawn for the whole batch in any case.
    `encoder` has the first weights of the stream of reference images. Raises UsageError when the batch cannot be dealt
    out evenly.
    """

    def __init__(
        self,
        config: TransformerConfig,
        frozen: FrozenParts,
        show: Callable[[DiT, Path], None] | None = None,
        rank: Rank | None = None,
        encoder: TrainedEncoder | None = None,
    ) -> None:
        self.config, self._frozen, self._show = config, frozen, show
        self._rank = rank or Rank()
        with seeded(config.seed):
            self._model = ProbedModel(config.transformer, config.probe_loss, frozen.codec.stride)
        generator = torch.Generator().manual_seed(config.seed)
        initialise(self._model.model, generator)
        if encoder is not None:
            encoder.load_into(self._model.model)
        nn.init.normal_(self._model.probe.linear.weight, std=0.02, generator=generator)
        nn.init.zeros_(self._model.probe.linear.bias)
        self._flops: dict[VideoSize, float] = {}
        self.flops(0)

    def samples(self, step: int) -> int:
        return self.config.batch

    def modules(self) -> nn.Module:
        return self._model

    def flops(self, step: int) -> float:
        """Count those of the first step of each size, which are those of all of that size."""
        size = self.config.videos.at(step).size
        if size not in self._flops:
            self._flops[size] = step_flops(self.loss, self.batch(step), self._rank)
        return self._flops[size]

    def transformer(self) -> DiT:
        """Return the transformer without the probe, as its spec builds it, with its present weights."""
        with seeded(self.config.seed):  # all of which is replaced
            model = self.config.transformer.build()
        model.load_state_dict(self._model.model.state_dict())
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def batch(self, step: int) -> TransformerBatch:
        config, frozen, mine = self.config, self._frozen, self._rank.slice(self.config.batch)
        videos = config.videos.at(step)
        drawn, words = videos.scenes(step, config.batch)
        scenes, captioned = zip(*(self._captioned(scene, words) for scene in drawn), strict=True)
        dropped = words.random(config.batch) < config.dropout
        unconditional = config.negative_prompt, None
        prompts, reference_images = zip(
            *(unconditional if drop else item for item, drop in zip(captioned, dropped, strict=True)), strict=True
        )
        scenes = list(scenes[mine])
        x0, _ = frozen.codec.encode(videos.pixels(scenes))
        generator = step_generator(config.seed, step)
        return TransformerBatch(
            x0=x0,
            noise=torch.randn(config.batch, *x0.shape[1:], generator=generator)[mine],
            sigma=config.levels.draw((config.batch,), generator, step)[mine],
            rows=frozen.rows(list(prompts[mine])),
            targets=probe_targets(
                scenes, videos, frozen.codec.stride, config.transformer.patch, config.probe_loss.present
            ),
            **self._images(reference_images[mine]),
        )

    def loss(self, batch: TransformerBatch) -> Float[Tensor, ""]:
        x = noised(batch.x0, batch.noise, batch.sigma)
        rounded = {
            f"model.{name}": weight if keeps_float32(name) else weight.to(self.config.precision)
            for name, weight in self._model.model.named_parameters()
        }
        losses = []
        for some, more in batch.parts():
            inputs = x[some], batch.sigma[some], {"text": batch.rows[some], **more}
            velocity, tokens = functional_call(self._model, rounded, inputs)
            denoising = flow_matching_loss(velocity, batch.noise[some], batch.x0[some])
            targets = ProbeTargets(*(item[some] for item in batch.targets))
            both = denoising + self._model.probe(tokens, targets, self.config.probe_loss)
            losses.append(both * (len(velocity) / len(x)))
        return torch.stack(losses).sum()

    def _captioned(self, scene: Scene, words: np.random.Generator) -> tuple[Scene, tuple[str, InputImage | None]]:
        """Draw the scene to be shown, a caption, and the reference image that goes with it."""
        reference_images, videos = self.config.reference_images, self.config.videos
        if reference_images is None or len(scene.things) != 1 or words.random() >= reference_images.share:
            return scene, (caption(scene.story, words), None)
        named, rgb = words.random() >= reference_images.unnamed, None
        if not named and words.random() < reference_images.off_palette:
            rgb = off_palette_colour(scene.things[0].subject.shape, words, scene.story.background.colour)
            scene = recoloured(scene, rgb)
        shown = portrait(scene.things[0], words, height=videos.height, width=videos.width, rgb=rgb)
        describe = caption if named else unnamed_caption
        return scene, (describe(scene.story, words), InputImage(pixels=shown))

    def _images(self, reference_images: Sequence[InputImage | None]) -> Images:
        """Encode reference images as a request does."""
        config, videos = self.config.reference_images, self.config.videos
        size = VideoSize(num_frames=videos.num_frames, height=videos.height, width=videos.width)
        encoders = CodecOnly(self._frozen.codec)
        shown = torch.tensor([n for n, image in enumerate(reference_images) if image is not None], dtype=torch.long)
        if config is None or not len(shown):
            return {"shown": shown, "context": {}}
        rows = [config.rows.read((image,), size, encoders) for image in reference_images if image is not None]
        return {"shown": shown, "context": {config.rows.source: torch.cat(rows)}}

    def sample(self, step: int, folder: Path) -> None:
        """Draw videos of the averaged weights by `show`."""
        if self._show is not None:
            self._show(self.transformer(), folder / f"step-{step:08d}.png")
