"""Intra-camera labels and the association graph against loops written from the definitions, and their properties."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.association import associate, components, edges, intra_camera_labels, pair_scores


@st.composite
def graphs(draw):
    """centroids (N, d) with distinct distances, camids (N,), n_pairs."""
    count = draw(st.integers(1, 14))
    camids = np.array(draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)))
    centroids = np.random.default_rng(draw(st.integers(0, 999))).standard_normal((count, 3))
    return centroids, camids, draw(st.integers(0, count * count))


def candidates(centroids, camids, n_pairs):
    """The nearest cross-camera pairs, from the definition."""
    pairs = [(i, j) for i, j in itertools.combinations(range(len(camids)), 2) if camids[i] != camids[j]]
    return sorted(pairs, key=lambda pair: np.linalg.norm(centroids[pair[0]] - centroids[pair[1]]))[:n_pairs]


def is_nearest(i, j, centroids, camids):
    """Is i the nearest identity to j in i's camera?"""
    there = [k for k in range(len(camids)) if camids[k] == camids[i]]
    return i == min(there, key=lambda k: np.linalg.norm(centroids[k] - centroids[j]))


def reciprocal_loop(centroids, camids, n_pairs):
    return [
        (i, j)
        for i, j in candidates(centroids, camids, n_pairs)
        if is_nearest(i, j, centroids, camids) and is_nearest(j, i, centroids, camids)
    ]


def greedy_loop(centroids, camids, n_pairs):
    kept = []
    for i, j in candidates(centroids, camids, n_pairs):
        linked = {(a, camids[b]) for pair in kept for a, b in (pair, pair[::-1])}
        if (i, camids[j]) not in linked and (j, camids[i]) not in linked:
            kept.append((i, j))
    return kept


def components_loop(pairs, count):
    """Union-find without the finesse."""
    labels = list(range(count))
    for i, j in pairs:
        old, new = max(labels[i], labels[j]), min(labels[i], labels[j])
        labels = [new if label == old else label for label in labels]
    order = list(dict.fromkeys(labels))
    return [order.index(label) for label in labels]


# --- intra-camera labels

images = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=40)


@given(images)
def test_labels_are_ordered_by_camera_then_person(rows):
    pids, camids = np.array(rows).T
    order = sorted({(camid, pid) for pid, camid in rows})
    ids = intra_camera_labels(pids, camids)
    assert ids.dtype == np.int64
    assert ids.tolist() == [order.index((camid, pid)) for pid, camid in rows]


def test_accumulated_labels_by_hand():
    """Person 7 under cameras 0 and 2 is two identities; A accumulates 2, then 1."""
    ids = intra_camera_labels(torch.tensor([7, 3, 7, 3, 7]), torch.tensor([2, 0, 0, 1, 2]))
    assert ids.tolist() == [3, 0, 1, 2, 3]


def test_counts_of_the_size_of_market():
    """652, 541, 694, 241, 576 and 558 people a camera accumulate to 3,262, and camera c's ids are one block."""
    per_camera = [652, 541, 694, 241, 576, 558]
    rng = np.random.default_rng(0)
    people = [np.sort(rng.permutation(751)[:n]) for n in per_camera]
    pids, camids = np.concatenate(people), np.repeat(np.arange(6), per_camera)
    twice = rng.permutation(np.tile(np.arange(len(pids)), 2))  # two images each, in any order
    ids = intra_camera_labels(pids[twice], camids[twice])
    assert ids.max() + 1 == 3262
    assert np.array_equal(ids, twice)
    assert np.bincount(camids[twice][np.unique(ids, return_index=True)[1]]).tolist() == per_camera


@pytest.mark.parametrize(
    ("pids", "camids", "words"),
    [
        ([1, -1], [0, 0], "1 of 2 pids are negative"),
        ([1, 2], [0], "2 pids and 1 camids"),
        ([1.0, 2.0], [0, 0], "pids are float64"),
        ([[1, 2]], [0, 0], "pids are"),
    ],
)
def test_bad_labels_are_refused(pids, camids, words):
    with pytest.raises(ValueError, match=words):
        intra_camera_labels(pids, camids)


