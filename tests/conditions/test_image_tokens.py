"""Rows of known frames for cross-attention, and whole films from pictures that enter by both doors."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conditions.in_hand import VISION, InHand, picture, random_module
from kinoform.conditions.fitting import signal
from kinoform.conditions.image_tokens import ImageTokens
from kinoform.conditions.inputs import Inputs
from kinoform.conditions.known_frames import KnownFrames
from kinoform.conditions.ports import Conditioner, FilmSize, Units
from kinoform.errors import UsageError
from kinoform.media.material import Picture
from kinoform.models.context import ImageStream
from kinoform.models.vision import image_rows
from kinoform.pipelines.pipeline import Pipeline
from tiny_recipe import tiny, tiny_pipeline, write_tiny_folder

pytestmark = pytest.mark.filterwarnings("ignore:.* is cropped to")

FILM = FilmSize(num_frames=9, height=16, width=24)
A, B, C = picture(1, 16, 24), picture(2, 30, 20), picture(3, 11, 90)
ENCODERS = InHand(made_image=random_module(VISION))


def rows(frames: dict[int, Picture], pictures: int) -> Tensor:
    given = ImageTokens(pictures=pictures).give(Inputs(frames=frames), FILM, ENCODERS)
    assert given.context.keys() == {"image"} and given.channels is None
    return given.context["image"]


def test_the_protocol_is_kept() -> None:
    tokens = ImageTokens()
    assert isinstance(tokens, Conditioner) and tokens.takes == {"frames"}
    assert tokens.size(Inputs(frames={0: C}), FILM, Units(stride=(4, 8, 8), patch=(1, 2, 2))) == FILM


def test_the_first_known_picture_is_read_as_it_was_given() -> None:
    alone = image_rows(ENCODERS.image(), signal(B.pixels[None]))
    assert alone.shape == (1, VISION.rows, VISION.dim)
    for frames in ({0: B}, {4: C, 2: B}, {-1: A, -2: B}):
        assert torch.equal(rows(frames, 1), alone)


def test_first_and_last_stand_in_the_order_of_the_film() -> None:
    first, last = (image_rows(ENCODERS.image(), signal(each.pixels[None])) for each in (A, B))
    both = torch.cat([first, last], dim=1)
    assert both.shape[1] == 2 * VISION.rows and not torch.equal(first, last)
    for frames in ({0: A, 8: B}, {-1: B, 0: A}, {8: B, 4: C, 0: A}):
        assert torch.equal(rows(frames, 2), both)


@pytest.mark.parametrize(
    ("pictures", "frames", "sentence"),
    [
        (1, {}, "needs a picture for frame 0, and none is given"),
        (2, {}, "needs pictures for frames 0 and -1, and none is given"),
        (2, {0: A}, "needs pictures for frames 0 and -1, and 1 is given"),
        (2, {0: A, 9: B}, r"2\.png is given for frame 9, but a film of 9 frames"),
        (2, {8: A, -1: B}, "frames 8 and -1 .* are the same"),
    ],
)
def test_one_sentence_before_any_weight_is_read(pictures: int, frames: dict[int, Picture], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        ImageTokens(pictures=pictures).check(Inputs(frames=frames), FILM)
    assert re.search(sentence, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("pictures", [0, 3, -1])
def test_models_read_one_picture_or_two(pictures: int) -> None:
    with pytest.raises(UsageError, match=f"1 or 2 pictures .* not of {pictures}"):
        ImageTokens(pictures=pictures)


# Whole films


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Of the tiny model, with doors for a first and a last picture: 2 channels of mask, 4 of latents, and rows."""
    base, pictures = tiny(), 2
    stream = ImageStream(width=VISION.dim, positions=pictures * VISION.rows)
    spec = replace(base.transformer, in_channels=4 + 2 + 4, context=(*base.transformer.context, stream))
    plain = tiny_pipeline(
        write_tiny_folder(tmp_path_factory.mktemp("tiny") / "model"),
        transformer=spec,
        conditioners=(KnownFrames(), ImageTokens(pictures=pictures)),
    )
    parts = replace(
        plain.parts,
        transformer_spec=spec,
        transformer=lambda dtype, device: random_module(spec),
        image_encoder=lambda dtype, device: random_module(VISION),
    )
    return replace(plain, parts=parts)


def latents(pipe: Pipeline, *given: Inputs) -> list[Tensor]:
    asked = [pipe.request("a red ball", seed=seed, inputs=each) for seed, each in enumerate(given)]
    return [each.clone() for each in pipe.latents(asked, lambda progress: None)]


SHOWN = Inputs(frames={0: A, -1: B})


def test_the_same_request_twice_gives_the_same_bytes(pipe: Pipeline) -> None:
    asked = pipe.request("a red ball", seed=4, inputs=SHOWN)
    assert (asked.height, asked.width) == (12, 16), "256 pixels in the proportions of 16x24, in tokens of 4"
    films = []
    for _ in range(2):
        made = next(pipe.latents([asked], lambda progress: None))
        films.append(pipe.film(asked, made, lambda progress: None).frames)
    assert films[0].shape == (3, 12, 16, 3) and films[0].std() > 1
    assert films[0].tobytes() == films[1].tobytes()


def test_a_film_of_a_batch_is_the_film_made_alone(pipe: Pipeline) -> None:
    others, more = Inputs(frames={0: B, 1: C}, exact_size=True), Inputs(frames={0: C, 2: A})
    first, second, third = latents(pipe, SHOWN, others, SHOWN)
    assert second.shape != first.shape and not torch.equal(first, third), "sizes and seeds differ"
    assert torch.equal(latents(pipe, SHOWN)[0], first)
    assert torch.equal(latents(pipe, more, others)[1], second)


@pytest.mark.parametrize(
    "change",
    [
        lambda shown: {**shown, 0: picture(9, 16, 24)},
        lambda shown: {**shown, -1: picture(9, 30, 20)},
        lambda shown: {**shown, 1: C},
        lambda shown: {0: shown[-1], -1: shown[0]},
    ],
    ids=["first", "last", "between", "exchanged"],
)
def test_every_picture_shows_in_the_film(
    pipe: Pipeline, change: Callable[[dict[int, Picture]], dict[int, Picture]]
) -> None:
    before = Inputs(frames=SHOWN.frames, exact_size=True)
    after = replace(before, frames=change(dict(SHOWN.frames)))
    one, other = latents(pipe, before)[0], latents(pipe, after)[0]
    assert (one - other).abs().max() > 1e-3 * one.abs().max()


def test_pictures_are_missed_before_anything_is_loaded(pipe: Pipeline) -> None:
    with pytest.raises(UsageError, match="none is given"):
        pipe.request("a red ball", seed=1)
    with pytest.raises(UsageError, match="frames 0 and -1, and 1 is given"):
        pipe.request("a red ball", seed=1, inputs=Inputs(frames={0: A}))


def test_a_model_without_the_door_names_those_that_have_it(tmp_path: Path) -> None:
    plain = tiny_pipeline(write_tiny_folder(tmp_path / "model"))
    with pytest.raises(UsageError, match=r"takes no frames; mini:frames, i2v-14b-480p, .* would"):
        plain.request("a red ball", seed=1, inputs=SHOWN)
