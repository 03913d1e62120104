"""Evaluation against a plain loop written from the protocol, cases worked by hand, scikit-learn, and bad input."""

import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score

from reidkit import _ranking, _ranking_torch
from reidkit.evaluation import camera_bias, camera_pairs, evaluate, evaluate_distances, ranked

TABLE = np.arange(160, dtype=np.float32).reshape(20, 8)
MATRIX = np.arange(40, dtype=np.float32).reshape(20, 2)
TORCH = "cpu:0"  # a device other than plain "cpu" takes the accelerator's code


# ---- the protocol as a plain loop --------------------------------------------------------------------------------


def distance(q, g, metric):
    q, g = q.astype(np.float64), g.astype(np.float64)
    if metric == "euclidean":
        return sum((a - b) ** 2 for a, b in zip(q, g, strict=True))
    norms = math.sqrt(sum(q * q)) * math.sqrt(sum(g * g))
    return 1 - sum(q * g) / norms if norms else 1.0


def plain(distances, query_pids, gallery_pids, query_camids, gallery_camids, *, ties="pessimistic", match=None):
    """Per query: the places (from 1) of its matches in the ranked list without junk. ``match`` redefines a match."""
    match = match or (lambda i, j: query_camids[i] != gallery_camids[j])
    lists = []
    for i in range(len(query_pids)):
        entries = []
        for j in range(len(gallery_pids)):
            if gallery_pids[j] == -1:
                continue
            same = gallery_pids[j] == query_pids[i]
            if same and not match(i, j):
                continue
            entries.append((distances[i][j], same if ties == "pessimistic" else not same, same))
        lists.append([place for place, entry in enumerate(sorted(entries), start=1) if entry[2]])
    return lists


def step_ap(places):
    return sum(k / place for k, place in enumerate(places, start=1)) / len(places)


def trapezoid_ap(places):
    """The area under the precision-recall curve, walking down the list as Oxford's compute_ap does."""
    area, recall, precision, found = 0.0, 0.0, 1.0, 0
    for place in range(1, places[-1] + 1):
        found += place in places
        area += (found / len(places) - recall) * (precision + found / place) / 2
        recall, precision = found / len(places), found / place
    return area


AP = {"step": step_ap, "trapezoid": trapezoid_ap}


def check(result, lists, max_rank=50, tolerance=1e-12):
    valid = [places for places in lists if places]
    aps = [AP[result.ap_kind](places) if places else math.nan for places in lists]
    inps = [len(places) / places[-1] if places else math.nan for places in lists]
    np.testing.assert_allclose(result.ap, aps, atol=tolerance)
    np.testing.assert_allclose(result.inp, inps, atol=tolerance)
    assert result.valid.tolist() == [bool(places) for places in lists]
    assert result.mAP == pytest.approx(np.nanmean(aps), abs=tolerance)
    assert result.mINP == pytest.approx(np.nanmean(inps), abs=tolerance)
    cmc = [np.mean([places[0] <= k for places in valid]) for k in range(1, max_rank + 1)]
    np.testing.assert_allclose(result.cmc, cmc, atol=tolerance)


