"""The parts of a model as promises: headers are checked now, so that nothing fails after minutes of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, cast

import torch

from kinoform.checkpoints.hashes import model_hash
from kinoform.checkpoints.reader import HeaderReader
from kinoform.errors import UsageError, WeightsError
from kinoform.families.family import Family
from kinoform.loading.detect import check_block, stored_block
from kinoform.loading.experts import ExpertPaths
from kinoform.loading.load import Module, check_beginnings, load_module, packed_bytes
from kinoform.loading.opening import open_model
from kinoform.loading.own import OwnFolder, verify
from kinoform.loading.sources import OpenedModel, OpenedPart, Opening, Overrides
from kinoform.models.codec import Codec, CodecSpec
from kinoform.models.dit import DiT, DiTSpec, keeps_float32
from kinoform.models.lora import LoRARanks
from kinoform.models.protocols import BlockSpec
from kinoform.models.text import TextEncoder, TextSpec
from kinoform.models.tokenizer import Tokenizer
from kinoform.models.vision import VisionEncoder, VisionSpec
from kinoform.ops.memory import release_memory
from kinoform.ops.patch import Patch
from kinoform.solvers.by_expert import PerExpert
from kinoform.solvers.schedule import Varying

T = TypeVar("T")

Verify = Callable[[Iterable[Path]], None]


TransformerLoader: TypeAlias = Callable[[torch.dtype, torch.device], DiT]


def the_only(transformers: tuple[T, ...]) -> T:
    """Return the one transformer of a model. Raises UsageError where there are several."""
    if len(transformers) != 1:
        raise UsageError(
            f"the model has {len(transformers)} transformers, and this is for models of one; load one by itself",
            code="several_transformers",
        )
    return transformers[0]


def no_image_encoder(dtype: torch.dtype, device: torch.device) -> VisionEncoder:
    raise WeightsError("this model has no image encoder; image-to-video models of Wan 2.1 do", code="part_missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Parts of a model that a pipeline needs; no weight is read before its function is called.

    Calls may raise WeightsError for damage that headers do not show. A transformer keeps its float32
    parts in float32 whatever the dtype; the codec is float32, or has no weights. Each call loads anew. `image_spec`
    is None for a model without image encoder. `family` is that of the transformer, None in
    kinoform's own folders; `model` is the released model whose weights these are, the nearest for those of another
    size, "" where only a recipe tells; `notes` are sentences about settings and inputs that the names of the weights
    call for. `module_files` are the VACE modules on the transformers, one for each, or none. `lora_hashes` are the
    SHA-256 of the LoRA files on the transformers, in their order, `lora_strengths` their strengths, by name where there
    are several transformers, and `loras` their ranks for each transformer. `adapter_strengths` are the
    strengths on each transformer by the names of its adapters. `encoder_files` are those of the parts that encode, by
    the names of their fields. `base` are the parts before a recipe's additions were put on, None where there are none
    or the weights hold them. `packed` tells the bytes of the matrices of a transformer that stay packed, by name.
    """

    tokenizer: Callable[[], Tokenizer]
    text_encoder: Callable[[torch.dtype, torch.device], TextEncoder]
    transformers: tuple[TransformerLoader, ...]
    codec: Callable[[torch.device], Codec]
    transformer_specs: tuple[DiTSpec, ...]
    codec_spec: CodecSpec
    text_spec: TextSpec
    fingerprint: Callable[[], str]
    family: Family | None = None
    model: str = ""
    notes: tuple[str, ...] = ()
    module_files: tuple[Path, ...] = ()
    lora_hashes: tuple[str, ...] = ()
    lora_strengths: tuple[PerExpert, ...] = ()
    image_encoder: Callable[[torch.dtype, torch.device], VisionEncoder] = no_image_encoder
    image_spec: VisionSpec | None = None
    loras: tuple[tuple[LoRARanks, ...], ...] = ()
    adapter_strengths: tuple[Mapping[str, Varying], ...] = ()
    encoder_files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict[str, tuple[Path, ...]])
    base: Parts | None = None
    packed: Callable[[], Mapping[str, int]] = dict[str, int]

    @property
    def transformer(self) -> TransformerLoader:
        """The only transformer. Raises UsageError for a model of several."""
        return the_only(self.transformers)

    @property
    def transformer_spec(self) -> DiTSpec:
        """The spec of the only transformer. Raises UsageError for a model of several."""
        return the_only(self.transformer_specs)

    @property
    def patch(self) -> Patch:
        """Latent frames, rows and columns of a token, the same for all transformers."""
        return self.transformer_specs[0].patch


