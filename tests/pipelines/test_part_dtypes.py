"""Each part computes in the dtype that suits it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinoform.models.vision import VisionEncoder
from kinoform.pipelines.part_cache import PartEncoders
from tests.conditions.in_hand import VISION, random_module
from tests.models.recorded import gap
from tests.support.other_device import THERE
from tests.support.tiny_recipe import tiny_pipeline, write_tiny_folder

CPU = torch.device("cpu")
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("device", "dtype", "wanted"),
    [(THERE, BRAIN, HALF), (THERE, HALF, HALF), (THERE, FULL, FULL), (CPU, BRAIN, BRAIN), (CPU, FULL, FULL)],
)
def test_images_are_read_in_float16_on_accelerators(
    tmp_path: Path, device: torch.device, dtype: torch.dtype, wanted: torch.dtype
) -> None:
    asked = []

    def load(dtype: torch.dtype, device: torch.device) -> VisionEncoder:
        asked.append((dtype, device))
        return random_module(VISION)

    parts = replace(tiny_pipeline(write_tiny_folder(tmp_path / "tiny")).parts, image_encoder=load)
    PartEncoders(parts, device, dtype).image()
    assert asked == [(wanted, device)]


def test_float16_is_nearer() -> None:
    tower, pixels = random_module(VISION), torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    wanted = tower(pixels)
    off = {dtype: gap(random_module(VISION).to(dtype)(pixels), wanted) for dtype in (BRAIN, HALF)}
    assert off[HALF] < off[BRAIN] / 4
