"""Eight-bit numbers are made wider to the very bits that PyTorch makes of them."""

import pytest
import torch

from kinoform.checkpoints.fp8 import Scaled
from kinoform.ops.fp8 import PORTION, widened

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}


@pytest.mark.parametrize("wide", BITS)
@pytest.mark.parametrize("dtype", [E4M3, E5M2])
def test_all_256_codes_become_the_bits_that_a_cast_gives(dtype: torch.dtype, wide: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(dtype)
    found = widened(codes, wide)
    assert found.dtype == wide and torch.equal(found.view(BITS[wide]), codes.to(wide).view(BITS[wide]))
    nan = [0x7F, 0xFF] if dtype == E4M3 else [*range(0x7D, 0x80), *range(0xFD, 0x100)]
    assert found.isnan().nonzero().flatten().tolist() == nan


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7, PORTION // 2 + 1), (2, 3, 1, 5)])
def test_any_shape_and_stride(shape: tuple[int, ...]) -> None:
    codes = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).view(E4M3)
    assert torch.equal(widened(codes).view(torch.int32), codes.float().view(torch.int32))
    turned = codes.movedim(0, -1) if codes.dim() > 1 else codes[..., ::2] if codes.dim() else codes
    assert torch.equal(widened(turned).contiguous().view(torch.int32), turned.float().contiguous().view(torch.int32))


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
def test_rows_with_their_scales_are_unpacked_to_the_same_bits(dtype: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.uint8).repeat(3).view(6, 128)
    scales = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    rows = torch.cat([codes, scales.view(torch.uint8)], dim=1)
    expected = codes.view(dtype).float() * scales.repeat_interleave(32, dim=1)
    found = Scaled(dtype=dtype, columns=128).unpack(rows)
    assert torch.equal(found.view(torch.int32), expected.view(torch.int32))
