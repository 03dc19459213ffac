"""The autoencoder: recorded figures; videos in chunks, in causal order, at constant memory."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, combinations, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.models.vae import VAE, VAESpec
from kinoform.models.vae22 import VAE22, VAE22Spec
from tests.models.recorded import Figures, drawn, fill, gap, spread
from tests.support.narrowing import of_type, some
from tests.support.refusals import refused

RECORDED = VAESpec(dim=8, channels=4, mean=(), std=())
TINY = VAESpec(
    dim=4, channels=3, multipliers=(1, 2, 2, 2), residual_blocks=1, mean=(0.4, -1.1, 0.2), std=(1.5, 0.5, 2.0)
)
SHALLOW = replace(TINY, multipliers=(1, 2, 2), time_downsample=(True, True))
SPECS = {
    "network": TINY,
    "shortcut": replace(SHALLOW, shortcut=True),
    "linear encoder": replace(SHALLOW, shortcut=True, linear_encoder=True),
    "Wan 2.2": VAE22Spec(
        dim=4, decoder_dim=6, channels=3, residual_blocks=1, mean=(0.4, -1.1, 0.2), std=(1.5, 0.5, 2.0)
    ),
    "Wan 2.2, linear": VAE22Spec(
        decoder_dim=4,
        channels=3,
        multipliers=(1, 1, 1),
        residual_blocks=1,
        time_downsample=(True, True),
        mean=(),
        std=(),
        linear=True,
    ),
    "other strides": replace(TINY, multipliers=(1, 2, 2), time_downsample=(True, False)),
}
LATENT_FRAMES = 5


def splits(total: int) -> list[tuple[int, ...]]:
    """Every way to cut a row of `total` into parts of at least one, in order: 2^(total - 1) of them."""
    cuts = [cut for count in range(total) for cut in combinations(range(1, total), count)]
    return [tuple(b - a for a, b in pairwise((0, *cut, total))) for cut in cuts]


@pytest.fixture(scope="module", params=SPECS.values(), ids=list(SPECS))
def vae(request: pytest.FixtureRequest) -> VAE | VAE22:
    return random_vae(request.param)


def random_vae(spec: VAESpec | VAE22Spec) -> VAE | VAE22:
    built = spec.build().eval().requires_grad_(False)
    spread(built, seed=1)
    return built


def video(vae: VAE | VAE22, latent_frames: int = LATENT_FRAMES, seed: int = 2) -> Tensor:
    time, height, width = vae.stride
    shape = (1, 3, 1 + time * (latent_frames - 1), 2 * height, 3 * width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def latent_video(vae: VAE | VAE22, frames: int = LATENT_FRAMES, seed: int = 3) -> Tensor:
    return torch.randn(1, vae.channels, frames, 2, 3, generator=torch.Generator().manual_seed(seed))


def chunked(half: Any, x: Tensor, lengths: list[int]) -> tuple[Tensor, Any]:
    assert sum(lengths) == x.shape[2]
    history, found = None, []
    for part in x.split(lengths, dim=2):
        y, history = half(part, history)
        found.append(y)
    return torch.cat(found, dim=2), history


def in_pixels(vae: VAE | VAE22, parts: tuple[int, ...]) -> list[int]:
    """Latent frames of each chunk to pixel frames: the video's first frame stands alone."""
    return [vae.stride[0] * n - (vae.stride[0] - 1) * (place == 0) for place, n in enumerate(parts)]


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from tensors(part)


