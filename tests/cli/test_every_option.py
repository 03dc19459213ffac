"""No option is dead: turned on, each changes what can be observed, in the way it says."""

import inspect
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from kinoform.cli.generate import generate
from kinoform.errors import UsageError
from kinoform.loading.lora import save_lora
from kinoform.media.metadata import read_params
from kinoform.media.video import Video
from kinoform.media.video_writer import read_video
from kinoform.models.lora import LoRASpec, adapters_of, attach
from kinoform.recipes.load import load
from tests.support.command_line import Ran, Run
from tests.support.tiny_recipe import tiny

OTHER_DEVICE = "mps" if torch.cuda.is_available() else "cuda"
"""One that is not there, or the refusal could not be observed."""

REFUSED = {"code", "out", "files"}
"""What is seen of an option that this model, which has all its parts, or this machine cannot follow."""

VIDEO = ["--video", "../video.mkv"]
EDITED = {"frames", "params.task", "params.inputs", "params.conditions"}
LONG, WINDOWS = ["--frames", "9"], {"frames", "shape", "params.num_frames", "params.windows"}
LORA = ("params.inputs", "params.loras", "params.model")

CHANGES = {
    "prompt": (["a blue cat"], {"frames", "params.prompt"}),
    "prompts": (["--prompts", "../prompts.txt"], {"frames", "params.prompt"}),
    "model": (["--model", "../other"], {"frames", "params.model"}),
    "recipe": (["--recipe", "tests.support.troubled_recipes:slower"], {"fps", "params.fps"}),
    "text_encoder": (["--text-encoder", "../other"], REFUSED),
    "vae": (["--vae", "../other"], REFUSED),
    "tokenizer": (["--tokenizer", "../other"], REFUSED),
    "image_encoder": (["--image-encoder", "../other"], REFUSED),
    "variant": (["--variant", "t2v-15b"], REFUSED),
    "vace": (["--vace", "../change.safetensors"], REFUSED),
    "adapter": (["--adapter", "../change.safetensors"], REFUSED),
    "lora": (["--lora", "../change.safetensors:2"], {"frames", *LORA}),
    "lora_ignore_unknown": (["--lora", "../strange.safetensors", "--lora-ignore-unknown"], {"frames", *LORA}),
    "size": (["--size", "24x12"], {"frames", "shape", "params.width", "params.height"}),
    "frames": (["--frames", "5"], {"frames", "shape", "params.num_frames"}),
    "seconds": (["--seconds", "0.6"], {"frames", "shape", "params.num_frames", "params.windows"}),
    "window": ([*LONG, "--window", "5"], WINDOWS),
    "window_overlap": ([*LONG, "--window", "7", "--window-overlap", "2"], WINDOWS),
    "no_anchor": ([*LONG, "--window", "7", "--no-anchor"], WINDOWS),
    "fps": (["--fps", "12"], {"fps", "params.fps"}),
    "steps": (["--steps", "4"], {"frames", "params.steps"}),
    "fast": (["--fast"], {"frames", "params.steps"}),
    "guidance_scale": (["--guidance-scale", "7"], {"frames", "params.guidance_scale"}),
    "guidance_rule": (["--guidance-rule", "zero-star"], {"frames", "params.guidance_rule"}),
    "shift": (["--shift", "9"], {"frames", "params.shift"}),
    "solver": (["--solver", "euler"], {"frames", "params.solver"}),
    "sampler": ([*VIDEO, "--source-prompt", "a", "--sampler", "flow-edit(averages=2)"], {*EDITED, "params.sampler"}),
    "negative": (["--negative", "a blue cat"], {"frames", "params.negative_prompt"}),
    "seed": (["--seed", "8"], {"frames", "params.seed"}),
    "count": (["--count", "2"], {"files", "out"}),
    "image": (["--image", "../mask.png"], REFUSED),
    "last_image": (["--last-image", "../mask.png"], REFUSED),
    "frame": (["--frame", "1=../mask.png"], REFUSED),
    "video": (VIDEO, {"frames", "params.task", "params.inputs"}),
    "mask": ([*VIDEO, "--mask", "../mask.png"], {"frames", "params.task", "params.inputs"}),
    "fit_mask": ([*VIDEO, "--mask", "../odd.png", "--fit-mask"], {"frames", "params.task", "params.inputs"}),
    "reference": (["--reference", "../mask.png"], REFUSED),
    "strength": ([*VIDEO, "--strength", "0.5"], EDITED),
    "source_prompt": ([*VIDEO, "--source-prompt", "a"], {*EDITED, "params.sampler"}),
    "context_scale": (["--context-scale", "1"], REFUSED),
    "exact_size": (["--exact-size"], REFUSED),
    "input": (["--input", "video=../video.mkv"], {"frames", "params.task", "params.inputs"}),
    "dtype": (["--dtype", "bfloat16"], {"frames", "params.dtype"}),
    "device": (["--device", OTHER_DEVICE], REFUSED),
    "upscale": (["--upscale", "3"], {"frames", "shape", "params.encoding"}),
    "codec": (["--codec", "av1"], {"frames", "params.encoding"}),
    "crf": (["--crf", "40"], {"frames", "params.encoding"}),
    "output": (["-o", "other.mp4"], {"files", "out"}),
    "dry_run": (["--dry-run"], {"files", "out"}),
    "as_json": (["--json"], {"out"}),
    "no_metadata": (["--no-metadata"], {"carries"}),
    "contact_sheet": (["--contact-sheet"], {"files"}),
}


