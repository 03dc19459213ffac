"""Options of the model that is loaded, and of the machine that it runs on; see `kinoform.cli.option_groups`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from kinoform.cli import console
from kinoform.cli.model_files import model_of
from kinoform.cli.options import (
    DEVICES,
    DTYPES,
    FEW_STEP,
    MODEL,
    MODELS,
    PATH_SETTING,
    SETTING,
    VARIANTS,
    Setting,
    model_names,
    one_of,
    option,
    words_of,
)
from kinoform.cli.values import files_of, lora_of, recipe_named

if TYPE_CHECKING:
    from kinoform.pipelines.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """The device that works, and the dtype of its numbers; None where a command finds these itself."""

    dtype: Annotated[
        str | None, option(MODEL, "auto, float32, bfloat16 or float16.", complete=one_of(DTYPES)), SETTING
    ] = "auto"
    device: Annotated[str | None, option(MODEL, "auto, cpu, cuda or mps.", complete=one_of(DEVICES)), SETTING] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """The model that is loaded; `kinoform.load` finds what is None, and the command `model`."""

    model: Annotated[
        str | None,
        option(
            MODEL,
            f"{', '.join(MODELS)}, a folder or a file of weights; two experts as high=FILE and low=FILE.",
            complete=model_names,
        ),
        PATH_SETTING,
    ] = "mini"
    recipe: Annotated[
        str | None,
        option(
            MODEL,
            "A few-step recipe, such as lightx2v-4step; to train, an input such as vace or reference; or "
            "module:function that returns a Recipe: my_idea:video.",
            complete=one_of(FEW_STEP),
        ),
        Setting(in_file=False),
    ] = None
    text_encoder: Annotated[str | None, option(MODEL, "A file, where --model is a single file."), PATH_SETTING] = None
    vae: Annotated[str | None, option(MODEL, "The same for the autoencoder."), PATH_SETTING] = None
    tokenizer: Annotated[str | None, option(MODEL, "A tokenizer.json, spiece.model or their folder."), PATH_SETTING] = (
        None
    )
    image_encoder: Annotated[str | None, option(MODEL, "The same for the encoder of images."), PATH_SETTING] = None
    variant: Annotated[
        str | None, option(MODEL, "Which released model the weights are.", complete=one_of(VARIANTS))
    ] = None
    vace: Annotated[
        list[str] | None,
        option(MODEL, "FILE: a VACE module onto a text-to-video model; onto two experts high=FILE and low=FILE."),
    ] = None
    adapter: Annotated[
        str | None, option(MODEL, "FILE: an adapter of --model, where that is not the name in the file."), PATH_SETTING
    ] = None
    lora: Annotated[
        list[str] | None,
        option(
            MODEL,
            "[high=|low=]FILE[:STRENGTH]: a LoRA on the transformer, such as style.safetensors:0.8; repeatable. "
            "0@0-0.3,1@0.3-1 changes it during the run.",
        ),
    ] = None
    lora_ignore_unknown: Annotated[
        bool, option(MODEL, "Use a LoRA although some of its names are unknown.", "--lora-ignore-unknown")
    ] = False

    def load(self, machine: MachineOptions, keep_packed: bool | None = None) -> Pipeline:
        """Load the model, as far as that reads no weight; see `kinoform.load`, whose errors it raises."""
        # Imported here because PyTorch takes seconds, which help and completion do without.
        from kinoform.recipes.load import load

        assert self.model is not None
        parts: dict[str, Any] = {
            "text_encoder": self.text_encoder, "codec": self.vae, "tokenizer": self.tokenizer,
            "image_encoder": self.image_encoder, "variant": self.variant,
            "adapter": self.adapter, "vace": files_of("--vace", self.vace),
        }  # fmt: skip
        given = {name: value for name, value in parts.items() if value is not None}
        return load(
            model_of(self.model), recipe=recipe_named(self.recipe), loras=tuple(map(lora_of, self.lora or ())),
            ignore_unknown=self.lora_ignore_unknown, report=console.note,
            device=machine.device or "auto", dtype=machine.dtype or "auto", keep_packed=keep_packed, **given,
        )  # fmt: skip

    def words(self, machine: MachineOptions) -> list[str]:
        """The words that name the same model to `kinoform decode`, which would otherwise take the recorded one."""
        named = replace(self, model=None)
        return ["--model", str(self.model), *words_of(named), *words_of(machine, without=("dtype",))]
