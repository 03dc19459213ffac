"""What cannot be done is refused in one sentence before any weight is read, and nothing is left behind."""

import os
from pathlib import Path

import pytest
import torch

from tests.support.command_line import Run

PROMPT = "a red ball"

USAGE = [
    (["--frames", "4"], "frames_not_multiple", "3 and 5"),
    (["--frames", "0"], "value_out_of_range", "num_frames"),
    (["--frames", "3", "--seconds", "1"], "options_conflict", "--seconds"),
    (["--seconds", "0"], "value_out_of_range", "--seconds"),
    (["--seconds", "nan"], "value_out_of_range", "--seconds"),
    (["--seconds", "1", "--fps", "nan"], "value_out_of_range", "fps"),
    (["--seconds", "1", "--fps", "inf"], "value_out_of_range", "fps"),
    (["--seconds", "3600", "--fps", "240"], "value_out_of_range", "num_frames"),
    (["--size", "18x16"], "size_not_multiple", "16 and 20"),
    (["--size", "16x17"], "size_not_multiple", "16 and 20"),
    (["--size", "0x0"], "value_out_of_range", "width"),
    (["--size", "16"], "bad_value", "'16'"),
    (["--size", "16x16x16"], "bad_value", "'16x16x16'"),
    (["--size", "999999999x16"], "value_out_of_range", "999999999x16"),
    (["--size", "-16x16"], "bad_value", "'-16x16'"),
    (["--steps", "0"], "value_out_of_range", "steps"),
    (["--fast", "--steps", "4"], "options_conflict", "--steps 4"),
    (["--steps", "100000"], "value_out_of_range", "steps"),
    (["--guidance-scale", "nan"], "value_out_of_range", "guidance_scale"),
    (["--guidance-scale", "-1"], "value_out_of_range", "guidance_scale"),
    (["--guidance-scale", "much"], "bad_value", "'much'"),
    (["--guidance-scale", "4,"], "bad_value", "'4,'"),
    (["--guidance-scale", "4,3"], "expert_not_said", "high=4,low=3"),
    (["--guidance-scale", "high=4,low=3"], "one_transformer", "one number"),
    (["--shift", "0"], "value_out_of_range", "shift"),
    (["--shift", "inf"], "value_out_of_range", "shift"),
    (["--fps", "0"], "value_out_of_range", "fps"),
    (["--fps", "1e9"], "value_out_of_range", "fps"),
    (["--seed", "-1"], "value_out_of_range", "seed"),
    (["--seed", str(2**63)], "value_out_of_range", "seed"),
    (["--seed", str(2**63 - 1), "--count", "2"], "value_out_of_range", "seed"),
    (["--count", "0"], "value_out_of_range", "--count"),
    (["--upscale", "0"], "value_out_of_range", "--upscale"),
    (["--upscale", "65"], "value_out_of_range", "--upscale"),
    (["--solver", "unipcc"], "unknown_solver", "'unipc'"),
    (["--solver", "my_idea:Mine"], "unknown_solver", "solver="),
    (["--dtype", "float23"], "unknown_dtype", "'float32'"),
    (["--device", "cdua"], "unknown_device", "'cuda'"),
    (["--negative", "a\x07b"], "character_not_allowed", "U+0007"),
    (["--recipe", "tiny"], "recipe_invalid", "'tiny'"),
    (["--recipe", ":tiny"], "recipe_invalid", "':tiny'"),
    (["--recipe", ".tiny_recipe:tiny"], "recipe_invalid", "'.tiny_recipe:tiny'"),
    (["--recipe", "no_such_module:video"], "module_not_importable", "'no_such_module'"),
    (["--recipe", "tests.support.tiny_recipe:tyni"], "unknown_recipe", "'tiny'"),
    (["--recipe", "tests.support.tiny_recipe:Path"], "recipe_invalid", "tests.support.tiny_recipe:Path"),
    (["-o", "video.avi"], "unknown_format", "'.mkv'"),
    (["-o", "video.png"], "one_frame_only", "video.png"),
    (["-o", "no/such/video.mp4"], "folder_missing", "no/such"),
    (["-o", ""], "output_name_missing", "'.'"),
    (["-o", "con.mp4"], "name_not_portable", "'con.mp4'"),
    (["-o", "a:b.mp4"], "name_not_portable", "'a:b.mp4'"),
    (["-o", "x" * 300 + ".mp4"], "name_too_long", "xxx"),
    (["-o", "x" * 230 + ".mp4"], "name_too_long", "xxx"),
    (["-o", "/proc/video.mp4"], "folder_not_writable", "/proc"),
    (["--model", "minni"], "unknown_model", "'mini'"),
    (["--model", ""], "unknown_model", "''"),
    (["--model", "x" * 5000], "unknown_model", "'xxx"),
    (["--prompts", "prompts.txt"], "options_conflict", "--prompts"),
    (["--vace", ""], "file_missing", "--vace"),
    (["--lora", ""], "file_missing", "--lora"),
    (["--lora", f"{__file__}:"], "bad_value", "''"),
    (["--lora", f"high={__file__}:strong"], "bad_value", "'strong'"),
    (["--lora", "style.safetensors:2:3"], "said_twice", "style.safetensors:2"),
    (["--image", "a.png", "--image", "b.png"], "said_twice", "--frame"),
    (["--guidance", "text=4,images=4.5"], "segments_not_taken", "bernini-1.3b, bernini-a14b"),
    (["--guidance-rule", "v2v-chain"], "segments_not_taken", "v2v-chain"),
]


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(("options", "code", "named"), USAGE, ids=lambda value: str(value)[:40].replace("/", "_"))
def test_options_that_cannot_be_meant(
    kinoform: Run, model: list[str], here: Path, options: list[str], code: str, named: str
):
    ran = kinoform("generate", PROMPT, *model, "--seed", "7", *options)
    assert ran.refusal == code and named in ran.sentence, ran.err
    assert ran.out == "" and not list(here.iterdir())


