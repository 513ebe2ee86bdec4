"""The tokenizer, documents and streams as batches, and texts that cannot be used."""

from __future__ import annotations

import random

import numpy as np
import pytest

import nn
import ownt
from nn import data

NAMES = "anna\n bob \n\ncleo\nd\n"


def documents(text=NAMES, block_size=4, seed=1):
    return data.load(text, "lines", block_size, random.Random(seed))


def stream(text="abcdefghij", block_size=3, seed=1):
    return data.load(text, "stream", block_size, random.Random(seed))


def in_order(text, block_size):
    """Documents in the order of the text."""
    made = random.Random()
    made.shuffle = lambda documents: None
    return data.load(text, "lines", block_size, made)


# tokenizer


def test_characters_are_tokens_in_order_and_bos_is_the_last():
    tokenizer = nn.CharTokenizer("hello")
    assert tokenizer.characters == ["e", "h", "l", "o"]
    assert (tokenizer.bos, tokenizer.vocab_size) == (4, 5)
    assert tokenizer.encode("hole") == [1, 3, 2, 0]
    assert tokenizer.encode("") == []
    assert tokenizer.decode([4, 1, 3, 4]) == "ho"


@pytest.mark.parametrize("text", ["hello", "two\nlines\t", "é, 漢字 and 🙂", "\\'\""])
def test_texts_come_back_also_through_the_description(text):
    tokenizer = nn.CharTokenizer(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    again = nn.CharTokenizer.from_dict(tokenizer.as_dict())
    assert again.encode(text) == tokenizer.encode(text)
    assert again.vocab_size == tokenizer.vocab_size


def test_an_unknown_character_is_an_input_error_naming_it_and_its_place():
    with pytest.raises(nn.InputError, match="expected characters among 'abc'; got 'é' at 2 of 'abéa'") as caught:
        nn.CharTokenizer("abc").encode("abéa")
    assert "\n" not in str(caught.value)


def test_the_message_stays_short_where_many_characters_are_known():
    with pytest.raises(nn.InputError) as caught:
        nn.CharTokenizer(map(chr, range(0x4E00, 0x5E00))).encode("x" * 5000)
    assert "'x'" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("token", [-1, 5, 99])
def test_tokens_that_do_not_exist_are_not_decoded(token):
    with pytest.raises((IndexError, ValueError)):
        nn.CharTokenizer("hello").decode([0, token])


def test_no_characters_are_an_input_error():
    with pytest.raises(nn.InputError, match="expected one character or more"):
        nn.CharTokenizer("")


@pytest.mark.parametrize("description", [{}, {"type": "bpe", "characters": "ab"}, {"type": "char", "characters": 3}])
def test_a_foreign_description_is_an_input_error(description):
    with pytest.raises(nn.InputError, match='expected type "char"'):
        nn.CharTokenizer.from_dict(description)


# documents


def test_documents_are_stripped_lines_shuffled_once_by_the_stream():
    expected = ["anna", "bob", "cleo", "d"]
    random.Random(1).shuffle(expected)
    made = documents()
    assert made.documents == expected
    assert made.tokenizer.characters == sorted(set("annabobcleod"))


def test_a_batch_of_documents_has_bos_before_and_after_and_padding_that_does_not_count():
    made = in_order("ab\nc\n", block_size=3)
    x, y = made.batch(0, 2)
    assert x.tolist() == [[3, 0, 1], [3, 2, 3]]
    assert y.tolist() == [[0, 1, 3], [2, 3, -100]]
    assert x.dtype == y.dtype == "int64"


def test_padding_changes_neither_loss_nor_gradient():
    model = nn.GPT(nn.GPTConfig(vocab_size=4, block_size=3, n_layer=1, n_head=1, n_embd=4, dtype="float64"))
    made = in_order("ab\nc\n", block_size=3)
    whole = model.loss(*made.batch(0, 2)).item()
    alone = [model.loss(*made.batch(i, 1)).item() for i in range(2)]
    assert whole == pytest.approx((3 * alone[0] + 2 * alone[1]) / 5, rel=1e-12)


@pytest.mark.parametrize(("block_size", "columns"), [(3, 3), (4, 4), (5, 5), (6, 6), (9, 6)])
def test_documents_are_cut_at_the_block_size(block_size, columns):
    made = documents("abcde\n" * 2, block_size)
    x, y = made.batch(0, 1)
    assert x.shape == y.shape == (1, columns)
    assert x.tolist()[0] == [5, 0, 1, 2, 3, 4][:columns]
    assert y.tolist()[0] == [0, 1, 2, 3, 4, 5][:columns]


def test_batches_go_through_the_documents_in_turn_and_wrap():
    made = documents(block_size=9)
    rows = [made.batch(step, 3)[0].tolist() for step in range(4)]
    texts = [made.tokenizer.decode(row) for step in rows for row in step]
    assert texts == made.documents * 3
    assert len(made.batch(0, 7)[0]) == 7
    assert data.counted(made.batch(0, 4)[1]) == sum(len(document) + 1 for document in made.documents)


def test_a_seed_gives_the_order():
    text = "\n".join(f"{number:02d}" for number in range(50))
    orders = [documents(text, seed=seed).documents for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


# streams


def test_targets_of_a_stream_are_its_tokens_one_further():
    made = stream()
    x, y = (tensor.numpy() for tensor in made.batch(0, 500))
    assert x.shape == y.shape == (500, 3)
    assert np.array_equal(y, x + 1)
    assert set(x[:, 0]) == set(range(7))


def test_a_stream_of_one_block_has_one_stretch():
    x, y = stream("abcd", block_size=3).batch(0, 2)
    assert x.tolist() == [[0, 1, 2]] * 2
    assert y.tolist() == [[1, 2, 3]] * 2


def test_a_seed_gives_the_stretches():
    text = "".join(map(chr, range(100, 1000)))
    batches = [stream(text, seed=seed).batch(0, 8)[0].tolist() for seed in (1, 1, 2)]
    assert batches[0] == batches[1]
    assert batches[0] != batches[2]
    made = stream(text)
    assert made.batch(0, 8)[0].tolist() != made.batch(1, 8)[0].tolist()


def test_tokens_are_in_the_ledger_as_data_at_4_bytes_each():
    text = "abcdefghij" * 10
    before = ownt.memory.ledger.by_account().get(("buffer", "data"), 0)
    made = stream(text, 8)
    assert ownt.memory.ledger.by_account()["buffer", "data"] - before == 4 * len(text) == made.tokens.nbytes


def test_a_text_without_a_layout_has_no_batches():
    text = data.Text(nn.CharTokenizer("ab"), [0, 1], 1)
    with pytest.raises(TypeError, match="Text defines no batch"):
        text.batch(0, 1)
    with pytest.raises(TypeError, match="Text defines no rows to validate on"):
        next(text.validation(1, 1))


# texts


def test_the_names_of_the_package_are_a_thousand_or_more_without_comments():
    names = data.read_text().split("\n")
    assert len(names) >= 1000
    assert len(set(names)) == len(names)
    assert not [name for name in names if not name.isascii() or not name.isalpha() or name != name.lower()]


def test_a_text_is_read_as_it_is(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("# é\n漢\n", "utf-8")
    assert data.read_text(path) == data.read_text(str(path)) == "# é\n漢\n"


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (None, "No such file"),
        (b"", "empty file"),
        (b" \n\n\t", "empty file"),
        (b"ab\xff\xfe", "UTF-8; got other bytes at 2 of"),
        (b"\x89PNG\r\n\x1a\n\0\0", "UTF-8; got other bytes at 0 of"),
        (b"abc\0def", "zero byte at 3 of"),
    ],
)
def test_a_file_that_is_no_text_is_an_input_error_naming_it(tmp_path, contents, words):
    path = tmp_path / "text.txt"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(nn.InputError, match=words) as caught:
        data.read_text(path)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(nn.InputError, match="expected a readable text file") as caught:
        data.read_text(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "text", "got"), [("lines", "ab\nc", 3), ("lines", "ab\n\n\n\n\n\nc", 3), ("stream", "abcd", 3)]
)
def test_a_text_shorter_than_a_block_is_an_input_error(layout, text, got):
    with pytest.raises(nn.InputError, match=f"text of 4 characters or more, one block; got {got}"):
        data.load(text, layout, 4, random.Random(0))
    data.load(text, layout, 3, random.Random(0))


@pytest.mark.parametrize("layout", ["lines", "stream"])
def test_no_text_at_all_is_an_input_error(layout):
    with pytest.raises(nn.InputError, match="expected"):
        data.load("", layout, 4, random.Random(0))


def test_batches_are_tensors_of_ownt():
    assert all(type(part) is ownt.Tensor for made in (documents(), stream()) for part in made.batch(0, 2))
