"""The transformers of Wan 2.1. Sizes, names and facts: the released folders and their pages on the hub."""

from kinoform.families.family import Released
from kinoform.families.transformer import transformer_family

TEXT_TO_VIDEO = transformer_family(
    name="wan21-t2v",
    description="a text-to-video transformer",
    channels=(16, 16),
    model_type="t2v",
    pipelines=("WanPipeline", "WanVideoToVideoPipeline"),
    released=(
        Released(name="t2v-1.3b", hub="Wan-AI/Wan2.1-T2V-1.3B", recipes=("t2v-1.3b",), dim=1536, layers=30),
        Released(name="t2v-14b", hub="Wan-AI/Wan2.1-T2V-14B", recipes=("t2v-14b", "t2i-14b"), dim=5120, layers=40),
        Released(name="t2v-a14b-high", version="2.2", noise="high", dim=5120, layers=40),
        Released(name="t2v-a14b-low", version="2.2", noise="low", dim=5120, layers=40),
    ),
)

IMAGE_TO_VIDEO = transformer_family(
    name="wan21-i2v",
    description="an image-to-video transformer of Wan 2.1",
    channels=(36, 16),
    model_type="i2v",
    pipelines=("WanImageToVideoPipeline",),
    image=True,
    released=(
        Released(
            name="i2v-14b-480p",
            hub="Wan-AI/Wan2.1-I2V-14B-480P",
            recipes=("i2v-14b-480p",),
            height=480,
            shift=3.0,
            dim=5120,
            layers=40,
        ),
        Released(
            name="i2v-14b-720p",
            hub="Wan-AI/Wan2.1-I2V-14B-720P",
            recipes=("i2v-14b-720p",),
            height=720,
            dim=5120,
            layers=40,
        ),
    ),
)

FIRST_LAST_FRAME = transformer_family(
    name="wan21-flf2v",
    description="a first-last-frame transformer of Wan 2.1",
    channels=(36, 16),
    positions=True,
    model_type="flf2v",
    pipelines=("WanImageToVideoPipeline",),
    image=True,
    released=(
        Released(
            name="flf2v-14b",
            hub="Wan-AI/Wan2.1-FLF2V-14B-720P",
            recipes=("flf2v-14b",),
            shift=16.0,
            dim=5120,
            layers=40,
        ),
    ),
)

VACE = transformer_family(
    name="wan21-vace",
    description="a VACE transformer of Wan 2.1",
    channels=(16, 16),
    vace=True,
    model_type="vace",
    saved_by="VaceWanModel",
    class_name="WanVACETransformer3DModel",
    pipelines=("WanVACEPipeline",),
    released=(
        Released(
            name="vace-1.3b", hub="Wan-AI/Wan2.1-VACE-1.3B", recipes=("vace-1.3b",), shift=16.0, dim=1536, layers=30
        ),
        Released(name="vace-14b", hub="Wan-AI/Wan2.1-VACE-14B", recipes=("vace-14b",), shift=16.0, dim=5120, layers=40),
    ),
)
