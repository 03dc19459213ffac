"""Models that stem from Wan or are taken for it, known by what only they have; named and refused."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families.family import Family, Shapes
from kinoform.families.transformer import channels
from kinoform.families.wan21 import IMAGE_TO_VIDEO

MARKS = {
    "control_adapter.": "Wan-Fun with camera control",
    "ref_conv.": "Wan-Fun with a reference image",
    "casual_audio_encoder.": "Wan2.2-S2V (speech to video)",
    "face_adapter.": "Wan2.2-Animate",
    "motion_encoder.": "Wan2.2-Animate",
    "audio_proj.audio_proj_glob_": "HuMo (driven by sound)",
    "audio_proj.proj1.": "MultiTalk or InfiniteTalk (driven by sound)",
    "blocks.0.audio_cross_attn.": "MultiTalk, InfiniteTalk or another model driven by sound",
    "audio_proj.": "HuMo or another model driven by sound",
    "pose_patch_embedding.": "Wan2.2-Animate",
    "dwpose_embedding.": "UniAnimate",
    "blocks.0.self_attn.ref_adapter.": "Lynx",
    "blocks.0.cross_attn.ip_adapter.": "Lynx",
    "fps_embedding.": "SkyReels-V2 (diffusion forcing)",
    "blocks.0.cam_encoder.": "ReCamMaster",
}
"""Beginnings of names -> the model."""

CONTROL_CHANNELS = {32: "Wan-Fun with camera control", 48: "Wan-Fun control"}
"""Input channels beside 16 output channels -> the model."""

FUN_INPAINTING = (1536, 30)
"""(dim, layers) at which no image-to-video model was released by Wan itself."""

MODULES = {
    "vace_blocks.": "the VACE module of a text-to-video model",
    "vace_patch_embedding.": "the VACE module of a text-to-video model",
    "controlnet_patch_embedding.": "Uni3C, a control network for image-to-video models",
    "controlnet_blocks.": "a control network",
    "audio_proj.audio_proj_glob_": "the module of HuMo, which listens",
    "audio_proj.": "the module of MultiTalk or InfiniteTalk, which listens",
    "blocks.0.audio_cross_attn.": "the module of MultiTalk or InfiniteTalk, which listens",
    "proj_model.": "the module of FantasyTalking, which listens",
    "audio_processor.": "the module of FantasyTalking, which listens",
    "control_adapter.": "the camera adapter of Wan-Fun",
    "ref_conv.": "the reference adapter of Wan-Fun",
    "face_adapter.": "a module of Wan2.2-Animate",
    "motion_encoder.": "a module of Wan2.2-Animate",
    "casual_audio_encoder.": "a module of Wan2.2-S2V",
    "dwpose_embedding.": "the pose module of UniAnimate",
    "randomref_embedding_pose.": "the pose module of UniAnimate",
    "ref_adapter.": "the module of Lynx",
    "ip_adapter.": "the module of Lynx",
    "cam_encoder.": "the camera module of ReCamMaster",
}
"""Marks somewhere in the names of files that hold only what another model adds to Wan's."""

WHOLE = {1536: "vace-1.3b", 5120: "vace-14b"}
"""Width of a VACE module -> the released model that has it in."""

OTHERS = {
    "double_blocks.0.": "Flux or HunyuanVideo",
    "joint_blocks.0.": "Stable Diffusion 3",
    "input_blocks.0.": "Stable Diffusion",
    "transformer_blocks.0.": "LTX-Video, CogVideoX or another model",
    "text_model.encoder.layers.0.": "CLIP's text encoder",
}
"""What stands somewhere in the names of models that are not Wan at all."""

SHOWN = 60


def check_relative(path: Path, family: Family | None, shapes: Shapes, names: Iterable[str]) -> None:
    """Raises WeightsError when a transformer with these names and own shapes is none of the released ones."""
    held = tuple(names)
    for mark, model in MARKS.items():
        if any(name.startswith(mark) for name in held):
            raise _refused(path, f"is {model}")
    read, made = channels(shapes)
    if family is None:
        model = CONTROL_CHANNELS.get(read) if made == 16 else None
        like = f" ({model})" if model else ""
        raise _refused(path, f"reads {read} channels and makes {made}{like}")
    if (read, made) != family.channels:
        raise _refused(path, f"reads {read} channels and makes {made}, though built like {family.name}")
    if family is IMAGE_TO_VIDEO and (shapes.by_name["patch_embedding.weight"][0], shapes.layers()) == FUN_INPAINTING:
        raise _refused(path, "is Wan-Fun-1.3B-InP")


def foreign(names: Iterable[str]) -> str:
    """The model of another family that the names are of, empty where none is known."""
    held = tuple(names)
    return next((model for mark, model in OTHERS.items() if any(mark in name for name in held)), "")


def not_wan(path: Path, names: Mapping[str, object]) -> WeightsError:
    """The refusal of a file that holds no part of a Wan model."""
    if model := foreign(names):
        return WeightsError(
            f"{path} holds {model}, no part of a Wan model; get the file of a Wan model",
            code="weights_unsupported_model",
        )
    if (module := _module(names)) is not None:
        mark, what = module
        lacks = _of_vace(names) if mark.startswith("vace_") else "kinoform makes no videos with it"
        return WeightsError(f"{path} is {what} alone: {lacks}", code="weights_module_alone")
    shown = ", ".join(repr(name[:SHOWN]) for name in list(names)[:2])
    return WeightsError(
        f"{path} holds no part of a Wan model: its names begin with {shown}; check which file this is",
        code="weights_unsupported_model",
    )


def _module(names: Iterable[str]) -> tuple[str, str] | None:
    """The mark that tells an addition to a model, and what that is; a word of a name, not the end of another."""
    held = tuple(names)
    return next(
        (
            (mark, what)
            for mark, what in MODULES.items()
            if any(name.startswith(mark) or f".{mark}" in name for name in held)
        ),
        None,
    )


def _of_vace(names: Mapping[str, object]) -> str:
    """Advice on a VACE module."""
    shapes = (getattr(each, "shape", ()) for name, each in names.items() if name.endswith("vace_patch_embedding.bias"))
    model = next((WHOLE[shape[0]] for shape in shapes if shape and shape[0] in WHOLE), WHOLE[5120])
    return (
        f"it lacks the blocks that it stands beside; take a model that has both: --model {model}, after "
        f"kinoform download {model}, or a file of the merged one"
    )


def _refused(path: Path, what: str) -> WeightsError:
    return WeightsError(
        f"{path} {what}, a relative of Wan that kinoform does not know; get a released Wan model",
        code="weights_unsupported_model",
    )
