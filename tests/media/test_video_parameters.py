"""Parameters come back as they were written; files of strangers give a sentence, never a crash."""

import json

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kinoform.errors import UsageError
from kinoform.media.metadata import DEEPEST, EXIF_BLOCK, LARGEST, UNICODE, USER_COMMENT, read_params, tags
from kinoform.media.video import Video
from tests.support.refusals import refused

EVERY_FORMAT = ["a.mp4", "a.webm", "a.mkv", "a.png", "a.gif", "a.webp", "frames"]
FILES = EVERY_FORMAT[:-1]


def tiny(params: dict[str, object]) -> Video:
    return Video(frames=np.full((1, 16, 16, 3), 99, np.uint8), fps=16.0, params=params)


def write_png(path, texts):
    about = PngInfo()
    for key, text in texts.items():
        about.add_itxt(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=about)


PROMPTS = [
    "",
    "plain",
    "quotes \"' and \\",
    "lines\nand\ttabs\r\n",
    "红色的球 é 😀 عربى",
    "nul \x00 escape \x1b[31m",
]


@pytest.mark.parametrize("name", EVERY_FORMAT)
@pytest.mark.parametrize("prompt", [*PROMPTS, "long " * 20_000, "lone \ud800 surrogate"])
def test_parameters_come_back(name, prompt, tmp_path):
    params = {
        "prompt": prompt,
        "seed": 2**63,
        "guidance_scale": 5.5,
        "loras": [{"name": "x"}],
        "negative_prompt": None,
    }
    read = read_params(tiny(params).save(tmp_path / name))
    assert {key: read[key] for key in params} == params
    assert read["tool"] == "kinoform"
    assert set(read) == {*params, "encoding", "tool", "schema", "version"}


@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_no_metadata_leaves_nothing(name, tmp_path):
    path = tiny({"prompt": "a secret word", "seed": 7}).save(tmp_path / name, metadata=False)
    for file in [path] if path.is_file() else path.iterdir():
        content = file.read_bytes()
        assert not any(word in content for word in (b"secret", b"parameters", b"comment", b"kinoform"))
    with refused("metadata_missing"):
        read_params(path)


def test_the_comment_is_enough(smooth_video, tmp_path):
    """Programs that copy a video drop the keys they do not know."""
    path = smooth_video.save(tmp_path / "a.mp4")
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        target.metadata["comment"] = source.metadata["comment"]
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert read_params(tmp_path / "b.mp4") == read_params(path)


def test_the_customary_text_is_what_galleries_parse():
    params = {"prompt": "a cat\x00\x1b[31m", "negative_prompt": "blur", "steps": 30, "solver": "UniPC"}
    text = tags({**params, "guidance_scale": 5.0, "seed": 7, "width": 832, "height": 480})["parameters"]
    prompt, negative, settings = text.split("\n")
    assert prompt == "a cat  [31m"
    assert negative == "Negative prompt: blur"
    assert settings.startswith("Steps: 30, Sampler: UniPC, CFG scale: 5.0, Seed: 7, Size: 832x480, Version: kino")
    late = [{"value": 3.5, "steps": [0.0, 0.25]}, {"value": 1.0, "steps": [0.25, 1.0]}]
    changing = tags({"guidance_scale": {"high": late, "low": {"text": 3.0}}})["parameters"]
    assert 'CFG scale: "high=3.5@0.0-0.25,high=1.0@0.25-1.0,low.text=3.0"' in changing
    both = tags({"guidance_scale": {"high": 4.0, "low": 3.0}, "seed": 7})["parameters"]
    assert 'CFG scale: "high=4.0,low=3.0", Seed: 7' in both, "a comma ends a setting"


def test_the_customary_text_names_the_model_by_its_hash_first():
    text = tags({"prompt": "a cat", "seed": 7, "model": {"name": "mini", "hash": "0123456789abcdef"}})["parameters"]
    assert "Seed: 7, Model hash: 0123456789abcdef, Model: mini" in text


@pytest.mark.parametrize("name, key", [("a.mp4", str.lower), ("a.webm", str.upper), ("a.mkv", str.upper)])
def test_videos_have_the_keys_other_programs_read(name, key, smooth_video, tmp_path):
    """Matroska writes keys in capitals."""
    with av.open(str(smooth_video.save(tmp_path / name))) as container:
        found = dict(container.metadata)
    assert json.loads(found[key("comment")]) == json.loads(found[key("parameters_json")])
    assert json.loads(found[key("comment")])["prompt"] == smooth_video.params["prompt"]
    assert "Steps: 4, Seed: 7" in found[key("parameters")]


