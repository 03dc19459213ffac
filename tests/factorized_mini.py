"""A folder of mini-factorized as it is before training: random weights beside the codec and the words of mini."""

from pathlib import Path

import torch

from kinoform.recipes.load import ASSETS, TO_TRAIN, load
from kinoform.recipes.mini_factorized import mini_factorized
from kinoform.weights.own import Modules, save_own

CPU = torch.device("cpu")
GAIN = 0.03
"""Of all weights: films differ by their references, and no number overflows."""


def write_factorized_folder(folder: Path) -> Path:
    parts, generator = load("mini", device="cpu").parts, torch.Generator().manual_seed(0)
    transformer = mini_factorized().transformer.build()
    for parameter in transformer.parameters():
        parameter.data = GAIN * torch.randn(parameter.shape, generator=generator)
    modules = Modules(
        transformer=transformer,
        autoencoder=parts.codec(CPU),
        text_encoder=parts.text_encoder(torch.float32, CPU),
    )
    words = (ASSETS / "mini" / "tokenizer.json").read_text(encoding="utf-8")
    save_own(folder, modules, tokenizer_json=words, recipe=TO_TRAIN["mini-factorized"], made={})
    return folder