def repeated(parts: Parts, count: int) -> Parts:
    """Return parts whose only transformer, if it is the only one, stands for each of `count` experts."""
    if len(parts.transformers) != 1:
        return parts
    return replace(
        parts,
        transformers=count * parts.transformers,
        transformer_specs=count * parts.transformer_specs,
        loras=count * parts.loras,
        adapter_strengths=count * parts.adapter_strengths,
    )


NO_OVERRIDES = Overrides()


def released_parts(
    path: Path | ExpertPaths,
    overrides: Overrides = NO_OVERRIDES,
    *,
    variant: str | None = None,
    named: bool = False,
    keep_packed: bool | None = None,
    block: BlockSpec | None = None,
    reader: HeaderReader | None = None,
) -> Parts:
    """The parts of a released model: an official folder, one of diffusers, or a transformer or two experts alone.

    `variant` names the released model where structure leaves several; `named`: which one it is need not be told, as
    a recipe says what is made of it. With `keep_packed` what is stored in
    few bits stays so in memory, with False nothing does; by default what a GGUF file holds does. `block` is the
    kind of block that the weights are read into, otherwise the one that they are for; `reader` holds headers that were
    parsed before. Raises WeightsError naming what is missing or wrong, UsageError for an image encoder given to a
    model without.
    """
    opening = Opening(reader=reader or HeaderReader(), overrides=overrides, variant=variant, named=named)
    model = open_model(path, opening)
    if overrides.image_encoder is not None and model.image_encoder is None:
        raise UsageError(f"{path} is a model that reads no images; leave out the image encoder", code="input_not_taken")
    transformers = tuple(
        replace(part, spec=stored_block(part.file, part.spec if block is None else replace(part.spec, block=block)))
        for part in model.transformers
    )
    return _parts(replace(model, transformers=transformers), verify=_trust, keep_packed=keep_packed)


def own_parts(
    folder: OwnFolder,
    transformer_specs: tuple[DiTSpec, ...],
    codec_spec: CodecSpec,
    text_spec: TextSpec,
    image_spec: VisionSpec | None = None,
) -> Parts:
    """The parts of a folder written by `save_own`; hashes of small files are compared when they are read.

    Raises WeightsError when the files do not have the specs' shapes, or when there is an image encoder or an
    autoencoder without a spec, or a spec without one.
    """
    if (image_spec is None) is not (folder.image_encoder is None):
        raise _unlike_recipe(folder, "image encoder", held=image_spec is None)
    if codec_spec.weightless is not (folder.codec is None):
        raise _unlike_recipe(folder, "autoencoder", held=codec_spec.weightless)
    image = None
    if folder.image_encoder is not None and image_spec is not None:
        image = OpenedPart(file=folder.image_encoder, spec=image_spec)
    model = OpenedModel(
        path=folder.path,
        transformers=tuple(OpenedPart(file=file, spec=spec) for file, spec in folder.paired(transformer_specs)),
        text_encoder=OpenedPart(file=folder.text_encoder, spec=text_spec),
        codec=None if folder.codec is None else OpenedPart(file=folder.codec, spec=codec_spec),
        codec_spec=codec_spec,
        tokenizer=folder.tokenizer,
        image_encoder=image,
    )
    return _parts(model, verify=partial(verify, folder.manifest), keep_packed=False)


