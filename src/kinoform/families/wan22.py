"""The transformers of Wan 2.2 that are built unlike those of Wan 2.1.

The experts of T2V-A14B have the structure of T2V-14B, and stand with it in wan21.py.
"""

from kinoform.families.family import Released, expert_pair
from kinoform.families.transformer import transformer_family

IMAGE_TO_VIDEO_22 = transformer_family(
    name="wan22-i2v",
    description="an image-to-video expert of Wan 2.2",
    channels=(36, 16),
    model_type="i2v",
    pipelines=("WanImageToVideoPipeline",),
    released=expert_pair("i2v-a14b", dim=5120, layers=40, hub="Wan-AI/Wan2.2-I2V-A14B", boundary=0.9),
)

TEXT_IMAGE_TO_VIDEO = transformer_family(
    name="wan22-ti2v",
    description="the TI2V-5B transformer of Wan 2.2",
    channels=(48, 48),
    model_type="ti2v",
    pipelines=("WanPipeline", "WanImageToVideoPipeline"),
    index={"expand_timesteps": True},
    released=(
        Released(
            name="ti2v-5b",
            dim=3072,
            layers=30,
            hub="Wan-AI/Wan2.2-TI2V-5B",
            recipes=("ti2v-5b",),
            version="2.2",
        ),
    ),
)