def instance(seed, queries, images, dim, people, cameras, ties):
    """Random features and labels, junk and distractors included; small integers make many exact ties."""
    rng = np.random.default_rng(seed)
    sample = (lambda n: rng.integers(-2, 3, (n, dim))) if ties else (lambda n: rng.normal(size=(n, dim)))
    gallery = sample(images)
    gallery[rng.integers(0, images, images // 4)] = gallery[0]  # repeated features must tie, integers or not
    labels = rng.integers(1, people + 1, queries), rng.integers(-1, people + 1, images)
    camids = rng.integers(0, cameras, queries), rng.integers(0, cameras, images)
    dtype = np.float32 if ties else np.float64  # small integers are exact in both, and so are their ties
    return sample(queries).astype(dtype), gallery.astype(dtype), *labels, *camids


instances = st.builds(
    instance,
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 5),
    images=st.integers(1, 40),
    dim=st.integers(1, 6),
    people=st.integers(1, 5),
    cameras=st.integers(1, 3),
    ties=st.booleans(),
)


@settings(max_examples=150)
@given(instances, st.sampled_from(["step", "trapezoid"]), st.sampled_from(["pessimistic", "optimistic"]))
def test_euclidean_equals_the_plain_loop(case, ap, ties):
    query, gallery, *labels = case
    table = [[distance(q, g, "euclidean") for g in gallery] for q in query]
    lists = plain(table, *labels, ties=ties)
    for device in (None, TORCH):
        if any(lists):
            check(evaluate(query, gallery, *labels, metric="euclidean", ap=ap, ties=ties, device=device), lists)
        else:
            with pytest.raises(ValueError, match=r"no valid query|all \d+ gallery images are junk"):
                evaluate(query, gallery, *labels, metric="euclidean", ap=ap, ties=ties, device=device)
    if any(lists):
        check(evaluate_distances(np.array(table), *labels, ap=ap, ties=ties), lists)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["pessimistic", "optimistic"]))
def test_cosine_equals_the_plain_loop(seed, ties):
    query, gallery, *labels = instance(seed, 4, 30, 5, 3, 3, ties=False)
    gallery[7] = 0  # no direction: cosine 0 with everything
    lists = plain([[distance(q, g, "cosine") for g in gallery] for q in query], *labels, ties=ties)
    if any(lists):
        check(evaluate(query, gallery, *labels, ties=ties), lists)
        check(evaluate(query * 3, gallery, *labels, ties=ties, device=TORCH), lists)


@pytest.mark.parametrize("kernel", [_ranking, _ranking_torch])
@pytest.mark.parametrize(("queries", "fit"), [(40, 7), (150, 70)])  # blocks of 7, and of 64
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("junk", [True, False])  # with junk among it the gallery is copied, without it read in place
def test_blocks_and_tiles_change_nothing(kernel, queries, fit, metric, junk, monkeypatch):
    query, gallery, *labels = instance(1, queries, 300, 8, 6, 3, ties=True)
    if not junk:
        labels[1] = np.maximum(labels[1], 0)
    if metric == "cosine":  # lengths of 1, 2 and 4, so that scaled products are exact as well
        gallery = np.float32(np.where(gallery[:, :4] < 0, -1, 1) * np.array([[0.5], [1], [2]])[np.arange(300) % 3])
        query = query[:, :4]
    device = TORCH if kernel is _ranking_torch else None
    whole = evaluate(query, gallery, *labels, metric=metric, device=device)
    monkeypatch.setattr(kernel, "BLOCK_BYTES", fit * 4 * 300)
    monkeypatch.setattr(kernel, "TILE_BYTES", 13 * 4 * 8)
    monkeypatch.setattr(_ranking, "VIEW_BYTES", 19 * 4 * 8)
    pieces = evaluate(query, gallery, *labels, metric=metric, device=device)
    np.testing.assert_array_equal(pieces.ap, whole.ap)
    np.testing.assert_array_equal(pieces.inp, whole.inp)
    np.testing.assert_array_equal(pieces.cmc, whole.cmc)


@pytest.mark.parametrize(
    ("features", "rows", "view"),
    [
        (MATRIX, np.arange(3, 19), True),
        (MATRIX, np.array([0, 2, 3, 9, 15, 17]), False),
        (MATRIX.astype(np.float16), np.arange(3, 19), False),
        (MATRIX.astype(">f4"), np.arange(3, 19), False),
        (np.repeat(MATRIX, 2, 1)[:, ::2], np.arange(3, 19), False),  # a matrix product would copy it
    ],
)
def test_features_are_read_in_wide_pieces_only_where_they_need_no_copy(features, rows, view):
    pieces = list(_ranking.tiles(features, rows, np.float32, 2 * 8, 5 * 8))  # two rows, or five
    assert max(b - a for a, b, _ in pieces) == (5 if view else 2)
    np.testing.assert_array_equal(np.concatenate([tile for *_, tile in pieces]), MATRIX[rows])
    if view:
        assert all(np.shares_memory(tile, features) for *_, tile in pieces)


