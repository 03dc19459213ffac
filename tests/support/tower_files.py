"""Tiny vision towers with random weights, as the official code, transformers and OpenCLIP store them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kinoform.checkpoints.files import Checkpoint
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.reader import HeaderReader
from kinoform.families.clip import CLIP, separated
from kinoform.families.clip import OFFICIAL_NAMES as IMAGE_ENCODER
from kinoform.families.names import Names
from kinoform.loading.detect import detect_part
from kinoform.loading.load import load_module
from kinoform.loading.sources import Opening, Overrides, PartFile
from kinoform.models.vision import VisionEncoder, VisionSpec


def checkpoint_of(tensors: Mapping[str, Tensor]) -> Checkpoint:
    """Tensors of a tower as if a file held them, taken apart as kinoform reads them."""
    path = Path("tower.safetensors")
    stored = {
        name: Stored(shape=tuple(value.shape), dtype=value.dtype, file=path, read=value.clone)
        for name, value in tensors.items()
    }
    return separated(Checkpoint(path=path, tensors=stored))


def tower_of(spec: VisionSpec, tensors: Mapping[str, Tensor]) -> VisionEncoder:
    """The encoder with these tensors of `official_tower`, in float32."""
    held = checkpoint_of({name.removeprefix("visual."): value for name, value in tensors.items()})
    return _loaded(spec, held, IMAGE_ENCODER)


def opened_tower(file: Path) -> PartFile:
    """A file with a vision tower, opened as for a load."""
    return detect_part(file, "image_encoder", Opening(reader=HeaderReader(), overrides=Overrides()))


def source_tower(spec: VisionSpec, source: PartFile) -> VisionEncoder:
    """The encoder of a file."""
    return _loaded(spec, source.checkpoint(), source.names)


def _loaded(spec: VisionSpec, checkpoint: Checkpoint, names: Names) -> VisionEncoder:
    return load_module(
        spec.build,
        checkpoint,
        names=names,
        dtype_of=lambda name: torch.float32,
        device=torch.device("cpu"),
        unused=(*CLIP.unread(spec), "embeddings.position_ids", "visual_projection.*"),
    )


def official_tower(*, dim: int, layers: int, image: int, patch: int = 14, seed: int = 0) -> dict[str, Tensor]:
    """Every tensor of the official visual half with `layers` blocks, under its prefix."""
    draw = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        return torch.randn(shape, generator=draw) * scale + shift

    found = {
        "cls_embedding": noise(1, 1, dim, scale=0.5),
        "pos_embedding": noise(1, 1 + (image // patch) ** 2, dim, scale=0.5),
        "head": noise(dim, 5),
        "patch_embedding.weight": noise(dim, 3, patch, patch, scale=(3 * patch * patch) ** -0.5),
    }
    norms = ["pre_norm", "post_norm", *(f"transformer.{n}.norm{i}" for n in range(layers) for i in (1, 2))]
    for name in norms:
        found |= {f"{name}.weight": noise(dim, scale=0.2, shift=1.0), f"{name}.bias": noise(dim, scale=0.2)}
    for layer in range(layers):
        for name, out, into in (
            ("attn.to_qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.0", 4 * dim, dim),
            ("mlp.2", dim, 4 * dim),
        ):
            start = f"transformer.{layer}.{name}"
            found |= {f"{start}.weight": noise(out, into, scale=into**-0.5), f"{start}.bias": noise(out, scale=0.2)}
    return {f"visual.{name}": value for name, value in found.items()}
