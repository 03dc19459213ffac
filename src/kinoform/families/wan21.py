"""The transformers of Wan 2.1. Sizes, names and facts: the released folders and their pages on the hub."""

from functools import partial

from kinoform.families.family import Released, expert_pair
from kinoform.families.transformer import transformer_family

_small, _large = partial(Released, dim=1536, layers=30), partial(Released, dim=5120, layers=40)
_reading_images = partial(transformer_family, channels=(36, 16), pipelines=("WanImageToVideoPipeline",), image=True)

BERNINI = (
    _small(
        name="bernini-1.3b",
        hub="ByteDance/Bernini-R-1.3B-Diffusers",
        recipes=("bernini-1.3b",),
        version="2.2",  # so repacks call it, though Wan 2.1 is what was trained further
        tuning="bernini",
    ),
    *expert_pair(
        "bernini-a14b", dim=5120, layers=40, hub="ByteDance/Bernini-R-Diffusers", boundary=0.875, tuning="bernini"
    ),
)
"""Bernini-R, text-to-video models that were trained to edit: no tensor has another name or shape."""

TEXT_TO_VIDEO = transformer_family(
    name="wan21-t2v",
    description="a text-to-video transformer",
    channels=(16, 16),
    model_type="t2v",
    pipelines=("WanPipeline", "WanVideoToVideoPipeline"),
    released=(
        _small(name="t2v-1.3b", hub="Wan-AI/Wan2.1-T2V-1.3B", recipes=("t2v-1.3b",)),
        _large(name="t2v-14b", hub="Wan-AI/Wan2.1-T2V-14B", recipes=("t2v-14b", "t2i-14b")),
        *expert_pair("t2v-a14b", dim=5120, layers=40, hub="Wan-AI/Wan2.2-T2V-A14B", shift=12.0, boundary=0.875),
        *BERNINI,
    ),
)

IMAGE_TO_VIDEO = _reading_images(
    name="wan21-i2v",
    description="an image-to-video transformer of Wan 2.1",
    model_type="i2v",
    released=tuple(
        _large(
            name=f"i2v-14b-{height}p",
            hub=f"Wan-AI/Wan2.1-I2V-14B-{height}P",
            recipes=(f"i2v-14b-{height}p",),
            height=height,
            shift=shift,
        )
        for height, shift in ((480, 3.0), (720, 5.0))
    ),
)

FIRST_LAST_FRAME = _reading_images(
    name="wan21-flf2v",
    description="a first-last-frame transformer of Wan 2.1",
    model_type="flf2v",
    positions=True,
    released=(_large(name="flf2v-14b", hub="Wan-AI/Wan2.1-FLF2V-14B-720P", recipes=("flf2v-14b",), shift=16.0),),
)

VACE = transformer_family(
    name="wan21-vace",
    description="a VACE transformer",
    channels=(16, 16),
    vace=True,
    model_type="vace",
    saved_by=("VaceWanModel", "VaceWanTransformer3DModel"),
    class_name="WanVACETransformer3DModel",
    pipelines=("WanVACEPipeline",),
    index={},
    released=(
        _small(name="vace-1.3b", hub="Wan-AI/Wan2.1-VACE-1.3B", recipes=("vace-1.3b",), shift=16.0, base="t2v-1.3b"),
        _large(name="vace-14b", hub="Wan-AI/Wan2.1-VACE-14B", recipes=("vace-14b",), shift=16.0, base="t2v-14b"),
        *expert_pair(
            "vace-a14b",
            base="t2v-a14b",
            dim=5120,
            layers=40,
            hub="alibaba-pai/Wan2.2-VACE-Fun-A14B",
            shift=12.0,
            boundary=0.875,
        ),
    ),
)
