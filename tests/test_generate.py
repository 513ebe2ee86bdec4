"""Generation: the cache, greedy and random choices, top_k, seeds, errors, and texts from a prompt."""

from __future__ import annotations

import dataclasses
import math
from itertools import islice

import numpy as np
import pytest

import ag
import nn
import ownt
from nn import generate, gpt, train

CONFIG = nn.GPTConfig(vocab_size=13, block_size=8, n_layer=2, n_head=2, n_embd=16, init_std=0.5, dtype="float64")
START = [[1, 2, 3], [4, 5, 6]]


@pytest.fixture
def model():
    return nn.GPT(CONFIG).eval()


def last_logits(model, rows):
    """After the last token of each row, computed from the whole window at once."""
    with ag.no_grad():
        return model(np.array(rows)[:, -model.config.block_size :]).numpy()[:, -1]


@pytest.mark.parametrize("settings", [{}, {"norm": "rms-no-gain", "bias": False, "tied": False, "n_head": 1}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cached_generation_is_uncached_generation_also_past_the_block(settings, dtype):
    model = nn.GPT(dataclasses.replace(CONFIG, **settings, dtype=dtype))
    rows = np.array(START)
    for new in islice(generate.stream(model, START, temperature=0), 20):
        assert new == last_logits(model, rows).argmax(1).tolist()
        rows = np.concatenate([rows, np.array(new)[:, None]], axis=1)
    assert len(set(rows[0, 3:])) > 3


@pytest.mark.parametrize("pieces", [[8], [1] * 8, [3, 1, 4]])
def test_logits_with_a_cache_are_those_without(model, pieces):
    tokens = np.random.default_rng(0).integers(13, size=(2, 8))
    cache, found, at = gpt.Cache(model, batch=2), [], 0
    with ag.no_grad():
        for length in pieces:
            found.append(model(tokens[:, at : at + length], cache).numpy().copy())
            at += length
        np.testing.assert_allclose(np.concatenate(found, 1), model(tokens).numpy(), rtol=1e-11, atol=1e-13)
        with pytest.raises(ValueError, match=r"block_size = 8 positions; got \(2, 1\) after 8 cached"):
            model(tokens[:, :1], cache)


def test_a_token_is_replayed_without_a_node_and_a_changed_model_is_recorded_anew(model, monkeypatch):
    made, init = [], ag.Node.__init__

    def counted(self, *args, **options):
        made.append(self)
        init(self, *args, **options)

    monkeypatch.setattr(ag.Node, "__init__", counted)
    decoder, rows, counts = generate.Decoder(model, 1), [[1]], []
    for number in range(6):
        if number == 4:
            model.head.weight.requires_grad = False
        found = decoder.logits(rows)
        counts.append(len(made) > 0)
        np.testing.assert_allclose(found, last_logits(model, rows), rtol=1e-11, atol=1e-13)
        rows[0].append(number)
        made.clear()
    assert counts == [True, False, False, False, True, False]


def test_a_token_recorded_before_a_timeline_was_is_told_to_it_all_the_same(model):
    tokens = generate.stream(model, [[0, 1]], 0.0)
    for _ in range(3):
        next(tokens)
    with ownt.memory.record() as timeline:
        next(tokens)
    assert timeline.report.peak["activation"]


def test_the_cache_is_given_back(model):
    before = ownt.memory.ledger.live
    model.generate(START, 3)
    assert ownt.memory.ledger.live == before


def test_generate_puts_new_tokens_after_the_given_ones(model):
    made = model.generate(START, 9)
    assert made.shape == (2, 12)
    assert made.dtype == "int64"
    assert made.numpy()[:, :3].tolist() == START
    assert made.numpy().min() >= 0
    assert made.numpy().max() < 13
    assert model.generate(START, 0).tolist() == START


def test_tokens_may_be_a_tensor_or_an_array_and_stay_as_they_are(model):
    expected = model.generate(START, 5, temperature=0).tolist()
    for tokens in (ownt.asarray(START), np.array(START, "int32")):
        assert model.generate(tokens, 5, temperature=0).tolist() == expected
        assert tokens.tolist() == START


def test_only_the_last_block_of_a_long_beginning_counts(model):
    long = [[7] * 20 + list(range(8))]
    assert (
        model.generate(long, 4, temperature=0).tolist()[0][-4:]
        == (model.generate([list(range(8))], 4, temperature=0).tolist()[0][-4:])
    )


def test_top_k_of_1_is_greedy(model):
    assert model.generate(START, 20, top_k=1).tolist() == model.generate(START, 20, temperature=0).tolist()


def test_top_k_of_1_is_greedy_where_logits_are_equal():
    model = nn.GPT(dataclasses.replace(CONFIG, init_std=0.0))
    assert model.generate([[1]], 20, top_k=1).tolist() == model.generate([[1]], 20, temperature=0).tolist()


@pytest.mark.parametrize("top_k", [2, 5, 13, 99])
def test_top_k_draws_from_so_many_of_the_likeliest(model, top_k):
    row, seen = [1], []

    def choose(probabilities):
        seen.append(np.array(probabilities))
        return generate.choose_random(probabilities)

    for (token,) in islice(generate.stream(model, [[1]], top_k=top_k, choose=choose), 15):
        logits = last_logits(model, [row])[0]
        likeliest = np.argsort(-logits)[:top_k]
        assert set(np.flatnonzero(seen[-1])) == set(likeliest)
        powers = np.exp(logits[likeliest] - logits.max())
        np.testing.assert_allclose(seen[-1][likeliest], powers / powers.sum(), rtol=1e-10)
        assert token in likeliest
        row.append(token)


def test_temperature_divides_the_logits():
    logits = [1.0, 2.0, 4.0]
    for temperature in (0.5, 1.0, 3.0):
        powers = [math.exp(value / temperature) for value in logits]
        expected = [power / sum(powers) for power in powers]
        assert generate.probabilities(logits, temperature, None) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1e-5, 1e-320])