def test_many_matches_and_many_images_equal_the_plain_loop():
    """Both ways of counting: few images before the last match, and most of the gallery before it; 1 and 60 matches."""
    rng = np.random.default_rng(0)
    gallery_pids = np.repeat([1, 2, 3, 0], [60, 60, 3, 2000])
    camids = np.zeros(4, int), np.ones(len(gallery_pids), int)
    table = rng.normal(size=(4, len(gallery_pids))).round(2)
    table[0, :60] -= 4  # query 0 finds its 60 matches early
    table[2, 120:123] = -1.5
    labels = np.array([1, 2, 3, 3]), gallery_pids, *camids
    for ties in ("pessimistic", "optimistic"):
        lists = plain(table, *labels, ties=ties)
        check(evaluate_distances(table, *labels, ties=ties), lists)


def test_memory_does_not_grow_with_queries_times_gallery(monkeypatch, tmp_path):
    monkeypatch.setattr(_ranking, "BLOCK_BYTES", 1 << 20)
    monkeypatch.setattr(_ranking, "TILE_BYTES", 1 << 18)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "gallery.npy", rng.normal(size=(20_000, 16)).astype(np.float32))
    gallery = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    query = rng.normal(size=(1000, 16)).astype(np.float32)
    labels = np.arange(1000), np.arange(20_000) % 2000, np.zeros(1000, int), np.ones(20_000, int)
    tracemalloc.start()
    try:
        evaluate(query, gallery, *labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20  # all distances would take 76 MiB


# ---- by hand -----------------------------------------------------------------------------------------------------

# One person (7), a query from camera 0 at position 0. Sorted by distance:
#   junk (own camera), MATCH, other, junk (-1), distractor (0), MATCH, other, MATCH  ->  places 1, 4, 6 of 6
HAND_POSITIONS = np.array([[0.5], [1], [2], [3], [4], [5], [6], [7]])
HAND_LABELS = [7], [7, 7, 3, -1, 0, 7, 4, 7], [0], [0, 1, 0, 1, 0, 2, 0, 1]


def test_worked_by_hand():
    result = evaluate(np.zeros((1, 1)), HAND_POSITIONS, *HAND_LABELS, metric="euclidean", max_rank=3)
    assert result.mAP == pytest.approx((1 / 1 + 2 / 4 + 3 / 6) / 3)
    assert result.mINP == pytest.approx(3 / 6)
    assert result.cmc.tolist() == [1, 1, 1]
    assert result.ap_kind == "step"
    assert result.summary() == {"mAP": result.mAP, "rank1": 1.0, "mINP": 0.5}
    assert repr(result).startswith("mAP 66.7 %, rank1 100.0 %, mINP 50.0 % (step AP, pessimistic ties, 1 of 1 queries")

    result = evaluate(np.zeros((1, 1)), HAND_POSITIONS, *HAND_LABELS, metric="euclidean", ap="trapezoid")
    assert result.mAP == pytest.approx(((1 + 1) / 2 + (1 / 3 + 2 / 4) / 2 + (2 / 5 + 3 / 6) / 2) / 3)
    assert result.ap_kind == "trapezoid"


def test_pid_0_is_a_person_where_a_query_has_it():
    result = evaluate(np.zeros((1, 1)), np.array([[1.0], [2.0]]), [0], [5, 0], [0], [1, 1], metric="euclidean")
    assert result.mAP == pytest.approx(1 / 2)


def test_queries_without_a_match_are_counted_out():
    gallery = np.array([[1.0], [2.0], [3.0]])
    labels = [7, 8, 9, -1], [7, 8, -1], [0, 1, 0, 0], [1, 1, 1]  # 8: own camera only; 9: absent; -1: junk itself
    result = evaluate(np.zeros((4, 1)), gallery, *labels, metric="euclidean")
    assert result.valid.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(result.ap, [1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(result.inp, [1, np.nan, np.nan, np.nan])
    assert result.mAP == result.mINP == result.cmc[0] == 1


def test_max_rank_may_exceed_the_gallery():
    result = evaluate(np.zeros((1, 1)), np.array([[1.0], [2.0]]), [7], [5, 7], [0], [1, 1], metric="euclidean")
    assert result.cmc.tolist() == [0] + [1] * 49


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_trapezoid_is_never_larger_than_step(seed):
    rng = np.random.default_rng(seed)
    table, labels = rng.random((5, 40)), ([1, 2, 3, 4, 5], rng.integers(1, 6, 40), [0] * 5, [1] * 40)
    step = evaluate_distances(table, *labels).ap
    trapezoid = evaluate_distances(table, *labels, ap="trapezoid").ap
    assert (np.nan_to_num(trapezoid) <= np.nan_to_num(step) + 1e-15).all()


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    query, gallery = rng.normal(size=(30, 16)), rng.normal(size=(200, 16))
    query_pids, gallery_pids = rng.integers(1, 9, 30), rng.integers(-1, 9, 200)
    query_camids, gallery_camids = rng.integers(0, 3, 30), rng.integers(0, 3, 200)
    result = evaluate(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids, metric="euclidean")
    distances = np.linalg.norm(query[:, None] - gallery[None], axis=2)
    for i in range(30):
        same = gallery_pids == query_pids[i]
        kept = (gallery_pids != -1) & ~(same & (gallery_camids == query_camids[i]))
        assert result.ap[i] == pytest.approx(average_precision_score(same[kept], -distances[i, kept]))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("images", "dim"), [(31, 64), (333, 64), (100, 128), (1000, 100), (333, 2048)])
def test_a_collapsed_model_has_rank_1_of_0_or_is_perfect_by_the_tie_rule(metric, images, dim):
    """Sizes at which a matrix product alone breaks the ties: identical columns differ in their last bits."""
    feature = np.random.default_rng(0).normal(size=dim).astype(np.float32)
    query, gallery = np.tile(feature, (17, 1)), np.tile(feature, (images, 1))
    labels = np.arange(17), np.arange(images) % 25, np.zeros(17, int), np.ones(images, int)
    for device in (None, TORCH):
        worst = evaluate(query, gallery, *labels, metric=metric, device=device, max_rank=5)
        assert worst.cmc.tolist() == [0] * 5
        best = evaluate(query, gallery, *labels, metric=metric, device=device, ties="optimistic")
        assert best.mAP == best.mINP == best.cmc[0] == 1


# ---- what may be passed ------------------------------------------------------------------------------------------


def test_arrays_maps_tensors_lists_and_series_are_all_read(tmp_path):
    query, gallery, *labels = instance(5, 10, 60, 4, 4, 3, ties=True)
    expected = evaluate(query, gallery, *labels).ap
    np.save(tmp_path / "gallery.npy", gallery)
    forms = {
        "memory map": (query, np.load(tmp_path / "gallery.npy", mmap_mode="r"), labels),
        "tensors": (torch.tensor(query, requires_grad=True), torch.tensor(gallery), [torch.tensor(x) for x in labels]),
        "half": (query.astype(np.float16), gallery.astype(np.float16), labels),
        "bfloat16": (torch.tensor(query).bfloat16(), torch.tensor(gallery).bfloat16(), labels),
        "double": (query.astype(np.float64), gallery.astype(np.float64), labels),
        "integers": (query.astype(int), gallery.astype(int), labels),
        "lists": (query.tolist(), gallery.tolist(), [x.tolist() for x in labels]),
        "series": (query, gallery, [pd.Series(x, index=range(5, 5 + len(x))) for x in labels]),
        "columns first": (np.asfortranarray(query), np.asfortranarray(gallery), labels),
        "every other": (np.repeat(query, 2, 1)[:, ::2], np.repeat(gallery, 2, 0)[::2], labels),
    }
    for name, (q, g, who) in forms.items():
        for device in (None, TORCH):
            np.testing.assert_allclose(evaluate(q, g, *who, device=device).ap, expected, atol=1e-12, err_msg=name)


def test_inputs_are_not_modified(tmp_path):
    query, gallery, *labels = instance(6, 10, 60, 4, 4, 3, ties=True)
    table = np.linalg.norm(query[:, None] - gallery[None], axis=2)
    before = [x.copy() for x in (query, gallery, table, *labels)]
    np.save(tmp_path / "table.npy", table)
    for form in (table, np.load(tmp_path / "table.npy", mmap_mode="r"), torch.tensor(table), np.asfortranarray(table)):
        result = evaluate_distances(form, *labels)
        np.testing.assert_allclose(result.ap, evaluate(query, gallery, *labels, metric="euclidean").ap)
    for x, old in zip((query, gallery, table, *labels), before, strict=True):
        np.testing.assert_array_equal(x, old)


def test_integer_distances_keep_their_ties():
    assert evaluate_distances([[3, 3, 9]], [1], [2, 1, 3], [0], [1, 1, 1]).mAP == 0.5
    assert evaluate_distances([[3, 3, 9]], [1], [2, 1, 3], [0], [1, 1, 1], ties="optimistic").mAP == 1


GOOD = {
    "query": np.ones((2, 3), np.float32),
    "gallery": np.ones((4, 3), np.float32),
    "query_pids": [1, 2],
    "gallery_pids": [1, 2, 0, -1],
    "query_camids": [0, 0],
    "gallery_camids": [1, 1, 1, 1],
}


def spoilt(value):
    features = np.ones((4, 3), np.float32)
    features[2, 1] = value
    return features


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"query": np.ones((2, 5), np.float32)}, "query has 5 dimensions, gallery has 3"),
        ({"query": np.ones((2, 3))}, "query is float64, gallery is float32"),
        ({"query": np.ones(3, np.float32)}, r"query must be a matrix .* got shape \(3,\)"),
        ({"query": np.ones((0, 3), np.float32)}, r"query must be a matrix .* got shape \(0, 3\)"),
        ({"gallery": np.full((4, 3), "a")}, "gallery must hold real numbers, got dtype <U1"),
        ({"query_pids": [1, 2, 3]}, r"query_pids has shape \(3,\), but query has length 2"),
        ({"gallery_camids": [[1, 1, 1, 1]]}, r"gallery_camids has shape \(1, 4\), but gallery has length 4"),
        ({"gallery_pids": [1.0, 2.0, 0.0, -1.0]}, "gallery_pids must be integers, got dtype float64$"),
        ({"gallery_pids": list("abcd")}, "must be integers, got dtype <U1: number query's and gallery's together"),
        ({"gallery_pids": [-1] * 4}, r"all 4 gallery images are junk \(pid -1\)"),
        ({"gallery": spoilt(np.nan)}, "gallery row 2 holds NaN or infinity"),
        ({"gallery": spoilt(np.inf)}, "gallery row 2 holds NaN or infinity"),
        ({"gallery": spoilt(1e30)}, "gallery row 2 is too large for float32"),
        ({"gallery": spoilt(1e-24) * np.float32(1e-24)}, "gallery row 0 is too small for float32"),
        ({"query": spoilt(np.nan)[1:3]}, "query row 1 holds NaN or infinity"),
        ({"gallery_camids": [0, 0, 0, 0]}, r"no valid query: none of the 2 .*\(2 matches were removed as same-camera"),
        ({"gallery_pids": [3, 4, 0, -1]}, r"\(0 matches were removed .*do the two sets share a person"),
        ({"metric": "l2"}, "metric is 'l2'; expected one of 'cosine', 'euclidean'"),
        ({"ap": "area"}, "ap is 'area'; expected one of 'step', 'trapezoid'"),
        ({"ties": "none"}, "ties is 'none'; expected one of"),
        ({"max_rank": 0}, "max_rank is 0; expected a positive integer"),
        ({"max_rank": 5.5}, "max_rank is 5.5; expected a positive integer"),
    ],
)
def test_bad_input_is_one_clear_error(bad, message):
    evaluate(**GOOD)
    for device in ("cpu", TORCH):
        with pytest.raises(ValueError, match=message):
            evaluate(**GOOD | {"device": device} | bad)


