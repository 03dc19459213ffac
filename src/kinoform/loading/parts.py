"""The parts of a model as promises: headers are checked now, so that nothing fails after minutes of work."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, cast

import torch

from kinoform.checkpoints.hashes import model_hash
from kinoform.errors import UsageError, WeightsError
from kinoform.families import clip_qkv as clip
from kinoform.families.identify import VOCABULARY
from kinoform.loading.detect_block import as_stored, check_blocks
from kinoform.loading.load import Module, load_module, match, on_meta
from kinoform.loading.load_packed import load_packed
from kinoform.loading.opening import opened_model
from kinoform.loading.own import own_places, read_manifest, verify
from kinoform.loading.sources import Given, Places, Source, Specs
from kinoform.loading.tokenizer_file import read_vocabulary
from kinoform.models.codec import Codec, CodecSpec
from kinoform.models.dit import DiT, DiTSpec, keeps_float32
from kinoform.models.protocols import BlockSpec
from kinoform.models.text import TextEncoder, TextSpec
from kinoform.models.tokenizer import Tokenizer
from kinoform.models.vae import VAE
from kinoform.models.vision import VisionEncoder, VisionSpec
from kinoform.ops.memory import release_memory

Verify = Callable[[Iterable[Path]], None]

UNUSED = (f"*{VOCABULARY}", "*logit_scale")
"""What ComfyUI adds to text encoders: the tokenizer, and a number that only CLIP has a use for."""


def no_image_encoder(dtype: torch.dtype, device: torch.device) -> VisionEncoder:
    raise WeightsError("this model has no image encoder; image-to-video models of Wan 2.1 do", code="part_missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a pipeline needs of a model; no weight is read before its function is called.

    Calls may raise WeightsError for damage that headers do not show. The transformer keeps its float32
    parts in float32 whatever the dtype; the codec is float32, or has no weights. Each call loads anew. `image_spec`
    is None for a model without image encoder. `family` is the transformer's architecture (see `Identity`), empty in
    kinoform's own folders; `models` are the released models whose weights these may be, none for a model of
    another size; `notes` are sentences about settings and inputs that the names of the weights call for.
    """

    tokenizer: Callable[[], Tokenizer]
    text_encoder: Callable[[torch.dtype, torch.device], TextEncoder]
    transformer: Callable[[torch.dtype, torch.device], DiT]
    codec: Callable[[torch.device], Codec]
    transformer_spec: DiTSpec
    codec_spec: CodecSpec
    text_spec: TextSpec
    fingerprint: Callable[[], str]
    family: str = ""
    models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    image_encoder: Callable[[torch.dtype, torch.device], VisionEncoder] = no_image_encoder
    image_spec: VisionSpec | None = None


NOTHING_GIVEN = Given()


def released_parts(
    path: Path,
    given: Given = NOTHING_GIVEN,
    *,
    variant: str | None = None,
    named: bool = False,
    keep_packed: bool | None = None,
    block: BlockSpec | None = None,
) -> Parts:
    """The parts of a Wan 2.1 model: an official folder, one of diffusers, or a transformer alone.

    `variant` names the released model where structure leaves several; `named`: which one it is need not be told, as
    a recipe says what is made of it. With `keep_packed` what is stored in
    few bits stays so in memory, with False nothing does; by default what a GGUF file holds does. `block` is the
    kind of block that the weights are read into, otherwise the one that they are for. Raises
    WeightsError naming what is missing or wrong, UsageError for an image encoder given to a model without.
    """
    places, specs = opened_model(path, given, variant=variant, named=named)
    if given.image_encoder is not None and places.image_encoder is None:
        raise UsageError(f"{path} is a model that reads no images; leave out the image encoder", code="input_not_taken")
    transformer = specs.transformer if block is None else replace(specs.transformer, block=block)
    specs = replace(specs, transformer=as_stored(places.transformer, transformer))
    return _parts(places, specs, verify=_trust, keep_packed=keep_packed)


