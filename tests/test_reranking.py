"""Re-ranking against a plain loop from its definition, in matrix and in slices, and as the evaluator reads it."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit import _ranking_torch, reranking
from reidkit.evaluation import evaluate, evaluate_distances
from reidkit.reranking import rerank, rerank_rows


def features(seed, n=24, gallery=60, dim=6, dtype=np.float32, noise=0.6):
    """People in clusters: some images of each are queries."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, dim))
    pids = rng.integers(12, size=n + gallery)
    points = (centres[pids] + noise * rng.normal(size=(n + gallery, dim))).astype(dtype)
    camids = rng.integers(3, size=n + gallery)
    parts = slice(0, n), slice(n, None)
    return [x[part] for x in (points, pids, camids) for part in parts]


def by_loop(query, gallery, k1, k2, lambda_value, metric="cosine", power=2):
    """Zhong et al. 2017, equations 2-12, an image at a time, in float64."""
    x = np.concatenate([query, gallery]).astype(np.float64)
    if metric == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    n = len(x)
    distance = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in x] for a in x]) ** power
    distance /= distance.max(axis=1, keepdims=True)
    order = [[i, *(j for j in np.argsort(distance[i], kind="stable") if j != i)] for i in range(n)]

    def reciprocal(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    encoding = np.zeros((n, n))
    for i in range(n):
        own = reciprocal(i, k1)
        members = set(own)
        for j in own:
            half = reciprocal(j, int(np.around(k1 / 2)))
            if len(half & own) > 2 / 3 * len(half):
                members |= half
        for j in members:
            encoding[i, j] = np.exp(-distance[i, j])
        encoding[i] /= encoding[i].sum()
    encoding = np.stack([encoding[order[i][:k2]].mean(0) for i in range(n)])
    result = np.zeros((len(query), len(gallery)))
    for i in range(len(query)):
        for j in range(len(gallery)):
            a, b = encoding[i], encoding[len(query) + j]
            shared = 1 - np.minimum(a, b).sum() / np.maximum(a, b).sum()
            result[i, j] = (1 - lambda_value) * shared + lambda_value * distance[i, len(query) + j]
    return result


@settings(max_examples=20)
@given(
    st.integers(0, 999),
    st.integers(1, 12),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(["cosine", "euclidean"]),
    st.sampled_from([2, 4]),
)
def test_equals_its_definition(seed, k1, k2, lambda_value, metric, power):
    query, gallery, *_ = features(seed, 9, 25, dtype=np.float64)
    options = {"k1": k1, "k2": k2, "lambda_value": lambda_value, "metric": metric, "power": power}
    np.testing.assert_allclose(rerank(query, gallery, **options), by_loop(query, gallery, **options), atol=1e-9)


def test_single_precision_stays_within_1e_6():
    query, gallery, *_ = features(3)
    found = rerank(query, gallery)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(found, by_loop(query, gallery, 20, 6, 0.3), atol=1e-6)


def test_by_hand():
    """On a line 0, 1, 3, 10: the query 0 and image 1 are each other's nearest; image 3's nearest is 1, not mutual."""
    query, gallery = np.array([[0.0]]), np.array([[1.0], [3.0], [10.0]])
    found = rerank(query, gallery, k1=1, k2=1, lambda_value=0.5, metric="euclidean")
    near = np.exp([0.0, -(1 / 100)])  # query: {itself, image 1}, at squared distances 0 and 1, the farthest at 100
    back = np.exp([-(1 / 81), 0.0])  # image 1: the same two; its farthest is at 81
    near, back = near / near.sum(), back / back.sum()
    jaccard = 1 - np.minimum(near, back).sum() / np.maximum(near, back).sum()
    np.testing.assert_allclose(found, [[0.5 * jaccard + 0.005, 0.5 + 0.045, 0.5 + 0.5]], atol=1e-12)


def test_no_share_of_jaccard_leaves_the_ranking_as_it_was():
    query, gallery, *labels = features(5)
    again = evaluate_distances(rerank_rows(query, gallery, lambda_value=1), *labels)
    np.testing.assert_allclose(again.ap, evaluate(query, gallery, *labels).ap, atol=1e-6)


def test_squared_distances_are_an_argument():
    """Distances that a caller has squared, squared again by the original code: that is power 4, and other numbers."""
    query, gallery, *_ = features(6)
    paper, twice = rerank(query, gallery), rerank(query, gallery, power=4)
    assert np.abs(paper - twice).max() > 0.01
    np.testing.assert_allclose(twice, by_loop(query, gallery, 20, 6, 0.3, power=4), atol=1e-6)


def test_other_queries_matter():
    query, gallery, *_ = features(7)
    assert np.abs(rerank(query, gallery)[:1] - rerank(query[:1], gallery)).max() > 0.01


def test_it_helps_where_neighbours_are_shared():
    query, gallery, *labels = features(8, 40, 300, dim=16, noise=1.2)
    before = evaluate(query, gallery, *labels).mAP
    assert evaluate_distances(rerank(query, gallery), *labels).mAP > before + 0.02


# ---- many images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 1 << 20])
def test_tiles_rows_and_slices_change_nothing(monkeypatch, keep):
    query, gallery, *labels = features(9, 31, 117)
    whole = rerank(query, gallery, k1=7, k2=3)
    monkeypatch.setattr(reranking, "TILE", (5, 19))
    monkeypatch.setattr(reranking, "ROWS_BYTES", 4 * 117 * 4)  # four rows
    monkeypatch.setattr(reranking, "KEEP_BYTES", keep)
    rows = rerank_rows(query, gallery, k1=7, k2=3)
    assert rows.shape == whole.shape == (31, 117)
    assert (rows.kept is None) == (keep == 0)
    np.testing.assert_allclose(rows[:], whole, atol=1e-6)
    for part in (slice(0, 3), slice(2, 9), slice(30, 40), slice(-2, None), slice(9, 9)):
        np.testing.assert_allclose(rows[part], whole[part], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(rows), rows[:])
    streamed = evaluate_distances(rows, *labels)
    np.testing.assert_allclose(streamed.ap, evaluate_distances(whole, *labels).ap, atol=1e-6)


def test_a_half_precision_gallery_is_converted_in_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((n, 1024)).astype(np.float16) for n in (8, 2000))
    whole = rerank(query, gallery)
    monkeypatch.setattr(reranking, "TILE", (64, 200))
    monkeypatch.setattr(reranking, "KEEP_BYTES", 0)
    rows = rerank_rows(query, gallery)
    tracemalloc.start()
    try:
        np.testing.assert_allclose(rows[:], whole, atol=1e-6)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < gallery.size * 4 / 3  # all of it in float32 would be three times as much