def test_bad_distances_are_refused_by_name():
    labels = [1, 2], [1, 2, 0], [0, 0], [1, 1, 1]
    table = np.ones((2, 3))
    with pytest.raises(ValueError, match="distances are a sparse matrix"):
        evaluate_distances(csr_array(table), *labels)
    table[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"distances\[1, 2\] is nan"):
        evaluate_distances(table, *labels)
    table[1, 1:] = np.inf, -np.inf
    with pytest.raises(ValueError, match=r"distances\[1, 1\] is inf"):
        evaluate_distances(table, *labels)
    with pytest.raises(ValueError, match=r"distances\[1, 1\] is inf"):
        evaluate_distances(table, [1, 2], [1, -1, 2], *labels[2:])  # junk, yet not finite
    with pytest.raises(ValueError, match=r"gallery_pids has shape \(3,\), but axis 1 of distances has length 2"):
        evaluate_distances(np.ones((2, 2)), *labels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_may_be_too_large_to_add_up(dtype):
    table = np.full((2, 9), np.finfo(dtype).max)
    table[:, 4] = [0, 3]
    result = evaluate_distances(table, [4, 5], [1, 2, 3, 6, 4, 5, 7, -1, 8], [0, 0], [1] * 9)
    np.testing.assert_array_equal(result.inp, [1, 1 / 8])  # of seven others one is nearer, six are as far


@pytest.mark.parametrize(
    ("table", "keep", "view"),
    [
        (TABLE, np.arange(1, 8), True),
        (TABLE, np.array([0, 2, 7]), False),
        (np.asfortranarray(TABLE), np.arange(1, 8), False),
        (np.repeat(TABLE, 2, 1)[:, ::2], np.arange(1, 8), False),
        (TABLE.astype(">f4"), np.arange(1, 8), False),
        (TABLE.astype(np.float16), np.arange(1, 8), False),
    ],
)
def test_a_given_matrix_is_copied_only_where_it_is_not_in_c_order(table, keep, view, monkeypatch):
    table = table.view()
    table.flags.writeable = False
    monkeypatch.setattr(_ranking, "STRIP_BYTES", 3 * 4 * TABLE.shape[1])  # three rows
    strips = list(_ranking.strips(table, keep))
    assert [start for start, _ in strips] == list(range(0, len(TABLE), 3))
    assert all(row.flags.c_contiguous for _, strip in strips for row in strip)
    assert all(np.shares_memory(strip, table) == view for _, strip in strips)
    np.testing.assert_array_equal(np.concatenate([strip for _, strip in strips]), TABLE[:, keep])


# ---- cameras -----------------------------------------------------------------------------------------------------


def test_camera_pairs_by_hand():
    """Three cameras on a line. Only the searched camera's images of the person count; strangers always stay."""
    gallery = np.array([[1.0], [2], [3], [4], [5]])
    gallery_pids, gallery_camids = [7, 9, 7, 0, 7], [0, 2, 1, 1, 2]
    # query of camera 0 at 0: own image (1), stranger (2), camera 1's (3), distractor (4), camera 2's (5)
    # query of camera 2 at 6: own image (5), distractor (4), camera 1's (3), stranger (2), camera 0's (1)
    query = np.array([[0.0], [6.0]])
    result = camera_pairs(query, gallery, [7, 7], gallery_pids, [0, 2], gallery_camids, metric="euclidean")
    nan = np.nan
    assert result.cameras.tolist() == [0, 1, 2]
    np.testing.assert_allclose(result.mAP, [[1, 1 / 2, 1 / 3], [nan, nan, nan], [1 / 3, 1 / 2, 1]])
    np.testing.assert_allclose(result.rank1, [[1, 0, 0], [nan, nan, nan], [0, 0, 1]])
    assert result.queries.tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1]]
    cells = [1 / 2, 1 / 3, 1 / 3, 1 / 2]
    assert result.mean_mAP == pytest.approx(np.mean(cells))
    assert result.std_mAP == pytest.approx(np.std(cells))
    assert result.mean_rank1 == result.std_rank1 == 0