PROMPTS = [
    ("", "prompt_missing", "prompt"),
    ("  \t", "prompt_missing", "prompt"),
    ("a\x00b", "character_not_allowed", "U+0000"),
    ("a\x1b]0;title\x07", "character_not_allowed", "U+001B"),
    ("caf\udce9", "character_not_allowed", "U+DCE9"),
    ("x" * 20_001, "too_long", "20001"),
]


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(("prompt", "code", "named"), PROMPTS, ids=lambda value: ascii(value)[:20])
def test_prompts_that_cannot_be_read(
    kinoform: Run, model: list[str], here: Path, prompt: str, code: str, named: str
) -> None:
    ran = kinoform("generate", prompt, *model, "--seed", "7")
    assert ran.refusal == code and named in ran.sentence
    (here / "prompts.txt").write_bytes(f"a red ball\n{prompt}x\n".encode(errors="surrogatepass"))
    if prompt.strip():
        assert kinoform("generate", "--prompts", "prompts.txt", *model).code == 2


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("command", ["generate", "plan"])
def test_the_name_of_a_model_is_no_prompt(kinoform: Run, command: str) -> None:
    ran = kinoform(command, "t2v-a14b")
    assert ran.refusal == "prompt_is_model" and "--model t2v-a14b" in ran.sentence


@pytest.mark.usefixtures("unread")
def test_files_of_prompts_that_hold_none(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "empty.txt").write_text("\n \n")
    (here / "latin.txt").write_bytes(b"caf\xe9\n")
    for name, code in [
        ("empty.txt", "prompt_missing"),
        ("latin.txt", "file_unreadable"),
        ("none.txt", "file_unreadable"),
        (".", "file_unreadable"),
    ]:
        ran = kinoform("generate", *model, "--prompts", name)
        assert ran.refusal == code and name in ran.sentence
    assert kinoform("generate", *model).code == 2


