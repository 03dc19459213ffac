"""LoRA files on a model: put there when its transformer is loaded, and written from a model's adapters.

They take the memory of the adapters alone. ComfyUI and diffusers read what is written.
"""

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from kinoform.checkpoints.files import Checkpoint, ReadFile, open_file, read_file
from kinoform.checkpoints.formats import Stored
from kinoform.checkpoints.hashes import model_hash
from kinoform.checkpoints.write import METADATA, Outgoing, outgoing, write_safetensors
from kinoform.errors import UsageError, nearest
from kinoform.families.lora import ALPHA, COMFY_LORA, DOWN, UP, LoRADialect
from kinoform.families.lora_names import LoRANames
from kinoform.files import whole
from kinoform.loading.load import check_values
from kinoform.loading.lora_changes import StoredChange
from kinoform.loading.lora_experts import assigned, check_strength
from kinoform.loading.lora_file import LoRAFile, Parameters, open_lora
from kinoform.loading.parts import Parts, TransformerLoader
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.lora import LoRARanks, adapters_of, changes_of, mark_varying, set_strength, with_changes
from kinoform.models.lora_changes import WeightChange
from kinoform.models.lora_linear import Adapter, device_of, dtype_of, linear_layers
from kinoform.models.lora_parameters import changed_parameters
from kinoform.models.meta import on_meta
from kinoform.models.packed import PackedLinear
from kinoform.solvers.by_expert import PerExpert, expert_names, written
from kinoform.solvers.schedule import Varying, strongest

_Applied: TypeAlias = Sequence[tuple[LoRAFile, Varying]]
"""The files that go onto one transformer, each with its strength."""

VARYING = "varying"
"""Strength that changes during a run, in a fingerprint: what it was stands in the video's parameters."""

