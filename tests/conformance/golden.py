"""Golden files: tensors recorded from the official code on tiny random weights, and how near is near enough."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

DEFAULT_FOLDER = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One golden file: `inputs`, `outputs` (out.* and mid.* with their prefix) and `weights` by official name."""

    name: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How far an output may lie from the recorded one: relative to its RMS, absolute, or not at all (0)."""

    value: float
    absolute: bool = False


def golden_files() -> list[Path]:
    """Every golden file in the folders of KINOFORM_GOLDEN (separated as in PATH), or in tests/golden."""
    folders = os.environ.get("KINOFORM_GOLDEN", str(DEFAULT_FOLDER)).split(os.pathsep)
    return sorted(path for folder in folders for path in Path(folder).glob("*.safetensors"))


def read(path: Path) -> Golden:
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["golden"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return Golden(
        name=about["name"],
        config=about["config"],
        inputs={key[3:]: value for key, value in tensors.items() if key.startswith("in.")},
        outputs={key: value for key, value in tensors.items() if key.startswith(("out.", "mid."))},
        weights={key[8:]: value for key, value in tensors.items() if key.startswith("weights.")},
    )


# Of resized pixels exactness is that of the kernels of x86, which all agree; others round their sums elsewhere.
_X86 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")

# The conformance README's table, row by row: (file, tensor, bound). The first match holds.
_EXACT, _FINE, _UNIT = Bound(value=0.0), Bound(value=2e-6), Bound(value=1e-6, absolute=True)
BOUNDS: tuple[tuple[str, str, Bound], ...] = (
    ("primitives", r"out\.(rope\d+\.angles|sinusoidal\d+)", _UNIT),
    ("primitives", r"out\..*", _FINE),
    ("solvers_.*", r"out\..*\.sigmas", _UNIT),
    ("solvers_.*", r"out\..*\.timesteps", _EXACT),
    ("solvers_.*", r"out\..*\.x", Bound(value=1e-5)),
    ("guidance_rules", r"out\.slg\.active", _EXACT),
    ("guidance_rules", r"out\.tcfg", Bound(value=2e-5)),
    ("guidance_rules|bernini_guidance", r"(out|mid)\..*", Bound(value=1e-5)),
    ("bernini_inputs", r"out\.(sizes|frames)\..*", _EXACT),
    ("bernini_inputs", r"out\.pixels\d+", _UNIT),
    ("bernini_sampling", r"out\.sigmas", _UNIT),
    ("bernini_sampling", r"out\..*\.(timesteps|expert)", _EXACT),
    ("bernini_sampling", r"out\..*\.(x|v)", Bound(value=1e-4)),
    ("bernini_forward", r"(out\.rotation\d+|mid\.rope)\..*", _UNIT),
    ("bernini_forward", r"mid\.tokens\..*", Bound(value=5e-6)),
    ("bernini_forward", r"out\..*", Bound(value=2e-5)),
    ("dit.*", r"mid\.time_embedding", Bound(value=1e-5)),
    ("dit.*", r"(out|mid)\..*", Bound(value=2e-5)),
    ("vae.*", r"out\..*", Bound(value=5e-5)),
    ("t5_encoder", r"out\..*", Bound(value=2e-5)),
    ("clip_visual", r"out\.pixels\d", Bound(value=5e-6)),
    ("clip_visual", r"out\.features\d", Bound(value=2e-5)),
    ("sampling.*", r"out\..*\.(timesteps|expert|guide|times)|out\.(table|sizes)\..*", _EXACT),
    ("sampling.*", r"(out|mid)\..*\.(x|v|v_cond|v_uncond|start)", Bound(value=1e-4)),
    ("pipeline22_.*", r"out\.(size\d+|sizes\..*|times\d+)", _EXACT),
    ("pipeline22_i2v", r"out\.resized\d+", _EXACT if _X86 else _UNIT),
    ("pipeline22_ti2v", r"out\.pixels\d+", Bound(value=1e-5)),
    ("pipeline22_.*", r"out\.(y|z|start)\d+", Bound(value=5e-5)),
    ("few_step", r"out\..*\.(expert|phase|t_bf16)|out\.(fastwan\.raw|lightx2v_index)\.timesteps", _EXACT),
    ("few_step", r"out\..*\.sigmas", _UNIT),
    ("few_step", r"out\..*\.(timesteps|levels)", Bound(value=1e-6)),
    ("few_step", r"out\..*\.(x|x0|x_in|pred)", Bound(value=1e-5)),
)


def bound_of(name: str, tensor: str) -> Bound:
    for file, pattern, bound in BOUNDS:
        if re.fullmatch(file, name) and re.fullmatch(pattern, tensor):
            return bound
    raise KeyError(f"no bound for {tensor} of {name}: add its row to BOUNDS")


def distance(ours: Tensor, theirs: Tensor, bound: Bound) -> float:
    """The largest difference in the bound's own unit; infinite where shapes differ or a value is not finite."""
    if ours.shape != theirs.shape or not torch.isfinite(ours.double()).all():
        return float("inf")
    gap = (ours.double() - theirs.double()).abs().max().item()
    if bound.absolute or bound.value == 0:
        return gap
    return gap / theirs.double().square().mean().sqrt().item()
