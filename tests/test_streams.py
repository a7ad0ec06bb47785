import itertools

import pytest
import torch

from s6lib import streams


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 words, so that a few takes need several refills."""
    monkeypatch.setitem(streams.WORDS, "cpu", 16)


def bits(*seeds: int) -> streams.BitStream:
    return streams.BitStream([streams.generator(seed, "dropout") for seed in seeds])


def numbers(*key) -> list[int]:
    return torch.randint(2**62, (4,), generator=streams.generator(*key)).tolist()


def test_stream_is_repeatable():
    # The same seed, purpose and epoch give the same numbers.
    assert numbers(3, "order", 5) == numbers(3, "order", 5)


def test_streams_differ():
    # Another seed, purpose or epoch gives other numbers: no two of these 36 streams meet.
    keys = itertools.product((0, 1, 2), streams.PURPOSES, (0, 1, 2))
    assert len({tuple(numbers(*key)) for key in keys}) == 36


def test_streams_do_not_touch_the_global_state():
    # Making a stream and drawing from it leaves torch's own generator alone.
    before = torch.get_rng_state()
    numbers(0, "init")
    bits(0, 1).take(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_keeps_its_stream_in_company(small_blocks):
    # Seed 7's words are the same alone, in the middle of three, and last of two, over several refills.
    alone, among, last = bits(7), bits(1, 7, 4), bits(9, 7)
    for words in (5, 7, 16, 3, 40, 1):
        expected = alone.take(words).clone()
        assert torch.equal(among.take(words)[1:2], expected)
        assert torch.equal(last.take(words)[1:2], expected)


def test_no_word_is_dealt_twice(small_blocks):
    # All words of two replicas, over several refills, are different.
    stream = bits(0, 1)
    words = torch.cat([stream.take(5).flatten().clone() for _ in range(20)])
    assert len(words.unique()) == 200


def test_words_are_uniform():
    # Every one of the 64 bits is set about half the time: 4 standard deviations of 100,000 throws are 0.0064.
    words = bits(0).take(100_000)[0]
    shares = torch.stack([(words >> k & 1).double().mean() for k in range(64)])
    assert (shares - 0.5).abs().max() < 0.0064


def test_take_larger_than_a_block(small_blocks):
    # A request beyond the block size is served whole.
    assert bits(0, 1).take(1000).shape == (2, 1000)