def bytes_held(history: Any) -> int:
    """The memory that a history keeps alive, which for a view is all of what it looks at."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(history)}
    return sum(storages.values())


def test_equals_the_recorded_encoder():
    vae = RECORDED.build().requires_grad_(False)
    fill(vae, VAE21.official(vae.state_dict()), 0.2)
    latents, _ = vae.encode(drawn(8, 1, 3, 9, 32, 48).clamp(-1, 1))
    Figures(
        count=288, mean=0.0003045, std=1.3657230, first=(0.047073, -0.611656, -0.327664, -0.732589), last=0.130981
    ).check(latents)


def test_equals_the_recorded_decoder():
    vae = RECORDED.build().requires_grad_(False)
    fill(vae, VAE21.official(vae.state_dict()), 0.2)
    pixels, _ = vae.decode(drawn(9, 1, 4, 3, 4, 6))
    Figures(
        count=41472, mean=-1.1372718, std=1.6000408, first=(-0.119788, -0.409961, -0.814800, -1.031635), last=-0.052325
    ).check(pixels)


def test_encoding_in_chunks_equals_encoding_whole(vae: VAE | VAE22):
    x = video(vae)
    whole, _ = vae.encode(x)
    assert whole.shape == (1, vae.channels, LATENT_FRAMES, 2, 3)
    for parts in splits(LATENT_FRAMES):
        latents, _ = chunked(vae.encode, x, in_pixels(vae, parts))
        assert gap(latents, whole) < 1e-5, parts


def test_decoding_in_chunks_equals_decoding_whole(vae: VAE | VAE22):
    z = latent_video(vae)
    whole, _ = vae.decode(z)
    assert whole.shape == video(vae).shape
    for parts in splits(LATENT_FRAMES):
        pixels, _ = chunked(vae.decode, z, list(parts))
        assert gap(pixels, whole) < 1e-5, parts


def test_a_latent_frame_never_sees_a_later_frame(vae: VAE | VAE22):
    x, other = video(vae), video(vae, seed=4)
    before, _ = vae.encode(x)
    for seen, end in enumerate(accumulate(in_pixels(vae, (1,) * (LATENT_FRAMES - 1))), start=1):
        after, _ = vae.encode(torch.cat([x[:, :, :end], other[:, :, end:]], dim=2))
        assert gap(after[:, :, :seen], before[:, :, :seen]) < 1e-6
        assert gap(after[:, :, seen], before[:, :, seen]) > 1e-2


def test_a_frame_never_sees_a_later_latent_frame(vae: VAE | VAE22):
    z, other = latent_video(vae), latent_video(vae, seed=5)
    before, _ = vae.decode(z)
    for seen, end in enumerate(accumulate(in_pixels(vae, (1,) * (LATENT_FRAMES - 1))), start=1):
        after, _ = vae.decode(torch.cat([z[:, :, :seen], other[:, :, seen:]], dim=2))
        assert gap(after[:, :, :end], before[:, :, :end]) < 1e-6
        assert gap(after[:, :, end], before[:, :, end]) > 1e-2


def test_an_earlier_frame_is_remembered_in_the_next_chunk():
    """But not by a linear encoder, whose patches stand alone."""
    vae = random_vae(TINY)
    x, z = video(vae), latent_video(vae)
    _, after_video = vae.encode(x[:, :, :5])
    _, after_other = vae.encode(video(vae, seed=6)[:, :, :5])
    assert gap(vae.encode(x[:, :, 5:9], after_video)[0], vae.encode(x[:, :, 5:9], after_other)[0]) > 1e-2
    _, after_video = vae.decode(z[:, :, :2])
    _, after_other = vae.decode(latent_video(vae, seed=7)[:, :, :2])
    assert gap(vae.decode(z[:, :, 2:3], after_video)[0], vae.decode(z[:, :, 2:3], after_other)[0]) > 1e-2


def test_a_image_is_a_video_of_one_frame(vae: VAE | VAE22):
    x = video(vae)
    latents, _ = vae.encode(x[:, :, :1])
    assert latents.shape[2] == 1
    assert gap(latents, vae.encode(x)[0][:, :, :1]) < 1e-5
    z = latent_video(vae)
    pixels, _ = vae.decode(z[:, :, :1])
    assert pixels.shape[2] == 1
    assert gap(pixels, vae.decode(z)[0][:, :, :1]) < 1e-5


def test_seventeen_frames_are_five_latent_frames():
    vae = random_vae(TINY)
    x = video(vae)
    assert x.shape[2] == 17
    assert vae.encode(x)[0].shape[2] == 5
    assert vae.decode(latent_video(vae, 5))[0].shape[2] == 17


@pytest.mark.parametrize("count", [0, 2, 3, 4, 8, 16])
def test_a_first_chunk_of_another_length_is_refused(count: int):
    vae = random_vae(TINY)
    with refused("frames_not_multiple", f"{count} ", "1 + 4n"):
        vae.encode(video(vae)[:, :, :count])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("name", sorted(SPECS.keys() - {"other strides"}))
def test_a_later_chunk_of_another_length_is_refused(name: str, count: int):
    vae = random_vae(SPECS[name])
    _, history = vae.encode(video(vae)[:, :, :1])
    with refused("frames_not_multiple", f"{count} ", " 4n"):
        vae.encode(video(vae)[:, :, 1 : 1 + count], history)


def test_memory_does_not_grow_with_the_video_nor_with_the_chunk(vae: VAE | VAE22):
    """What is remembered is a few frames of features, and never a view that keeps a whole chunk alive."""
    x, z = video(vae), latent_video(vae)
    needed = sum(t.nbytes for t in tensors(vae.encode(x[:, :, :1])[1]))
    for parts in [(1, 1), (1,) * LATENT_FRAMES, (LATENT_FRAMES,)]:
        frames = in_pixels(vae, parts)
        _, history = chunked(vae.encode, x[:, :, : sum(frames)], frames)
        assert bytes_held(history) == needed
    needed = sum(t.nbytes for t in tensors(vae.decode(z[:, :, :1])[1]))
    assert needed > 0
    for parts in [(1, 1), (1,) * LATENT_FRAMES, (LATENT_FRAMES,)]:
        _, history = chunked(vae.decode, z[:, :, : sum(parts)], list(parts))
        assert bytes_held(history) == needed


def test_a_history_may_be_used_twice(vae: VAE | VAE22):
    """It is a value: continuing one video in two ways gives each its own continuation."""
    z = latent_video(vae)
    _, history = vae.decode(z[:, :, :2])
    first, _ = vae.decode(z[:, :, 2:4], history)
    vae.decode(latent_video(vae, seed=8)[:, :, :3], history)
    again, _ = vae.decode(z[:, :, 2:4], history)
    assert torch.equal(first, again)


def test_latents_are_the_mean_and_nothing_is_drawn():
    vae = random_vae(TINY)
    x, state = video(vae), torch.get_rng_state()
    latents, _ = vae.encode(x)
    assert torch.equal(vae.encode(x)[0], latents)
    assert torch.equal(torch.get_rng_state(), state)
    assert vae.moments is not None
    vae.moments.weight[vae.channels :] = 1e6  # the logarithm of the variance
    assert torch.equal(vae.encode(x)[0], latents)


def test_normalising_is_undone_and_is_what_encode_and_decode_do():
    vae, plain = (of_type(VAE, random_vae(spec)) for spec in (TINY, replace(TINY, mean=(), std=())))
    x, z = video(vae), latent_video(vae)
    assert torch.allclose(vae.denormalise(vae.normalise(z)), z, atol=1e-6)
    wanted = (z - torch.tensor(TINY.mean).view(1, 3, 1, 1, 1)) / torch.tensor(TINY.std).view(1, 3, 1, 1, 1)
    assert torch.allclose(vae.normalise(z), wanted)
    assert torch.equal(plain.normalise(z), z) and torch.equal(plain.denormalise(z), z)
    assert gap(vae.encode(x)[0], vae.normalise(plain.encode(x)[0])) < 1e-5
    assert gap(vae.decode(vae.normalise(z))[0], plain.decode(z)[0]) < 1e-5


def test_the_shortcut_stands_beside_the_network():
    """Before the statistics are applied, what the network and the linear codec give is added."""
    both, network = (of_type(VAE, random_vae(spec)) for spec in (SPECS["shortcut"], SHALLOW))
    network.load_state_dict(both.state_dict(), strict=False)
    shortcut = some(both.shortcut)
    x, z = video(both), latent_video(both)
    linear = shortcut.encode(x, first=True)
    assert gap(both.denormalise(both.encode(x)[0]), network.denormalise(network.encode(x)[0]) + linear) < 1e-5
    shown, _ = shortcut.decode(both.denormalise(z), None)
    assert gap(both.decode(z)[0], network.decode(z)[0] + shown) < 1e-5


def test_a_still_video_has_the_same_linear_latents_throughout():
    vae = random_vae(SPECS["linear encoder"])
    still = video(vae)[:, :, :1].expand(-1, -1, 17, -1, -1)
    latents, _ = vae.encode(still)
    assert torch.allclose(latents, latents[:, :, :1].expand_as(latents), atol=1e-6)


def test_a_linear_encoder_alone_needs_the_shortcut():
    assert random_vae(SPECS["linear encoder"]).encoder is None
    with refused("spec_inconsistent", "linear_encoder"):
        replace(TINY, linear_encoder=True)


def test_a_linear_codec_is_what_the_decoder_sharpens():
    """Its pixels are added at the end, and enter the last level; there is no encoder network."""
    vae = random_vae(SPECS["Wan 2.2, linear"])
    assert isinstance(vae, VAE22) and vae.shortcut is not None and vae.decoder.conv_linear is not None
    z = latent_video(vae)
    linear, _ = vae.shortcut.decode(z, None)
    assert vae.encoder is None and torch.equal(vae.encode(video(vae))[0], vae.shortcut.encode(video(vae), first=True))
    sharpened = vae.decode(z)[0] - linear
    assert vae.decoder.gate is not None
    vae.decoder.gate.zero_()
    assert gap(vae.decode(z)[0] - linear, sharpened) > 1e-3  # what comes from the levels below
    vae.decoder.conv_linear.weight.zero_()
    assert gap(vae.decode(z)[0] - linear, sharpened) > 1e-3
    vae.decoder.conv_out.weight.zero_()
    assert vae.decoder.conv_out.bias is not None
    vae.decoder.conv_out.bias.zero_()
    assert torch.equal(vae.decode(z)[0], linear)


def test_videos_of_a_batch_do_not_meet(vae: VAE | VAE22):
    pair = torch.cat([video(vae), video(vae, seed=9)])
    assert gap(vae.encode(pair)[0][1:], vae.encode(pair[1:])[0]) < 1e-5
    z = torch.cat([latent_video(vae), latent_video(vae, seed=10)])
    assert gap(vae.decode(z)[0][1:], vae.decode(z[1:])[0]) < 1e-5


def test_gradients_reach_every_weight_that_is_used():
    """Not the half of the moments that makes the variance, which nobody reads."""
    vae = SPECS["shortcut"].build()
    spread(vae, seed=1)
    latents, _ = vae.encode(video(vae, 2))
    vae.decode(latents)[0].square().sum().backward()
    for name, weight in vae.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_wan21_has_the_published_size():
    with torch.device("meta"):
        state = VAESpec().build().state_dict()
    assert len(VAE21.official(state)) == 194
    assert sum(value.numel() for value in state.values()) == 126_892_531
