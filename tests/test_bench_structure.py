"""`bench.structure` against loops written from its definition."""

import numpy as np
import pandas as pd
import pytest

from reidkit import bench


def split(seed=0, n=30):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"pid": rng.integers(-1, 5, n), "camid": rng.integers(0, 3, n)})
    return rng.normal(size=(n, 6)).astype(np.float32), frame


def test_it_is_the_loop():
    features, frame = split()
    unit = [f / np.linalg.norm(f) for f in features.astype(float)]
    people = [i for i in range(len(frame)) if frame.pid[i] > 0]
    means = {p: np.mean([unit[i] for i in people if frame.pid[i] == p], axis=0) for p in set(frame.pid[people])}
    away = [np.linalg.norm(unit[i] - means[frame.pid[i]]) for i in people]
    same = [(i, j) for i in people for j in people if i != j and frame.pid[i] == frame.pid[j]]
    under_one = [unit[i] @ unit[j] for i, j in same if frame.camid[i] == frame.camid[j]]
    under_two = [unit[i] @ unit[j] for i, j in same if frame.camid[i] != frame.camid[j]]
    found = bench.structure(features, frame)
    assert found["intra_distance"] == pytest.approx(np.mean(away))
    assert found["cosine_same"] == pytest.approx(np.mean(under_one))
    assert found["cosine_other"] == pytest.approx(np.mean(under_two))


def test_by_hand():
    frame = pd.DataFrame({"pid": [1, 1, 2, 2, 0, -1], "camid": [0, 1, 0, 0, 0, 0]})
    features = np.array([[1, 0], [0, 2], [3, 0], [5, 0], [9, 9], [7, -7]], float)
    found = bench.structure(features, frame)
    assert found["cosine_other"] == pytest.approx(0)
    assert found["cosine_same"] == pytest.approx(1)
    assert found["intra_distance"] == pytest.approx((2 * 0.5**0.5 + 0) / 4)


def test_scale_does_not_matter():
    features, frame = split(1)
    scales = np.random.default_rng(0).uniform(0.1, 9, (len(features), 1)).astype(np.float32)
    first, second = bench.structure(features, frame), bench.structure(features * scales, frame)
    assert first == pytest.approx(second, rel=1e-4)


def test_one_camera_has_no_pair_under_two():
    features, frame = split(2)
    found = bench.structure(features, frame.assign(camid=0))
    assert np.isnan(found["cosine_other"])
    assert np.isnan(found["silhouette_camera"])
    assert np.isfinite(found["cosine_same"])
