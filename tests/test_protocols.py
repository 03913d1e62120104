"""Multi-query pooling against the formula worked by hand, and its errors."""

import numpy as np
import pytest
import torch

from reidkit.evaluation import evaluate
from reidkit.protocols import multi_query

FEATURES = np.array([[3.0, 4, 0], [0, 5, 0], [0, 0, 2], [9, 9, 9]], np.float32)
PIDS, CAMIDS = np.array([1, 1, 1, 2]), np.array([0, 0, 1, 0])


def unit(*values):
    return np.array(values) / np.linalg.norm(values)


@pytest.mark.parametrize(
    ("how", "pooled"),
    [("average", unit(0.3, 0.9, 0)), ("maximum", unit(0.6, 1, 0))],  # of (0.6, 0.8, 0) and (0, 1, 0)
)
def test_pools_unit_features_of_one_person_and_camera(how, pooled):
    result = multi_query(FEATURES, PIDS, CAMIDS, [2, 1, 1, 1], [0, 0, 1, 0], how=how)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [unit(1, 1, 1), pooled, [0, 0, 1], pooled], atol=1e-6)


def test_tensors_order_and_scale_do_not_matter():
    order = [2, 0, 3, 1]
    plain = multi_query(FEATURES, PIDS, CAMIDS, [1, 2], [0, 0])
    tensors = [torch.tensor(x[order]) for x in (FEATURES * np.array([[1], [2], [3], [4]], np.float32), PIDS, CAMIDS)]
    tensors[0].requires_grad_()
    np.testing.assert_allclose(multi_query(*tensors, [1, 2], [0, 0]), plain, atol=1e-6)


def test_a_zero_feature_stays_zero():
    assert multi_query(np.zeros((2, 3)), [1, 1], [0, 0], [1], [0]).tolist() == [[0, 0, 0]]


def test_more_images_make_a_better_query():
    """What the protocol is for: averaging away noise finds more than one noisy image does."""
    rng = np.random.default_rng(0)
    people = rng.normal(size=(30, 16))
    pids = np.repeat(np.arange(30), 8)
    images = people[pids] + 2 * rng.normal(size=(240, 16))
    gallery = people + rng.normal(size=(30, 16))
    labels = np.arange(30), np.arange(30), np.zeros(30, int), np.ones(30, int)
    single = evaluate(images[::8], gallery, *labels).mAP
    multi = evaluate(
        multi_query(images, pids, np.zeros(240, int), np.arange(30), np.zeros(30, int)), gallery, *labels
    ).mAP
    assert multi > single + 0.1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"how": "median"}, "how is 'median'; expected"),
        ({"pids": PIDS[:3]}, r"features \(4, 3\), pids \(3,\) and camids \(4,\) do not fit"),
        ({"query_camids": [0, 0]}, r"query_pids \(1,\) and query_camids \(2,\) differ: expected \(Q,\) each"),
        ({"query_pids": [2], "query_camids": [1]}, r"query 0 \(pid 2, camid 1\) has no image to pool"),
        ({"features": np.where(FEATURES == 2, np.nan, FEATURES)}, "features row 2 holds NaN or infinity"),
    ],
)
def test_bad_input_is_one_clear_error(bad, message):
    good = {"features": FEATURES, "pids": PIDS, "camids": CAMIDS, "query_pids": [1], "query_camids": [0]}
    with pytest.raises(ValueError, match=message):
        multi_query(**good | bad)
