"""Protocols against the definition in plain loops, by hand, and their errors."""

import numpy as np
import pytest
import torch

from reidkit.evaluation import evaluate
from reidkit.protocols import multi_query, multi_shot, oxford5k, single_shot

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


@pytest.mark.parametrize("how", ["average", "maximum"])
def test_multi_query_is_the_loop(how):
    rng = np.random.default_rng(3)
    features = rng.normal(size=(60, 5))
    pids, camids = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    asked = sorted(set(zip(pids.tolist(), camids.tolist(), strict=True)))
    expected = []
    for pid, camid in asked:
        images = [
            f / np.sqrt((f**2).sum()) for f, p, c in zip(features, pids, camids, strict=True) if (p, c) == (pid, camid)
        ]
        pooled = [
            max(column) if how == "maximum" else sum(column) / len(column) for column in zip(*images, strict=True)
        ]
        expected.append(np.array(pooled) / np.sqrt(sum(x * x for x in pooled)))
    np.testing.assert_allclose(multi_query(features, pids, camids, *np.transpose(asked), how=how), expected, atol=1e-12)


# ---- CUHK03 ------------------------------------------------------------------------------------------------------


def trapezoid(right):
    """AP of a ranked list of True and False by the official script's loop: recall, precision, trapezoids."""
    old_recall, old_precision, found, ap = 0.0, 1.0, 0, 0.0
    for place, hit in enumerate(right, 1):
        found += hit
        recall, precision = found / sum(right), found / place
        ap += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return ap


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def two_views(seed=0, people=12, dim=6):
    """(features, pids, camids) of people seen one to four times by views 4 and 7."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(people), 2).repeat(rng.integers(1, 5, 2 * people))
    camids = np.concatenate([[4] * (pids == p).sum() for p in range(people)])
    for p in range(people):
        own = np.flatnonzero(pids == p)
        camids[own[rng.integers(1, len(own)) :]] = 7
    order = rng.permutation(len(pids))
    return rng.normal(size=(people, dim))[pids[order]] + rng.normal(size=(len(pids), dim)), pids[order], camids[order]


def shot_loop(features, pids, camids, gallery):
    """Each image against the gallery rows of the other view."""
    aps, first = [], []
    for i in range(len(pids)):
        others = sorted((j for j in gallery if camids[j] != camids[i]), key=lambda j: -cosine(features[i], features[j]))
        right = [pids[j] == pids[i] for j in others]
        aps.append(trapezoid(right))
        first.append(right.index(True))
    return aps, [np.mean([f < k for f in first]) for k in (1, 5, 10)]


def test_multi_shot_is_the_loop():
    features, pids, camids = two_views()
    found = multi_shot(features, pids, camids)
    aps, cmc = shot_loop(features, pids, camids, range(len(pids)))
    np.testing.assert_allclose(found.ap, aps, atol=1e-12)
    np.testing.assert_allclose(found.cmc[[0, 4, 9]], cmc, atol=1e-12)
    assert found.mAP == pytest.approx(np.mean(aps))
    assert found.ap_kind == "trapezoid"


def test_single_shot_is_the_loop_over_galleries_of_one_image_a_person_and_view():
    features, pids, camids = two_views(1)
    for trial, found in enumerate(single_shot(features, pids, camids, trials=3, seed=8)):
        rng = np.random.default_rng([8, trial])
        gallery = []
        for view in (4, 7):
            shuffled = rng.permutation(np.flatnonzero(camids == view))
            seen = {}
            for row in shuffled.tolist():
                seen.setdefault(pids[row], row)
            gallery += seen.values()
        assert len(gallery) == 24
        aps, cmc = shot_loop(features, pids, camids, gallery)
        np.testing.assert_allclose(found.ap, aps, atol=1e-12)
        np.testing.assert_allclose(found.cmc[[0, 4, 9]], cmc, atol=1e-12)


def test_cuhk03_by_hand():
    """Two people on a line of angles; the second view's image of person 1 lies nearer to person 2's."""
    angles = np.radians([0, 50, 40, 20])
    features = np.stack([np.cos(angles), np.sin(angles)], 1)
    pids, camids = [1, 2, 1, 2], [0, 0, 1, 1]
    # view 0: 0 degrees (person 1) finds 20 (2) before 40 (1): rank 2, AP (1/2 + 0) / 2; 50 (2) finds 40 (1) first
    # view 1: 40 (1) finds 50 (2) first: 1/4; 20 (2) finds 0 (1) first: 1/4
    for found in (multi_shot(features, pids, camids), *single_shot(features, pids, camids, trials=2)):
        assert found.ap.tolist() == [0.25] * 4
        assert found.cmc[:2].tolist() == [0, 1]
    assert multi_shot(features, pids, camids, ap="step").mAP == 0.5


def test_single_shot_galleries_differ_from_trial_to_trial_but_not_from_call_to_call():
    features, pids, camids = two_views(2, people=30)
    once, again = (single_shot(features, pids, camids, trials=5) for _ in range(2))
    assert [r.mAP for r in once] == [r.mAP for r in again]
    assert len({r.mAP for r in once}) > 1
    assert single_shot(features, pids, camids, trials=1, seed=1)[0].mAP != once[0].mAP


def test_who_is_seen_by_one_view_only_is_no_valid_query():
    features, pids, camids = two_views(3)
    alone = np.append(pids, 99)
    found = multi_shot(np.append(features, [features[0]], 0), alone, np.append(camids, 4))
    assert found.valid.tolist() == [True] * len(pids) + [False]
    assert np.isnan(found.ap[-1])
    assert 0 < found.mAP < 1


# ---- Oxford5k ----------------------------------------------------------------------------------------------------


def oxford_loop(query, gallery, relevant, junk):
    aps = []
    for q in range(len(query)):
        order = sorted(range(len(gallery)), key=lambda g: -cosine(query[q], gallery[g]))
        aps.append(trapezoid([bool(relevant[q, g]) for g in order if not junk[q, g]]))
    return aps


@pytest.mark.parametrize("seed", range(3))
def test_oxford5k_is_the_official_loop(seed):
    rng = np.random.default_rng(seed)
    query, gallery = rng.normal(size=(7, 4)), rng.normal(size=(40, 4))
    kind = rng.integers(0, 4, (7, 40))
    relevant, junk = kind == 1, kind == 2
    found = oxford5k(query, gallery, relevant, junk)
    np.testing.assert_allclose(found.ap, oxford_loop(query, gallery, relevant, junk), atol=1e-12)
    assert found.mAP == pytest.approx(np.mean(found.ap))


def test_oxford5k_by_hand():
    """Ranked: good, junk, wrong, ok. Recall 1/2 at precision 1, then 1/2 more from precision 1/2 to 2/3."""
    gallery = np.array([[4.0], [3.0], [2.0], [1.0]])
    relevant = np.array([[True, False, False, True]])
    junk = np.array([[False, True, False, False]])
    found = oxford5k(np.array([[4.0]]), gallery, relevant, junk, metric="euclidean")
    assert found.mAP == pytest.approx(0.5 * 1 + 0.5 * (1 / 2 + 2 / 3) / 2)
    assert oxford5k(np.array([[4.0]]), gallery, relevant, junk, metric="euclidean", ap="step").mAP == pytest.approx(
        5 / 6
    )


def test_an_image_may_be_right_for_one_query_and_junk_for_another():
    features = np.eye(3)
    relevant = np.array([[True, False, True], [False, True, False], [False, False, False]])
    junk = np.array([[False, True, False], [True, False, False], [False, False, False]])
    found = oxford5k(features, features, relevant, junk)
    assert found.ap[:2].tolist() == [1, 1]
    assert found.valid.tolist() == [True, True, False]  # nothing to find for the third


def test_euclidean_and_cosine_agree_on_unit_vectors():
    rng = np.random.default_rng(0)
    query, gallery = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(5, 8)), rng.normal(size=(30, 8)))
    )
    kind = rng.integers(0, 3, (5, 30))
    both = [oxford5k(query, gallery, kind == 1, kind == 2, metric=metric).ap for metric in ("cosine", "euclidean")]
    np.testing.assert_allclose(*both)


MARKS = np.array([[True, False]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: multi_shot(np.ones((3, 2)), [1, 1, 2], [0, 1, 2]), r"two views, but camids hold 3: \[0, 1, 2\]"),
        (lambda: multi_shot(np.ones((2, 2)), [1, 1], [0, 0]), "two views, but camids hold 1"),
        (lambda: multi_shot(np.ones((3, 2)), [1, 1], [0, 1]), "pids has shape"),
        (lambda: multi_shot(np.ones((2, 2)), [1, 2], [0, 1]), "nobody is seen by both views"),
        (lambda: single_shot(np.ones((2, 2)), [1, 1], [0, 1], trials=0), "trials is 0"),
        (lambda: oxford5k(np.ones((1, 2)), np.ones((2, 2)), MARKS, MARKS), "both relevant and junk for query 0"),
        (lambda: oxford5k(np.ones((1, 2)), np.ones((2, 2)), MARKS[:, :1], ~MARKS), r"relevant is bool \(1, 1\)"),
        (lambda: oxford5k(np.ones((1, 2)), np.ones((2, 2)), MARKS, ~MARKS * 1), "junk is int64"),
        (lambda: oxford5k(np.ones((1, 2)), np.ones((2, 3)), MARKS, ~MARKS), "2 dimensions, gallery has 3"),
        (lambda: oxford5k(np.ones((1, 2)), np.ones((2, 2)), ~(MARKS | True), MARKS), "no query has a relevant image"),
        (lambda: oxford5k(np.ones((1, 2)), np.full((2, 2), np.nan), MARKS, ~MARKS), "gallery row 0 is not finite"),
    ],
)
def test_bad_input_of_a_protocol_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_integer_features_are_not_computed_in_their_own_bits(metric):
    draw = np.random.default_rng(0)
    query, gallery = draw.integers(-100, 100, (4, 8), np.int8), draw.integers(-100, 100, (20, 8), np.int8)
    relevant, junk = draw.random((4, 20)) < 0.2, np.zeros((4, 20), bool)
    relevant[:, 0] = True
    of_integers = oxford5k(query, gallery, relevant, junk, metric=metric)
    of_floats = oxford5k(query.astype(np.float32), gallery.astype(np.float32), relevant, junk, metric=metric)
    assert of_integers.mAP == of_floats.mAP


def test_options_reach_the_measurement():
    features = np.array([[1.0, 0.0], [0.0, 5.0], [0.4, 0.6], [3.6, 3.5]])  # near in length, and the other in direction
    pids, camids = [1, 2, 1, 2], [0, 0, 1, 1]
    for found in (multi_shot, lambda *x, **how: single_shot(*x, trials=1, **how)[0]):
        assert found(features, pids, camids, metric="euclidean").cmc[0] == 1
        assert found(features, pids, camids, metric="cosine").cmc[0] == 0
        same = np.ones((4, 2))
        assert found(same, pids, camids, ties="optimistic").mAP == 1
        assert found(same, pids, camids, ties="pessimistic").cmc[0] == 0
        assert len(found(features, pids, camids, max_rank=3).cmc) == 3


def test_oxford5k_ties_are_an_option():
    same, relevant = np.ones((2, 3)), np.array([[True, False], [False, True]])
    assert oxford5k(same, same, relevant, ~(relevant | True), ties="optimistic").mAP == 1
    assert oxford5k(same, same, relevant, ~(relevant | True)).mAP == 0.25


def test_ten_random_galleries_unless_asked():
    assert len(single_shot(*two_views())) == 10
