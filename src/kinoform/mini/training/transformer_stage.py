"""Stage three: the transformer learns to turn noise and a caption into a video, by flow matching."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from kinoform.conditions.protocols import VideoSize
from kinoform.conditions.references import ReferenceRows
from kinoform.errors import UsageError
from kinoform.media.types import InputImage
from kinoform.mini.training.dataset import Videos, step_generator
from kinoform.mini.training.probe_loss import Facts, LessonSpec, Probe, Tap, facts_of
from kinoform.models.codec import Codec
from kinoform.models.dit import DiT, DiTSpec, initialise, keeps_float32
from kinoform.models.text import TextEncoder, encode
from kinoform.models.tokenizer import Tokenizer
from kinoform.ops.drawing import seeded
from kinoform.ops.flops import count_flops
from kinoform.ops.patch import Patch, grid_of
from kinoform.training.codec_only import CodecAlone
from kinoform.training.distributed import Part
from kinoform.training.objective import LevelSampling, flow_matching_loss, noised, timesteps
from kinoform.types import Conditions, Latents, Velocity
from kinoform.world.caption import caption, unnamed_caption
from kinoform.world.dyes import any_colour, dyed
from kinoform.world.portrait import portrait
from kinoform.world.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Portraits:
    """Images beside captions: `share` of the videos of one object have a portrait of it.

    Of their captions `unnamed` leave its colour and its shape to the portrait, which `rows` encodes. Of these videos
    `dyed` show the object in a colour that no word tells, as the portrait does.
    """

    rows: ReferenceRows
    share: float = 0.4
    unnamed: float = 0.6
    dyed: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """`dropout` is the share of videos whose caption is replaced by `negative_prompt`, for guidance, without portrait.

    `precision` is that of the products in the blocks, whose weights are rounded to it as generation rounds
    them; the weights that learn are float32.
    """

    transformer: DiTSpec
    videos: Videos
    levels: LevelSampling
    negative_prompt: str
    batch: int = 32
    dropout: float = 0.1
    seed: int = 3
    precision: torch.dtype = torch.float32
    lesson: LessonSpec = field(default_factory=LessonSpec)
    portraits: Portraits | None = None


class Images(TypedDict):
    shown: Int[Tensor, " k"]
    context: dict[str, Tensor]


class Batch(NamedTuple):
    """`context` are the context streams besides text that the samples in the places `shown` have, if any."""

    x0: Float[Tensor, "b c f h w"]
    noise: Float[Tensor, "b c f h w"]
    sigma: Float[Tensor, " b"]
    rows: Float[Tensor, "b n w"]
    facts: Facts
    shown: Int[Tensor, " k"]
    context: dict[str, Tensor]

    def parts(self) -> Iterator[tuple[Tensor | slice, dict[str, Tensor]]]:
        """Which samples have the same context streams besides text, and the rows of these."""
        if not self.context:
            yield slice(None), {}
            return
        yield self.shown, self.context
        others = torch.ones(len(self.sigma), dtype=torch.bool, device=self.shown.device)
        others[self.shown] = False
        if others.any():
            yield others.nonzero()[:, 0], {}


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
            raise UsageError(
                f"the lesson asks block {lesson.layer}, counted from 0; the model has {spec.layers}",
                code="value_out_of_range",
            )
        self.model = replace(spec, branches=(*spec.branches, Tap(layer=lesson.layer))).build()
        self.probe = Probe(spec.dim, stride, spec.patch, spec.eps)

    def forward(
        self, x: Latents, sigma: Float[Tensor, " b"], rows: Float[Tensor, "b n r"], more: dict[str, Tensor]
    ) -> tuple[Velocity, Float[Tensor, "b l d"]]:
        """The velocity, and the tokens behind the block that is asked; `more` are context streams besides text."""
        tapped: list[Tensor] = []
        conditions = Conditions(context={"text": rows, **more}, branches={"tap": tapped})
        prepared = self.model.prepare(conditions, grid_of(x, self.model.spec.patch))
        return self.model(x, timesteps(sigma), prepared), tapped[0]


class TransformerStage:
    """One sample is a video, a caption of it, a noise level and noise; all anew at every step.

    `part` is what this process makes of every batch; levels and noise are those of the whole batch whatever
    the parts. `read` is what the stream of references begins with, and keeps if it `stays`. Raises UsageError when
    the batch cannot be dealt out evenly.
    """

    def __init__(
        self,
        config: TransformerConfig,
        frozen: Frozen,
        show: Callable[[DiT, Path], None] | None = None,
        part: Part | None = None,
        read: Mapping[str, Tensor] | None = None,
        *,
        stays: bool = False,
    ) -> None:
        self.config, self._frozen, self._show = config, frozen, show
        self._part = part or Part()
        with seeded(config.seed):
            self._pupil = Pupil(config.transformer, config.lesson, frozen.codec.stride)
        generator = torch.Generator().manual_seed(config.seed)
        initialise(self._pupil.model, generator)
        if config.portraits is not None and read is not None:
            embedding = self._pupil.model.context[config.portraits.rows.stream]
            embedding.load_state_dict(read)
            embedding.requires_grad_(not stays)
        nn.init.normal_(self._pupil.probe.linear.weight, std=0.02, generator=generator)
        nn.init.zeros_(self._pupil.probe.linear.bias)
        batch = self.batch(0)
        self.samples_per_step = config.batch
        self.flops_per_step = 3.0 * self._part.of * count_flops(lambda: self.loss(batch))

    def modules(self) -> nn.Module:
        return self._pupil

    def transformer(self) -> DiT:
        """The transformer by itself, as its spec builds it, with the weights that it has now."""
        with seeded(self.config.seed):  # all of which is replaced
            model = self.config.transformer.build()
        model.load_state_dict(self._pupil.model.state_dict())
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def batch(self, step: int) -> Batch:
        config, frozen, mine = self.config, self._frozen, self._part.slice(self.config.batch)
        drawn, words = config.videos.scenes(step, config.batch)
        scenes, asked = zip(*(self._asked(scene, words) for scene in drawn), strict=True)
        dropped = words.random(config.batch) < config.dropout
        nothing = config.negative_prompt, None
        prompts, portraits = zip(
            *(nothing if drop else each for each, drop in zip(asked, dropped, strict=True)), strict=True
        )
        scenes = list(scenes[mine])
        x0, _ = frozen.codec.encode(config.videos.pixels(scenes))
        generator = step_generator(config.seed, step)
        return Batch(
            x0=x0,
            noise=torch.randn(config.batch, *x0.shape[1:], generator=generator)[mine],
            sigma=config.levels.draw((config.batch,), generator, step)[mine],
            rows=frozen.rows(list(prompts[mine])),
            facts=facts_of(scenes, config.videos, frozen.codec.stride, config.transformer.patch, config.lesson.present),
            **self._images(portraits[mine]),
        )

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        x = noised(batch.x0, batch.sigma, batch.noise)
        rounded = {
            f"model.{name}": weight if keeps_float32(name) else weight.to(self.config.precision)
            for name, weight in self._pupil.model.named_parameters()
        }
        losses = []
        for some, more in batch.parts():
            given = x[some], batch.sigma[some], batch.rows[some], more
            velocity, tokens = functional_call(self._pupil, rounded, given)
            denoising = flow_matching_loss(velocity, batch.noise[some], batch.x0[some])
            facts = Facts(*(each[some] for each in batch.facts))
            both = denoising + self._pupil.probe(tokens, facts, self.config.lesson)
            losses.append(both * (len(velocity) / len(x)))
        return torch.stack(losses).sum()

    def _asked(self, scene: Scene, words: np.random.Generator) -> tuple[Scene, tuple[str, InputImage | None]]:
        """What the video shows, a caption, and the portrait that goes with it."""
        portraits, videos = self.config.portraits, self.config.videos
        if portraits is None or len(scene.things) != 1 or words.random() >= portraits.share:
            return scene, (caption(scene.story, words), None)
        named, dye = words.random() >= portraits.unnamed, None
        if not named and words.random() < portraits.dyed:
            dye = any_colour(scene.things[0].subject.shape, words, scene.story.background.colour)
            scene = dyed(scene, dye)
        shown = portrait(scene.things[0], words, height=videos.height, width=videos.width, dye=dye)
        say = caption if named else unnamed_caption
        return scene, (say(scene.story, words), InputImage(pixels=shown))

    def _images(self, portraits: Sequence[InputImage | None]) -> Images:
        """Rows as a request's references give them."""
        config, videos = self.config.portraits, self.config.videos
        size = VideoSize(num_frames=videos.num_frames, height=videos.height, width=videos.width)
        encoders = CodecAlone(self._frozen.codec)
        shown = torch.tensor([n for n, image in enumerate(portraits) if image is not None], dtype=torch.long)
        if config is None or not len(shown):
            return {"shown": shown, "context": {}}
        rows = [config.rows.read((each,), size, encoders) for each in portraits if each is not None]
        return {"shown": shown, "context": {config.rows.stream: torch.cat(rows)}}

    def sample(self, step: int, folder: Path) -> None:
        """Videos of the averaged weights, drawn by the function that was handed over."""
        if self._show is not None:
            self._show(self.transformer(), folder / f"step-{step:08d}.png")