@pytest.mark.usefixtures("unread")
def test_nothing_that_exists_is_replaced_unasked(kinoform: Run, model: list[str], here: Path) -> None:
    taken = {"video.mp4": b"mine", "other_sheet.png": b"my sheet", "late.gif.latents.safetensors": b"my latents"}
    for name, content in taken.items():
        (here / name).write_bytes(content)
    (here / "frames").mkdir()
    (here / "frames" / "diary.txt").write_text("mine")
    for words, code, named in [
        (["-o", "video.mp4"], "file_exists", "video.mp4"),
        (["-o", "other.gif", "--contact-sheet"], "file_exists", "other_sheet.png"),
        (["-o", "late.gif"], "latents_waiting", "kinoform decode late.gif.latents.safetensors"),
        (["-o", "video.mp4/"], "not_a_folder", "video.mp4"),
    ]:
        ran = kinoform("generate", PROMPT, *model, "--seed", "7", *words)
        assert ran.refusal == code and named in ran.sentence, ran.sentence
    for name, content in taken.items():
        assert (here / name).read_bytes() == content


@pytest.mark.usefixtures("unread")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "shut").mkdir(mode=0o500)
    ran = kinoform("generate", PROMPT, *model, "--seed", "7", "-o", "shut/video.mp4")
    assert ran.refusal == "folder_not_writable" and "shut" in ran.sentence and "-o" in ran.sentence


@pytest.mark.usefixtures("unread")
def test_a_graphics_card_that_is_not_there_is_missed_at_once(kinoform: Run, folder: Path) -> None:
    device = "mps" if torch.cuda.is_available() else "cuda"
    ran = kinoform(
        "generate", PROMPT, "--model", folder, "--recipe", "tests.support.tiny_recipe:tiny", "--device", device
    )
    assert ran.refusal == "device_missing" and device in ran.sentence and "--device cpu" in ran.sentence


@pytest.mark.usefixtures("unread")
def test_a_video_beyond_the_memory_is_refused_with_a_code_of_its_own(kinoform: Run, model: list[str]) -> None:
    ran = kinoform("generate", PROMPT, *model, "--size", "99996x99996", "--frames", "99999")
    assert (ran.code, ran.refusal) == (4, "does_not_fit")


@pytest.mark.usefixtures("unread")
def test_a_folder_does_not_choose_code(kinoform: Run, folder: Path) -> None:
    ran = kinoform("generate", PROMPT, "--model", folder)
    assert ran.refusal == "recipe_not_trusted" and "--recipe tests.support.tiny_recipe:tiny" in ran.sentence


def test_memory_that_runs_out_on_the_way_is_told(kinoform: Run, model: list[str], here: Path, monkeypatch) -> None:
    def denoise(*words: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("kinoform.pipelines.generate.Denoising.advance", denoise)
    ran = kinoform("generate", PROMPT, *model, "--seed", "7")
    assert ran.refusal == "out_of_memory" and "3 frames of 16x16" in ran.sentence
    assert not list(here.iterdir())


def test_latents_that_are_no_numbers_are_told_with_their_step(kinoform: Run, folder: Path, here: Path) -> None:
    words = [
        "--model",
        folder,
        "--recipe",
        "tests.support.troubled_recipes:not_a_number",
        "--device",
        "cpu",
        "-o",
        "video.mp4",
    ]
    ran = kinoform("generate", PROMPT, *words)
    assert ran.refusal == "not_finite" and "3 of 200" in ran.sentence
    assert ran.out == "" and not list(here.iterdir())


def test_a_name_that_is_not_in_a_module_is_answered_with_functions(kinoform: Run) -> None:
    ran = kinoform("generate", "a", "--recipe", "tests.support.tiny_recipe:nothing_like_it")
    assert ran.refusal == "unknown_recipe"
    assert "tiny" in ran.sentence and "Path" not in ran.sentence
