"""The model that the words of a command name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoform.cli import console
from kinoform.cli.options import recipe_named

if TYPE_CHECKING:
    from kinoform.pipelines.pipeline import Pipeline


def weights_at(place: Path) -> Path:
    """Find the weights that a command names by a path, or by a name as `--model` takes it."""
    there = Path(os.path.expanduser(place))
    if os.path.lexists(there):
        return there
    # Imported here because PyTorch takes seconds, which weights named by a path do without.
    from kinoform.recipes.load import place_of

    return place_of(str(there))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is loaded and where; what is None is found by `kinoform.load` itself."""

    model: str
    recipe: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    text_encoder: str | None = None
    vae: str | None = None
    tokenizer: str | None = None
    image_encoder: str | None = None
    variant: str | None = None
    loras: tuple[tuple[str, float], ...] = ()
    ignore_unknown: bool = False

    def load(self) -> Pipeline:
        """Raises what `kinoform.load` raises."""
        # Imported here because PyTorch takes seconds, which help and completion do without.
        from kinoform.recipes.load import load

        parts: dict[str, Any] = {
            "text_encoder": self.text_encoder, "codec": self.vae, "tokenizer": self.tokenizer,
            "image_encoder": self.image_encoder, "variant": self.variant,
        }  # fmt: skip
        given = {name: value for name, value in parts.items() if value is not None}
        return load(
            self.model, recipe=recipe_named(self.recipe), device=self.device, dtype=self.dtype,
            loras=self.loras, ignore_unknown=self.ignore_unknown, report=console.note, **given,
        )  # fmt: skip

    def words(self) -> list[str]:
        """The options that name the same model to `kinoform decode`."""
        options = {
            "--model": self.model,
            "--recipe": self.recipe,
            "--device": None if self.device == "auto" else self.device,
            "--text-encoder": self.text_encoder,
            "--vae": self.vae,
            "--tokenizer": self.tokenizer,
            "--image-encoder": self.image_encoder,
            "--variant": self.variant,
        }
        words = [word for option, value in options.items() if value is not None for word in (option, value)]
        loras = [word for file, strength in self.loras for word in ("--lora", f"{file}:{strength}")]
        return [*words, *loras, *(["--lora-ignore-unknown"] if self.ignore_unknown else [])]
