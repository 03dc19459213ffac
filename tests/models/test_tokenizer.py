"""Prompts to ids: the official cleaning, limits that are counted, words that are named, two file formats."""

import io
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers

from kinoform.errors import WeightsError
from kinoform.models.tokenizer import Tokenizer, build_word_tokenizer, clean, load_tokenizer
from tests.support.refusals import refused

WORDS = ("a", "red", "blue", "ball", "cube", "moves", "left", "right", ",", "the")
SENTENCES = [f"a {colour} {shape} moves {way}" for colour in ("red", "blue") for shape in ("ball", "cube")
             for way in ("left", "right")]  # fmt: skip


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("words")
    build_word_tokenizer(WORDS).save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


def train_sentencepiece(folder: Path, **special: Any) -> None:
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=written,
        vocab_size=40,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        minloglevel=2,
        num_threads=1,
        **special,
    )
    (folder / "spiece.model").write_bytes(written.getvalue())


@pytest.fixture(scope="module")
def spiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small sentencepiece model whose special tokens have the ids of umT5."""
    folder = tmp_path_factory.mktemp("spiece")
    train_sentencepiece(folder, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return folder


def unigram_of(spiece: Path) -> tokenizers.Tokenizer:
    """The same pieces and scores in the other library, without a post-processor."""
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_file=str(spiece / "spiece.model"))
    pieces = [(model.id_to_piece(id), model.get_score(id)) for id in range(model.get_piece_size())]
    built = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2))
    built.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    built.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return built


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("  A &amp;amp; B\n\t c  ", "A & B c"),
        ("“red” it’s", '"red" it\'s'),
        ("schÃ¶n", "schön"),
        ("&lt;b&gt;", "<b>"),
        ("&amp;lt;b", "<b"),
        ("a < b &amp;amp; c", "a < b & c"),
        ("Red, BALL.", "Red, BALL."),
        ("a\u00a0b\u3000c\u2028d", "a b c d"),
        ("a\x00b\x07", "ab"),
        (" \n ", ""),
        ("", ""),
    ],
)
def test_clean(given: str, cleaned: str) -> None:
    assert clean(given) == cleaned


def test_every_white_space_collapses_as_the_official_pattern_does() -> None:
    basic = [chr(code) for code in range(0x10000)]
    spaces = [character for character in basic if re.match(r"\s", character)]
    assert len(spaces) > 20
    assert all((" ".join(f"a{space} b".split())) == "a b" for space in spaces)
    assert [character for character in basic if character.isspace()] == spaces


def test_true_tokens_then_the_end_then_padding(words: Tokenizer) -> None:
    tokens = words(["a red ball", ""], 6)
    assert tokens.ids.tolist() == [[3, 4, 6, 1, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert tokens.mask.tolist() == [[True] * 4 + [False] * 2, [True] + [False] * 5]
    assert tokens.lost == (0, 0) and tokens.unknown == ((), ())
    assert tokens.ids.dtype == torch.long


@pytest.mark.parametrize(("length", "lost"), [(10, 0), (6, 0), (5, 1), (3, 3), (1, 5)])
def test_the_end_survives_the_limit_and_what_is_cut_is_counted(words: Tokenizer, length: int, lost: int) -> None:
    tokens = words(["a red ball moves left"], length)
    true = tokens.ids[0][tokens.mask[0]].tolist()
    assert tokens.lost == (lost,)
    assert true == [*[3, 4, 6, 8, 9][: 5 - lost], 1]
    assert len(true) + lost == 6


def test_the_limit_is_that_of_the_library(words: Tokenizer, tmp_path: Path) -> None:
    """Cutting and padding by the tokenizers library itself, as the official code asks for, gives the same."""
    backend = build_word_tokenizer(WORDS)
    backend.enable_truncation(4)
    backend.enable_padding(length=4, pad_id=0, pad_token="<pad>")
    prompts = ["a red ball moves left", "a red", "", "a red ball"]
    theirs = [encoding.ids for encoding in backend.encode_batch(prompts)]
    assert words(prompts, 4).ids.tolist() == theirs
    backend.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path)(prompts, 4)
    assert loaded.ids.tolist() == theirs
    assert loaded.lost == (2, 0, 0, 0), "what the file itself asks to cut is still counted"


def test_unknown_words_are_named_once_as_written(words: Tokenizer) -> None:
    tokens = words(["a Zebra, the red Zebra's ball 🔴 moves", "a ball"], 20)
    assert tokens.unknown == (("Zebra", "Zebra's", "🔴"), ())
    assert tokens.ids[0, :10].tolist() == [3, 2, 11, 12, 4, 2, 6, 2, 8, 1]


def test_unknown_words_beyond_the_limit_are_named_too(words: Tokenizer) -> None:
    assert words(["a red zebra"], 2).unknown == (("zebra",),)


def test_case_and_punctuation_do_not_matter_to_words(words: Tokenizer) -> None:
    plain = words(["a red ball moves left"], 12).ids
    for prompt in (
        "A RED ball moves left.",
        "a red-ball; moves (left)!",
        "&quot;a red&quot; ball… moves: left?",
    ):
        assert torch.equal(words([prompt], 12).ids, plain), prompt
    assert not torch.equal(words(["a red, ball moves left"], 12).ids, plain), "a comma is a word of this list"


def test_marks_are_tokens_only_when_listed(tmp_path: Path) -> None:
    for words, ids in (
        (["red", "ball"], [3, 4, 1, 0, 0, 0]),
        (["red", "ball", ",", "]"], [3, 5, 4, 6, 6, 1]),
    ):
        build_word_tokenizer(words).save(str(tmp_path / "tokenizer.json"))
        tokens = load_tokenizer(tmp_path)(["red, ball.]]"], 6)
        assert tokens.ids.tolist() == [ids] and tokens.unknown == ((),)


@pytest.mark.parametrize("word", ["red ball", "red-ball", "</s>", ""])
def test_a_word_that_could_never_be_read_is_refused(word: str) -> None:
    with refused("word_would_split", repr(word)):
        build_word_tokenizer(["a", word])


def test_special_tokens_in_a_prompt_do_no_harm(words: Tokenizer, spiece: Path) -> None:
    for tokenizer in (words, load_tokenizer(spiece)):
        tokens = tokenizer(["a </s> red <pad> ball <unk>"], 32)
        count = int(tokens.mask.sum())
        assert tokens.mask[0, :count].all() and tokens.ids[0, count - 1] == tokenizer.end


@pytest.mark.parametrize("prompt", ["a \ud800 ball", "\udfff", "a \ud83d\ude00"])
def test_surrogates_are_refused_by_name(words: Tokenizer, prompt: str) -> None:
    with refused("character_not_allowed"):
        words([prompt], 8)


def test_control_characters_are_cleaned_away(words: Tokenizer) -> None:
    assert torch.equal(words(["a\x00 red\x1b\x7f ball\x07"], 8).ids, words(["a red ball"], 8).ids)


def test_wrong_requests_are_refused(words: Tokenizer) -> None:
    with refused("wrong_type"):
        words("a red ball", 8)
    with refused("value_out_of_range", "length=0"):
        words(["a"], 0)


def test_no_prompts_give_no_rows(words: Tokenizer) -> None:
    assert words([], 4).ids.shape == (0, 4)


def test_both_formats_agree(spiece: Path, tmp_path: Path) -> None:
    unigram_of(spiece).save(str(tmp_path / "tokenizer.json"))
    ours, theirs = load_tokenizer(tmp_path), load_tokenizer(spiece)
    assert (ours.pad, ours.end, ours.unknown) == (theirs.pad, theirs.end, theirs.unknown) == (0, 1, 2)
    prompts = [*SENTENCES, "", "ball", "a  red\tmoved cubical", "a ☃ ball ☃ left Ω"]
    a, b = ours(prompts, 24), theirs(prompts, 24)
    assert torch.equal(a.ids, b.ids) and torch.equal(a.mask, b.mask)
    assert a.lost == b.lost and a.unknown == b.unknown
    assert a.unknown[-1] == ("☃", "Ω") and a.unknown[0] == ()
    assert a.ids[len(SENTENCES)].tolist() == [1] + [0] * 23


def test_the_end_is_appended_once_whatever_the_file_does(words: Tokenizer, tmp_path: Path) -> None:
    bare = build_word_tokenizer(WORDS)
    bare.post_processor = tokenizers.processors.Sequence([])
    bare.save(str(tmp_path / "tokenizer.json"))
    assert bare.encode("a red").ids == [3, 4]
    assert torch.equal(load_tokenizer(tmp_path)(["a red"], 5).ids, words(["a red"], 5).ids)


def test_json_is_preferred(spiece: Path, tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"damaged")
    build_word_tokenizer(WORDS).save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path)(["a"], 2).ids.tolist() == [[3, 1]]


def test_an_empty_folder_names_both_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as error:
        load_tokenizer(tmp_path / "absent")
    assert all(name in str(error.value) for name in ("absent", "tokenizer.json", "spiece.model"))


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00damaged"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with refused("tokenizer_damaged", name):
        load_tokenizer(tmp_path)


def test_a_tokenizer_of_another_family_is_refused(tmp_path: Path) -> None:
    other = tokenizers.Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    other.save(str(tmp_path / "tokenizer.json"))
    with refused("tokenizer_unsupported", "<pad>"):
        load_tokenizer(tmp_path)


def test_a_sentencepiece_model_without_padding_is_refused(tmp_path: Path) -> None:
    train_sentencepiece(tmp_path, unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    with refused("tokenizer_unsupported", "<pad>"):
        load_tokenizer(tmp_path)


def test_without_sentencepiece_the_error_says_what_to_install(spiece: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with refused("package_missing", "pip install 'kinoform[sentencepiece]'"):
        load_tokenizer(spiece)


def test_both_travel_to_other_processes(words: Tokenizer, spiece: Path) -> None:
    for tokenizer in (words, load_tokenizer(spiece)):
        again = pickle.loads(pickle.dumps(tokenizer))
        assert torch.equal(again(["a red ball"], 9).ids, tokenizer(["a red ball"], 9).ids)
