"""Camera quadruplets: two cameras, two images each, for any split; and what happens where a person has fewer."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset, default_collate

from reidkit.samplers import CameraQuadrupletSampler

# identities with 1 to 9 images under up to 4 cameras, in any order
splits = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=60).map(np.array)
options = st.fixed_dictionaries(
    {
        "short": st.sampled_from(["prefer", "repeat", "drop"]),
        "one_camera": st.sampled_from(["keep", "drop"]),
        "cameras": st.sampled_from(["uniform", "images"]),
        "length": st.sampled_from(["images", "identities"]),
    }
)


def counts(pids, camids):
    """pid -> {camid: images}"""
    return {
        int(pid): {int(c): int(((pids == pid) & (camids == c)).sum()) for c in np.unique(camids[pids == pid])}
        for pid in np.unique(pids)
    }


def drawable(seen, short, one_camera):
    """pid -> {camid: images} of what may be drawn, from the definition."""
    kept = {}
    for pid, cameras in seen.items():
        if len(cameras) == 1:
            if one_camera == "keep":
                kept[pid] = cameras
            continue
        if short == "drop":
            cameras = {c: n for c, n in cameras.items() if n > 1}
        if len(cameras) > 1:
            kept[pid] = cameras
    return kept


@given(splits, options, st.integers(1, 4), st.integers(0, 99))
def test_every_quadruplet_is_one_person_two_cameras_two_images_each(split, how, p, seed):
    pids, camids = split.T
    seen = counts(pids, camids)
    assume(max(map(len, seen.values())) > 1)
    kept = drawable(seen, how["short"], how["one_camera"])
    if len(kept) < p:
        with pytest.raises(ValueError, match=rf"p = {p} identities a batch, but only {len(kept)}"):
            CameraQuadrupletSampler(pids, camids, p=p, seed=seed, **how)
        return
    sampler = CameraQuadrupletSampler(pids, camids, p=p, seed=seed, **how)
    batches = sampler.epoch(seed)
    images = sum(sum(cameras.values()) for cameras in kept.values())
    assert len(batches) == len(sampler) == max(1, images // (4 * p) if how["length"] == "images" else len(kept) // p)
    visits = dict.fromkeys(kept, 0)
    for rows in batches:
        assert rows.shape == (4 * p,)
        assert rows.dtype == np.int64
        assert len(set(pids[rows[::4]].tolist())) == p
        for quadruplet in rows.reshape(p, 4):
            (pid,) = set(pids[quadruplet].tolist())
            visits[pid] += 1
            cameras, first = kept[pid], camids[quadruplet]
            if len(cameras) == 1:
                assert len(set(quadruplet.tolist())) == min(4, next(iter(cameras.values())))
                continue
            assert first[0] == first[1] != first[2] == first[3]
            for pair, camid in ((quadruplet[:2], first[0]), (quadruplet[2:], first[2])):
                assert len(set(pair.tolist())) == min(2, cameras[int(camid)])
            if how["short"] == "prefer":  # a camera with one image only where two better ones are not to be had
                rich = sum(n > 1 for n in cameras.values())
                assert sum(cameras[int(c)] > 1 for c in first[[0, 2]]) == min(2, rich)
            if how["short"] == "drop":
                assert len(set(quadruplet.tolist())) == 4
    assert max(visits.values()) - min(visits.values()) <= 1


@given(splits, st.integers(0, 99))
def test_labels_seed_and_epoch_decide_everything(split, seed):
    pids, camids = split.T
    assume(max(map(len, counts(pids, camids).values())) > 1)
    one, other = (CameraQuadrupletSampler(pids, camids, p=1, seed=seed) for _ in range(2))
    other.epoch(5)
    for e in (0, 3):
        np.testing.assert_array_equal(np.stack(one.epoch(e)), np.stack(other.epoch(e)))


def town(people=40, cameras=4, images=3):
    rows = np.array([(pid, camid) for pid in range(people) for camid in range(cameras) for _ in range(images)])
    return rows.T


def test_epochs_and_seeds_differ():
    pids, camids = town()
    sampler = CameraQuadrupletSampler(pids, camids, seed=0)
    assert (np.stack(sampler.epoch(0)) != np.stack(sampler.epoch(1))).any()
    assert (np.stack(sampler.epoch(0)) != np.stack(CameraQuadrupletSampler(pids, camids, seed=1).epoch(0))).any()


def pairs_of_cameras(weights, **how):
    """How often each of the cameras 0, 1, 2 of one person is among the two drawn, as a share of the visits."""
    camids = np.repeat(np.arange(3), weights)
    sampler = CameraQuadrupletSampler(np.zeros(len(camids), int), camids, p=1, **how)
    drawn = np.concatenate([np.concatenate(sampler.epoch(e)) for e in range(60)]).reshape(-1, 4)
    return np.array([(camids[drawn[:, [0, 2]]] == c).any(1).mean() for c in range(3)])


def test_uniform_cameras_are_equally_likely_and_by_images_the_fuller_come_oftener():
    np.testing.assert_allclose(pairs_of_cameras([2, 2, 20]), 2 / 3, atol=0.06)
    # drawn one after the other without putting back, odds 2 : 2 : 20
    full = 20 / 24 + 2 * (2 / 24) * (20 / 22)
    seen = pairs_of_cameras([2, 2, 20], cameras="images")
    np.testing.assert_allclose(seen, [(2 - full) / 2, (2 - full) / 2, full], atol=0.05)


def test_prefer_and_repeat_differ_where_a_camera_has_one_image():
    assert pairs_of_cameras([1, 4, 4])[0] == 0
    np.testing.assert_allclose(pairs_of_cameras([1, 4, 4], short="repeat"), 2 / 3, atol=0.1)


def test_identities_is_one_visit_each():
    pids, camids = town(people=40)
    sampler = CameraQuadrupletSampler(pids, camids, p=8, length="identities")
    assert len(sampler) == 5
    assert np.bincount(pids[np.concatenate(sampler.epoch(0))[::4]]).tolist() == [1] * 40


def test_processes_share_whole_quadruplets_and_torch_can_load_with_it():
    pids, camids = town(people=8)
    sampler = CameraQuadrupletSampler(pids, camids, p=4)
    assert sampler.group == 4
    loader = DataLoader(TensorDataset(*map(torch.from_numpy, (pids, camids))), batch_sampler=sampler)
    sampler.set_epoch(2)
    for rows, (some_pids, _) in zip(sampler.epoch(2), loader, strict=True):
        assert some_pids.tolist() == default_collate(list(pids[rows])).tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"camids": np.zeros(480, int)}, r"no identity is seen by two cameras \(1 in all\)"),
        ({"camids": np.zeros(3, int)}, "480 pids, but camids are int64"),
        ({"camids": np.zeros(480)}, "one whole number each"),
        ({"pids": np.full(480, -1)}, "negative"),
        ({"p": 41}, "p = 41 identities a batch, but only 40"),
        ({"p": 0}, "at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"short": "error"}, "short = 'error'; expected 'prefer' or 'repeat' or 'drop'"),
        ({"one_camera": "twice"}, "one_camera = 'twice'"),
        ({"cameras": "all"}, "cameras = 'all'"),
        ({"length": "steps"}, "length = 'steps'"),
    ],
)
def test_bad_input_is_named(change, words):
    pids, camids = town()
    with pytest.raises(ValueError, match=words):
        CameraQuadrupletSampler(**({"pids": pids, "camids": camids} | change))