@settings(max_examples=60)
@given(instances, st.sampled_from(["step", "trapezoid"]))
def test_camera_pairs_equal_the_plain_loop(case, ap):
    query, gallery, *labels = case
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    itself = np.arange(len(query)) - 1  # queries 1, 2, … are gallery rows 0, 1, …; query 0 is not there
    itself = np.where(itself < len(gallery), itself, -1)
    table = [[distance(q, g, "euclidean") for g in gallery] for q in query]
    if not any(
        g != -1 and g == q and j != itself[i] for i, q in enumerate(query_pids) for j, g in enumerate(gallery_pids)
    ):
        return
    for device in (None, TORCH):
        result = camera_pairs(query, gallery, *labels, itself=itself, metric="euclidean", ap=ap, device=device)
        for column, camera in enumerate(result.cameras):
            lists = plain(
                table,
                *labels,
                match=lambda i, j, camera=camera: gallery_camids[j] == camera and j != itself[i],
            )
            for row, own in enumerate(result.cameras):
                cell = [places for places, c in zip(lists, query_camids, strict=True) if c == own and places]
                assert result.queries[row, column] == len(cell)
                if cell:
                    assert result.mAP[row, column] == pytest.approx(np.mean([AP[ap](places) for places in cell]))
                    assert result.rank1[row, column] == pytest.approx(np.mean([places[0] == 1 for places in cell]))
                else:
                    assert np.isnan(result.mAP[row, column])


