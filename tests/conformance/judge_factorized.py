"""The factorized model's golden file, which the naive one of tests/models wrote: no official code has this model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from kinoform.models.context import ReferenceContext, TextContext
from kinoform.models.dit import DiTSpec
from kinoform.models.factorized_block import FactorizedBlock
from kinoform.ops.patch import grid_of
from kinoform.types import Conditions
from tests.conformance.golden import Golden
from tests.models.naive_factorized import Sizes

Order = Literal["between", "after"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One video: latents [c, f, h, w], rows of text and, in some, of a reference image."""

    name: str
    x: Tensor
    timestep: float
    text: Tensor
    reference: Tensor | None


def cases(golden: Golden) -> Iterator[Case]:
    """The videos of the file, numbered from 0."""
    for number, timestep in enumerate(golden.inputs["t"].tolist()):
        name = f"film{number}"  # as the file calls its videos
        yield Case(
            name=name,
            x=golden.inputs[f"{name}.x"],
            timestep=timestep,
            text=golden.inputs[f"{name}.text"],
            reference=golden.inputs.get(f"{name}.reference"),
        )


def sizes_of(golden: Golden, order: Order) -> Sizes:
    c = golden.config
    return Sizes(heads=c["num_heads"], layers=c["num_layers"], patch=tuple(c["patch_size"]), rows=c["text_len"],
                 waves=c["freq_dim"], time_first=order == "after", eps=c["eps"])  # fmt: skip


@torch.inference_mode()
def judge(golden: Golden) -> dict[str, Tensor | list[Tensor]]:
    """Every video in both orders, in float32."""
    c, found = golden.config, dict[str, Tensor | list[Tensor]]()
    for order in ORDERS:
        model = DiTSpec(
            dim=c["dim"], ffn_dim=c["ffn_dim"], heads=c["num_heads"], layers=c["num_layers"],
            in_channels=c["in_dim"], out_channels=c["out_dim"], patch=tuple(c["patch_size"]),
            frequency_width=c["freq_dim"], eps=c["eps"], block=FactorizedBlock(cross=order),
            context=(TextContext(width=c["text_dim"], length=c["text_len"]), ReferenceContext(width=c["img_dim"])),
        ).build()  # fmt: skip
        model.load_state_dict(dict(golden.weights))
        for case in cases(golden):
            rows = {"text": case.text} | ({} if case.reference is None else {"reference": case.reference})
            told = Conditions(context={name: value[None] for name, value in rows.items()})
            x = case.x[None]
            prepared = model.eval().prepare(told, grid_of(x, model.spec.patch))
            found[f"out.{order}.{case.name}"] = model(x, torch.tensor([case.timestep]), prepared)[0]
    return found


JUDGES = {"dit_factorized": judge}
