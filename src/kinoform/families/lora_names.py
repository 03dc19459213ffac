"""Modules of LoRA files as parameters of a model: one table of all spellings, made of the model's own names.

The official name of each parameter, that of diffusers and kinoform's own stand in it with _ for dots, so that dotted,
undotted and half dotted names are found alike, and nothing is guessed from a name. Parameters of other Wan models are
in it too: what a file has for these is known, and left out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from kinoform.families.relatives import module_of
from kinoform.families.transformer_names import DIFFUSERS_NAMES, IMAGE, OFFICIAL_NAMES, SIDE

FIRST_EXPERT, SECOND_EXPERT = "transformer_1.", "transformer_2."
"""Words before modules of the experts of high and of low noise. diffusers writes "transformer." for the first, as for
models of one."""

PREFIX = re.compile(
    r"(?:lora_unet__?|lycoris_|diffusion_model\.|transformer(?:_[12])?\.|base_model\.|model\.|pipe\.|dit\.|unet\."
    r"|module\.|_orig_mod\.)+"
)
"""Words before the names of modules, of which there may be several."""

TEXT_ENCODERS = re.compile(r"(?:lora_te|text_encoder|conditioner[._]|cond_stage_model[._]|lycoris_text)")
GATES = "to_gate_compress"

TEXT, EXPERT, VSA = "a text encoder", "the other expert", "sparse attention (VSA) of FastWan"
IMAGES, VACE, OTHERS = "the image source", "VACE", "another kind of Wan model"
"""Parts that a model lacks, though a file has changes of them."""


@dataclass(frozen=True, kw_only=True)
class LoRANames:
    """The parameters of one model, and how files call them and those of its relatives."""

    own: frozenset[str]

    @cached_property
    def _table(self) -> dict[str, str]:
        table: dict[str, str] = {}
        for name in (*sorted(self.own), *_relatives(self.own)):
            for names in (OFFICIAL_NAMES, DIFFUSERS_NAMES):
                table.setdefault(undotted(names.spelled(name)), name)
            table.setdefault(undotted(name), name)
        return table

    def parameter(self, module: str, leaves: Iterable[str] = ("weight",)) -> str | None:
        """The own name of the parameter of a module (of this model or of a relative): the first of the leaves below it
        that there is, "" being the module itself; None when no Wan model has any."""
        bare = re.sub(r"_to_out$", "_to_out_0", undotted(without_prefix(module)))
        keys = (f"{bare}_{leaf}".strip("_") for leaf in leaves)
        return next((self._table[key] for key in keys if key in self._table), None)

    def lacks(self, module: str, parameter: str | None, *, second: bool = False) -> str | None:
        """Name the part that this model lacks, where a module is of such a one; None where it is the model's, or of
        none that is known. With `second` the model is the second expert."""
        if TEXT_ENCODERS.match(module):
            return TEXT
        if is_second(module) is not second and (not second or parameter is not None):
            return EXPERT
        if parameter is None:
            return VSA if GATES in module else module_of(without_prefix(module))
        if parameter in self.own:
            return None
        return _part(parameter)


def without_prefix(module: str) -> str:
    """The name without the words before it."""
    match = PREFIX.match(module)
    return module if match is None else module[match.end() :]


def is_second(module: str) -> bool:
    """Return whether a module is one of the second expert, of low noise."""
    return SECOND_EXPERT in module.removesuffix(without_prefix(module))


def undotted(name: str) -> str:
    return name.replace(".", "_")


def wan_names(layers: int) -> LoRANames:
    """The names of a model of so many blocks, of any kind: for files whose model is not known."""
    block = _templates("blocks.#")
    names = {name.replace("#", str(layer), 1) for name in block for layer in range(layers)}
    names |= {*_templates("patch_embedding"), *_templates("time_"), *_templates("head.")}
    names |= {name.replace("#", layer) for name in _templates("context.text") for layer in ("0", "2")}
    return LoRANames(own=frozenset({*names, *_relatives(names)}))


def _relatives(own: Iterable[str]) -> list[str]:
    """Parameters of other Wan models that such a model may lack."""
    image = [f"{IMAGE}.positions"]
    image += [f"{IMAGE}.{module}.{leaf}" for module in ("norm_in", "layers.0", "layers.2", "norm_out")
              for leaf in ("weight", "bias")]  # fmt: skip
    image += [name.replace(".streams.text.", ".streams.image.") for name in own if ".streams.text." in name]
    blocks = [name for name in (*own, *image) if name.startswith("blocks.")]
    numbers = sorted({name.split(".")[1] for name in blocks})
    modules = ("patch_embedding", "before", *(f"after.{number}" for number in numbers))
    side = [f"{SIDE}.{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]
    return [*image, *side, *(f"{SIDE}.{name}" for name in blocks)]


def _part(parameter: str) -> str:
    if parameter.startswith(f"{SIDE}."):
        return VACE
    return IMAGES if parameter.startswith(f"{IMAGE}.") or ".streams.image." in parameter else OTHERS


MODULES: Mapping[str, tuple[str, ...]] = {
    "self_attention": ("q", "k", "v", "o", "norm_q", "norm_k"),
    "cross_attention": ("q", "o", "norm_q", "streams.text.k", "streams.text.v", "streams.text.norm_k"),
    "feed_forward": ("0", "2"),
}


def _templates(start: str) -> list[str]:
    """Own names of the released models that begin so, # for the number of a block or a layer."""
    inside = [f"{part}.{module}" for part, modules in MODULES.items() for module in modules]
    modules = [f"blocks.#.{module}" for module in (*inside, "cross_norm")]
    modules += ["patch_embedding", "context.text.layers.#", "time_embedding.0", "time_embedding.2"]
    modules += ["time_projection.1", "head.linear"]
    names = [f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")]
    return [name for name in (*names, "blocks.#.modulation", "head.modulation") if name.startswith(start)]