def test_the_evaluator_never_asks_for_the_whole_matrix(monkeypatch):
    query, gallery, *labels = features(10, 50, 200)
    monkeypatch.setattr("reidkit._ranking.STRIP_BYTES", 4 * 200 * 8)
    rows, asked = rerank_rows(query, gallery), []
    monkeypatch.setattr(reranking.ReRanked, "__array__", None)
    block = reranking.ReRanked.__getitem__
    monkeypatch.setattr(reranking.ReRanked, "__getitem__", lambda self, part: asked.append(part) or block(self, part))
    evaluate_distances(rows, *labels)
    assert max(part.stop - part.start for part in asked) == 8


def test_fewer_images_than_neighbours():
    query, gallery, *_ = features(11, 3, 5, dtype=np.float64)
    np.testing.assert_allclose(rerank(query, gallery), by_loop(query, gallery, 20, 6, 0.3), atol=1e-9)


def test_neighbours_on_another_device_are_the_same():
    query, gallery, *_ = features(12)
    images = reranking.Images.of(query, gallery, "cosine")
    near, farthest, _ = reranking.search(images, 21, progress=False)
    again, far = _ranking_torch.search(images, 21, "cpu", progress=False)
    np.testing.assert_array_equal(near, again)
    np.testing.assert_allclose(farthest, far, rtol=1e-6)


def test_equally_near_images_come_in_one_order_on_every_device():
    draw = np.random.default_rng(0)
    for corner in [2] * 20 + [1]:  # the last: all images are one point
        corners = draw.integers(0, corner, (30, 4)).astype(np.float32)  # products of these are exact
        images = reranking.Images.of(corners[:7], corners[7:], "euclidean")
        near, _, _ = reranking.search(images, 9, progress=False)
        np.testing.assert_array_equal(near, _ranking_torch.search(images, 9, "cpu", progress=False)[0])


