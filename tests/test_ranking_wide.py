"""A wide gallery is counted tile by tile: the same protocol, the same ties, the same loop to compare with."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_evaluation import check, distance, instance, instances, plain

from reidkit import _ranking_wide
from reidkit.evaluation import evaluate


@pytest.fixture
def small_tiles(monkeypatch):
    """Every gallery is wide, every tile has some columns only."""
    monkeypatch.setattr(_ranking_wide, "WIDE", 0)
    monkeypatch.setattr(_ranking_wide, "ROWS", 3)
    monkeypatch.setattr(_ranking_wide, "COLUMNS", 7)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(instances, st.sampled_from(["cosine", "euclidean"]), st.sampled_from(["pessimistic", "optimistic"]))
def test_equals_the_plain_loop(small_tiles, case, metric, ties):
    query, gallery, *labels = case
    if metric == "cosine":  # of small integers, rounding would decide ties
        rng = np.random.default_rng(len(gallery))
        query, gallery = rng.normal(size=(len(query), 5)), rng.normal(size=(len(gallery), 5))
        gallery[len(gallery) // 2 :: 3] = gallery[0]
    lists = plain([[distance(q, g, metric) for g in gallery] for q in query], *labels, ties=ties)
    if any(lists):
        check(evaluate(query, gallery, *labels, metric=metric, ties=ties), lists)
    else:
        with pytest.raises(ValueError, match=r"no valid query|all \d+ gallery images are junk"):
            evaluate(query, gallery, *labels, metric=metric, ties=ties)


def test_many_people_and_tiles(small_tiles):
    query, gallery, *labels = instance(1, 40, 300, 5, 12, 3, ties=False)
    lists = plain([[distance(q, g, "cosine") for g in gallery] for q in query], *labels)
    check(evaluate(query, gallery, *labels), lists)


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic"])
def test_a_collapsed_model_is_tied_in_every_tile(small_tiles, ties):
    rng = np.random.default_rng(0)
    point = rng.normal(size=700).astype(np.float32)
    query, gallery = np.tile(point, (10, 1)), np.tile(point, (200, 1))
    labels = np.arange(10) % 5, np.arange(200) % 5, np.zeros(10, int), np.ones(200, int)
    assert evaluate(query, gallery, *labels, ties=ties).cmc[0] == (ties == "optimistic")


def test_too_many_repeats_are_left_to_whole_rows(small_tiles, monkeypatch):
    query, gallery, *labels = instance(2, 10, 60, 4, 4, 3, ties=False)
    expected = evaluate(query, gallery, *labels).ap
    monkeypatch.setattr(_ranking_wide, "TWINS", 0)
    found = []
    whole = _ranking_wide.count
    monkeypatch.setattr(_ranking_wide, "count", lambda *x: found.append(whole(*x)))
    np.testing.assert_allclose(evaluate(query, gallery, *labels).ap, expected, atol=1e-12)
    assert found == [None]


@pytest.mark.parametrize("junk", [True, False])  # with junk among it the gallery is copied, without it read in place
def test_wide_features_are_read_in_pieces_of_a_tile(small_tiles, monkeypatch, junk):
    query, gallery, *labels = instance(3, 12, 80, 5, 4, 3, ties=False)
    if not junk:
        labels[1] = np.maximum(labels[1], 0)
    for name in ("TILE_BYTES", "VIEW_BYTES"):
        monkeypatch.setattr(_ranking_wide, name, 3 * 5 * 8)  # three images
    lists = plain([[distance(q, g, "euclidean") for g in gallery] for q in query], *labels)
    check(evaluate(query, gallery, *labels, metric="euclidean"), lists)