def own_parts(
    folder: Path,
    transformer_spec: DiTSpec,
    codec_spec: CodecSpec,
    text_spec: TextSpec,
    image_spec: VisionSpec | None = None,
) -> Parts:
    """The parts of a folder written by `save_own`; hashes of small files are compared when they are read.

    Raises WeightsError when the files are not those of the manifest, or do not have the specs' shapes, or when
    there is an image encoder or an autoencoder without a spec, or a spec without one.
    """
    manifest = read_manifest(folder)
    places = own_places(folder, manifest)
    if (image_spec is None) is not (places.image_encoder is None):
        told = ("an image encoder", "none") if image_spec is None else ("no image encoder", "one")
        raise WeightsError(
            f"{folder} has {told[0]} and its recipe {told[1]}; pass the recipe that it was made with",
            code="recipe_contradicts_weights",
        )
    if codec_spec.weightless is not (places.codec is None):
        told = ("an autoencoder", "none") if codec_spec.weightless else ("no autoencoder", "one")
        raise WeightsError(
            f"{folder} has {told[0]} and its recipe {told[1]}; pass the recipe that it was made with",
            code="recipe_contradicts_weights",
        )
    specs = Specs(path=folder, transformer=transformer_spec, codec=codec_spec, text=text_spec, image=image_spec)
    return _parts(places, specs, verify=partial(verify, manifest), keep_packed=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part(Generic[Module]):
    """A module and where its weights lie. Opened again at each use, so that no mapping outlives a load."""

    build: Callable[[], Module]
    source: Source
    verify: Verify
    keep_packed: bool | None = False
    unused: tuple[str, ...] = UNUSED

    def check(self) -> tuple[Path, ...]:
        checkpoint = self.source.open()
        match(on_meta(self.build), checkpoint, names=self.source.names, unused=self.unused)
        return checkpoint.files

    def load(self, dtype_of: Callable[[str], torch.dtype], device: torch.device) -> Module:
        release_memory()  # of the part before this one
        checkpoint = self.source.open()
        self.verify(checkpoint.files)
        packed = self.source.place.suffix.lower() == ".gguf" if self.keep_packed is None else self.keep_packed
        load = load_packed if packed else load_module
        return load(
            self.build,
            checkpoint,
            names=self.source.names,
            dtype_of=dtype_of,
            device=device,
            unused=self.unused,
        )


def _parts(places: Places, specs: Specs, *, verify: Verify, keep_packed: bool | None) -> Parts:
    check_blocks(places.path, specs.transformer, places.transformer)
    transformer = _Part(
        build=specs.transformer.build, source=places.transformer, verify=verify, keep_packed=keep_packed
    )
    text = _Part(build=specs.text.build, source=places.text_encoder, verify=verify, keep_packed=keep_packed)
    codec = _codec(places.codec, specs.codec, verify)
    image = _tower(places.image_encoder, specs.image, verify)
    checked = (each.check() for each in (transformer, text, codec, image) if each is not None)
    files = dict.fromkeys((*(file for held in checked for file in held), places.tokenizer))

    def tokenizer() -> Tokenizer:
        verify([places.tokenizer])
        return read_vocabulary(places.tokenizer)

    return Parts(
        tokenizer=tokenizer,
        text_encoder=lambda dtype, device: text.load(lambda name: dtype, device),
        transformer=lambda dtype, device: transformer.load(
            lambda name: torch.float32 if keeps_float32(name) else dtype, device
        ),
        codec=lambda device: specs.codec.build() if codec is None else codec.load(lambda _: torch.float32, device),
        transformer_spec=specs.transformer,
        codec_spec=specs.codec,
        text_spec=specs.text,
        fingerprint=lambda: model_hash(files),
        family=places.transformer.family,
        models=places.transformer.models,
        notes=places.transformer.notes,
        image_encoder=no_image_encoder if image is None else lambda dtype, device: image.load(lambda _: dtype, device),
        image_spec=specs.image,
    )


def _codec(source: Source | None, spec: CodecSpec, verify: Verify) -> _Part[VAE] | None:
    """None for a codec without weights; the only other kind is the autoencoder."""
    if source is None:
        return None
    return _Part(build=cast(Callable[[], VAE], spec.build), source=source, verify=verify)


def _tower(source: Source | None, spec: VisionSpec | None, verify: Verify) -> _Part[VisionEncoder] | None:
    if source is None or spec is None:
        return None
    return _Part(build=spec.build, source=source, verify=verify, unused=(*UNUSED, *clip.unused(spec.layers)))


def _trust(files: Iterable[Path]) -> None:
    """Folders of others carry no hashes."""