@pytest.mark.parametrize("form", ["tensor", "memmap", "float16"])
def test_other_inputs(form, tmp_path):
    query, gallery, *_ = features(13)
    query, gallery = query.astype(np.float16).astype(np.float32), gallery.astype(np.float16).astype(np.float32)
    expected = rerank(query, gallery)
    if form == "tensor":
        query, gallery = torch.tensor(query, requires_grad=True), torch.tensor(gallery)
    elif form == "memmap":
        np.save(tmp_path / "gallery.npy", gallery)
        gallery = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    else:
        query, gallery = query.astype(np.float16), gallery.astype(np.float16)
    np.testing.assert_allclose(rerank(query, gallery), expected, atol=1e-6)


def test_a_long_search_says_so_beforehand(monkeypatch, capsys):
    query, gallery, *_ = features(14)
    rerank_rows(query, gallery)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(reranking, "SAY_SECONDS", 0)
    rerank_rows(query, gallery)
    assert "re-ranking 84 images will take about" in capsys.readouterr().out
    rerank_rows(query, gallery, progress=False)
    assert capsys.readouterr().out == ""


# ---- degenerate ---------------------------------------------------------------------------------------------------


def test_a_collapsed_model_stays_tied():
    rng = np.random.default_rng(0)
    point = rng.normal(size=512).astype(np.float32)
    query, gallery = np.tile(point, (20, 1)), np.tile(point, (80, 1))
    found = rerank_rows(query, gallery)
    assert (found[:] == 0).all()
    labels = np.arange(20) % 5, np.arange(80) % 5, np.zeros(20, int), np.ones(80, int)
    assert evaluate_distances(found, *labels).cmc[0] == 0


def test_a_zero_feature_has_a_distance():
    query, gallery, *_ = features(15)
    query[0] = 0
    assert np.isfinite(rerank(query, gallery)).all()


GOOD = {"query": np.eye(4, dtype=np.float32), "gallery": np.eye(4, dtype=np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery": np.ones((3, 5), np.float32)}, "query has 4 dimensions, gallery has 5"),
        ({"gallery": np.ones((3, 4))}, "query is float32, gallery is float64"),
        ({"query": np.full((2, 4), np.nan, np.float32)}, "query row 0 holds NaN"),
        ({"k1": 0}, "k1 is 0"),
        ({"k1": 2.5}, "k1 is 2.5; expected a positive integer"),
        ({"k2": 0}, "k2 is 0"),
        ({"lambda_value": 1.5}, "lambda_value is 1.5"),
        ({"power": 0}, "power is 0"),
        ({"metric": "manhattan"}, "metric is 'manhattan'"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        rerank(**GOOD | change)


def test_only_slices_of_rows():
    rows = rerank_rows(**GOOD)
    for wrong in (0, slice(0, 4, 2), (slice(None), 0)):
        with pytest.raises(TypeError, match="slices of rows"):
            rows[wrong]


@pytest.mark.parametrize("queries", [1, 7, 40])
def test_a_collapsed_model_has_one_order_on_every_device(queries):
    corners = np.ones((60, 4), np.float32)
    corners[50:] = 0
    images = reranking.Images.of(corners[:queries], corners[queries:], "euclidean")
    near, _, _ = reranking.search(images, 3, progress=False)
    np.testing.assert_array_equal(near, _ranking_torch.search(images, 3, "cpu", progress=False)[0])


def test_short_features_are_no_obstacle_to_euclidean_distances():
    query, gallery, *_ = features(16)
    gallery[3] *= 1e-24  # no direction is left in float32
    assert np.isfinite(rerank(query, gallery, metric="euclidean")).all()
    with pytest.raises(ValueError, match="gallery row 3 is too small"):
        rerank(query, gallery)


@pytest.mark.parametrize("power", [2, 4])
def test_a_device_looks_for_the_neighbours_and_changes_nothing(monkeypatch, power):
    query, gallery, *_ = features(17)
    search, used = _ranking_torch.search, []
    monkeypatch.setattr(_ranking_torch, "search", lambda *x: used.append(x[2]) or search(*x))
    expected = rerank(query, gallery, power=power)
    assert used == []
    np.testing.assert_allclose(rerank(query, gallery, power=power, device="cpu:0"), expected, atol=1e-6)
    assert used == ["cpu:0"]
