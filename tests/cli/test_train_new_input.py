"""A model is taught an input from clips: planned, refused, learnt, saved, loaded again, and used by `generate`."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kinoform.checkpoints.reader import HeaderReader
from kinoform.cli.app import main
from kinoform.conditions.protocols import VideoSize, declared, together
from kinoform.datasets.folder import folder_dataset
from kinoform.datasets.needed import stand_ins
from kinoform.errors import KinoformError
from kinoform.families.adapter import adapter_claims
from kinoform.loading.adapters import adapter_in
from kinoform.media.metadata import read_params
from kinoform.models.meta import on_meta
from kinoform.pipelines.part_cache import PartEncoders
from kinoform.recipes.catalogue import ASSETS, RELEASED
from kinoform.recipes.load import load
from kinoform.recipes.new_inputs import NEW_INPUTS
from kinoform.training.objective import predict_velocity
from kinoform.training.saving import compare_added
from kinoform.types import Conditions
from tests.support.command_line import Run
from tests.support.expert_folders import write_expert_folder
from tests.support.refusals import refused

EDITS = Path(__file__).parents[2] / "examples" / "edits"
CPU = torch.device("cpu")
SIZE = VideoSize(num_frames=5, height=32, width=32)
SHORT = ("--training-steps", "3", "--rank", "2", "--dtype", "float32", "--sample-every", "0", "--clip-frames", "5",
         "--clip-size", "32x32", "--batch-size", "2")  # fmt: skip
"""Two steps of learning rate above 0."""


def numbers(spec: Callable[[], torch.nn.Module]) -> int:
    return sum(parameter.numel() for parameter in on_meta(spec).parameters())


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Train mini to take an input, once; the file of it."""
    folder = tmp_path_factory.mktemp("taught")

    def file(name: str) -> Path:
        run = folder / name
        if not run.exists():
            words = ["kinoform", "train", "lora", str(EDITS), "--recipe", name, "--run", str(run), "--no-cache", *SHORT]
            with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
                patch.setattr("sys.argv", words)
                main()
            assert not ended.value.code
        return run / "adapter.safetensors"

    return file


@pytest.mark.parametrize("name", NEW_INPUTS)
def test_at_the_first_step_the_model_is_its_base_whatever_it_is_given(name: str) -> None:
    pipe = load("mini", recipe=name, device="cpu", dtype="float32")
    base = load("mini", device="cpu", dtype="float32").parts.transformer(torch.float32, CPU)
    recipe, model = pipe.recipe, pipe.parts.transformer(torch.float32, CPU)
    assert recipe.additions is not None and recipe.name == f"mini+{name}"
    item = folder_dataset(EDITS).items[0]
    inputs = stand_ins(item, declared(recipe.conditioners), SIZE, known=(0,))
    assert inputs
    encoders = PartEncoders(pipe.parts, CPU, torch.float32)
    given = together(one.encode(inputs, SIZE, encoders) for one in recipe.conditioners if name != "context")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 32, 2 + given.constraints.prefix_frames, 4, 4, generator=generator)
    rows, sigma = torch.randn(1, 9, 128, generator=generator), torch.tensor([0.7])
    before = predict_velocity(base, x, sigma, Conditions(context={"text": rows}))
    assert torch.equal(predict_velocity(model, x, sigma, given.conditions(rows)), before)


def test_a_taught_model_is_one_file_that_makes_videos_from_its_input(taught, here: Path, kinoform: Run) -> None:
    file = adapter_in(taught("vace"), HeaderReader())
    assert file is not None and (file.claims.base, file.claims.recipe) == ("mini", NEW_INPUTS["vace"])
    layers = {name.split(".")[3] for name in file.tensors if name.startswith("branches.vace.blocks.")}
    assert layers == {"0", "1", "2"} and not any(".adapter." in name for name in file.tensors if "branches" in name)
    assert sum(name.endswith(".adapter.down") for name in file.tensors) == 6 * 10
    make = ("generate", "a green ball moves left on a blue background", "--model", taught("vace"), "--steps", 2,
            "--seed", 1, "--video", EDITS / "ball.source.mp4")  # fmt: skip
    given = ("--mask", EDITS / "ball.mask.mp4", "--reference", EDITS / "ball.reference.png")
    assert not kinoform(*make, *given, "-o", "a.mkv").refusal
    told = read_params(Path("a.mkv"))["model"]
    assert isinstance(told, dict) and told["name"] == "mini+vace"


