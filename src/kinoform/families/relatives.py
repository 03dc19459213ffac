"""Models that stem from Wan, or are taken for it: refused by their tensors, noted by their names.

A relative of another structure is refused by name. One of a released structure loads as the model that it was made
from, and a note says which settings fit. Sources: the pages of the models.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kinoform.errors import WeightsError
from kinoform.families.family import Family, Shapes
from kinoform.families.transformer import transformer_channels
from kinoform.families.wan21 import IMAGE_TO_VIDEO

MODULES = {
    "control_adapter.": "Wan-Fun with camera control",
    "ref_conv.": "Wan-Fun with a reference image",
    "casual_audio_encoder.": "Wan2.2-S2V (speech to video)",
    "face_adapter.": "Wan2.2-Animate",
    "motion_encoder.": "Wan2.2-Animate",
    "pose_patch_embedding.": "Wan2.2-Animate",
    "audio_proj.audio_proj_glob_": "HuMo (driven by sound)",
    "audio_proj.proj1.": "MultiTalk or InfiniteTalk (driven by sound)",
    "audio_cross_attn.": "MultiTalk or InfiniteTalk (driven by sound)",
    "audio_proj.": "HuMo, MultiTalk or InfiniteTalk (driven by sound)",
    "proj_model.": "FantasyTalking (driven by sound)",
    "audio_processor.": "FantasyTalking (driven by sound)",
    "dwpose_embedding.": "UniAnimate",
    "randomref_embedding_pose.": "UniAnimate",
    "ref_adapter.": "Lynx",
    "ip_adapter.": "Lynx",
    "fps_embedding.": "SkyReels-V2 (diffusion forcing)",
    "cam_encoder.": "ReCamMaster",
    "controlnet_patch_embedding.": "Uni3C, a control network for image-to-video models",
    "controlnet_blocks.": "a control network",
}
"""Names of modules that a relative adds to Wan's, the more telling first -> the relative."""

CONTROL_CHANNELS = {32: "Wan-Fun with camera control", 48: "Wan-Fun control", 52: "Wan-Fun control of Wan 2.2"}
"""Input channels beside 16 output channels -> the relative."""

RELEASED_INPUTS = {16, 36}
"""Input channels of Wan's own text-to-video and image-to-video models beside 16 output channels."""

FUN_INPAINTING = (1536, 30)
"""(dim, layers) at which no image-to-video model was released by Wan itself."""

STRANGERS = {
    "double_blocks.0.": "Flux or HunyuanVideo",
    "single_blocks.0.": "Flux or HunyuanVideo",
    "self_attn.q_proj.": "Cosmos-Predict2, or a language model",
    "joint_blocks.0.": "Stable Diffusion 3",
    "input_blocks.0.": "Stable Diffusion",
    "transformer_blocks.0.": "LTX-Video, CogVideoX or another model",
    "text_model.encoder.layers.0.": "CLIP's text encoder",
}
"""Parts of names in models that are not Wan at all."""

MAX_LENGTH = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """Training for few steps, recognised by a pattern of names; never with classifier-free guidance.

    `recipes` are the names of the few-step recipes of its weights.
    """

    pattern: str
    name: str
    steps: int = 4
    shift: int = 5
    recipes: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """Settings as words of the command line, the recipe first."""
        settings = f"--steps {self.steps} --guidance-scale 1 --shift {self.shift}"
        return f"use --recipe {self.recipes[0]}, or {settings}" if self.recipes else f"use {settings}"

    @property
    def note(self) -> str:
        return f"made for few steps ({self.name}); {self.advice}"


LIGHTX2V = "|".join(
    (
        r"light[ _-]?x2v",
        r"wan.*lightning|lightning.*4[ _-]?steps?",
        r"(?<![a-z])seko(?![a-z])",
        r"step[ _-]?distill|wan2\.[12]-distill",
    )
)
"""Names of LightX2V's files, and those of its earlier releases."""

DISTILLATIONS = (
    Distillation(
        pattern=r"fast[ _-]?wan", name="FastWan", steps=3, shift=8, recipes=("fastwan-3step", "fastwan-3step-mlx")
    ),
    Distillation(
        pattern=r"self[ _.-]?forcing", name="Self-Forcing", recipes=("self-forcing-4step", "self-forcing-index")
    ),
    Distillation(pattern=r"caus[ _-]?vid", name="CausVid"),
    Distillation(
        pattern=rf"(?=.*flf2v)(?:.*(?:{LIGHTX2V}))", name="LightX2V", shift=16, recipes=("lightx2v-4step-flf2v",)
    ),
    Distillation(pattern=LIGHTX2V, name="LightX2V", recipes=("lightx2v-4step", "lightx2v-4step-flf2v")),
    Distillation(
        pattern=r"turbo[ _-]?diffusion|turbo[ _-]?wan|(?<![a-z])rcm(?![a-z])",
        name="rCM",
        recipes=("rcm", "rcm-i2v", "rcm-i2v-ode"),
    ),
    Distillation(pattern=r"(?<![a-z])dmd2?(?![a-z])", name="DMD"),
    Distillation(pattern=r"fusion[ _-]?i?x(?![a-z])", name="FusionX", steps=8),
    Distillation(pattern=r"distill", name="a distilled model"),
)
STEPS = re.compile(r"(?<![a-z\d])(\d{1,2})[ _.-]?steps?(?![a-z])(?![ _.-]?\d)")
"""A number of steps in a name, but not that of a training: step_4000."""

