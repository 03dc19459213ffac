"""`kinoform plan` says what a video would take and reads no weight."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoform.cli.inputs import InputOptions
from kinoform.conditions.input_kinds import ReadOptions
from kinoform.conditions.inputs import InputField, Inputs
from kinoform.media.video import Video
from tests.support.command_line import Run
from tests.support.tiny_recipe import ADDRESS
from tests.weights.lora_fixtures import pair, written

pytestmark = pytest.mark.usefixtures("unread")

PAGE = Path(__file__).parents[2] / "docs" / "plan.md"
LARGE = ["--model", "t2v-14b", "--device", "cuda"]


def test_a_released_model_without_its_weights(kinoform: Run) -> None:
    ran = kinoform("plan", *LARGE)
    assert ran.code == 0 and not ran.err
    for line in (
        "t2v-14b: 81 frames of 1280x720, 50 steps, guidance 5, bfloat16 on cuda",
        "transformer, one forward: 6,523.4 TFLOP for 75,600 tokens",
    ):
        assert line in ran.out
    assert "14,288,491,584" in ran.out and "5,680,910,336" in ran.out and "126,892,531" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100


def test_of_two_experts_one_is_in_memory(kinoform: Run) -> None:
    ran = kinoform("plan", "--model", "t2v-a14b", "--device", "cuda")
    assert "expert low: 14 evaluations in 28 forwards, guidance 3, " in ran.out
    assert "one expert at a time is in memory, 28.95 of 57.90 GB; " in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100


def test_as_json_with_every_option(kinoform: Run) -> None:
    words = ["--size", "480x832", "--frames", "5", "--steps", "4", "--guidance-scale", "1", "--dtype", "float32"]
    ran = kinoform("plan", *LARGE, *words, "--json")
    (told,) = ran.told
    assert (told["width"], told["height"], told["num_frames"], told["steps"]) == (480, 832, 5, 4)
    assert (told["model"], told["dtype"], told["device"], told["tokens"]) == ("t2v-14b", "float32", "cuda", 3120)
    assert told["flops"]["denoise"]["executed"] < told["flops"]["denoise"]["official"] / 2
    assert told["parameters"]["transformer"] == 14_288_491_584


def test_seconds_become_the_nearest_legal_frames(kinoform: Run) -> None:
    (told,) = kinoform("plan", *LARGE, "--seconds", "5", "--json").told
    assert told["num_frames"] == 81


def test_a_image(kinoform: Run) -> None:
    (told,) = kinoform("plan", "--recipe", "kinoform.recipes.wan21:t2i_14b", "--size", "1024x1024", "--json").told
    assert (told["num_frames"], told["tokens"]) == (1, 64 * 64)


def test_two_models_side_by_side(kinoform: Run) -> None:
    words = ["plan", "--model", "t2v-1.3b", "--size", "832x480", "--compare", "t2v-14b"]
    out = kinoform(*words).out
    assert out.splitlines()[0].split() == ["t2v-1.3b", "t2v-14b", "ratio"]
    row = next(line for line in out.splitlines() if line.startswith("one forward"))
    assert row.split()[-3:] == ["283.0", "1,678.4", "5.93"]
    (told,) = kinoform(*words, "--json").told
    assert [told[which]["model"] for which in ("first", "second")] == ["t2v-1.3b", "t2v-14b"]
    assert told["first"]["width"] == told["second"]["width"] == 832


def test_two_sizes_side_by_side(kinoform: Run) -> None:
    (told,) = kinoform("plan", "--compare", "128x64", "--json").told
    assert told["second"]["tokens"] == 2 * told["first"]["tokens"]
    assert told["first"]["model"] == told["second"]["model"] == "mini"


def test_both_kinds_of_attention(kinoform: Run) -> None:
    out = kinoform("plan", *LARGE, "--compare", "factorized").out
    for line in (
        "480p, 832x480: factorized is cheaper from 29 frames (1.8 s)",
        "720p, 1280x720: factorized is cheaper from 13 frames (0.8 s)",
        "1080p, 1920x1088: factorized is cheaper from 9 frames (0.6 s)",
    ):
        assert line in out
    assert "6,523.4" in out
    assert max(map(len, out.splitlines())) <= 100


def test_both_kinds_of_attention_as_json(kinoform: Run) -> None:
    words = ["plan", "--size", "128x64", "--json"]
    (result,) = kinoform(*words, "--compare", "factorised").told
    (alone,) = kinoform(*words).told
    assert [size["name"] for size in result["sizes"]] == ["asked for", "480p", "720p", "1080p"]
    assert all(size["cheaper_from"] % 4 == 1 for size in result["sizes"])
    first = result["sizes"][0]["lengths"][0]
    assert (first["num_frames"], first["tokens"]) == (alone["num_frames"], alone["tokens"])
    assert first["forwards"]["full"]["flops"] == alone["forward_flops"]["total"]


def test_a_folder_called_factorized_is_a_model(
    kinoform: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "factorized").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    words = ["plan", "--model", "factorized", "--compare", "factorized"]
    (told,) = kinoform(*words, "--recipe", ADDRESS, "--device", "cpu", "--json").told
    assert told["second"]["model"] == "factorized"


def test_a_recipe_of_its_own(kinoform: Run) -> None:
    (told,) = kinoform("plan", "--recipe", ADDRESS, "--json").told
    assert (told["width"], told["num_frames"]) == (16, 3)


REFUSED = [
    (["--model", "t2v-14"], "unknown_model", "'t2v-14b'"),
    (["--device", "tpu"], "unknown_device", "'tpu'"),
    (["--dtype", "int8"], "unknown_dtype", "'int8'"),
    (["--frames", "80", "--model", "t2v-14b"], "frames_not_multiple", "77 and 81"),
    (["--size", "0x64"], "value_out_of_range", "width"),
    (["--steps", "0"], "value_out_of_range", "steps"),
    (["--guidance-scale", "nan"], "value_out_of_range", "guidance_scale"),
    (["--compare", "9x9x9"], "bad_value", "9x9x9"),
    (["--compare", "nobody"], "unknown_model", "'nobody'"),
    (["--frames", "5", "--seconds", "1"], "options_conflict", "--frames"),
]


@pytest.mark.parametrize(
    ("words", "code", "named"), REFUSED, ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else value
)
def test_what_cannot_be_planned_is_refused(kinoform: Run, words: list[str], code: str, named: str) -> None:
    ran = kinoform("plan", *words)
    assert ran.refusal == code and named in ran.sentence


def test_a_folder_of_weights_is_planned_from_its_headers(kinoform: Run, folder: Path) -> None:
    (told,) = kinoform("plan", "--model", folder, "--recipe", ADDRESS, "--device", "cpu", "--json").told
    assert (told["model"], told["width"]) == (str(folder), 16)
    text, denoise = (told["peaks"][stage]["weights"] for stage in ("text", "denoise"))
    assert denoise == text + told["weight_bytes"]["float32"]["transformer"]  # parts of small models are kept


SHOWN = {"one": [], "two": ["--compare", "t2v-14b"], "both kinds of attention": ["--compare", "factorized"]}


PRINTING = f"""
import sys
from kinoform.cli.app import main
for words in {[*SHOWN.values()]}:
    sys.argv = ["kinoform", "plan", "--model", "t2v-1.3b", "--device", "cuda", *words]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, words
    print(end="\\f")