def test_references_and_a_source_are_taught_together(taught, here: Path, kinoform: Run) -> None:
    file = adapter_in(taught("reference"), HeaderReader())
    assert file is not None and dict(file.claims.channels) == {"latents": 32, "source": 33}
    assert not any(".streams.reference." in name and ".adapter." in name for name in file.tensors)
    gates = [stored.read() for name, stored in file.tensors.items() if name.endswith("streams.reference.gate")]
    assert len(gates) == 6 and all(gate.abs() > 0 for gate in gates)
    made = kinoform(
        "generate", "a ball moves left", "--model", taught("reference"), "--steps", 2, "--seed", 1, "-o", "a.mkv",
        "--reference", EDITS / "ball.reference.png", "--video", EDITS / "ball.source.mp4",
    )  # fmt: skip
    assert not made.refusal


def test_a_file_that_lost_a_number_is_noticed(taught) -> None:
    pipe = load(taught("reference"), device="cpu", dtype="float32")
    model, recipe = pipe.parts.transformer(torch.float32, CPU), pipe.recipe
    file = adapter_in(taught("reference"), HeaderReader())
    assert file is not None and recipe.additions is not None
    kept = {name: stored for name, stored in file.tensors.items() if ".adapter." not in name}
    plain = type(file)(path=file.path, claims=adapter_claims(file.path, _metadata(file.path)), tensors=kept)
    compare_added(model, recipe.additions, recipe.transformers[0], plain, "lora", file.path)
    for name in ("patch_embedding.weight", "blocks.3.cross_attention.streams.reference.gate"):
        with torch.no_grad():
            model.get_parameter(name).view(-1)[-1] += 1e-3
        with pytest.raises(KinoformError) as caught:
            compare_added(model, recipe.additions, recipe.transformers[0], plain, "lora", file.path)
        assert caught.value.code == "saved_file_differs"
        with torch.no_grad():
            model.get_parameter(name).view(-1)[-1] -= 1e-3


def _metadata(path: Path) -> dict[str, str]:
    return dict(HeaderReader().read(path).metadata)


@pytest.mark.parametrize("name", ["vace", "reference"])
def test_what_a_released_model_would_be_taught_is_planned(name: str, kinoform: Run) -> None:
    sized = ("--model", "t2v-1.3b", "--device", "cuda", "--clip-frames", 5, "--clip-size", "832x480", "--one-size")
    (told,) = kinoform("train", "lora", EDITS, "--recipe", name, *sized, "--plan", "--json").told
    (bucket,) = told["buckets"]
    before = 1 if name == "vace" else 0  # an image stands before the video
    assert bucket["tokens"] == (2 + before) * 30 * 52
    recipe = RELEASED["t2v-1.3b"]()
    spec, vace = recipe.transformers[0], RELEASED["vace-1.3b"]().transformers[0]
    lora = 43_745_280
    if name == "vace":
        assert told["added"] == numbers(vace.build) - numbers(spec.build) == bucket["learning"] - lora
    else:
        patch = spec.dim * spec.in_channels * 4
        assert told["added"] == bucket["learning"] - lora - patch > spec.dim * 17 * 4


