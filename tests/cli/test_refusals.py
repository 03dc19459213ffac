"""What cannot be done is refused in one sentence before any weight is read, and nothing is left behind."""

import os
import re
from pathlib import Path

import pytest
import torch

from command_line import Run

PROMPT = "a red ball"

USAGE = [
    (["--frames", "4"], "4 frames .* nearest are 3 and 5"),
    (["--frames", "0"], "num_frames .* not 0"),
    (["--frames", "3", "--seconds", "1"], "--frames and --seconds"),
    (["--seconds", "0"], "--seconds .* not 0"),
    (["--seconds", "nan"], "--seconds .* not nan"),
    (["--seconds", "1", "--fps", "nan"], "fps .* not nan"),
    (["--seconds", "1", "--fps", "inf"], "fps .* not inf"),
    (["--seconds", "3600", "--fps", "240"], "num_frames .* 100000"),
    (["--size", "18x16"], "width of 18 .* nearest are 16 and 20"),
    (["--size", "16x17"], "height of 17 .* nearest are 16 and 20"),
    (["--size", "0x0"], "width .* not 0"),
    (["--size", "16"], "--size '16' .* for example 832x480"),
    (["--size", "16x16x16"], "--size '16x16x16'"),
    (["--size", "-16x16"], "--size '-16x16'"),
    (["--steps", "0"], "steps .* not 0"),
    (["--fast", "--steps", "4"], "--fast chooses the steps, and --steps 4 too"),
    (["--steps", "100000"], "steps .* not 100000"),
    (["--guidance-scale", "nan"], "guidance_scale .* not nan"),
    (["--guidance-scale", "-1"], "guidance_scale .* not -1"),
    (["--shift", "0"], "shift .* not 0"),
    (["--shift", "inf"], "shift .* not inf"),
    (["--fps", "0"], "fps .* not 0"),
    (["--fps", "1e9"], "fps .* not 1000000000"),
    (["--seed", "-1"], "seed .* not -1"),
    (["--seed", str(2**63)], "seed .* not 9223372036854775808"),
    (["--seed", str(2**63 - 1), "--count", "2"], "seed .* not 9223372036854775808"),
    (["--count", "0"], "--count .* not 0"),
    (["--upscale", "0"], "--upscale .* not 0"),
    (["--upscale", "65"], "--upscale .* not 65"),
    (["--solver", "unipcc"], "no solver 'unipcc'; did you mean 'unipc'"),
    (["--dtype", "float23"], "no dtype 'float23'; did you mean 'float32'"),
    (["--device", "cdua"], "no device 'cdua'; did you mean 'cuda'"),
    (["--negative", "a\x07b"], "negative prompt holds U.0007"),
    (["--recipe", "tiny"], "--recipe 'tiny' .* module:function"),
    (["--recipe", ":tiny"], "--recipe ':tiny'"),
    (["--recipe", ".tiny_recipe:tiny"], "--recipe '.tiny_recipe:tiny'"),
    (["--recipe", "no_such_module:video"], "module 'no_such_module' .* cannot be imported"),
    (["--recipe", "tiny_recipe:tyni"], "no recipe 'tyni' in tiny_recipe; did you mean 'tiny'"),
    (["--recipe", "tiny_recipe:Path"], "returns a PosixPath, not a Recipe"),
    (["-o", "video.avi"], "no video format '.avi'; did you mean '.mkv'"),
    (["-o", "video.png"], "can hold one frame only; give a folder"),
    (["-o", "no/such/video.mp4"], "folder no/such does not exist"),
    (["-o", ""], "no name to write to"),
    (["-o", "con.mp4"], "'con.mp4' is not legal on every system"),
    (["-o", "a:b.mp4"], "'a:b.mp4' is not legal on every system"),
    (["-o", "x" * 300 + ".mp4"], "too long for a file"),
    (["-o", "x" * 230 + ".mp4"], "too long for a file"),
    (["-o", "/proc/video.mp4"], "/proc"),
    (["--model", "minni"], "no model, folder or file 'minni'; did you mean 'mini'"),
    (["--model", ""], "no model, folder or file ''"),
    (["--model", "x" * 5000], "no model, folder or file 'xxx"),
    (["--prompts", "prompts.txt"], "not both"),
]


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(("options", "sentence"), USAGE, ids=lambda value: " ".join(value)[:40].replace("/", "_"))
def test_options_that_cannot_be_meant(kinoform: Run, model: list[str], here: Path, options: list[str], sentence: str):
    ran = kinoform("generate", PROMPT, *model, "--seed", "7", *options)
    assert ran.code == 2, ran.err
    assert re.search(sentence, ran.sentence), ran.sentence
    assert ran.out == "" and not list(here.iterdir())