def test_camera_pairs_needs_somebody_to_find():
    with pytest.raises(ValueError, match="no query has an image of its person"):
        camera_pairs(np.ones((1, 2)), np.ones((1, 2)), [1], [1], [0], [0], itself=[0])
    for wrong in (1, -2):
        with pytest.raises(ValueError, match=f"itself runs from {wrong} to {wrong}: gallery rows are 0 to 0"):
            camera_pairs(np.ones((1, 2)), np.ones((1, 2)), [1], [1], [0], [0], itself=[wrong])
    with pytest.raises(ValueError, match=r"itself has shape \(2,\), but query has length 1"):
        camera_pairs(np.ones((1, 2)), np.ones((1, 2)), [1], [1], [0], [0], itself=[0, 0])


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_camera_bias_and_ranked_equal_the_plain_loop(seed, k):
    query, gallery, *labels = instance(seed, 5, 30, 4, 4, 3, ties=False)
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    near = near_own = every = every_own = 0
    lists = []
    for i in range(len(query)):
        junk = (gallery_pids == -1) | ((gallery_pids == query_pids[i]) & (gallery_camids == query_camids[i]))
        kept = [j for j in range(len(gallery)) if not junk[j]]
        order = sorted(kept, key=lambda j: (distance(query[i], gallery[j], "cosine"), j))
        lists.append(order[:k])
        wrong = [j for j in order[:k] if gallery_pids[j] != query_pids[i]]
        wrong_anywhere = [j for j in kept if gallery_pids[j] != query_pids[i]]
        near += len(wrong)
        near_own += sum(gallery_camids[j] == query_camids[i] for j in wrong)
        every += len(wrong_anywhere)
        every_own += sum(gallery_camids[j] == query_camids[i] for j in wrong_anywhere)
    expected = (near_own / near) / (every_own / every) if near and every_own else math.nan
    for device in (None, TORCH):
        assert camera_bias(query, gallery, *labels, k=k, device=device) == pytest.approx(expected, nan_ok=True)
        indices, relevant = ranked(query, gallery, *labels, k=k, device=device)
        assert indices.shape == relevant.shape == (5, k)
        for i, order in enumerate(lists):
            assert indices[i].tolist() == order + [-1] * (k - len(order))
            assert relevant[i, : len(order)].tolist() == (gallery_pids[order] == query_pids[i]).tolist()
            assert not relevant[i, len(order) :].any()


