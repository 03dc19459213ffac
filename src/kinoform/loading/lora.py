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
from kinoform.files import whole
from kinoform.loading.load import check_values
from kinoform.loading.lora_experts import assigned, check_strength
from kinoform.loading.lora_file import LoRAFile, Sizes, open_lora
from kinoform.loading.parts import Parts, TransformerLoader
from kinoform.models.dit import DiT, DiTSpec
from kinoform.models.lora import LoRARanks, adapters_of, with_adapters
from kinoform.models.lora_linear import Adapter, device_of, dtype_of, linear_layers
from kinoform.models.meta import on_meta
from kinoform.models.packed import PackedLinear
from kinoform.solvers.by_expert import PerExpert, expert_names

_Applied: TypeAlias = Sequence[tuple[LoRAFile, float]]
"""The files that go onto one transformer, each with its strength."""

SUFFIX = ".safetensors"
SAMPLED_ROWS = 64
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
        return tuple(tuple(file.ranks(strength) for file, strength in applied) for applied in self.applied)


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

    Each file is read now, once, and `report` gets one line for it on each transformer; it stays in memory until a
    transformer has its matrices, and is read again for the next one, when it must be the same. Matrices are cast to the
    dtype of a layer's products. The fingerprint tells files and strengths apart. Adapters have the name of their file.
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

    def load(base: TransformerLoader, applied: _Applied, dtype: torch.dtype, device: torch.device) -> DiT:
        model = base(dtype, device)
        try:
            for file, strength in applied:
                model = attach_file(model, file, strength)
        finally:
            for held in files.values():
                held.release()
        return model

    def fingerprint() -> str:
        lines = [
            f"{files[file.path].sha256} {model_hash(file.files[1:])} {strength!r} {index}"
            for index, applied in enumerate(opened.applied)
            for file, strength in applied
        ]
        return hashlib.sha256("\n".join([parts.fingerprint(), *lines]).encode()).hexdigest()[:16]

    loaders = zip(parts.transformers, opened.applied, strict=True)
    before = parts.loras or ((),) * len(parts.transformers)
    return replace(
        parts,
        transformers=tuple(partial(load, base, applied) for base, applied in loaders),
        fingerprint=fingerprint,
        lora_hashes=tuple(files[path].sha256 for path, _ in loras),
        lora_strengths=opened.strengths,
        loras=tuple((*own, *ranks) for own, ranks in zip(before, opened.ranks, strict=True)),
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
    said = [(path, check_strength(strength, len(specs))) for path, strength in loras]
    checkpoints = {path: read(path) for path in dict.fromkeys(path for path, _ in loras)}
    names = expert_names(len(specs))
    assignments = [assigned(path, checkpoints[path].tensors, strength, len(specs)) for path, strength in said]
    opened: list[_Applied] = []
    for index, (name, spec) in enumerate(zip(names, specs, strict=True)):
        layers = layer_sizes(on_meta(spec.build))
        applied: list[tuple[LoRAFile, float]] = []
        where = "" if len(specs) == 1 else f"{name}: "
        for (path, _), given in zip(loras, assignments, strict=True):
            strength = given.strengths.get(name) if isinstance(given.strengths, Mapping) else given.strengths
            if strength is None:
                continue
            checkpoint, second = checkpoints[path], given.second[index]
            file = open_lora(path, layers, ignore_unknown=ignore_unknown, checkpoint=checkpoint, second=second)
            report(where + file.description(strength))
            applied.append((file, strength))
        opened.append(applied)
    for (path, _), given in zip(loras, assignments, strict=True):
        for note in given.notes:
            report(f"{path.name}: {note}")
    return OpenedLoRAs(applied=tuple(opened), strengths=tuple(given.strengths for given in assignments))


def layer_sizes(model: DiT) -> Sizes:
    return {name: (layer.out_features, layer.in_features) for name, layer in linear_layers(model).items()}


def attach_file(model: DiT, file: LoRAFile, strength: float) -> DiT:
    """A copy of the model with the file's adapters, without gradients; see `with_adapters`.

    Raises WeightsError for NaN, infinity, and values too large for the dtype of a layer's products.
    """
    layers, adapters = linear_layers(model), {}
    for place, change in file.changes.items():
        dtype, device = dtype_of(layers[place]), device_of(layers[place])
        down, up = (_values(each, place, dtype) for each in (change.down, change.up))
        adapter = Adapter(down.to(device), up.to(device), change.alpha).requires_grad_(False)
        adapter.strength = strength
        adapters[place] = adapter
    name = _free_name(file.path, adapters_of(model))
    model = with_adapters(model, name, adapters)
    low, high = USUAL
    size = relative_size(model, name)
    if strength and not low <= size <= high:
        warnings.warn(
            f"{file.path.name} at strength {strength:g} changes the weights by {size:.2g} of their size; "
            f"{low:g} to {high:g} is usual: check its strength, and that it is for this model",
            stacklevel=2,
        )
    return model


def relative_size(model: DiT, name: str) -> float:
    """||change|| / ||W|| over the layers of an adapter; of each W about 64 rows are looked at."""
    layers, change, base = linear_layers(model), 0.0, 0.0
    for place, adapter in adapters_of(model)[name].items():
        layer = layers[place]
        change += adapter.size() ** 2
        step = layer.out_features // SAMPLED_ROWS | 1
        some = layer.packing.unpack(layer.rows[::step]) if isinstance(layer, PackedLinear) else layer.weight[::step]
        base += some.detach().cpu().double().square().sum().item() * layer.out_features / len(some)
    return (change / base) ** 0.5 if base else float("inf")


def _values(stored: Stored, place: str, dtype: torch.dtype) -> Tensor:
    values = stored.read()
    check_values(f"{stored.file}: the change of {place}", values, dtype)
    return values.to(dtype)


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
        outgoing(dialect.written(layer, piece), value, None if piece == ALPHA else dtype)
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
    return outgoing(dialect.written(layer, ALPHA), torch.tensor(alpha, dtype=torch.float32))


def _pieces(adapter: Adapter, dialect: LoRADialect) -> dict[str, Tensor]:
    down, up = adapter.down.detach(), adapter.up.detach()
    if dialect.alpha:
        return {DOWN: down, UP: up, ALPHA: torch.tensor(adapter.alpha, dtype=torch.float32)}
    scale = adapter.alpha / adapter.rank
    return {DOWN: down, UP: up if scale == 1 else up.float() * scale}


def _all(numbers: Iterable[int | float]) -> str:
    """The one number, or each that occurs."""
    return ", ".join(f"{number:g}" for number in sorted(set(numbers)))