MAX_STEPS = 16

NAMED = {
    r"phantom": "Phantom, which takes images of its subjects; here it is a text-to-video model without them",
    r"wan.*fun.*inp(?![a-z])": "Wan-Fun InP, trained on frames anywhere; here it is used as Wan's own",
    r"magref": "MAGREF, which takes images of several subjects; here it is an image-to-video model of one",
    r"sky[ _-]?reels": "SkyReels, made for 24 frames a second: --fps 24",
    r"bind[ _-]?weave": "BindWeave, which takes images of its subjects; here it is used without them",
    r"echo[ _-]?shot": "EchoShot, which takes a prompt a shot; here it is used with one",
    r"(?<![a-z])ati(?![a-z])": "ATI, which takes paths of points; here it is an image-to-video model without them",
    r"wan[ _-]?move": "Wan-Move, which takes paths of points; here it is an image-to-video model without them",
    r"re[ _-]?cam[ _-]?master": "ReCamMaster, which takes a video and a camera; here it is used without them",
    r"uni[ _-]?animate": "UniAnimate, which takes poses; here it is used without them",
}
"""Patterns of names -> the model, where its structure is that of a released one."""


def check_relative(path: Path, family: Family | None, shapes: Shapes, names: Iterable[str]) -> None:
    """Check that a transformer with these names and own shapes is built as a released one. Raises WeightsError."""
    if (relative := _marked(names, MODULES)) is not None:
        raise _refused(path, f"is {MODULES[relative]}")
    read, made = transformer_channels(shapes)
    if family is None:
        model = CONTROL_CHANNELS.get(read) if made == 16 else None
        like = f" ({model})" if model else ""
        raise _refused(path, f"reads {read} channels and makes {made}{like}")
    if (read, made) != family.channels:
        raise _refused(path, f"reads {read} channels and makes {made}, though built like {family.name}")
    if family is IMAGE_TO_VIDEO and (shapes.by_name["patch_embedding.weight"][0], shapes.layers()) == FUN_INPAINTING:
        raise _refused(path, "is Wan-Fun-1.3B-InP")


def control_of(channels: int) -> str:
    """The relative that reads so many channels, for a sentence."""
    return CONTROL_CHANNELS.get(channels, "no released model")


def stranger(names: Iterable[str]) -> str:
    """The model of another kind that the names are of; empty where none is known."""
    held = tuple(names)
    mark = _marked(held, STRANGERS)
    if mark is None:  # trainers of the kohya kind write _ for dots
        kohya = [name.partition("_unet_")[2].lstrip("_") for name in held if name.startswith("lora_unet_")]
        mark = next((mark for mark in STRANGERS if any(mark.replace(".", "_") in name for name in kohya)), None)
    return "" if mark is None else STRANGERS[mark]


def module_of(name: str) -> str | None:
    """The relative whose module, beside those of Wan's own models, a name is of."""
    mark = _marked((f"{name}.",), MODULES)
    return None if mark is None else MODULES[mark]


def is_module(names: Iterable[str]) -> bool:
    """Return whether the names are those of a module that stands beside a Wan model, and has a file of its own."""
    return _marked(names, MODULES) is not None


def not_wan(path: Path, names: Mapping[str, object]) -> WeightsError:
    """The refusal of a file that holds no part of a Wan model."""
    if model := stranger(names):
        return WeightsError(
            f"{path} holds {model}, no part of a Wan model; get the file of a Wan model",
            code="weights_unsupported_model",
        )
    if (mark := _marked(names, MODULES)) is not None:
        return WeightsError(
            f"{path} is a module of {MODULES[mark]} alone; kinoform makes no videos with it",
            code="weights_module_alone",
        )
    shown = ", ".join(repr(name[:MAX_LENGTH]) for name in list(names)[:2])
    return WeightsError(
        f"{path} holds no part of a Wan model: its names begin with {shown}; check which file this is",
        code="weights_unsupported_model",
    )


def notes_on_names(names: Iterable[str]) -> tuple[str, ...]:
    """Write sentences about the settings and inputs that the names of a model or a LoRA call for; none for most."""
    text = " ".join(names).lower()
    relatives = [relative for pattern, relative in NAMED.items() if re.search(pattern, text)]
    known = distillation_of(text)
    few_steps = [] if known is None else [known.note]
    return tuple(f"by its name this is {description}" for description in (*few_steps, *relatives))


def distillation_of(name: str) -> Distillation | None:
    """Return the training for few steps that a name tells, with the number of steps that it says; None for most."""
    text = name.lower()
    number = next((int(digits) for digits in STEPS.findall(text) if 1 <= int(digits) <= MAX_STEPS), None)
    known = next((item for item in DISTILLATIONS if re.search(item.pattern, text)), None)
    if known is None:
        return None if number is None else Distillation(pattern="", name=f"{number} steps", steps=number)
    return replace(known, steps=number or known.steps)


def _marked(names: Iterable[str], marks: Iterable[str]) -> str | None:
    """The first of the marks that stands at the beginning of a name, or behind a dot in it."""
    dotted = tuple(f".{name}" for name in names)
    return next((mark for mark in marks if any(f".{mark}" in name for name in dotted)), None)


def _refused(path: Path, fault: str) -> WeightsError:
    return WeightsError(
        f"{path} {fault}, a relative of Wan that kinoform does not know; get a released Wan model",
        code="weights_unsupported_model",
    )
