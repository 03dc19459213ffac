"""Prompts to token ids: the official cleaning, and the two file formats in which vocabularies come."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import ftfy
import tokenizers
import torch
from jaxtyping import Bool, Int
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import Tensor

from kinoform.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
JSON_FILE, SENTENCEPIECE_FILE = "tokenizer.json", "spiece.model"


class Piece(NamedTuple):
    """A token and the stretch of the prompt that it stands for."""

    id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Prompts as the encoder reads them: true tokens first (`mask` True), then padding.

    `lost` counts the tokens of each prompt that were cut off at the limit. `unknown` lists the words, or
    parts of words, that the vocabulary lacks: as written, each once, in order, whether cut off or not.
    """

    ids: Int[Tensor, "b n"]
    mask: Bool[Tensor, "b n"]
    lost: tuple[int, ...]
    unknown: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """`split` turns a cleaned prompt into pieces without an end token; the rest are ids of special tokens."""

    split: Callable[[str], list[Piece]]
    pad: int
    end: int
    unknown: int

    def __call__(self, prompts: Sequence[str], length: int) -> Tokens:
        """Clean, split, keep at most length - 1 pieces, append the end token, pad to `length`.

        Raises UsageError for a length below 1, for a bare string in place of a list of prompts, and for a
        prompt with a surrogate, which no encoding of text can carry.
        """
        if isinstance(prompts, str):
            raise UsageError(f"prompts is the string {prompts[:40]!r}; pass a list of prompts", code="wrong_type")
        if length < 1:
            raise UsageError(
                f"length={length} leaves no place for the end token; give 1 or more", code="value_out_of_range"
            )
        ids = torch.full((len(prompts), length), self.pad)
        mask = torch.zeros(len(prompts), length, dtype=torch.bool)
        lost, unknown = list[int](), list[tuple[str, ...]]()
        for row, prompt in enumerate(prompts):
            check_encodable(prompt)
            pieces = self.split(clean(prompt))
            kept = [piece.id for piece in pieces[: length - 1]] + [self.end]
            ids[row, : len(kept)] = torch.tensor(kept)
            mask[row, : len(kept)] = True
            lost.append(len(pieces) + 1 - len(kept))
            words = (piece.text.strip() for piece in pieces if piece.id == self.unknown)
            unknown.append(tuple(dict.fromkeys(word for word in words if word)))
        return Tokens(ids=ids, mask=mask, lost=tuple(lost), unknown=tuple(unknown))


def clean(text: str) -> str:
    """The official cleaning: repair mojibake and curly quotes, unescape HTML twice, collapse white space."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def check_encodable(prompt: str) -> None:
    """Raises UsageError when the prompt holds a surrogate: half of a character, left by a broken decoder."""
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the prompt holds the surrogate {prompt[error.start]!r} at character {error.start}; remove it",
            code="character_not_allowed",
        ) from error


def load_tokenizer(place: Path) -> Tokenizer:
    """Read a .json or SentencePiece file; from a folder `tokenizer.json`, else `spiece.model`.

    Raises WeightsError when neither is there, when the file is damaged or lacks a special token, and
    UsageError when `spiece.model` needs the optional package sentencepiece.
    """
    for file in (place / JSON_FILE, place / SENTENCEPIECE_FILE, place):
        if file.is_file():
            return _from_json(file) if file.suffix.lower() == ".json" else tokenizer_of_bytes(file.read_bytes(), file)
    raise WeightsError(
        f"no tokenizer in {place}: it must hold {JSON_FILE} or {SENTENCEPIECE_FILE}; "
        "copy either there, or name the folder that has it",
        code="tokenizer_missing",
    )


def build_word_tokenizer(words: Sequence[str]) -> tokenizers.Tokenizer:
    """One id per word, lower-cased: 0 pad, 1 end, 2 unknown, then `words` in order.

    White space and punctuation separate words. A mark of punctuation in `words`, such as ",", is a token;
    others are dropped. Symbols and words outside `words` become unknown.
    Raises UsageError when an entry of `words` could never be read, because it would itself be split.
    """
    known = list(dict.fromkeys(word.lower() for word in words))
    marks = "".join(word for word in known if len(word) == 1 and not word.isalnum())
    kept = "|".join(f"\\x{{{ord(mark):x}}}" for mark in marks)
    pattern = r"\w+(?:['’]\w+)*|[^\w\s\p{P}]" + (f"|{kept}" if kept else "")
    splitter = pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="removed", invert=True)
    for word in known:
        if [part for part, _ in splitter.pre_tokenize_str(word)] != [word]:
            raise UsageError(
                f"the word {word!r} would be split into parts; give the parts as words instead", code="word_would_split"
            )
    vocabulary = {token: index for index, token in enumerate([PAD, END, UNKNOWN, *known])}
    built = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = splitter
    built.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, vocabulary[END])])
    built.add_special_tokens([PAD, END, UNKNOWN])  # pyright: ignore[reportUnknownMemberType]
    return built


def _from_json(path: Path) -> Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise WeightsError(f"{path} is not a tokenizer: {error}; fetch it again", code="tokenizer_damaged") from error
    # A file may ask for cutting and padding of its own, which would hide how much is lost.
    backend.no_truncation()
    backend.no_padding()
    pad, end, unknown = (_known(path, name, backend.token_to_id(name)) for name in (PAD, END, UNKNOWN))
    return Tokenizer(split=partial(_split_json, backend), pad=pad, end=end, unknown=unknown)


def _split_json(backend: tokenizers.Tokenizer, text: str) -> list[Piece]:
    # Some files append the end token in a post-processor and some do not: it is left out here for all.
    encoding = backend.encode(text, add_special_tokens=False)
    return [Piece(id, text[start:end]) for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)]


def tokenizer_of_bytes(model: bytes, path: Path) -> Tokenizer:
    """A SentencePiece model that was read from `path`. Raises as `load_tokenizer` does."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise UsageError(
            f"reading {path} needs the package sentencepiece: pip install 'kinoform[sentencepiece]', "
            f"or put {JSON_FILE} beside it",
            code="package_missing",
        ) from error
    try:
        backend = SentencePieceProcessor()
        backend.LoadFromSerializedProto(model)
    except (RuntimeError, OSError) as error:
        raise WeightsError(
            f"{path} is not a sentencepiece model: {error}; fetch it again", code="tokenizer_damaged"
        ) from error
    ids = {PAD: backend.pad_id(), END: backend.eos_id(), UNKNOWN: backend.unk_id()}
    pad, end, unknown = (_known(path, name, None if id < 0 else id) for name, id in ids.items())
    return Tokenizer(split=partial(_split_sentencepiece, backend), pad=pad, end=end, unknown=unknown)


def _split_sentencepiece(backend: "SentencePieceProcessor", text: str) -> list[Piece]:
    # Twice, because the one call that answers both goes by another name in each release of the package.
    ids, parts = backend.encode(text, out_type=int), backend.encode(text, out_type=str)
    return [Piece(id, part) for id, part in zip(ids, parts, strict=True)]


def _known(path: Path, name: str, id: int | None) -> int:
    if id is None:
        raise WeightsError(
            f"{path} has no token {name!r}; it is not the tokenizer of a T5 encoder", code="tokenizer_unsupported"
        )
    return id