def test_items_without_what_is_needed_are_named_before_anything_loads(
    here: Path, kinoform: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinoform.training.clip_plan.ClipPlan.train", lambda plan, run: pytest.fail("it began"))
    shutil.copytree(EDITS, here / "edits")
    for name in ("cross.source.mp4", "cross.mask.mp4", "cross.reference.png"):
        (here / "edits" / name).unlink()
    ran = kinoform("train", "lora", here / "edits", "--recipe", "vace", *SHORT)
    assert ran.refusal == "input_missing" and "1 of 4 items" in ran.err and "cross.mp4" in ran.err
    shutil.copy(EDITS / "cross.mask.mp4", here / "edits")
    shutil.copy(EDITS / "cross.reference.png", here / "edits")
    ran = kinoform("train", "lora", here / "edits", "--recipe", "vace", *SHORT)
    assert ran.refusal == "input_missing" and "1 of 4 items" in ran.err and "cross.mp4" in ran.err
    shutil.copy(EDITS / "cross.source.mp4", here / "edits")
    for number in range(2, 6):
        shutil.copy(EDITS / "ball.reference.png", here / "edits" / f"star.reference.{number}.png")
    assert kinoform("train", "lora", here / "edits", "--recipe", "vace", *SHORT).refusal == "too_many"
    assert kinoform("train", "lora", here / "edits", "--recipe", "reference", *SHORT).refusal == "too_many"


def test_two_experts_of_a_folder_are_taught_in_one_file(here: Path, kinoform: Run) -> None:
    model = write_expert_folder(here / "model", "official")
    train = ("train", "lora", EDITS, "--model", model, "--recipe", "reference", "--run", "run", "--no-cache", *SHORT)
    assert not kinoform(*train).refusal
    adapter = here / "run" / "adapter.safetensors"
    file = adapter_in(adapter, HeaderReader())
    assert file is not None and file.claims.base == "t2v-a14b"
    assert {name.partition(".")[0] for name in file.tensors} == {"high", "low"}
    parts = load(model, adapter=adapter, device="cpu").parts
    plain = load(model, device="cpu").parts
    for ours, base in zip(parts.transformers, plain.transformers, strict=True):
        before, after = (
            load(torch.float32, CPU).get_parameter("blocks.0.self_attention.q.weight") for load in (base, ours)
        )
        assert not torch.equal(before, after)


def test_a_recipe_of_ones_own_that_adds_something_is_trained_too(here: Path, kinoform: Run) -> None:
    idea = "examples.ideas.depth_control:recipe"
    shutil.copytree(EDITS, here / "edits", ignore=shutil.ignore_patterns("*.reference.*", "*.mask.*"))
    train = ("train", "lora", here / "edits", "--recipe", idea, "--run", "run", "--no-cache", *SHORT)
    assert not kinoform(*train).refusal
    with refused("recipe_not_trusted"):
        load(here / "run" / "adapter.safetensors", device="cpu")
    pipe = load(here / "run" / "adapter.safetensors", recipe=idea, device="cpu", dtype="float32")
    weight = pipe.parts.transformer(torch.float32, CPU).patch_embedding.weight
    assert weight.shape[1] == 64 and weight[:, 32:].abs().max() > 0


def test_an_adapter_is_put_onto_a_base_that_lies_elsewhere(taught, here: Path, kinoform: Run) -> None:
    shutil.copytree(ASSETS / "mini", here / "base")
    parts = [
        load(model, adapter=adapter, device="cpu").parts
        for model, adapter in ((here / "base", taught("reference")), (taught("reference"), None))
    ]
    assert parts[0].fingerprint() == parts[1].fingerprint() != load("mini", device="cpu").parts.fingerprint()
    make = ("generate", "a ball", "--adapter", taught("reference"), "--model")
    assert kinoform(*make, "mini-factorized").refusal == "input_taken_already"
    assert kinoform(*make, "mini:vace").refusal == "options_conflict"
    assert (
        kinoform("generate", "a ball", "--adapter", here / "base" / "transformer.safetensors").refusal
        == "adapter_damaged"
    )


@pytest.mark.parametrize("model", ["mini:vace", "mini:fast"])
def test_an_input_is_taught_once(model: str, kinoform: Run) -> None:
    assert kinoform("train", "lora", EDITS, "--model", model, "--recipe", "vace").refusal == "input_taken_already"
    with refused("input_taken_already"):
        load(model, recipe="reference", device="cpu")


def test_a_lora_is_learnt_on_a_model_that_was_taught(here: Path, kinoform: Run) -> None:
    assert not kinoform("train", "lora", EDITS, "--model", "mini:vace", "--run", "run", "--no-cache", *SHORT).refusal
    pipe = load("mini:vace", loras=[(here / "run" / "lora.safetensors", 1.0)], device="cpu")
    assert [len(own) for own in pipe.parts.loras] == [1]
