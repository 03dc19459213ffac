"""A whole model travels to diffusers' WanPipeline, makes the same video there, and what that saves loads here.

diffusers' own schedulers walk other noise levels than the official ones (its UniPC begins at sigma 1 - 1e-6
and ends at 1/1000 before the shift, the official one goes from 0.999 to 0), which under guidance makes another
video of the same seed: 0.3 of the RMS on random models. So its scheduler is replaced by one that holds
kinoform's levels and solver; the network, the guidance, the loop and the autoencoder are all diffusers'.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinoform.cli.app import main
from kinoform.conversion.convert import Conversion, convert
from kinoform.loading.lora import attach_file, parameter_shapes
from kinoform.loading.lora_file import open_lora
from kinoform.loading.parts import Parts, released_parts
from kinoform.models.codec import decode_video
from kinoform.models.dit import DiT
from kinoform.models.text import text_features
from kinoform.pipelines.generate import text_field
from kinoform.solvers.base import Solver, sample
from kinoform.solvers.dpmpp import DPMSolver
from kinoform.solvers.unipc import UniPC
from kinoform.types import Latents, Level, Velocity
from tests.conformance.against_diffusers import with_exact_times
from tests.support.narrowing import of_type, some
from tests.support.official_folder import tiny_modules, write_official_folder

WHY = "the judge, {}, is not installed: pip install 'kinoform[conformance]'"
diffusers: Any = pytest.importorskip("diffusers", reason=WHY.format("diffusers"))
pytest.importorskip("transformers", reason=WHY.format("transformers"))

CPU = torch.device("cpu")
CLIPS = Path(__file__).parents[2] / "examples" / "clips"
STEPS, SHIFT, GUIDANCE, ROWS = 4, 5.0, 5.0, 512
PROMPTS = ["a red cat runs slowly", "the blue dog"]
FRAMES = 1e-4
"""Of the range of a pixel, 0 to 1."""


class OurScheduler:
    """A scheduler as pipelines of diffusers use it, that takes kinoform's steps at kinoform's levels."""

    order = 1
    init_noise_sigma = 1.0
    config = SimpleNamespace(num_train_timesteps=1000)

    def __init__(self, solver: Solver) -> None:
        self.solver, self.levels = solver, solver.levels(STEPS, SHIFT)
        self.timesteps = torch.tensor([level.timestep for level in self.levels[:-1]])
        self.sigmas = torch.tensor([level.sigma for level in self.levels])
        self.state: Any = None
        self.index = 0

    def set_timesteps(self, steps: int, device: torch.device | None = None) -> None:
        assert steps == STEPS
        self.state, self.index = None, 0

    def set_begin_index(self, index: int) -> None:
        assert index == 0

    def step(self, velocity: Tensor, timestep: Tensor, x: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert timestep == self.timesteps[self.index]

        def given(asked: Latents, level: Level) -> Velocity:
            assert torch.equal(asked, x) and level == self.levels[self.index], "asked once, where diffusers was"
            return velocity

        state = self.solver.init(x) if self.state is None else self.state
        self.state = self.solver.step(state, given, self.levels, self.index)
        self.index += 1
        return (self.state.x,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("diffusers")
    write_official_folder(place / "official")
    convert(
        place / "official",
        place / "theirs",
        Conversion(to="diffusers", dtype=torch.float32, shard_bytes=100_000),
    )
    return place / "theirs"


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    loaded = diffusers.WanPipeline.from_pretrained(folder)
    with_exact_times(loaded.transformer)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@torch.inference_mode()
def test_prompts_are_read_alike(folder: Path, pipeline: Any) -> None:
    rows = rows_of(released_parts(folder))
    told = pipeline.encode_prompt(PROMPTS[0], PROMPTS[1], max_sequence_length=ROWS)
    for ours, theirs in zip(rows, told, strict=True):
        assert ours.shape == theirs.shape and (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("solver", [UniPC(), DPMSolver()], ids=["unipc", "dpm++"])
def test_the_video_is_the_same(solver: Solver, folder: Path, pipeline: Any) -> None:
    parts = released_parts(folder)
    assert greatest_difference(parts.transformer(torch.float32, CPU), solver, parts, pipeline) < FRAMES


def test_what_a_training_saved_makes_the_same_video(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: Any
) -> None:
    pytest.importorskip("peft", reason="diffusers needs peft to load a LoRA: pip install peft")
    words = [
        "kinoform", "train", "lora", str(CLIPS), "--model", str(folder), "--run", str(tmp_path),
        "--learning-rate", "3e-2", "--clip-size", "48x32", "--clip-frames", "9", "--dtype", "float32", "--no-cache",
        "--batch-size", "2", "--sample-every", "0", "--training-steps", "3",
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    parts = released_parts(folder)
    base = parts.transformer(torch.float32, CPU)
    pipeline.load_lora_weights(str(tmp_path / "lora.safetensors"), adapter_name="learnt")
    try:
        assert greatest_difference(base, UniPC(), parts, pipeline) > 100 * FRAMES, "what was learnt shows"
        learnt = attach_file(base, open_lora(tmp_path / "lora.safetensors", parameter_shapes(base)), 1.0)
        assert greatest_difference(learnt, UniPC(), parts, pipeline) < FRAMES
    finally:
        pipeline.unload_lora_weights()


@torch.inference_mode()
def greatest_difference(model: DiT, solver: Solver, parts: Parts, pipeline: Any) -> float:
    """Make a video by both, and return the greatest difference of two pixels from 0 to 1."""
    rows = rows_of(parts)
    noise = torch.randn(1, 16, 3, 4, 6, generator=torch.Generator().manual_seed(7))
    field = text_field(model, rows, noise, GUIDANCE)
    *_, last = sample(solver, field, noise, solver.levels(STEPS, SHIFT))
    ours = torch.cat(list(decode_video(parts.codec(CPU), last.x)), dim=2).clamp(-1, 1) / 2 + 0.5
    pipeline.scheduler = OurScheduler(solver)
    theirs = pipeline(
        prompt_embeds=rows[0], negative_prompt_embeds=rows[1], latents=noise, num_inference_steps=STEPS,
        guidance_scale=GUIDANCE, height=32, width=48, num_frames=9, output_type="pt",
    ).frames  # fmt: skip
    assert ours.std() > 0.01, "the video shows something"
    found = (ours.transpose(1, 2) - theirs).abs().max().item()
    print(f"frames {found:.1e}")
    return found


def test_what_diffusers_saves_loads_bit_equal(folder: Path, pipeline: Any, tmp_path: Path) -> None:
    diffusers.WanPipeline.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    parts, source = released_parts(tmp_path / "saved"), tiny_modules()
    expected = {name: value.bfloat16().float() for name, value in source.text_encoder.state_dict().items()}
    for loaded, weights in (
        (parts.transformer(torch.float32, CPU), source.transformer.state_dict()),
        (parts.codec(CPU), some(source.autoencoder).state_dict()),
        (parts.text_encoder(torch.float32, CPU), expected),
    ):
        assert of_type(nn.Module, loaded).state_dict().keys() == weights.keys()
        assert all(torch.equal(value, weights[name]) for name, value in of_type(nn.Module, loaded).state_dict().items())
    assert parts.tokenizer()(PROMPTS, 9).mask.sum(1).tolist() == [6, 4]


def test_the_scheduler_is_the_one_for_flows(folder: Path) -> None:
    config = diffusers.UniPCMultistepScheduler.from_pretrained(folder, subfolder="scheduler").config
    assert (config.prediction_type, config.use_flow_sigmas, config.flow_shift) == ("flow_prediction", True, SHIFT)


def rows_of(parts: Parts) -> tuple[Tensor, Tensor]:
    """Of both prompts, zero after their true length, as many as the models are trained with."""
    encoder = parts.text_encoder(torch.float32, CPU)
    positive, negative = (text_features(parts.tokenizer(), encoder, [prompt]) for prompt in PROMPTS)
    return positive, negative
