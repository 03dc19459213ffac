"""Crops of videos for the autoencoder, and batches of several sizes."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from kinoform.conditions.protocols import VideoSize
from kinoform.mini.next import plan
from kinoform.mini.training.autoencoder_stage import AutoencoderConfig, AutoencoderStage, Crops
from kinoform.mini.training.dataset import SizeShare, Videos
from kinoform.models.vae22 import VAE22, VAE22Spec
from kinoform.world.sampling import L1
from tests.support.narrowing import of_type, some

SMALL, WIDE = VideoSize(num_frames=9, height=32, width=32), VideoSize(num_frames=5, height=32, width=48)
VIDEOS = Videos(
    level=L1, num_frames=9, height=32, width=32, seed=5,
    sizes=(SizeShare(video=SMALL), SizeShare(video=WIDE, share=3.0, start=10)),
)  # fmt: skip
SPEC = VAE22Spec(
    decoder_dim=4, channels=8, multipliers=(1, 1, 1), residual_blocks=1, time_downsample=(True, True), mean=(), std=(),
    linear=True,
)  # fmt: skip
CROPS = Crops(size=VideoSize(num_frames=5, height=16, width=16), reuse=4)


@pytest.fixture(scope="module")
def stage() -> AutoencoderStage:
    config = AutoencoderConfig(codec=SPEC, videos=VIDEOS, batch=3, fit_videos=50, crops=CROPS, precision=torch.bfloat16)
    return AutoencoderStage(config)


def test_sizes_come_as_often_as_their_shares_say() -> None:
    early = {VIDEOS.at(step).size for step in range(10)}
    late = Counter(VIDEOS.at(step).size for step in range(10, 1010))
    assert early == {SMALL}
    assert late.keys() == {SMALL, WIDE} and late[WIDE] / 1000 == pytest.approx(0.75, abs=0.05)
    assert VIDEOS.at(700) == VIDEOS.at(700) and not VIDEOS.at(700).sizes


def test_a_crop_is_cut_out_of_the_video_of_its_turn(stage: AutoencoderStage) -> None:
    step = 42
    batch = stage.batch(step)
    videos = VIDEOS.at(step // CROPS.reuse)
    whole = videos.pixels(videos.scenes(step // CROPS.reuse, 3)[0])
    assert batch.pixels.shape == (3, 3, 5, 16, 16) and batch.noise.shape == (3, 8, 2, 2, 2)
    for crop, video in zip(batch.pixels, whole, strict=True):
        windows = video.unfold(1, 5, 1).unfold(2, 16, 1).unfold(3, 16, 1)
        assert (windows == crop[:, None, None, None]).all(-1).all(-1).all(-1).all(0).any()


def test_crops_lie_near_objects(stage: AutoencoderStage) -> None:
    near = AutoencoderStage(replace(stage.config, crops=replace(CROPS, near=1.0), batch=8))
    share = [(near.batch(step).weight > 1)[:, 0, 2, 3:13, 3:13].flatten(1).any(1).float().mean() for step in range(8)]
    assert torch.stack(share).mean() > 0.9


def test_a_batch_is_a_function_of_the_step(stage: AutoencoderStage) -> None:
    first = stage.batch(9)
    stage.batch(200)
    for again, before in zip(stage.batch(9), first, strict=True):
        assert torch.equal(again, before)
    assert not torch.equal(stage.batch(8).pixels, first.pixels)


def test_the_sharper_codec_begins_as_its_linear_codec_and_learns(stage: AutoencoderStage) -> None:
    vae, batch = of_type(VAE22, stage.modules()), stage.batch(3)
    with torch.no_grad():
        linear, _ = some(vae.shortcut).decode(vae.encode(batch.pixels)[0], None)
        assert torch.equal(vae.decode(vae.encode(batch.pixels)[0])[0], linear)
    stage.loss(batch).backward()
    out = dict(vae.named_parameters())["decoder.conv_out.weight"].grad
    assert out is not None and torch.isfinite(out).all() and out.abs().sum() > 0


def test_the_plan_in_training_has_its_kernels_in_muon() -> None:
    made = plan()
    assert made.autoencoder is not None and made.autoencoder_training is not None
    with torch.device("meta"):
        codec = made.autoencoder.codec.build()
    taken = made.autoencoder_training.optimizer.hidden
    kernels = {name for name, parameter in codec.named_parameters() if taken(name, parameter)}
    assert len(kernels) == 39
    assert not any("conv_in" in name or "conv_out" in name or "conv_linear" in name for name in kernels)
