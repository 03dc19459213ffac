import numpy as np
import pytest

from kinoform.conditions.clips import WHITE
from kinoform.conditions.inputs import NO_INPUTS, Inputs
from kinoform.conditions.ports import FilmSize
from kinoform.errors import UsageError
from kinoform.media.material import Clip
from kinoform.training.adapter_samples import EditSamples, FrameSamples, ReferenceSamples
from kinoform.training.samples import Sample
from kinoform.world.parse import parse
from kinoform.world.portrait import GROUNDS
from kinoform.world.reader import read
from kinoform.world.sampling import L1, L3, is_held_out

FILM = FilmSize(num_frames=9, height=64, width=64)


def test_known_frames_are_those_of_the_film() -> None:
    samples = FrameSamples(level=L3, seed=0).draw(0, 60, FILM)
    for sample in samples:
        for place, picture in sample.inputs.frames.items():
            assert np.array_equal(picture.pixels, sample.film[place])
    kinds = {tuple(sample.inputs.frames) for sample in samples}
    assert {(), (0,), (0, 8), (8,)} <= kinds and len(kinds) > 5


def test_portraits_show_the_object_of_the_film_and_prompts_may_leave_it_unnamed() -> None:
    unnamed = absent = 0
    for sample in ReferenceSamples(level=L1, seed=0).draw(0, 60, FILM):
        try:
            assert not is_held_out(parse(sample.prompt))
        except UsageError:
            unnamed += 1
            assert sample.inputs.references, "a film cannot come from a prompt that does not say of what"
        absent += not sample.inputs.references
        for picture in sample.inputs.references:
            shown, film = read(picture.pixels[None]), read(sample.film)
            assert shown.background.colour in GROUNDS
            assert shown.things[0].colour == film.things[0].colour
    assert 20 < unnamed < 55 and 1 < absent < 20


def test_an_edit_leaves_alone_what_is_black_in_its_mask() -> None:
    masked = hidden = whole = words = 0
    for sample in EditSamples(level=L3, seed=0).draw(0, 120, FILM):
        inputs = sample.inputs
        if inputs.film is None:
            words += inputs.given() == ()
            continue
        assert inputs.film.frames.shape == sample.film.shape
        if inputs.mask is None:
            whole += 1
            continue
        masked += 1
        black = np.broadcast_to(inputs.mask.values < WHITE, sample.film.shape[:3])
        assert np.array_equal(inputs.film.frames[black], sample.film[black])
        hidden += bool((inputs.film.frames[~black] == 127).all())
    assert min(masked, hidden, whole, words) > 3


def test_to_copy_is_nothing_to_learn() -> None:
    film = np.zeros((5, 8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="the same film"):
        Sample(inputs=Inputs(film=Clip(frames=film)), prompt="a red ball", film=film.copy())
    assert Sample(inputs=NO_INPUTS, prompt="a red ball", film=film).film is film
