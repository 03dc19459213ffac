"""Words to context rows: what the transformer's text stream reads."""

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kinoform.models.text import TextEncoder, encode
from kinoform.models.tokenizer import Tokenizer, Tokens


@torch.no_grad()
def text_rows(tokenizer: Tokenizer, encoder: TextEncoder, prompts: Sequence[str]) -> Float[Tensor, "b n d"]:
    """Encoder rows of each prompt, exactly zero after its true length, as the official pipeline hands them on.

    Warns, once a prompt, of tokens beyond the encoder's limit, which are cut off, and of unknown words.
    """
    length = encoder.spec.length
    tokens = tokenizer(prompts, length)
    for place, prompt in enumerate(prompts):
        _warn(tokens, place, prompt, length)
    # One at a time: a prompt's rows must not depend on what else is asked for.
    rows = [encode(encoder, _one(tokens, place)) for place in range(len(prompts))]
    return torch.cat(rows)


def _one(tokens: Tokens, place: int) -> Tokens:
    here = slice(place, place + 1)
    return Tokens(ids=tokens.ids[here], mask=tokens.mask[here], lost=tokens.lost[here], unknown=tokens.unknown[here])


def _warn(tokens: Tokens, place: int, prompt: str, length: int) -> None:
    start = prompt if len(prompt) <= 40 else prompt[:40] + "..."
    if lost := tokens.lost[place]:
        warnings.warn(f"the prompt {start!r} is cut at {length} tokens; {lost} are lost", stacklevel=3)
    if unknown := tokens.unknown[place]:
        warnings.warn(f"words the model does not know: {', '.join(unknown)}", stacklevel=3)