def words(options: dict[str, list[str]]) -> list[str]:
    return list(chain.from_iterable(options.values()))


def observed(here: Path, ran: Ran) -> dict[str, object]:
    """Everything about a run that a user can see, with the first video's parameters one by one."""
    videos = sorted(here.glob("*.mp4"))
    seen: dict[str, object] = {
        "code": ran.code,
        "out": ran.out,
        "files": sorted(file.name for file in here.iterdir()),
    }
    if not videos:
        return seen
    frames, fps = read_video(videos[0])
    seen |= {"frames": frames.tobytes(), "shape": frames.shape, "fps": fps}
    try:
        params = read_params(videos[0])
    except UsageError:
        return seen | {"carries": False}
    return seen | {"carries": True} | {f"params.{name}": value for name, value in params.items()}


def write_material(place: Path, folder: Path) -> None:
    """A video, a mask, and two LoRA files, one of which has a name that nobody knows."""
    noise = np.random.default_rng(0)
    recipe = tiny()
    size = (recipe.num_frames, recipe.height, recipe.width)
    Video(frames=noise.integers(0, 256, (*size, 3), dtype=np.uint8), fps=recipe.fps).save(place / "video.mkv")
    mask = np.zeros(size[1:], np.uint8)
    mask[:, : recipe.width // 2] = 255
    Image.fromarray(mask).save(place / "mask.png")
    Image.fromarray(mask[:5]).save(place / "odd.png")
    base = load(folder, recipe="tests.support.tiny_recipe:tiny").parts.transformer(torch.float32, torch.device("cpu"))
    spec = LoRASpec(patterns=("self_attention.*",), rank=2, alpha=2.0)
    model = attach(base, spec, name="change", generator=torch.Generator().manual_seed(0))
    for adapter in adapters_of(model)["change"].values():
        torch.nn.init.normal_(adapter.up, generator=torch.Generator().manual_seed(1))
    save_lora(place / "change.safetensors", model, "change")
    tensors = load_file(place / "change.safetensors")
    strange = {f"diffusion_model.strange.lora_{half}.weight": torch.ones(2, 2) for half in "AB"}
    save_file(tensors | strange, place / "strange.safetensors")


def test_every_option_is_tried() -> None:
    assert CHANGES.keys() | {"force"} == inspect.signature(generate).parameters.keys()


BASE = {
    "prompt": ["a red ball"],
    "recipe": ["--recipe", "tests.support.tiny_recipe:tiny_of_videos"],
    "device": ["--device", "cpu"],
    "seed": ["--seed", "7"],
    "output": ["-o", "video.mp4"],
}


@pytest.fixture(scope="module")
def remembered() -> dict[str, object]:
    """What the plain command leaves behind, once it was run."""
    return {}


@pytest.fixture
def plain(kinoform: Run, here: Path, folder: Path, remembered: dict[str, object]) -> dict[str, object]:
    """The same; the video is taken away again."""
    if not remembered:
        remembered |= observed(here, kinoform("generate", *words(BASE), "--model", folder))
        (here / "video.mp4").unlink()
    return remembered


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_changes_what_it_says(
    kinoform: Run, here: Path, folder: Path, other_folder: Path, plain: dict[str, object], option: str
) -> None:
    extra, expected = CHANGES[option]
    (here.parent / "prompts.txt").write_text("a blue cat\n")
    (here.parent / "other").symlink_to(other_folder)
    write_material(here.parent, folder)
    asked = BASE | {"model": ["--model", str(folder)]} | {option: extra}
    if option == "prompts":
        del asked["prompt"]
    after = observed(here, kinoform("generate", *words(asked)))
    changed = {name for name in plain.keys() | after.keys() if plain.get(name) != after.get(name)}
    assert expected <= changed, f"unchanged: {expected - changed}"
    if after.get("carries"):
        untold = {name for name in changed - expected if name.startswith("params.")}
        assert not untold, f"changed besides: {untold}"


def test_force_is_what_replaces_a_video(kinoform: Run, here: Path, model: list[str]) -> None:
    kinoform("generate", "a red ball", *model, "--seed", "7", "-o", "video.mp4")
    before = observed(here, kinoform("generate", "a blue cat", *model, "--seed", "7", "-o", "video.mp4"))
    after = observed(here, kinoform("generate", "a blue cat", *model, "--seed", "7", "-o", "video.mp4", "--force"))
    assert before["code"] == 2 and after["code"] == 0 and before["frames"] != after["frames"]
    assert (before["params.prompt"], after["params.prompt"]) == ("a red ball", "a blue cat")


def test_the_recipe_gives_what_no_option_says(kinoform: Run, model: list[str]) -> None:
    told = kinoform("generate", "a red ball", *model, "--seed", "7", "--json", "-o", "x.gif").told[0]
    recipe = tiny()
    assert (told["steps"], told["shift"], told["guidance_scale"]) == (recipe.steps, recipe.shift, recipe.guidance_scale)
    assert told["negative_prompt"] == recipe.negative_prompt
    plain = kinoform("generate", "a red ball", *model, "--negative", "", "--seed", "7", "--json", "-o", "y.gif")
    assert plain.told[0]["negative_prompt"] == "", "an empty negative prompt is not the recipe's"
