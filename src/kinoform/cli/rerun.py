"""`kinoform rerun`: make a video again from what it carries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kinoform.cli import console
from kinoform.cli.model_options import Chosen
from kinoform.cli.options import (
    MODEL,
    OUTPUT,
    AsJson,
    ContactSheet,
    Force,
    IgnoreUnknown,
    ImageEncoderFile,
    Loras,
    NoMetadata,
    RecipeName,
    TextEncoderFile,
    TokenizerPath,
    VAEFile,
    Variant,
    device_names,
    dtype_names,
    model_names,
)
from kinoform.errors import UsageError


def rerun(
    video: Annotated[Path, typer.Argument(help="A video or a folder of frames that kinoform saved.")],
    model: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=MODEL, help="What made it; by default the recorded name.", autocompletion=model_names
        ),
    ] = None,
    recipe: RecipeName = None,
    text_encoder: TextEncoderFile = None,
    vae: VAEFile = None,
    tokenizer: TokenizerPath = None,
    image_encoder: ImageEncoderFile = None,
    variant: Variant = None,
    lora: Loras = None,
    lora_ignore_unknown: IgnoreUnknown = False,
    device: Annotated[
        str | None,
        typer.Option(rich_help_panel=MODEL, help="By default the recorded one.", autocompletion=device_names),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(rich_help_panel=MODEL, help="By default the recorded one.", autocompletion=dtype_names),
    ] = None,
    force_model: Annotated[
        bool, typer.Option("--force-model", rich_help_panel=MODEL, help="Go on with a model of another hash.")
    ] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", rich_help_panel=OUTPUT, help="By default NAME_again, here.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    no_metadata: NoMetadata = False,
    contact_sheet: ContactSheet = False,
) -> None:
    """Make a video again from its own parameters: on the same machine, the same video."""
    # Imported here because PyTorch takes seconds, which help and completion do without.
    from kinoform.cli import remaking
    from kinoform.cli.latents import check_latents
    from kinoform.cli.output import Output, check, placed
    from kinoform.cli.write_videos import make
    from kinoform.media.metadata import read_params
    from kinoform.pipelines.recorded import find_inputs, recorded

    told = recorded(read_params(video), video)
    console.keep_private(told.prompt, str(told.asked["negative_prompt"]), str(told.conditions.get("source_prompt", "")))
    needed = {name: each for name, each in told.inputs.items() if not (lora and name in told.loras)}
    files = find_inputs(needed, (video.parent, Path()), video)
    name = placed(output, _again(video))
    with _named(video):
        chosen = Chosen(
            model=model or remaking.model_name(told), recipe=recipe, device=device or told.machine.device or "auto",
            dtype=dtype or told.dtype, text_encoder=text_encoder, vae=vae, tokenizer=tokenizer,
            image_encoder=image_encoder, variant=variant,
            loras=remaking.loras(told, files, lora or ()), ignore_unknown=lora_ignore_unknown,
        )  # fmt: skip
        pipeline = chosen.load()
        remaking.check_model(pipeline, told, forced=force_model)
        asked = remaking.request(pipeline, told, files)
        remaking.check_task(told, asked, forced=force_model)
        wishes = remaking.wishes(told, video, name)
    how = Output(
        upscale=wishes.upscale, codec=wishes.codec, crf=wishes.crf,
        force=force, metadata=not no_metadata, sheet=contact_sheet, as_json=as_json,
    )  # fmt: skip
    check(name, (asked.num_frames, asked.height, asked.width), how)
    check_latents([name], force=force)
    for difference in remaking.differences(pipeline, told):
        console.note(f"note: {difference}")
    make(pipeline, [asked], [name], how, chosen.words())


@contextmanager
def _named(video: Path) -> Iterator[None]:
    """What is refused was asked for by the video, so the sentence begins with its name."""
    try:
        yield
    except UsageError as error:
        raise UsageError(str(error) if str(video) in str(error) else f"{video}: {error}", code=error.code) from error


def _again(video: Path) -> str:
    """A name in the current folder, as that of any video that nobody named."""
    return f"{video.stem}_again{video.suffix}" if video.is_file() else f"{video.resolve().name}_again/"