# --- the graph


@given(graphs())
@settings(max_examples=50)
def test_reciprocal_edges_are_equation_6(graph):
    centroids, camids, n_pairs = graph
    found = edges(centroids, camids, n_pairs=n_pairs)
    assert found.dtype == np.int64
    assert found.shape == (len(found), 2)
    assert list(map(tuple, found.tolist())) == reciprocal_loop(*graph)


@given(graphs())
@settings(max_examples=50)
def test_greedy_edges_are_the_released_rule_and_hold_the_reciprocal_ones(graph):
    centroids, camids, n_pairs = graph
    found = list(map(tuple, edges(centroids, camids, n_pairs=n_pairs, rule="greedy").tolist()))
    assert found == greedy_loop(*graph)
    assert set(reciprocal_loop(*graph)) <= set(found)


@given(graphs())
@settings(max_examples=50)
def test_rules_nest_and_an_identity_has_one_match_a_camera(graph):
    centroids, camids, n_pairs = graph
    sets = {
        rule: set(map(tuple, edges(centroids, camids, n_pairs=n_pairs, rule=rule).tolist()))
        for rule in ("reciprocal", "greedy", "one-sided")
    }
    assert sets["reciprocal"] <= sets["one-sided"] <= set(candidates(*graph))
    for rule in ("reciprocal", "greedy"):
        matches = [(i, camids[j]) for pair in sets[rule] for i, j in (pair, pair[::-1])]
        assert len(matches) == len(set(matches))


@given(graphs())
@settings(max_examples=50)
def test_labels_are_connected_components(graph):
    centroids, camids, n_pairs = graph
    pairs = edges(centroids, camids, n_pairs=n_pairs)
    labels = associate(centroids, camids, n_pairs=n_pairs)
    assert labels.dtype == np.int64
    assert labels.tolist() == components_loop(pairs.tolist(), len(camids))
    dropped = associate(centroids, camids, n_pairs=n_pairs, singles="drop")
    alone = ~np.isin(np.arange(len(camids)), pairs)
    assert (dropped[alone] == -1).all()
    assert sorted(set(dropped[~alone].tolist())) == list(range(len(set(labels[~alone].tolist()))))
    for i, j in itertools.combinations(np.flatnonzero(~alone), 2):
        assert (dropped[i] == dropped[j]) == (labels[i] == labels[j])


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_the_identities_does_not_matter(graph, random):
    centroids, camids, n_pairs = graph
    order = list(range(len(camids)))
    random.shuffle(order)
    mine = associate(centroids, camids, n_pairs=n_pairs)[order]
    theirs = associate(centroids[order], camids[order], n_pairs=n_pairs)
    assert (mine[:, None] == mine).tolist() == (theirs[:, None] == theirs).tolist()


def test_association_by_hand():
    """On a line: camera 0 at 0 and 10, camera 1 at 1 and 2, camera 2 at 10.5."""
    places = np.array([[0.0], [10.0], [1.0], [2.0], [10.5]])
    camids = [0, 0, 1, 1, 2]
    assert edges(places, camids, n_pairs=99).tolist() == [[1, 4], [0, 2], [3, 4]]
    assert edges(places, camids, n_pairs=2).tolist() == [[1, 4], [0, 2]]
    assert associate(places, camids, n_pairs=2).tolist() == [0, 1, 0, 2, 1]
    assert associate(places, camids, n_pairs=2, singles="drop").tolist() == [0, 1, 0, -1, 1]
    assert edges(places, camids, n_pairs=3, rule="one-sided").tolist() == [[1, 4], [0, 2], [0, 3]]
    assert edges(places, camids, n_pairs=4, rule="greedy").tolist() == [[1, 4], [0, 2], [1, 3]]


