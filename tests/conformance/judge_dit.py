"""The transformer files, and the guided sampling loops."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kinoform.families.transformer_names import OFFICIAL_NAMES as DIT
from kinoform.models.context import ImageContext, TextContext
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.protocols import Stream
from kinoform.models.vace_blocks import VaceBlocks
from kinoform.ops.patch import grid_of
from kinoform.types import Conditions
from tests.conformance.golden import Golden


def model_of(golden: Golden) -> DiT:
    """The transformer that the file's config describes, with its weights, loaded strictly."""
    c = golden.config
    streams: list[TextContext | ImageContext] = [TextContext(width=c["text_dim"], length=c["text_len"])]
    if "img_dim" in c:
        positions = 514 if "img_emb.emb_pos" in golden.weights else 0
        streams.append(ImageContext(width=c["img_dim"], positions=positions))
    side = c.get("vace_layers", ())
    spec = DiTSpec(
        dim=c["dim"], ffn_dim=c["ffn_dim"], heads=c["num_heads"], layers=c["num_layers"],
        in_channels=c["in_dim"], out_channels=c["out_dim"], patch=tuple(c["patch_size"]),
        frequency_width=c["freq_dim"], eps=c["eps"], cross_norm=c["cross_attn_norm"], context=tuple(streams),
        branches=(VaceBlocks(channels=c["vace_in_dim"], layers=tuple(side)),) if side else (),
    )  # fmt: skip
    model = spec.build()
    model.load_state_dict({DIT.ours(name) or name: value for name, value in golden.weights.items()})
    return model.eval()


def samples_of(golden: Golden) -> int:
    return sum(re.fullmatch(r"x\d+", name) is not None for name in golden.inputs)


def conditions_of(golden: Golden, sample: int) -> Conditions:
    context = {"text": golden.inputs[f"context{sample}"][None]}
    if "clip_fea" in golden.inputs:  # one image a sample, or its first and last one behind the other
        context["image"] = golden.inputs["clip_fea"].chunk(samples_of(golden))[sample].flatten(0, 1)[None]
    channels = golden.inputs.get(f"y{sample}")
    return Conditions(context=context, channels=None if channels is None else channels[None])


class Listening:
    """Outputs of named parts during a call, in the order of calls."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        self.heard: dict[str, list[Tensor]] = {name: [] for name in parts}
        self.hooks = [part.register_forward_hook(self._note(name)) for name, part in parts.items()]

    def _note(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, out: Any) -> None:
            self.heard[name].append(out)

        return note


@torch.inference_mode()
def judge(golden: Golden) -> dict[str, Tensor | list[Tensor]]:
    """Each sample of the batch alone: outputs whole, intermediates on their true rows."""
    model = model_of(golden)
    block = model.get_submodule("blocks.0")
    listening = Listening(
        {
            "block0.self_attn": block.get_submodule("self_attention"),
            "block0.cross_attn": block.get_submodule("cross_attention"),
            "block0.ffn": block.get_submodule("feed_forward"),
            "text_embedding": model.context["text"],
            "time_embedding": model.time_embedding,
            "time_projection": model.time_projection,
        }
    )
    states = _states(model)
    found: dict[str, Any] = {}
    for sample in range(samples_of(golden)):
        x = golden.inputs[f"x{sample}"][None]
        grid = grid_of(x, model.spec.patch)
        prepared = model.prepare(conditions_of(golden, sample), grid)
        times = golden.inputs["t"][sample : sample + 1].float()
        found[f"out.sample{sample}"] = model(x, times[:, : grid.tokens] if times.dim() == 2 else times, prepared)[0]
    everything = listening.heard | states
    for name in golden.outputs:
        if name.startswith("mid."):
            heard = everything[name.removeprefix("mid.")]
            found[name] = [value[0] if value.dim() == 3 and value.shape[1] > 1 else value.flatten() for value in heard]
    for name, value in found.items():
        if name in ("mid.time_embedding", "mid.time_projection"):
            found[name] = torch.stack(value)
    return found


def _states(model: DiT) -> dict[str, list[Tensor]]:
    """The residual stream after every block, by wrapping the call that ends it."""
    heard: dict[str, list[Tensor]] = {}
    for layer, block in enumerate(model.blocks):
        heard[f"block{layer}"] = []

        def after(stream: Stream, keys: Any, layer: int = layer, end: Any = block.after_context) -> Stream:
            stream = end(stream, keys)
            heard[f"block{layer}"].append(stream.tokens)
            return stream

        setattr(block, "after_context", after)  # noqa: B010
    return heard


JUDGES = {
    name: judge
    for name in ("dit_t2v", "dit_t2v_head128", "dit_i2v", "dit_flf2v", "dit22_i2v", "dit22_ti2v_token_times")
}