def test_a_png_carries_plain_text_where_latin_letters_are_enough(tmp_path):
    for prompt, kind in [("un café", b"tEXtparameters"), ("红色的球", b"iTXtparameters")]:
        path = tiny({"prompt": prompt, "seed": 7}).save(tmp_path / "a.png", force=True)
        assert kind in path.read_bytes()
        with Image.open(path) as image:
            assert image.info["parameters"].startswith(f"{prompt}\nSeed: 7")


def test_a_webp_carries_the_text_as_comment_of_the_user(tmp_path):
    path = tiny({"prompt": "红色的球", "seed": 7}).save(tmp_path / "a.webp")
    with Image.open(path) as image:
        comment = image.getexif().get_ifd(EXIF_BLOCK)[USER_COMMENT]
    assert comment.startswith(UNICODE)
    assert comment.removeprefix(UNICODE).decode("utf-16-be").startswith("红色的球\nSeed: 7")


@pytest.mark.parametrize(
    "value, code",
    [
        *[(value, "metadata_not_json") for value in (float("nan"), object(), b"bytes", {"nested": {1, 2}})],
        ("x" * LARGEST, "too_long"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_written_is_refused_before_a_file_is(value, code, tmp_path):
    video = tiny({"value": value})
    for name in EVERY_FORMAT:
        with refused(code):
            video.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


HOSTILE = {
    "a list": "[1, 2]",
    "a number": "17",
    "null": "null",
    "words": "made with another program",
    "half": '{"prompt": "a',
    "deep": '{"a":' * 100_000,
    "deep list": "[" * 100_000,
    "deeper than is read": '{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1),
    "no number": '{"seed": NaN}',
    "infinity": '{"seed": -Infinity}',
    "too large a number": '{"guidance_scale": 1e999}',
    "a number of many digits": '{"seed": ' + "9" * 10_000 + "}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("key", ["parameters_json", "comment"])
def test_what_is_no_json_object_is_refused_by_name(text, key, tmp_path):
    write_png(tmp_path / "a.png", {key: text})
    with refused("metadata_damaged", "a.png"):
        read_params(tmp_path / "a.png")


def test_what_is_as_deep_as_is_read_comes_back(tmp_path):
    write_png(tmp_path / "a.png", {"parameters_json": '{"a":' * DEEPEST + "1" + "}" * DEEPEST})
    assert list(read_params(tmp_path / "a.png")) == ["a"]


def test_too_much_is_refused(tmp_path):
    write_png(tmp_path / "a.png", {"parameters_json": json.dumps({"prompt": "x" * LARGEST})})
    with refused("too_long", "1048576"):
        read_params(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv"])
def test_other_files_are_never_opened(name, tmp_path):
    """A playlist under a video's name could otherwise show any file of this machine."""
    tiny({"prompt": "private"}).save(tmp_path / "private.mp4")
    (tmp_path / name).write_text("ffconcat version 1.0\nfile private.mp4\n")
    with refused("media_damaged", name):
        read_params(tmp_path / name)


@pytest.mark.parametrize(
    "name, code",
    [
        ("missing.mp4", "file_missing"),
        ("a.txt", "unknown_format"),
        ("empty", "folder_without_images"),
        *[(f"empty.{suffix}", "media_damaged") for suffix in ("mp4", "png", "webp")],
    ],
)
def test_what_is_no_video_is_refused_by_name(name, code, tmp_path):
    (tmp_path / "empty").mkdir()
    for file in ("a.txt", "empty.mp4", "empty.png", "empty.webp"):
        (tmp_path / file).write_bytes(b"")
    with refused(code, name):
        read_params(tmp_path / name)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_give_a_sentence(name, tmp_path):
    content = tiny({"prompt": "p" * 200}).save(tmp_path / name).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / f"damaged_{name}"
    for _ in range(150):
        damaged = bytearray(content[: random.integers(1, len(content) + 1)])
        for place in random.integers(0, len(damaged), 8):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            assert isinstance(read_params(path), dict)
        except UsageError as error:
            assert name in str(error)