def test_a_chain_can_join_two_identities_of_one_camera():
    places = np.array([[0.0], [3.0], [1.0], [2.1]])
    labels = associate(places, [0, 0, 1, 2], n_pairs=99)
    assert len(set(labels[:2].tolist())) == 1


def test_equal_centroids_are_taken_in_order():
    same = np.ones((4, 3))
    assert edges(same, [0, 0, 1, 1], n_pairs=99).tolist() == [[0, 2]]
    assert edges(same, [0, 0, 1, 1], n_pairs=99, rule="greedy").tolist() == [[0, 2], [1, 3]]


def test_n_pairs_from_none_to_more_than_there_are():
    centroids = np.random.default_rng(0).standard_normal((6, 2))
    camids = [0, 0, 1, 1, 2, 2]
    assert associate(centroids, camids, n_pairs=0).tolist() == list(range(6))
    assert associate(centroids, camids, n_pairs=0, singles="drop").tolist() == [-1] * 6
    whole = associate(centroids, camids, n_pairs=12)
    assert np.array_equal(associate(centroids, camids, n_pairs=10**9), whole)


def test_one_camera_has_nothing_to_associate():
    assert associate(np.eye(3), [4, 4, 4], n_pairs=3).tolist() == [0, 1, 2]
    assert edges(np.eye(3), [4, 4, 4], n_pairs=3).shape == (0, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_are_taken_too(dtype):
    centroids, camids = torch.eye(4, dtype=dtype, requires_grad=True), torch.tensor([0, 0, 1, 1])
    assert np.array_equal(associate(centroids, camids, n_pairs=4), associate(np.eye(4), camids.numpy(), n_pairs=4))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_pairs": -1}, "n_pairs is -1"),
        ({"n_pairs": 1.5}, "n_pairs is 1.5"),
        ({"n_pairs": True}, "n_pairs is True"),
        ({"n_pairs": float("inf")}, "n_pairs is inf"),
        ({"n_pairs": float("nan")}, "n_pairs is nan"),
        ({"rule": "mutual"}, "unknown rule 'mutual': expected one of reciprocal"),
        ({"singles": "keep"}, "singles is 'keep'"),
        ({"camids": [0, 1]}, "3 centroids and 2 camids"),
        ({"camids": [0.0, 1.0, 2.0]}, "camids are float64"),
        ({"centroids": np.array([[0.0], [np.nan], [1.0]])}, "1 of 3 centroids hold NaN"),
        ({"centroids": np.zeros(3)}, r"expected floating \(N, d\)"),
    ],
)
def test_bad_input_is_refused(changes, words):
    good = {"centroids": np.eye(3), "camids": [0, 1, 2], "n_pairs": 3}
    with pytest.raises(ValueError, match=words):
        associate(**good | changes)


# --- precision and recall


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 4)), max_size=20))
def test_scores_are_counts_of_pairs(rows):
    labels, truth = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    pairs = list(itertools.combinations(range(len(rows)), 2))
    joined = [(i, j) for i, j in pairs if labels[i] == labels[j] >= 0]
    real = [(i, j) for i, j in pairs if truth[i] == truth[j]]
    precision, recall = pair_scores(labels, truth)
    for value, over in ((precision, joined), (recall, real)):
        both = len(set(joined) & set(real))
        assert value == pytest.approx(both / len(over) if over else float("nan"), nan_ok=True)


def test_scores_by_hand():
    scores = pair_scores([0, 0, 0, 1, -1], [5, 5, 6, 6, 6])
    assert scores.precision == pytest.approx(1 / 3)
    assert scores.recall == pytest.approx(1 / 4)
    assert pair_scores([0, 0, 1], [3, 3, 4]) == (1.0, 1.0)


def test_scores_need_one_label_each():
    with pytest.raises(ValueError, match="2 labels and 3 true identities"):
        pair_scores([0, 0], [1, 1, 1])


def test_components_of_nothing():
    assert components(np.empty((0, 2)), 3).tolist() == [0, 1, 2]
    assert components([], 0).shape == (0,)