"""


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """Outputs of the program by key of SHOWN, from one process: the tests' type checks hold tensors for longer."""
    ran = subprocess.run([sys.executable, "-c", PRINTING], check=True, stdout=subprocess.PIPE, text=True)
    return dict(zip(SHOWN, ran.stdout.removesuffix("\f").split("\f"), strict=True))


@pytest.mark.parametrize("name", SHOWN)
def test_the_page_shows_what_the_program_prints(printed: dict[str, str], name: str) -> None:
    shown = [line for line in printed[name].strip().splitlines() if "this machine" not in line]
    assert "\n".join(shown) in PAGE.read_text(encoding="utf-8")


def test_a_image_decides_the_size_that_is_planned(kinoform: Run, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((300, 300, 3), dtype=np.uint8)).save(tmp_path / "square.png")
    (told,) = kinoform("plan", "--model", "i2v-14b-480p", "--image", tmp_path / "square.png", "--json").told
    assert (told["width"], told["height"]) == (624, 624)
    assert list(told["peaks"]) == ["text", "encode", "denoise", "decode"] and told["not_counted"] == []


def test_inputs_are_read_once_for_two_sides(kinoform: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((300, 300, 3), dtype=np.uint8)).save(tmp_path / "square.png")
    asked: list[float | None] = []
    read = InputOptions.read

    def counted(self: InputOptions, known: tuple[InputField[object], ...], options: ReadOptions) -> Inputs:
        asked.append(options.fps)  # type: ignore[arg-type]
        return read(self, known, options)

    monkeypatch.setattr(InputOptions, "read", counted)
    ran = kinoform("plan", "--model", "i2v-14b-480p", "--image", tmp_path / "square.png", "--compare", "flf2v-14b")
    assert ran.refusal == "input_missing" and "0 and -1" in ran.sentence and asked == [16.0]
    ran = kinoform("plan", "--model", "i2v-14b-480p", "--image", tmp_path / "square.png", "--compare", "i2v-14b-720p")
    assert ran.code == 0 and asked == [16.0] * 2


