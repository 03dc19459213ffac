import numpy as np
import pytest

from kinoform.world.backgrounds import PANS_RIGHT, STRIPES
from kinoform.world.caption import MOTION_PHRASES, SHAPE_PHRASES, caption, unnamed_caption, vocabulary, words
from kinoform.world.motions import LEFT, STILL
from kinoform.world.parse import parse
from kinoform.world.sampling import L1, L2, L3, Difficulty, sample_story, scene_from_seed
from kinoform.world.scene import LARGE, SMALL
from kinoform.world.shapes import BALL, RING
from tests.support.refusals import refused


@pytest.mark.parametrize("level", [L1, L2, L3], ids=["L1", "L2", "L3"])
@pytest.mark.parametrize("held_out", [False, True])
def test_captions_tell_their_story(level: Difficulty, held_out: bool) -> None:
    generator = np.random.default_rng(1)
    for seed in range(100):
        story = scene_from_seed(seed, level, held_out=held_out).story
        sentence = caption(story, generator)
        assert parse(sentence) == story, sentence
        assert set(words(sentence)) <= set(vocabulary())


def test_every_word_is_used_and_none_is_missing() -> None:
    generator = np.random.default_rng(2)
    said = set()
    for _ in range(1000):
        said |= set(words(caption(sample_story(L3, generator), generator)))
    assert said == set(vocabulary())
    assert len(vocabulary()) == 75


def test_a_generator_names_one_caption() -> None:
    story = scene_from_seed(5).story
    said = {caption(story, np.random.default_rng(seed)) for seed in range(40)}
    assert caption(story, np.random.default_rng(0)) == caption(story, np.random.default_rng(0))
    assert len(said) > 10


def test_without_nouns_the_rest_is_told() -> None:
    generator = np.random.default_rng(3)
    for seed in range(100):
        story = scene_from_seed(seed).story
        sentence = unnamed_caption(story, generator)
        assert set(words(sentence)) <= set(vocabulary())
        subject, ground = story.subjects[0], story.background.colour.name
        motions = {word for phrase in MOTION_PHRASES[subject.motion] for word in words(phrase)}
        nouns = {word for phrase in SHAPE_PHRASES[subject.shape] for word in words(phrase)} - motions
        assert not ({subject.colour.name} | nouns) & set(words(sentence)), sentence
        assert f"{ground} background" in sentence
        assert any(phrase in sentence for phrase in MOTION_PHRASES[subject.motion])


def test_sentences_without_a_noun_have_all_three_forms() -> None:
    story = parse("a red ball moves left on a blue background")
    said = {unnamed_caption(story, np.random.default_rng(seed)) for seed in range(200)}
    assert {
        "moves left on a blue background",
        "on a blue background, moves left",
        "moves left, blue background",
    } <= said


def test_objects_that_are_named_keep_their_nouns() -> None:
    pair = parse("a red star rises and an orange donut stays still on a gray background")
    sentence = unnamed_caption(pair, np.random.default_rng(0), named=(1,))
    assert "red" not in sentence and "star" not in sentence and " orange " in sentence
    pan = parse("a tiny red plus sign on a striped green background, the camera pans right")
    assert unnamed_caption(pan, np.random.default_rng(0)).endswith("a striped green background, the camera pans right")


@pytest.mark.parametrize(
    "sentence",
    [
        "a red ball moves left on a blue background",
        "A red circle slides from right to left, blue background.",
        "in front of a blue background, a red disc drifts to the left",
    ],
)
def test_sentences_of_every_form_are_understood(sentence: str) -> None:
    story = parse(sentence)
    (subject,) = story.subjects
    assert (subject.colour.name, subject.shape, subject.motion) == ("red", BALL, LEFT)
    assert story.background.colour.name == "blue"


@pytest.mark.parametrize(
    ("motion", "phrases"),
    [
        ("left", "glides from right to left/moves left"),
        ("right", "drifts from left to right/slides to the right"),
        ("up", "rises/moves upwards/glides up"),
        ("down", "falls/slides downwards/drifts down"),
        ("bounce", "bounces/bounces up and down"),
        ("still", "stays still/does not move/rests"),
        ("spin", "spins/rotates/turns around"),
        ("grow", "grows/gets bigger/expands"),
        ("shrink", "shrinks/gets smaller"),
        ("circle", "moves in a circle/circles around"),
    ],
)
def test_motions_have_their_phrases(motion: str, phrases: str) -> None:
    for phrase in phrases.split("/"):
        (subject,) = parse(f"an orange box {phrase} over a gray background").subjects
        assert subject.motion.name == motion


def test_two_objects_and_the_camera_are_understood() -> None:
    pair = parse("a big red star and an orange donut, each stays still over a checker white background")
    assert [subject.motion for subject in pair.subjects] == [STILL, STILL]
    assert pair.subjects[0].size == LARGE and pair.subjects[1].shape == RING
    pan = parse("a tiny red plus sign on a striped green background, the camera pans right")
    assert pan.camera == PANS_RIGHT and pan.background.texture == STRIPES
    assert pan.subjects[0].motion == STILL and pan.subjects[0].size == SMALL


def test_other_sentences_are_refused_by_name() -> None:
    with refused("not_a_caption", "'cat', 'runs'"):
        parse("a cat runs")
    with refused("not_a_caption"):
        parse("a red ball on a blue background")
    with refused("scene_impossible", "red"):
        parse("a red ball moves left on a red background")
    with refused("scene_impossible"):
        parse("a red ball on a blue background, the camera pans left")