SUFFIX = ".safetensors"
SAMPLED_ROWS = 64
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
USUAL = (1e-5, 0.5)
"""Bounds of ||change|| / ||W||: below nothing is seen, above the change buries what the model knew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLoRAs:
    """LoRA files that go onto each transformer of a model, and the strengths of each file in the order given."""

    applied: tuple[_Applied, ...]
    strengths: tuple[PerExpert, ...]

    @property
    def ranks(self) -> tuple[tuple[LoRARanks, ...], ...]:
        """Ranks of the files that go onto each transformer."""
        return tuple(tuple(file.ranks(strongest(strength)) for file, strength in applied) for applied in self.applied)


def with_loras(
    parts: Parts,
    loras: Sequence[tuple[Path, PerExpert]],
    report: Callable[[str], None],
    *,
    ignore_unknown: bool = False,
) -> Parts:
    """Parts whose transformers are loaded with these LoRA files on them, each with its strength.

    Of several transformers a file goes onto those that its strength names, or else onto those that it tells itself; see
    `assigned`.

    Each file is read now, once, and `report` gets one line for it on each transformer, and another with the size of the
    change when it is on it; the file stays in memory until a
    transformer has its matrices, and is read again for the next one, when it must be the same. Matrices are cast to the
    dtype of a layer's products. The fingerprint tells files and strengths apart, but not those that change during a
    run, which are loaded at their strongest and set by `Experts`. Adapters have the name of their file.
    Warns when a change is far smaller or larger than changes are. Raises WeightsError as `open_lora` does, UsageError
    for a strength that is no number from -100 to 100, and where nothing tells the transformer.
    """
    if not loras:
        return parts
    files: dict[Path, ReadFile] = {}

    def read(path: Path) -> Checkpoint:
        files[path] = read_file(path)
        return files[path].checkpoint

    opened = open_loras(parts.transformer_specs, loras, report, ignore_unknown=ignore_unknown, read=read)
    strengths = [dict(own) for own in parts.adapter_strengths or ({},) * len(parts.transformers)]
    named: list[dict[str, LoRAFile]] = []
    for own, applied in zip(strengths, opened.applied, strict=True):
        named.append({})
        for file, strength in applied:
            name = _free_name(file.path, own)
            named[-1][name], own[name] = file, strength

    heard: set[str] = set()

    def tell(line: str) -> None:
        if line not in heard:  # a transformer may be loaded for every video
            report(line)
        heard.add(line)

    def load(
        base: TransformerLoader, names: Mapping[str, LoRAFile], own: Mapping[str, Varying], dtype: torch.dtype,
        device: torch.device,
    ) -> DiT:  # fmt: skip
        model = base(dtype, device)
        try:
            for name, file in names.items():
                model = attach_file(model, file, strongest(own[name]), tell, name=name)
                if not isinstance(own[name], float):
                    mark_varying(model, name)
        finally:
            for held in files.values():
                held.release()
        return model

    def fingerprint() -> str:
        lines = [
            f"{files[file.path].sha256} {model_hash(file.files[1:])} {_in_fingerprint(strength)} {index}"
            for index, applied in enumerate(opened.applied)
            for file, strength in applied
        ]
        return hashlib.sha256("\n".join([parts.fingerprint(), *lines]).encode()).hexdigest()[:16]

    loaders = zip(parts.transformers, named, strengths, strict=True)
    before = parts.loras or ((),) * len(parts.transformers)
    return replace(
        parts,
        transformers=tuple(partial(load, base, names, own) for base, names, own in loaders),
        fingerprint=fingerprint,
        lora_hashes=tuple(files[path].sha256 for path, _ in loras),
        lora_strengths=opened.strengths,
        loras=tuple((*own, *ranks) for own, ranks in zip(before, opened.ranks, strict=True)),
        adapter_strengths=tuple(strengths),
    )


def open_loras(
    specs: Sequence[DiTSpec],
    loras: Sequence[tuple[Path, PerExpert]],
    report: Callable[[str], None],
    *,
    ignore_unknown: bool = False,
    read: Callable[[Path], Checkpoint] = open_file,
) -> OpenedLoRAs:
    """Open the files that go onto each transformer, each once and as `read` does; see `with_loras`."""
    shapes = [parameter_shapes(on_meta(spec.build)) for spec in specs]
    return open_onto(shapes, loras, report, ignore_unknown=ignore_unknown, read=read)


def open_onto(
    shapes: Sequence[Parameters],
    loras: Sequence[tuple[Path, PerExpert]],
    report: Callable[[str], None],
    *,
    ignore_unknown: bool = False,
    read: Callable[[Path], Checkpoint] = open_file,
) -> OpenedLoRAs:
    """The same for transformers of which the shapes of the parameters are known."""
    said = [(path, check_strength(strength, len(shapes))) for path, strength in loras]
    checkpoints = {path: read(path) for path in dict.fromkeys(path for path, _ in loras)}
    names = expert_names(len(shapes))
    tables = [LoRANames(own=frozenset(parameters)) for parameters in shapes]
    assignments = [
        assigned(path, checkpoints[path].tensors, strength, len(shapes), tables[0]) for path, strength in said
    ]
    opened: list[_Applied] = []
    for index, (name, parameters, table) in enumerate(zip(names, shapes, tables, strict=True)):
        applied: list[tuple[LoRAFile, Varying]] = []
        where = "" if len(shapes) == 1 else f"{name}: "
        for (path, _), given in zip(loras, assignments, strict=True):
            strength = given.strengths.get(name) if isinstance(given.strengths, Mapping) else given.strengths
            if strength is None:
                continue
            checkpoint, second = checkpoints[path], given.second[index]
            file = open_lora(
                path, parameters, ignore_unknown=ignore_unknown, checkpoint=checkpoint, second=second, names=table
            )
            report(where + file.description(strongest(strength)) + _during(strength))
            applied.append((file, strength))
        opened.append(applied)
    for (path, _), given in zip(loras, assignments, strict=True):
        for note in given.notes:
            report(f"{path.name}: {note}")
    return OpenedLoRAs(applied=tuple(opened), strengths=tuple(given.strengths for given in assignments))


def parameter_shapes(model: nn.Module) -> Parameters:
    """Shapes of all that a file may change, packed matrices too."""
    layers = linear_layers(model).items()
    packed = {f"{n}.weight": (one.out_features, one.in_features) for n, one in layers if isinstance(one, PackedLinear)}
    return {name: tuple(value.shape) for name, value in model.named_parameters()} | packed


def attach_file(
    model: DiT, file: LoRAFile, strength: float, report: Callable[[str], None] = lambda line: None, *,
    name: str | None = None,
) -> DiT:  # fmt: skip
    """A copy of the model with the file's changes, without gradients, under a name or else the file's own.

    See `with_changes`.

    `report` gets ||change|| / ||W|| in a line. Warns where that is far from what is usual. Raises WeightsError for NaN,
    infinity, and values too large for the dtype of what they change.
    """
    layers = linear_layers(model)
    adapters: dict[str, WeightChange] = {}
    deltas: dict[str, Tensor] = {}
    for place, stored in file.changes.items():
        layer = layers.get(place.removesuffix(".weight")) if place.endswith(".weight") else None
        if layer is None:
            base = model.get_parameter(place)
            deltas[place] = _delta(stored, place, base)
        else:
            dtype = dtype_of(layer) if stored.low_rank else None
            change = stored.build(partial(_values, place=place, dtype=dtype))
            adapters[place.removesuffix(".weight")] = change.to(device_of(layer)).requires_grad_(False)
    name = name or _free_name(file.path, changes_of(model))
    model = with_changes(model, name, adapters, deltas)
    whole = relative_size(model, name)
    set_strength(model, name, strength)
    low, high = USUAL
    size = whole * abs(strength)
    ours = "" if strength == 1 else f", {size:.2g} at {strength:g}"
    report(f"{file.path.name}: ||change|| / ||W|| is {whole:.2g} at strength 1{ours}")
    if strength and not low <= size <= high:
        warnings.warn(
            f"{file.path.name} at strength {strength:g} changes the weights by {size:.2g} of their size; "
            f"{low:g} to {high:g} is usual: check its strength, and that it is for this model",
            stacklevel=2,
        )
    return model


@torch.no_grad()
def relative_size(model: DiT, name: str) -> float:
    """||change|| / ||W|| over all that a file changes.

    Of each W, and of a change that is no two matrices, about 64 rows are looked at.
    """
    layers, change, base = linear_layers(model), 0.0, 0.0
    for place, added in changes_of(model)[name].items():
        layer = layers[place]
        rows = slice(None, None, layer.out_features // SAMPLED_ROWS | 1)
        count = len(range(layer.out_features)[rows])
        some = layer.packing.unpack(layer.rows[rows]) if isinstance(layer, PackedLinear) else layer.weight[rows]
        if isinstance(added, Adapter):
            change += added.size() ** 2
        else:
            change += _square(added.delta(layer.weight, rows) * added.strength) * layer.out_features / count
        base += _square(some) * layer.out_features / count
    for changed in changed_parameters(model).values():
        if name in changed.deltas:
            change += _square(changed.deltas[name] * changed.strengths[name])
            base += _square(changed.base)
    return (change / base) ** 0.5 if base else float("inf")


def _square(values: Tensor) -> float:
    return values.detach().cpu().double().square().sum().item()


@torch.no_grad()
def _delta(stored: StoredChange, place: str, base: Tensor) -> Tensor:
    """The difference of a parameter that is no weight of a layer, in float32."""
    change = stored.build(partial(_values, place=place, dtype=None)).to(base.device)
    delta = change.delta(base)
    check_values(f"{stored.pieces.path}: the changed {place}", base.float() + delta, base.dtype)
    return delta


def _values(stored: Stored, *, place: str, dtype: torch.dtype | None) -> Tensor:
    """The numbers of a tensor, as `dtype` or (None) as they are, in 16 bits at least."""
    values = stored.read()
    wanted = dtype or (values.dtype if values.dtype in FLOATS else torch.float32)
    check_values(f"{stored.file}: the change of {place}", values, wanted)
    return values.to(wanted)


def _in_fingerprint(strength: Varying) -> str:
    return repr(strength) if isinstance(strength, float) else VARYING


def _during(strength: Varying) -> str:
    """The end of a line about a file whose strength changes during a run."""
    return "" if isinstance(strength, float) else f", during a run {written(strength)}"


def _free_name(path: Path, taken: Mapping[str, object]) -> str:
    """The file's name as a word; with a number when that is taken."""
    word = "lora_" + re.sub(r"[^A-Za-z0-9]+", "_", path.stem)[:48].strip("_")
    names = (word if number == 1 else f"{word}_{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def save_lora(
    path: Path,
    model: nn.Module,
    name: str = "lora",
    *,
    dialect: LoRADialect = COMFY_LORA,
    base: str = "",
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> None:
    """Write one adapter of the model, whole or not at all; its strength is not part of it.

    In the dialect DIFFUSERS_LORA, which has no alpha, the second matrix is multiplied by alpha / rank. Metadata: rank,
    alpha (as written), and `base`, the hash of the model it was made on. `dtype` None leaves numbers as they
    are held. Raises UsageError for an unknown adapter and as `whole` does, NonFiniteError for NaN,
    infinity, and values too large for `dtype`.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} does not end in {SUFFIX}; LoRA files are written as that", code="wrong_suffix")
    held = adapters_of(model)
    if name not in held:
        raise UsageError(f"the model has no adapter {name!r}; {nearest(name, held)}", code="unknown_name")
    tensors = [
        outgoing(dialect.written(f"{layer}.weight", piece), value, None if piece == ALPHA else dtype)
        for layer, adapter in held[name].items()
        for piece, value in _pieces(adapter, dialect).items()
    ]
    adapters = held[name].values()
    alphas = [adapter.alpha if dialect.alpha else adapter.rank for adapter in adapters]
    metadata = lora_metadata([adapter.rank for adapter in adapters], alphas, base)
    with whole(path, force=force) as temporary:
        write_safetensors(temporary, tensors, lambda count: None, metadata)


def lora_metadata(ranks: Iterable[int], alphas: Iterable[int | float], base: str) -> dict[str, str]:
    return {**METADATA, "rank": _all(ranks), "alpha": _all(alphas), "base_model_hash": base}


def outgoing_alpha(dialect: LoRADialect, layer: str, alpha: float) -> Outgoing:
    return outgoing(dialect.written(f"{layer}.weight", ALPHA), torch.tensor(alpha, dtype=torch.float32))


def _pieces(adapter: Adapter, dialect: LoRADialect) -> dict[str, Tensor]:
    down, up = adapter.down.detach(), adapter.up.detach()
    if dialect.alpha:
        return {DOWN: down, UP: up, ALPHA: torch.tensor(adapter.alpha, dtype=torch.float32)}
    scale = adapter.alpha / adapter.rank
    return {DOWN: down, UP: up if scale == 1 else up.float() * scale}


def _all(numbers: Iterable[int | float]) -> str:
    """The one number, or each that occurs."""
    return ", ".join(f"{number:g}" for number in sorted(set(numbers)))