def test_a_temperature_near_0_is_greedy(model, temperature):
    greedy = model.generate(START, 10, temperature=0).tolist()
    assert model.generate(START, 10, temperature=temperature).tolist() == greedy


def test_choices_come_as_often_as_their_probabilities():
    probabilities, draws = [0.5, 0.0, 0.2, 0.3], 5000
    counts = np.bincount([generate.choose_random(probabilities) for _ in range(draws)], minlength=4)
    for count, p in zip(counts, probabilities):
        assert abs(count - draws * p) <= 5 * math.sqrt(draws * p * (1 - p))


@pytest.mark.parametrize("point", [0.0, 1 - 2**-53, 1.0])
def test_a_token_of_probability_0_is_never_drawn(monkeypatch, point):
    monkeypatch.setattr(ownt, "rand", lambda *_, **options: ownt.full((1,), point, dtype="float64"))
    assert generate.choose_random([0.0, 0.1, 0.7, 0.2, 0.0]) in {1, 2, 3}


def test_the_seed_decides(model):
    texts = []
    for seed in (1, 1, 2):
        ownt.manual_seed(seed)
        texts.append(model.generate(START, 20).tolist())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


@pytest.mark.parametrize("training", [True, False])
def test_generation_is_without_dropout_and_puts_the_mode_back(training):
    model = nn.GPT(dataclasses.replace(CONFIG, dropout=0.5)).train(training)
    made = [model.generate(START, 6, temperature=0).tolist() for _ in range(2)]
    assert made[0] == made[1]
    assert all(module.training is training for module in model.modules())


def test_generation_puts_the_mode_of_each_module_back():
    model = nn.GPT(CONFIG)
    model.blocks[0].eval()
    model.generate(START, 2)
    assert model.training
    assert not model.blocks[0].training


def test_the_mode_is_put_back_after_an_error(model):
    model.train()
    with pytest.raises(IndexError):
        model.generate([[99]], 1)
    assert model.training


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -0.1}, "temperature of 0 or more; got -0.1"),
        ({"temperature": math.nan}, "temperature of 0 or more; got nan"),
        ({"top_k": 0}, "top_k of 1 or more; got 0"),
        ({"top_k": -2, "temperature": 0.0}, "top_k of 1 or more; got -2"),
    ],
)
def test_bad_settings_are_input_errors(model, options, words, count):
    with pytest.raises(nn.InputError, match=words):
        model.generate(START, count, **options)


def test_a_stream_checks_its_settings_when_it_is_made(model):
    with pytest.raises(nn.InputError, match="temperature"):
        generate.stream(model, START, -1.0)


@pytest.mark.parametrize("tokens", [[[]], np.zeros((1, 0), "int64"), np.zeros((0, 2), "int64"), [1, 2]])
def test_no_tokens_to_begin_with_are_an_error_that_names_their_shape(model, tokens):
    with pytest.raises(ValueError, match=r"\((1, 0|0, 2|2,)\)"):
        model.generate(tokens, 1)


def test_a_model_without_numbers_is_an_error_that_says_so(model):
    model.wte.weight.tensor.fill_(math.nan)
    with pytest.raises(ValueError, match=r"(?i)nan|finite"):
        model.generate(START, 1)


# texts


def test_a_text_goes_on_from_its_prompt_up_to_the_end_of_the_document(model):
    model.tokenizer = nn.CharTokenizer("abcdefghijkl")
    bos, seen = model.tokenizer.bos, set()
    for seed in range(30):
        ownt.manual_seed(seed)
        text = train.sample(model, "ab", 1.0)
        ownt.manual_seed(seed)
        tokens = model.generate([[bos, 0, 1]], 6).tolist()[0][3:]
        new = tokens[: tokens.index(bos)] if bos in tokens else tokens
        assert text == "ab" + model.tokenizer.decode(new)
        seen.add(bos in tokens)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("abz", "got 'z' at 2 of 'abz'"), ("abcdabcd", "prompt shorter than a block of 8; got 8 characters")],
)
def test_a_prompt_that_cannot_be_is_an_input_error(model, prompt, words):
    model.tokenizer = nn.CharTokenizer("abcdefghijkl")
    assert train.sample(model, "abcdabc", 0.0).startswith("abcdabc")
    with pytest.raises(nn.InputError, match=words):
        train.sample(model, prompt)


def test_texts_want_a_tokenizer(model):
    with pytest.raises(nn.InputError, match="expected a model with a tokenizer"):
        train.sample(model)