def _unlike_recipe(folder: OwnFolder, part: str, *, held: bool) -> WeightsError:
    has, wants = (f"an {part}", "none") if held else (f"no {part}", "one")
    return WeightsError(
        f"{folder.path} has {has} and its recipe {wants}; pass the recipe that it was made with",
        code="recipe_contradicts_weights",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loader(Generic[Module]):
    """A module and the opened files of its weights, which are held against each other when it is made."""

    build: Callable[[], Module]
    part: OpenedPart[Any]
    verify: Verify
    keep_packed: bool | None = False

    def __post_init__(self) -> None:
        self.part.check_tensors()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of its weights."""
        return self.part.file.files.files

    def check_beginnings(self) -> None:
        """Check the first numbers of each tensor. Raises WeightsError for NaN and infinity."""
        file = self.part.file
        check_beginnings(self.build, file.checkpoint(), names=file.names, unused=file.unread(self.part.spec))

    def load(self, dtype_of: Callable[[str], torch.dtype], device: torch.device) -> Module:
        """Read the data. The mapping of a pickle lives as long as this call."""
        release_memory()  # of the part before this one
        self.verify(self.files)
        file = self.part.file
        return load_module(
            self.build,
            file.checkpoint(),
            names=file.names,
            dtype_of=dtype_of,
            device=device,
            unused=file.unread(self.part.spec),
            keep_packed=self.keeps_packed,
        )

    @property
    def keeps_packed(self) -> bool:
        return self.files[0].suffix.lower() == ".gguf" if self.keep_packed is None else self.keep_packed

    def packed(self) -> Mapping[str, int]:
        """Return the bytes of the matrices that stay packed, by name; reads headers only."""
        file, unused = self.part.file, self.part.file.unread(self.part.spec)
        return packed_bytes(self.build, file.checkpoint(), names=file.names, unused=unused) if self.keeps_packed else {}


def _parts(model: OpenedModel, *, verify: Verify, keep_packed: bool | None) -> Parts:
    first, codec_spec = model.transformers[0].file, model.codec_spec
    for part in model.transformers:
        check_block(model.path, part)
    transformers = [
        _Loader(build=part.spec.build, part=part, verify=verify, keep_packed=keep_packed) for part in model.transformers
    ]
    text_part, image_part = model.text_encoder, model.image_encoder
    text = _Loader(build=text_part.spec.build, part=text_part, verify=verify, keep_packed=keep_packed)
    codec: _Loader[Any] | None = None
    if model.codec is not None:  # all codecs with weights are modules
        codec = _Loader(build=cast(Any, codec_spec.build), part=model.codec, verify=verify)
    image = None if image_part is None else _Loader(build=image_part.spec.build, part=image_part, verify=verify)
    loaders = (each for each in (*transformers, text, codec, image) if each is not None)
    files = dict.fromkeys((*(file for each in loaders for file in each.files), model.tokenizer.path))

    @cache
    def check_later() -> None:
        """The transformers after the first are read when much has been computed: damage is to be told before."""
        for each in transformers[1:]:
            each.check_beginnings()

    def first_transformer(dtype: torch.dtype, device: torch.device) -> DiT:
        check_later()
        return _load_transformer(transformers[0], dtype, device)

    def tokenizer() -> Tokenizer:
        verify([model.tokenizer.path])
        return model.tokenizer.read()

    return Parts(
        tokenizer=tokenizer,
        text_encoder=lambda dtype, device: text.load(lambda name: dtype, device),
        transformers=(first_transformer, *(partial(_load_transformer, loader) for loader in transformers[1:])),
        codec=lambda device: codec_spec.build() if codec is None else codec.load(lambda _: torch.float32, device),
        transformer_specs=tuple(part.spec for part in model.transformers),
        codec_spec=codec_spec,
        text_spec=text_part.spec,
        fingerprint=lambda: model_hash(files),
        encoder_files={
            "codec": () if codec is None else codec.files,
            "image_encoder": () if image is None else image.files,
            "text_encoder": text.files,
            "tokenizer": (model.tokenizer.path,),
        },
        family=first.family,
        model=model.model,
        notes=first.notes,
        image_encoder=no_image_encoder if image is None else lambda dtype, device: image.load(lambda _: dtype, device),
        image_spec=None if image_part is None else image_part.spec,
        packed=transformers[0].packed,
    )


def _load_transformer(loader: _Loader[DiT], dtype: torch.dtype, device: torch.device) -> DiT:
    return loader.load(lambda name: torch.float32 if keeps_float32(name) else dtype, device)


def _trust(files: Iterable[Path]) -> None:
    """Folders of others carry no hashes."""