PROMPTS = [
    ("", "prompt is empty; say what the video should show"),
    ("  \t", "prompt is empty"),
    ("a\x00b", "U+0000 at character 2"),
    ("a\x1b]0;title\x07", "U+001B at character 2"),
    ("caf\udce9", "U+DCE9 at character 4; remove it"),
    ("x" * 20_001, "20001 characters"),
]


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(("prompt", "sentence"), PROMPTS, ids=lambda value: ascii(value)[:20])
def test_prompts_that_cannot_be_read(kinoform: Run, model: list[str], here: Path, prompt: str, sentence: str) -> None:
    ran = kinoform("generate", prompt, *model, "--seed", "7")
    assert ran.code == 2 and sentence in ran.sentence
    (here / "prompts.txt").write_bytes(f"a red ball\n{prompt}x\n".encode(errors="surrogatepass"))
    if prompt.strip():
        assert kinoform("generate", "--prompts", "prompts.txt", *model).code == 2


@pytest.mark.usefixtures("unread")
def test_files_of_prompts_that_hold_none(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "empty.txt").write_text("\n \n")
    (here / "latin.txt").write_bytes(b"caf\xe9\n")
    for name, sentence in [
        ("empty.txt", "empty.txt holds no prompt; write one a line"),
        ("latin.txt", "latin.txt cannot be read as UTF-8 text"),
        ("none.txt", "none.txt cannot be read"),
        (".", "cannot be read"),
    ]:
        ran = kinoform("generate", *model, "--prompts", name)
        assert ran.code == 2 and sentence in ran.sentence
    assert kinoform("generate", *model).code == 2


@pytest.mark.usefixtures("unread")
def test_nothing_that_exists_is_replaced_unasked(kinoform: Run, model: list[str], here: Path) -> None:
    taken = {"video.mp4": b"mine", "other_sheet.png": b"my sheet", "late.gif.latents.safetensors": b"my latents"}
    for name, content in taken.items():
        (here / name).write_bytes(content)
    (here / "frames").mkdir()
    (here / "frames" / "diary.txt").write_text("mine")
    for words, sentence in [
        (["-o", "video.mp4"], "video.mp4 exists; choose another name or pass --force"),
        (["-o", "other.gif", "--contact-sheet"], "other_sheet.png exists"),
        (["-o", "late.gif"], "late.gif.latents.safetensors waits to be finished; run kinoform decode"),
        (["-o", "video.mp4/"], "video.mp4 is a file; choose another name for the folder"),
    ]:
        ran = kinoform("generate", PROMPT, *model, "--seed", "7", *words)
        assert ran.code == 2 and sentence in ran.sentence, ran.sentence
    for name, content in taken.items():
        assert (here / name).read_bytes() == content


@pytest.mark.usefixtures("unread")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(kinoform: Run, model: list[str], here: Path) -> None:
    (here / "shut").mkdir(mode=0o500)
    ran = kinoform("generate", PROMPT, *model, "--seed", "7", "-o", "shut/video.mp4")
    assert ran.code == 2 and "the folder shut cannot be written; choose another with -o" in ran.sentence


@pytest.mark.usefixtures("unread")
def test_a_graphics_card_that_is_not_there_is_missed_at_once(kinoform: Run, folder: Path) -> None:
    device = "mps" if torch.cuda.is_available() else "cuda"
    ran = kinoform("generate", PROMPT, "--model", folder, "--recipe", "tiny_recipe:tiny", "--device", device)
    assert ran.code == 2 and f"no {device} device that PyTorch can use; pass --device cpu" in ran.sentence


@pytest.mark.usefixtures("unread")
def test_a_video_beyond_the_memory_is_refused_with_a_code_of_its_own(kinoform: Run, model: list[str]) -> None:
    ran = kinoform("generate", PROMPT, *model, "--size", "99996x99996", "--frames", "99999")
    assert (ran.code, ran.refusal) == (4, "does_not_fit") and "what fits is" in ran.sentence


@pytest.mark.usefixtures("unread")
def test_a_folder_does_not_choose_code(kinoform: Run, folder: Path) -> None:
    ran = kinoform("generate", PROMPT, "--model", folder)
    assert ran.code == 3 and "pass --recipe tiny_recipe:tiny if you trust it" in ran.sentence


def test_memory_that_runs_out_on_the_way_is_told(kinoform: Run, model: list[str], here: Path, monkeypatch) -> None:
    def denoise(*words: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("kinoform.pipelines.generate.denoise", denoise)
    ran = kinoform("generate", PROMPT, *model, "--seed", "7")
    assert ran.code == 4 and "3 frames of 16x16 does not fit into memory" in ran.sentence
    assert not list(here.iterdir())


def test_latents_that_are_no_numbers_are_told_with_their_step(kinoform: Run, folder: Path, here: Path) -> None:
    words = ["--model", folder, "--recipe", "troubled_recipes:not_a_number", "--device", "cpu", "-o", "video.mp4"]
    ran = kinoform("generate", PROMPT, *words)
    assert ran.code == 1 and "not finite after step 3 of 200" in ran.sentence and "no video was made" in ran.sentence
    assert ran.out == "" and not list(here.iterdir())