def test_camera_bias_by_hand():
    # The query of camera 0 sees two strangers first, both from its own camera; 2 of all 4 strangers are: (2/2) / (2/4).
    gallery = np.array([[1.0], [2], [3], [4], [5], [0.5]])
    labels = [7], [1, 0, 7, 2, 3, 7], [0], [0, 0, 1, 1, 1, 0]
    assert camera_bias(np.zeros((1, 1)), gallery, *labels, k=2, metric="euclidean") == 2
    assert camera_bias(np.zeros((1, 1)), gallery, *labels, k=10, metric="euclidean") == 1
    alone = [7], [7, 7], [0], [1, 1]
    assert math.isnan(camera_bias(np.zeros((1, 1)), gallery[:2], *alone, metric="euclidean"))
    with pytest.raises(ValueError, match="k is 0; expected a positive integer"):
        camera_bias(np.zeros((1, 1)), gallery, *labels, k=0)


@pytest.mark.parametrize("device", [None, TORCH])
def test_ranked_takes_equal_distances_in_gallery_order(device):
    gallery = np.ones((50, 3), np.float32)
    labels = [7], [7] + [-1] + [1] * 47 + [7], [0], [0] + [1] * 49
    indices, relevant = ranked(np.ones((1, 3), np.float32), gallery, *labels, k=60, device=device)
    assert indices.tolist() == [[*range(2, 50)] + [-1] * 12]
    assert relevant.tolist() == [[False] * 47 + [True] + [False] * 12]


