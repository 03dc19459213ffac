"""`kinoform convert`: the same weights in another layout."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinoform.cli import console
from kinoform.cli.model_options import ModelOptions
from kinoform.cli.option_groups import OutputOptions
from kinoform.cli.options import OUTPUT, command, option, varied
from kinoform.cli.progress import MB, megabytes
from kinoform.cli.values import lora_of
from kinoform.errors import UsageError, nearest

if TYPE_CHECKING:
    from kinoform.conversion.convert import ConversionResult

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(GB|MB|kB)?", re.IGNORECASE)
UNITS = {"gb": 1_000_000_000, "mb": 1_000_000, "kb": 1000, "": 1}


@command
def convert(
    source: Annotated[
        Path, typer.Argument(help="A file or folder of weights, in any layout, or an adapter.", metavar="IN")
    ],
    target: Annotated[Path, typer.Argument(help="A folder; for one part also a .safetensors file.", metavar="OUT")],
    to: Annotated[str | None, option(OUTPUT, "official, diffusers, comfy, kinoform or factorized.")] = None,
    format: Annotated[str | None, option(OUTPUT, "Of a LoRA file or an adapter: comfy, diffusers or kohya.")] = None,
    dtype: Annotated[str | None, option(OUTPUT, "bfloat16, float16 or float32; else as stored.")] = None,
    shard_size: Annotated[str | None, option(OUTPUT, "Largest weight file, such as 5GB; else one a part.")] = None,
    prefix: Annotated[str, option(OUTPUT, "For comfy: what stands before the transformer's names.")] = "",
    recipe: Annotated[str | None, option(OUTPUT, "For kinoform: module:function that describes the model.")] = None,
    *,
    model: Annotated[
        ModelOptions,
        varied(
            only=("variant", "lora", "lora_ignore_unknown"),
            help={"lora": "[high=|low=]FILE[:STRENGTH]: a LoRA to merge into the transformer; repeatable."},
        ),
    ],
    output: Annotated[OutputOptions, varied(only=("force", "as_json"))],
) -> None:
    """Write weights in another layout, tensor by tensor. Numbers stay as they are unless --dtype says otherwise."""
    from kinoform.conversion.convert import Conversion, convert_lora
    from kinoform.conversion.convert import convert as write
    from kinoform.conversion.layouts import target_named
    from kinoform.pipelines.machine import DTYPES
    from kinoform.recipe import find

    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"no dtype {dtype!r}; {nearest(dtype, DTYPES)}", code="unknown_dtype")
    numbers = None if dtype is None else DTYPES[dtype]
    if (to is None) is (format is None):
        raise UsageError(
            "a model is converted by --to, a LoRA file or an adapter by --format; give one of the two",
            code="options_conflict",
        )
    if format is not None:
        given = {"--shard-size": shard_size, "--prefix": prefix, "--recipe": recipe, "--lora": model.lora,
                 "--variant": model.variant}  # fmt: skip
        if others := [name for name, value in given.items() if value]:
            raise UsageError(f"a LoRA file has no {others[0]}; leave it out", code="options_conflict")
        with megabytes("write", "writing") as on_bytes:
            done = convert_lora(source, target, format, dtype=numbers, force=output.force, tell=on_bytes)
        _tell(done, target, format, as_json=output.as_json)
        return
    assert to is not None
    if recipe is not None:
        find(recipe)  # a folder that names one which is not there could not be loaded
    wanted = Conversion(
        to=to,
        dtype=numbers,
        shard_bytes=None if shard_size is None else bytes_of(shard_size),
        prefix=prefix,
        recipe=recipe or (_recipe(source, model.variant) if target_named(to).own else None),
        loras=tuple((Path(os.path.expanduser(path)), strength) for path, strength in map(lora_of, model.lora or ())),
        ignore_unknown=model.lora_ignore_unknown,
    )
    with megabytes("write", "writing") as on_bytes:
        done = write(
            source, target, wanted, variant=model.variant, force=output.force,
            tell=on_bytes, report=console.note,
        )  # fmt: skip
    _tell(done, target, to, as_json=output.as_json)


def _tell(done: ConversionResult, target: Path, to: str, *, as_json: bool) -> None:
    text = "\n".join(f"{file}  {file.stat().st_size / MB:.1f} MB" for file in done.files)
    data = {
        "path": str(target),
        "to": to,
        "files": [{"file": str(file), "bytes": file.stat().st_size} for file in done.files],
        "tensors": done.tensors,
        "bytes": done.bytes,
    }
    console.result(text, data, as_json=as_json)


def bytes_of(text: str) -> int:
    """Return the bytes of "5GB" or "500 MB". Raises UsageError."""
    match = SIZE.fullmatch(text.strip())
    if match is None or not 1 <= float(match[1]) * UNITS[(match[2] or "").lower()] < 1 << 60:
        raise UsageError(f"--shard-size {text[:40]!r} is not a file size; write for example 5GB", code="bad_value")
    return int(Fraction(match[1]) * UNITS[(match[2] or "").lower()])


def _recipe(source: Path, variant: str | None) -> str | None:
    """Return the address of the recipe of the released model that the weights are, if there is only one."""
    from kinoform.families import released_models
    from kinoform.families.identify import inspect_path
    from kinoform.recipes.catalogue import RELEASED

    part = next((item for item in inspect_path(source) if item.part == "transformer"), None)
    if part is None:
        return None
    if part.evidence == "manifest":  # a folder of kinoform's own says it itself
        return part.chosen
    models = {model.name: model.model for model in released_models()}
    name = variant if variant in part.candidates else part.chosen
    made = RELEASED.get(models.get(name or "", ""))
    return None if made is None else f"{made.__module__}:{made.__name__}"
