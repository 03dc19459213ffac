"""Videos, edits and training on a device that refuses what Apple's GPUs refuse: the same, but for rounding."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import kinoform
from kinoform.conditions.video_to_video import StartVideo
from kinoform.editing.edit import edit
from kinoform.editing.settings import EditSettings
from kinoform.mini.training.autoencoder_stage import AutoencoderStage
from kinoform.mini.training.plan import prepare_tokenizer
from kinoform.mini.training.text_stage import TextStage
from kinoform.mini.training.transformer_stage import TransformerStage
from kinoform.models.vae import VAE
from kinoform.models.vision import image_features
from kinoform.pipelines.machine import choose_machine
from kinoform.pipelines.pipeline import Pipeline
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.euler import Euler
from kinoform.solvers.unipc import UniPC
from kinoform.training.devices import moved
from kinoform.training.distributed import SingleProcess
from kinoform.training.frozen import FrozenParts
from kinoform.training.learner import Learner
from tests.conditions.in_hand import VISION, random_module
from tests.support.narrowing import of_type, some
from tests.support.other_device import THERE, There, another_device
from tests.support.tiny_recipe import tiny_pipeline, write_tiny_folder
from tests.training.test_stages import tiny_plan

PROMPT = "a red ball moves left"
SMALL: dict[str, Any] = {"num_frames": 5, "width": 32, "height": 32, "num_inference_steps": 1, "seed": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def device() -> Iterator[torch.device]:
    with another_device() as found:
        yield found


def there(pipe: Pipeline, dtype: torch.dtype = torch.float32) -> Pipeline:
    """The pipeline with nothing loaded yet, on the other device."""
    return replace(pipe, machine=replace(pipe.machine, device=THERE, dtype=dtype))


def farthest(ours: np.ndarray, theirs: np.ndarray) -> int:
    return int(np.abs(ours.astype(int) - theirs).max())


def test_the_device_refuses(device: torch.device) -> None:
    one, host = torch.ones(2, device=device), torch.ones(2)
    assert isinstance(one, There) and one.device == device
    assert torch.equal((one + one * host.to(device)).cpu(), 2 * host)
    for refused in (
        lambda: host.double().to(device),
        lambda: torch.ones(2, dtype=torch.float64, device=device),
        lambda: one.double(),
        lambda: one + host,
        lambda: one.numpy(),
        lambda: torch.rand(2, device=device, generator=torch.Generator()),
    ):
        with pytest.raises((TypeError, RuntimeError)):
            refused()


@pytest.mark.parametrize("solver", [UniPC(), DPMSolver(), Euler()])
def test_a_video_is_that_of_the_cpu(folder: Path, device: torch.device, solver: Any) -> None:
    pipe = tiny_pipeline(folder)
    wanted = pipe(PROMPT, seed=1, solver=solver).frames
    assert farthest(there(tiny_pipeline(folder))(PROMPT, seed=1, solver=solver).frames, wanted) <= 1


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1), (torch.bfloat16, 16), (torch.float16, 4)])
def test_a_dtype_rounds_there_and_no_more(folder: Path, device: torch.device, dtype: torch.dtype, most: int) -> None:
    wanted = tiny_pipeline(folder)(PROMPT, seed=1).frames
    assert farthest(there(tiny_pipeline(folder), dtype)(PROMPT, seed=1).frames, wanted) <= most


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("mini", {"video": 5, "source_prompt": "a blue ball moves left"}),
        ("mini-factorized", {"reference_images": [1]}),
        ("mini:frames", {"image": 1, "last_image": 1}),
        ("mini:vace", {"video": 5, "mask": 1, "reference_images": [1]}),
        ("mini:reference", {"reference_images": [1]}),
    ],
)
def test_inputs_reach_the_model_there(device: torch.device, model: str, inputs: dict[str, Any]) -> None:
    asked = {name: _material(name, value) for name, value in inputs.items()}
    wanted = kinoform.load(model, device="cpu")(PROMPT, **SMALL, **asked).frames
    assert farthest(there(kinoform.load(model, device="cpu"))(PROMPT, **SMALL, **asked).frames, wanted) <= 1


def test_an_edit_is_that_of_the_cpu(folder: Path, device: torch.device) -> None:
    source, mask = _noise(9, 20, 28), np.zeros((1, 20, 28), bool)
    mask[:, 4:12, 6:20] = True
    pipes = [tiny_pipeline(folder, conditioners=(StartVideo(),), num_frames=5) for _ in range(2)]
    here, away = (
        edit(pipe, source, PROMPT, mask=mask, settings=EditSettings(), seed=4).video.frames
        for pipe in (pipes[0], there(pipes[1]))
    )
    assert farthest(away, here) <= 1


def test_images_are_read_there(device: torch.device) -> None:
    encoder, image = random_module(VISION), torch.rand(1, 3, 20, 30) * 2 - 1
    wanted = image_features(encoder, image)
    found = image_features(encoder.to(device), image.to(device))
    assert torch.allclose(found.cpu(), wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["autoencoder", "text", "transformer"])
def test_a_step_of_training_is_that_of_the_cpu(tmp_path: Path, device: torch.device, name: str) -> None:
    plan = tiny_plan()
    tokenizer = prepare_tokenizer(plan, tmp_path)
    if name == "autoencoder":
        stage: Any = AutoencoderStage(some(plan.autoencoder))
    elif name == "text":
        stage = TextStage(plan.text, tokenizer)
    else:
        codec, encoder = of_type(VAE, plan.recipe.codec.build()).eval(), plan.recipe.text.build().eval()
        stage = TransformerStage(plan.transformer, FrozenParts(codec=codec, tokenizer=tokenizer, text_encoder=encoder))
    other = deepcopy(stage)
    found = [_gradients(stage, torch.device("cpu"), plan), _gradients(other, device, plan)]
    assert found[0] and all(torch.allclose(*pair, atol=1e-4) for pair in zip(*found, strict=True))


def _gradients(stage: Any, device: torch.device, plan: Any) -> list[Tensor]:
    """Step as gradients are clipped. The optimizer's own kernel knows real devices only."""
    learner = Learner(stage.modules().to(device), plan.transformer_training, SingleProcess())
    learner.gradients([stage.loss(moved(stage.batch(1), device))])
    learner.clipped()
    return [each.grad.detach().cpu() for each in stage.modules().parameters() if each.grad is not None]


def _material(name: str, value: Any) -> Any:
    if isinstance(value, str | float):
        return value
    if isinstance(value, list):
        return [_noise(1, 32, 32)[0]]
    if name == "mask":
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, 8:20] = 255
        return mask
    return _noise(5, 32, 32) if name == "video" else _noise(1, 32, 32)[0]


def _noise(frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


class Apple(TorchFunctionMode):
    """Tensors on mps, of those dtypes that the macOS there has."""

    def __init__(self, dtypes: tuple[torch.dtype, ...]) -> None:
        super().__init__()
        self.dtypes = dtypes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if torch.device(given.get("device", "cpu")).type == "mps":
            if given.get("dtype") not in self.dtypes:
                raise TypeError("BFloat16 is not supported on MPS")
            given["device"] = "cpu"
        return func(*args, **given)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_auto_says_that_it_takes_apple_s_gpu_and_asks_for_what_it_has(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with Apple((dtype,)):
        with pytest.warns(UserWarning, match="takes mps"):
            machine = choose_machine("auto", "auto")
        assert (machine.device.type, machine.dtype) == ("mps", dtype)
        assert choose_machine("mps", "float16").dtype == torch.float16
        assert choose_machine("cpu", "auto").dtype == torch.float32