def test_the_device_decides_whose_code_measures(monkeypatch):
    used = []
    for kernel in (_ranking, _ranking_torch):
        blocks = kernel.blocks
        monkeypatch.setattr(
            kernel, "blocks", lambda *x, kernel=kernel, blocks=blocks: used.append(kernel) or blocks(*x)
        )
    evaluate(**GOOD)
    evaluate(**GOOD, device=TORCH)
    evaluate(**GOOD | {name: torch.tensor(GOOD[name]) for name in ("query", "gallery")}, device=TORCH)
    assert used == [_ranking, _ranking_torch, _ranking_torch]


@pytest.mark.parametrize("device", [None, TORCH])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_features_tie_however_a_product_rounds_its_columns(device, metric, monkeypatch):
    """On some processors all columns round alike, on others not: here none do."""

    def rounding(product):
        def between(*args, out=None, **options):
            found = product(*args, out=out, **options)
            for column in range(found.shape[1]):
                found[:, column] += 1e-4 * column
            return found

        return between

    monkeypatch.setattr(_ranking.Plan, "between", rounding(_ranking.Plan.between))
    monkeypatch.setattr(torch, "mm", rounding(torch.mm))
    point = np.array([3.0, 4.0], np.float32)
    labels = np.arange(5), np.arange(50) % 5, np.zeros(5, int), np.ones(50, int)
    for ties in ("pessimistic", "optimistic"):
        found = evaluate(
            np.tile(point, (5, 1)), np.tile(point, (50, 1)), *labels, metric=metric, ties=ties, device=device
        )
        assert found.cmc[0] == (ties == "optimistic")


def test_camera_bias_of_a_query_whose_camera_the_gallery_lacks():
    # Both queries see a stranger of camera 0 first: 1 of 2 from the own camera, as is 1 of all 4 strangers.
    labels = [7, 7], [1, 2, 7], [0, 5], [0, 1, 1]
    assert camera_bias(np.zeros((2, 1)), np.array([[1.0], [2], [3]]), *labels, k=1, metric="euclidean") == 2


def test_what_is_returned_and_summed_up_unless_asked():
    query, gallery, *labels = instance(7, 10, 60, 4, 4, 3, ties=False)
    result = evaluate(query, gallery, *labels)
    assert list(result.summary()) == ["mAP", "rank1", "rank5", "rank10", "mINP"]
    assert result.summary()["rank5"] == result.cmc[4]
    assert ranked(query, gallery, *labels).indices.shape == (10, 10)
