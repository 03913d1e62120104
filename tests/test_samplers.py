"""Samplers: what a batch holds, how evenly an epoch visits, and that (labels, seed, epoch) decides everything."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset, default_collate

from reidkit.samplers import PKSampler, ShuffleSampler, deal, rows_by_identity

# identities with 1 to 9 images each, in any order and with gaps between the numbers
splits = st.lists(st.integers(1, 9), min_size=1, max_size=12).flatmap(
    lambda counts: st.permutations([3 * pid for pid, count in enumerate(counts) for _ in range(count)])
)


@st.composite
def pk_splits(draw):
    pids = np.array(draw(splits))
    return pids, draw(st.integers(1, len(set(pids.tolist())))), draw(st.integers(1, 6)), draw(st.integers(0, 99))


@given(pk_splits())
def test_pk_batches_hold_p_identities_of_k_consecutive_images(case):
    pids, p, k, seed = case
    sampler = PKSampler(pids, p=p, k=k, seed=seed)
    batches = sampler.epoch(seed)
    assert len(batches) == len(sampler) == max(1, len(pids) // (p * k))
    for rows in batches:
        assert rows.shape == (p * k,)
        assert rows.dtype == np.int64
        groups = pids[rows].reshape(p, k)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0].tolist())) == p


@given(pk_splits())
def test_pk_visits_identities_and_their_images_evenly(case):
    pids, p, k, seed = case
    batches = np.stack(PKSampler(pids, p=p, k=k, seed=seed).epoch(0))
    images = np.bincount(batches.ravel(), minlength=len(pids))
    visits = [images[pids == pid].sum() // k for pid in np.unique(pids)]
    assert max(visits) - min(visits) <= 1
    for pid in np.unique(pids):
        assert np.ptp(images[pids == pid]) <= 1
    for group in batches.reshape(-1, k):  # k images: each one once if there are enough, else equally often
        count = (pids == pids[group[0]]).sum()
        times = np.unique(group, return_counts=True)[1]
        assert len(times) == min(k, count)
        assert np.ptp(times) <= 1


@given(pk_splits())
def test_pk_depends_on_labels_seed_and_epoch_alone(case):
    pids, p, k, seed = case
    sampler, again = PKSampler(pids, p=p, k=k, seed=seed), PKSampler(pids.tolist(), p=p, k=k, seed=seed)
    later = again.epoch(7)
    again.set_epoch(3)
    np.testing.assert_array_equal(list(again), sampler.epoch(3))
    np.testing.assert_array_equal(later, sampler.epoch(7))


def test_pk_epochs_and_seeds_differ():
    pids = np.repeat(np.arange(20), 5)
    first = np.stack(PKSampler(pids, p=4, k=2, seed=0).epoch(0))
    assert not np.array_equal(first, PKSampler(pids, p=4, k=2, seed=0).epoch(1))
    assert not np.array_equal(first, PKSampler(pids, p=4, k=2, seed=1).epoch(0))


def test_pk_draws_every_partner_about_as_often():
    """Two of five identities a batch: each of the ten pairs in a tenth of the batches (a chi-square test)."""
    sampler = PKSampler(np.arange(5).repeat(4), p=2, k=2)
    pairs = [tuple(sorted({row // 4 for row in rows})) for e in range(400) for rows in sampler.epoch(e)]
    counts = np.unique(pairs, axis=0, return_counts=True)[1]
    expected = len(pairs) / 10
    assert len(counts) == 10
    assert ((counts - expected) ** 2 / expected).sum() < 33.7  # 9 degrees of freedom, p = 1e-4


def test_pk_repeats_a_short_identity_or_refuses_it_by_name():
    pids = [7, 7, 7, 7, 9, 9, 12]
    (rows,) = PKSampler(pids, p=3, k=4).epoch(0)
    groups = {pids[group[0]]: sorted(group.tolist()) for group in rows.reshape(3, 4)}
    assert groups[9] == [4, 4, 5, 5]
    assert groups[12] == [6, 6, 6, 6]
    with pytest.raises(ValueError, match=r"k = 4 .* 2 identities have fewer: pid 9 has 2, pid 12 has 1; lower k"):
        PKSampler(pids, p=3, k=4, short="error")
    assert len(PKSampler(pids[:4], p=1, k=4, short="error")) == 1


def test_pk_refuses_more_identities_than_there_are():
    with pytest.raises(ValueError, match=r"p = 16 identities a batch, but there are only 1"):
        PKSampler([5, 5, 5])


def test_pk_draws_no_row_that_is_ignored():
    pids = np.array([-1, 0, 0, -1, 1, 1, -1])
    with pytest.raises(ValueError, match="3 of 7 pids are negative"):
        PKSampler(pids, p=2, k=2)
    for e in range(5):
        (rows,) = PKSampler(pids, p=2, k=2, ignore=-1).epoch(e)
        assert sorted(rows.tolist()) == [1, 2, 4, 5]
    with pytest.raises(ValueError, match="only 0"):
        PKSampler([-1, -1], p=2, k=2, ignore=-1)


@pytest.mark.parametrize("pids", [[], [[1, 2]], [0.5, 1.5], ["a", "b"]])
def test_pk_refuses_what_are_not_labels(pids):
    with pytest.raises(ValueError, match="pids must be"):
        PKSampler(pids, p=1, k=1)


@pytest.mark.parametrize("wrong", [{"p": 0}, {"k": 0}, {"seed": -1}, {"short": "drop"}])
def test_pk_refuses_wrong_arguments_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PKSampler([0, 0, 1, 1], **({"p": 1, "k": 1} | wrong))


def test_pk_serves_a_torch_data_loader():
    pids = torch.arange(6).repeat_interleave(4)
    sampler = PKSampler(pids, p=3, k=2)
    loader = DataLoader(TensorDataset(torch.arange(24), pids), batch_sampler=sampler, collate_fn=default_collate)
    sampler.set_epoch(2)
    rows = [rows.tolist() for rows, _ in loader]
    assert rows == [rows.tolist() for rows in sampler.epoch(2)]
    assert len(loader) == 4


@given(st.integers(1, 20), st.integers(1, 25), st.integers(0, 8), st.integers(0, 99))
def test_deal_is_even_over_all_and_in_each_hand(n, size, hands, seed):
    dealt = deal(n, size, hands, np.random.default_rng(seed))
    assert dealt.shape == (hands, size)
    assert np.ptp(np.bincount(dealt.ravel(), minlength=n)) <= 1
    for hand in dealt:
        assert np.ptp(np.bincount(hand, minlength=n)) <= 1


def test_rows_by_identity_by_hand():
    rows = rows_by_identity(np.array([4, 2, 4, 9, 2]), ignore=9)
    assert {pid: where.tolist() for pid, where in rows.items()} == {2: [1, 4], 4: [0, 2]}
    assert list(rows) == [2, 4]


@given(st.integers(1, 50), st.data())
def test_shuffle_shows_each_row_at_most_once(n, data):
    size = data.draw(st.integers(1, n))
    sampler = ShuffleSampler(n, batch_size=size, seed=3)
    batches = np.stack(sampler.epoch(1))
    assert batches.shape == (n // size, size) == (len(sampler), size)
    assert len(np.unique(batches)) == batches.size
    assert set(batches.ravel().tolist()) <= set(range(n))
    np.testing.assert_array_equal(batches, ShuffleSampler(n, batch_size=size, seed=3).epoch(1))


def test_shuffle_refuses_a_batch_larger_than_the_split():
    with pytest.raises(ValueError, match="batch_size = 64, but there are 10 images"):
        ShuffleSampler(10)


def test_samplers_import_nothing_of_ours():
    code = "import sys, reidkit.samplers; print(*sorted(m for m in sys.modules if m.startswith('reidkit.')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["reidkit.samplers"]


def test_the_first_epoch_comes_without_being_asked_for():
    sampler = ShuffleSampler(10, batch_size=3)
    np.testing.assert_array_equal(list(sampler), sampler.epoch(0))


def test_rows_of_a_shuffle_belong_to_nobody():
    assert ShuffleSampler(10, batch_size=4).group == 1  # so that any number of processes up to 4 can share a batch
