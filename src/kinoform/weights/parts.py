"""The parts of a model as promises: headers are checked now, so that nothing fails after minutes of work."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic

import torch

from kinoform.models.dit import DiT, DiTSpec, keeps_float32
from kinoform.models.text import TextEncoder, TextSpec
from kinoform.models.tokenizer import Tokenizer, load_tokenizer
from kinoform.models.vae import VAE, VAESpec
from kinoform.weights import names
from kinoform.weights.files import open_checkpoint
from kinoform.weights.hashes import model_hash
from kinoform.weights.load import Module, load_module, match, on_meta
from kinoform.weights.names import Names
from kinoform.weights.official import official_places, official_specs
from kinoform.weights.own import own_places, read_manifest, verify
from kinoform.weights.places import Places, Specs

Verify = Callable[[Iterable[Path]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a pipeline needs of a model; no weight is read before its function is called.

    Calls may raise WeightsError for damage that headers do not show. The transformer keeps its float32
    parts in float32 whatever the dtype; the codec is float32. Each call loads anew.
    """

    tokenizer: Callable[[], Tokenizer]
    text_encoder: Callable[[torch.dtype, torch.device], TextEncoder]
    transformer: Callable[[torch.dtype, torch.device], DiT]
    codec: Callable[[torch.device], VAE]
    transformer_spec: DiTSpec
    codec_spec: VAESpec
    text_spec: TextSpec
    fingerprint: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a kind of folder names the tensors of each part; None where it uses kinoform's own names."""

    transformer: Names | None = None
    text_encoder: Names | None = None
    codec: Names | None = None


OFFICIAL = Dialect(transformer=names.DIT, text_encoder=names.TEXT_ENCODER, codec=names.VAE21)
OWN = Dialect()


def official_parts(folder: Path) -> Parts:
    """The parts of an official Wan 2.1 t2v folder. Raises WeightsError naming what is missing or wrong."""
    places = official_places(folder)
    return _parts(places, official_specs(folder, places), OFFICIAL, verify=_trust)


def own_parts(folder: Path, transformer_spec: DiTSpec, codec_spec: VAESpec, text_spec: TextSpec) -> Parts:
    """The parts of a folder written by `save_own`; hashes of small files are compared when they are read.

    Raises WeightsError when the files are not those of the manifest, or do not have the specs' shapes.
    """
    manifest = read_manifest(folder)
    places = own_places(folder, manifest)
    specs = Specs(folder=folder, transformer=transformer_spec, codec=codec_spec, text=text_spec)
    return _parts(places, specs, OWN, verify=partial(verify, manifest))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part(Generic[Module]):
    """A module and where its weights lie. Opened again at each use, so that no mapping outlives a load."""

    build: Callable[[], Module]
    place: Path
    names: Names | None
    verify: Verify

    def check(self) -> tuple[Path, ...]:
        checkpoint = open_checkpoint(self.place)
        match(on_meta(self.build), checkpoint, names=self.names)
        return checkpoint.files

    def load(self, dtype_of: Callable[[str], torch.dtype], device: torch.device) -> Module:
        checkpoint = open_checkpoint(self.place)
        self.verify(checkpoint.files)
        return load_module(self.build, checkpoint, names=self.names, dtype_of=dtype_of, device=device)


def _parts(places: Places, specs: Specs, dialect: Dialect, *, verify: Verify) -> Parts:
    transformer = _Part(
        build=specs.transformer.build, place=places.transformer, names=dialect.transformer, verify=verify
    )
    text = _Part(build=specs.text.build, place=places.text_encoder, names=dialect.text_encoder, verify=verify)
    codec = _Part(build=specs.codec.build, place=places.codec, names=dialect.codec, verify=verify)
    files = (*transformer.check(), *text.check(), *codec.check(), places.tokenizer_file)

    def tokenizer() -> Tokenizer:
        verify([places.tokenizer_file])
        return load_tokenizer(places.tokenizer)

    return Parts(
        tokenizer=tokenizer,
        text_encoder=lambda dtype, device: text.load(lambda name: dtype, device),
        transformer=lambda dtype, device: transformer.load(
            lambda name: torch.float32 if keeps_float32(name) else dtype, device
        ),
        codec=lambda device: codec.load(lambda name: torch.float32, device),
        transformer_spec=specs.transformer,
        codec_spec=specs.codec,
        text_spec=specs.text,
        fingerprint=lambda: model_hash(files),
    )


def _trust(files: Iterable[Path]) -> None:
    """Official folders carry no hashes."""
