"""Pairs: what a batch holds, how the ratio grows, and that (labels, seed, epoch) decides everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit.samplers import PairSampler


@st.composite
def cases(draw):
    counts = draw(st.lists(st.integers(1, 6), min_size=2, max_size=10).filter(lambda c: max(c) > 1))
    pids = np.array(draw(st.permutations([3 * pid for pid, count in enumerate(counts) for _ in range(count)])))
    return pids, draw(st.integers(1, len(pids))), draw(st.integers(0, 200))


@given(cases(), st.sampled_from(["paper", "code"]))
def test_a_batch_holds_positive_then_negative_pairs_in_the_ratio(case, schedule):
    pids, pairs, e = case
    sampler = PairSampler(pids, pairs=pairs, schedule=schedule, seed=1)
    batches = sampler.epoch(e)
    assert len(batches) == len(sampler) == len(pids) // pairs
    firsts = np.concatenate([rows[0::2] for rows in batches])
    assert len(set(firsts.tolist())) == len(firsts)  # each image begins one pair at most
    alone = {pid for pid, count in zip(*np.unique(pids, return_counts=True), strict=True) if count == 1}
    for rows in batches:
        assert rows.shape == (2 * pairs,)
        assert rows.dtype == np.int64
        same = pids[rows[0::2]] == pids[rows[1::2]]
        able = sum(pid not in alone for pid in pids[rows[0::2]].tolist())
        assert same.sum() == min(able, max(1, round(pairs / (1 + sampler.ratio(e)))))
        assert (np.diff(same.astype(int)) <= 0).all()  # positives first
        assert (rows[0::2] != rows[1::2]).all()  # nobody is its own partner


@given(cases())
def test_labels_seed_and_epoch_decide_alone(case):
    pids, pairs, e = case
    sampler, again = PairSampler(pids, pairs=pairs, seed=5), PairSampler(pids.tolist(), pairs=pairs, seed=5)
    again.epoch(e + 1)
    np.testing.assert_array_equal(sampler.epoch(e), again.epoch(e))


def test_epochs_and_seeds_differ():
    pids = np.repeat(np.arange(20), 5)
    first = np.stack(PairSampler(pids, seed=0).epoch(0))
    assert not np.array_equal(first, PairSampler(pids, seed=0).epoch(1))
    assert not np.array_equal(first, PairSampler(pids, seed=1).epoch(0))


def test_the_ratio_by_hand():
    """ambiguities Z2: after 75 epochs 2.11 (paper) and 3.22 (code); it reaches 4 at epochs 140 and 93."""
    pids = [0, 0, 1]
    paper, code = PairSampler(pids, pairs=1), PairSampler(pids, pairs=1, schedule="code")
    assert paper.ratio(0) == 1
    assert paper.ratio(1) == 1.01
    assert paper.ratio(75) == pytest.approx(2.11, abs=0.005)
    assert paper.ratio(139) < 4 == paper.ratio(140)
    assert code.ratio(0) == pytest.approx(1.02)  # epoch 1 of the code
    assert code.ratio(74) == pytest.approx(3.22, abs=0.005)  # its epoch 75
    assert code.ratio(91) < 4 == code.ratio(92)  # its epoch 93
    assert PairSampler(pids, pairs=1, most=1).ratio(500) == 1


@pytest.mark.parametrize(("e", "positives"), [(0, 24), (75, 15), (200, 10)])  # of 48: 48 / (1 + 1, 2.11, 4)
def test_positives_of_a_batch_of_48(e, positives):
    pids = np.repeat(np.arange(30), 4)
    for rows in PairSampler(pids, pairs=48).epoch(e):
        assert (pids[rows[0::2]] == pids[rows[1::2]]).sum() == positives


def test_partners_are_equally_likely():
    """One person of four images, others of one, three and eight: a chi-square test on the partners of row 0."""
    pids = np.array([0, 1, 0, 2, 2, 0, 2, 0] + [3] * 8)
    positives, negatives = np.zeros(16), np.zeros(16)
    for e in range(3000):
        for rows in PairSampler(pids, pairs=16, seed=2).epoch(e):
            (place,) = np.flatnonzero(rows[0::2] == 0)
            partner = rows[2 * place + 1]
            (positives if pids[partner] == 0 else negatives)[partner] += 1
    for counts, allowed in ((positives, [2, 5, 7]), (negatives, np.flatnonzero(pids != 0))):
        assert counts.sum() == counts[allowed].sum()
        expected = counts.sum() / len(allowed)
        assert ((counts[allowed] - expected) ** 2 / expected).sum() < 40  # 11 degrees of freedom at most


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pids": [1, 1, 1]}, "all images show one identity"),
        ({"pids": [1, 2, 3]}, "nobody has two images"),
        ({"pids": [1, 1, 2], "pairs": 4}, "pairs = 4 a batch, but there are 3 images"),
        ({"pids": [1, 1, 2], "pairs": 0}, "pairs = 0"),
        ({"pids": [1, 1, 2], "growth": 0.9}, r"growth = 0\.9"),
        ({"pids": [1, 1, 2], "schedule": "steps"}, "schedule = 'steps'"),
        ({"pids": [-1, 1, 1]}, "1 of 3 pids are negative"),
        ({"pids": [1.0, 1.0]}, "must be"),
        ({"pids": [1, 1, 2], "seed": -1}, "seed is -1"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PairSampler(**({"pairs": 1} | arguments))
