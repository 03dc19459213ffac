"""Tiny parts of a model as ComfyUI keeps them: a file each, in folders that lie side by side."""

import io
import json
import struct
from dataclasses import replace
from math import prod
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kinoform.families.names import Names
from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.families.vae21 import OFFICIAL_NAMES as VAE21
from kinoform.models.context import TextContext
from tests.support.diffusers_folder import huggingface_text
from tests.support.narrowing import some
from tests.support.official_folder import TEXT, TRANSFORMER, WORDS, official_tensors, tiny_modules

SINGLE = replace(TRANSFORMER, dim=128, heads=1, context=(TextContext(width=TEXT.dim, length=512),))
"""Heads of 128 columns and 512 rows of text, which a file without config.json stands for."""


def write_comfy_folders(root: Path, *, prefix: str = "", dtype: torch.dtype = torch.float32) -> Path:
    """The transformer's file; beside its folder those of the other parts, the tokenizer in the text encoder's."""
    for name in ("diffusion_models", "text_encoders", "vae"):
        (root / name).mkdir(parents=True)
    file = root / "diffusion_models" / "wan2.1_t2v_tiny.safetensors"
    save_file({f"{prefix}{name}": value.to(dtype) for name, value in comfy_transformer().items()}, file)
    save_file(huggingface_text() | {"spiece_model": spiece_bytes()}, root / "text_encoders" / "umt5.safetensors")
    save_file(comfy_codec(), root / "vae" / "wan_2.1_vae.safetensors")
    return file


def comfy_transformer() -> dict[str, Tensor]:
    return official_tensors(tiny_modules(transformer=SINGLE).transformer, DIT)


def comfy_codec() -> dict[str, Tensor]:
    return official_tensors(some(tiny_modules().autoencoder), VAE21)


def spiece_bytes() -> Tensor:
    """A SentencePiece model with as many pieces as the tiny text encoder has rows."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 20),
        model_writer=model,
        vocab_size=TEXT.vocab,
        hard_vocab_limit=False,
        model_type="char",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        num_threads=1,
    )
    return torch.frombuffer(bytearray(model.getvalue()), dtype=torch.uint8)


def write_sparse(path: Path, module: nn.Module, names: Names) -> Path:
    """A bfloat16 file with the names and shapes of a module on the meta device, whose data takes no disk."""
    header, place = {}, 0
    for own, parameter in module.named_parameters():
        end = place + 2 * prod(parameter.shape)
        header[names.theirs(own)] = {"dtype": "BF16", "shape": list(parameter.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + place)
    return path