def test_a_model_that_chooses_frames_is_planned_with_all_of_them(kinoform: Run, tmp_path: Path) -> None:
    """81 frames at 30 per second: all of them for VACE, those of 16 per second for a video to begin from."""
    frames = np.random.default_rng(1).integers(0, 256, (81, 32, 48, 3), dtype=np.uint8)
    Video(frames=frames, fps=30.0).save(tmp_path / "video.mkv")
    for model, count in (("vace-1.3b", 81), ("t2v-1.3b", 41)):
        (told,) = kinoform("plan", "--model", model, "--video", tmp_path / "video.mkv", "--json").told
        assert told["num_frames"] == count


def test_a_video_that_is_changed_is_asked_for_twice(kinoform: Run, tmp_path: Path) -> None:
    for number in range(17):
        Image.fromarray(np.full((64, 64, 3), number, dtype=np.uint8)).save(tmp_path / f"{number:02}.png")
    words = ["--video", tmp_path, "--source-prompt", "a ball", "--strength", "0.5", "--steps", "8", "--json"]
    (told,) = kinoform("plan", *words).told
    asked = {"prepared": 4, "velocities": 8, "by_forwards": {"2": 8}, "forwards": 16}  # four steps, two prompts each
    assert told["evaluations"] == asked


def test_a_model_that_reads_images_beside_one_that_does_not(kinoform: Run) -> None:
    out = kinoform("plan", "--model", "t2v-14b", "--compare", "i2v-14b-720p").out
    row = next(line for line in out.splitlines() if line.startswith("encode here"))
    assert row.split()[-2:] == ["0", "382.0"]


def test_the_words_of_generate_are_planned(kinoform: Run, here: Path, folder: Path) -> None:
    (here / "prompts.txt").write_text("a red ball\na blue cat\n")
    words = ["--model", folder, "--recipe", ADDRESS, "--device", "cpu", "--seed", "3", "--json"]
    one, two = (kinoform("plan", *words, *more).told[0] for more in (["a red ball"], ["--prompts", "prompts.txt"]))
    several = kinoform("plan", *words, "a red ball", "--count", "2").told[0]
    assert two == several and one["peaks"]["decode"]["weights"] <= two["peaks"]["decode"]["weights"]


def test_of_several_videos_the_first_is_decoded_beside_the_transformer(kinoform: Run) -> None:
    one, several = (
        kinoform("plan", *LARGE, *words, "--json").told[0]["peaks"]["decode"]["weights"]
        for words in ([], ["--count", 2])
    )
    assert several > one


def test_shift_and_scale_of_the_context_are_planned_too(kinoform: Run) -> None:
    assert kinoform("plan", *LARGE, "--shift", "3", "--json").code == 0
    assert kinoform("plan", *LARGE, "--shift", "0").refusal == "value_out_of_range"
    assert kinoform("plan", "--count", "0").refusal == "value_out_of_range"
    assert kinoform("plan", *LARGE, "--variant", "t2v-15b").refusal == "unknown_variant"


def test_a_lora_is_compared_with_the_model(kinoform: Run, here: Path) -> None:
    (here / "none.safetensors").write_bytes(b"no header")
    assert kinoform("plan", *LARGE, "--lora", "none.safetensors").code == 3


def test_a_lora_is_counted(kinoform: Run, here: Path) -> None:
    """On q of one layer of mini, which is 192 wide."""
    file = written(here, pair(into=192, out=192, rank=4))
    plain, more = (kinoform("plan", *words, "--json").told[0] for words in ([], ["--lora", file]))
    assert more["parameters"]["transformer"] - plain["parameters"]["transformer"] == 4 * (192 + 192)
    products = 2 * 4 * plain["tokens"] * (192 + 192)
    assert more["forward_flops"]["total"] - plain["forward_flops"]["total"] == products
