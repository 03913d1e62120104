"""Prototypes: the k-reciprocal Jaccard distance and DBSCAN over centroids, against loops from their definitions."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.association import pair_scores, prototype_distances, prototypes
from reidkit.jaccard import encode, jaccard, k_reciprocal_jaccard, nearest


def unit(rng, n, dim=4):
    points = rng.normal(size=(n, dim))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def squared(points):
    return ((points[:, None] - points[None]) ** 2).sum(-1)


def jaccard_by_loop(distances, k1, k2):
    """Zhong et al. 2017, equations 2-7, 10 and 11, a point at a time. An infinite distance is no neighbour."""
    n = len(distances)
    order = [[i, *(j for j in np.argsort(distances[i], kind="stable") if j != i)] for i in range(n)]
    order = [[j for j in row if j == i or np.isfinite(distances[i, j])] for i, row in enumerate(order)]

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
            encoding[i, j] = np.exp(-(distances[i, j] if i != j else 0.0))
        encoding[i] /= encoding[i].sum()
    encoding = np.stack([encoding[order[i][:k2]].mean(0) for i in range(n)])
    result = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            smaller = np.minimum(encoding[i], encoding[j]).sum()
            result[i, j] = 1 - smaller / np.maximum(encoding[i], encoding[j]).sum()
    return result


def density_clusters_by_loop(distances, eps, min_samples):
    """DBSCAN's definition: core points within eps of each other share a cluster; a border point has one of its cores';
    everything else is noise. Returns the sets of core points, the noise, and who may be a border point of which."""
    n = len(distances)
    near = [{j for j in range(n) if distances[i, j] <= eps or i == j} for i in range(n)]
    core = {i for i in range(n) if len(near[i]) >= min_samples}
    clusters, left = [], set(core)
    while left:
        cluster, todo = set(), [min(left)]
        while todo:
            i = todo.pop()
            if i not in cluster:
                cluster.add(i)
                todo += near[i] & core
        clusters.append(cluster)
        left -= cluster
    noise = {i for i in range(n) if not near[i] & core}
    return clusters, noise, near


@st.composite
def worlds(draw):
    """Unit centroids of at least two cameras, and their cameras."""
    n, cameras = draw(st.integers(2, 24)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    camids = np.concatenate([[0, 1], rng.integers(cameras, size=n - 2)])
    return unit(rng, n, draw(st.integers(2, 5))).astype(np.float32), rng.permutation(camids)


def silently(*arguments, **options):
    """`prototypes` on worlds so small that a single prototype is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return prototypes(*arguments, **options)


# the Jaccard distance


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 12), st.integers(1, 6))
@settings(max_examples=40)
def test_jaccard_equals_its_definition(seed, n, k1, k2):
    distances = squared(unit(np.random.default_rng(seed), n))
    assert np.allclose(k_reciprocal_jaccard(distances, k1=k1, k2=k2), jaccard_by_loop(distances, k1, k2), atol=1e-12)


@given(worlds(), st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=25)
def test_jaccard_passes_over_infinite_distances(world, k1, k2):
    centroids, camids = world
    distances = squared(centroids.astype(np.float64))
    distances[(camids[:, None] == camids[None]) & ~np.eye(len(camids), dtype=bool)] = np.inf
    assert np.allclose(k_reciprocal_jaccard(distances, k1=k1, k2=k2), jaccard_by_loop(distances, k1, k2), atol=1e-12)


def test_jaccard_by_hand():
    """0 and 1 are each other's nearest; 2's nearest is 1, who does not answer. With k1 = 1 the pair has two members."""
    distances = np.abs(np.subtract.outer([0.0, 1.0, 3.0], [0.0, 1.0, 3.0]))
    w = np.exp(-1) / (1 + np.exp(-1))  # 0's row is (1 - w, w, 0), 1's (w, 1 - w, 0), 2's (0, 0, 1)
    expected = 1 - 2 * w / (2 * (1 - w))
    found = k_reciprocal_jaccard(distances, k1=1)
    assert np.allclose(found, [[0, expected, 1], [expected, 0, 1], [1, 1, 0]])


def test_jaccard_is_a_distance_and_follows_a_permutation():
    rng = np.random.default_rng(0)
    distances = squared(unit(rng, 60))
    found = k_reciprocal_jaccard(distances, k1=7, k2=3)
    assert (found == found.T).all()
    assert (np.diag(found) == 0).all()
    assert 0 <= found.min() <= found.max() <= 1
    order = rng.permutation(60)
    again = k_reciprocal_jaccard(distances[np.ix_(order, order)], k1=7, k2=3)
    assert np.allclose(again, found[np.ix_(order, order)], atol=1e-12)


def test_equal_points_are_at_distance_0_and_strangers_at_1():
    points = np.repeat([[1.0, 0.0], [0.0, 1.0]], 3, axis=0)  # two persons, three equal centroids each
    found = k_reciprocal_jaccard(squared(points), k1=2)
    person = np.repeat([0, 1], 3)
    assert np.allclose(found, person[:, None] != person[None], atol=1e-12)


def test_encoding_needs_only_lists_of_neighbours():
    """What re-ranking does: neighbours from elsewhere, and Jaccard rows of the queries alone."""
    distances = squared(unit(np.random.default_rng(1), 40))
    asked = []

    def distance_of(i, j):
        asked.append(len(i))
        return distances[i, j]

    encoding = encode(nearest(distances, 8), distance_of, k1=8, k2=3)
    assert np.allclose(encoding.sum(axis=1), 1)
    assert sum(asked) < 40 * 40 / 2
    whole = k_reciprocal_jaccard(distances, k1=8, k2=3)
    assert np.array_equal(jaccard(encoding, rows=[5, 0, 39]), whole[[5, 0, 39]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: k_reciprocal_jaccard(np.zeros((3, 4)), k1=2), r"must be \(N, N\), not \(3, 4\)"),
        (lambda: k_reciprocal_jaccard(np.full((3, 3), np.nan), k1=2), "NaN"),
        (lambda: k_reciprocal_jaccard(np.zeros((3, 3)), k1=0), "k1 = 0"),
        (lambda: encode(np.array([[0], [1], [2]]), None, k1=2), "1 neighbours a point are listed"),
    ],
)
def test_jaccard_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# distances of centroids


def test_distances_of_every_metric():
    rng = np.random.default_rng(2)
    centroids, camids = unit(rng, 20), rng.integers(4, size=20)
    cosine = centroids @ centroids.T
    for scale in (1.0, 3.0):  # cosine does not see lengths
        assert np.allclose(prototype_distances(scale * centroids, camids, metric="cosine"), 1 - cosine)
    assert np.allclose(prototype_distances(centroids, camids, metric="euclidean") ** 2, squared(centroids))
    expected = jaccard_by_loop(squared(centroids), 3, 1)  # four cameras: k1 = 3
    assert np.allclose(prototype_distances(centroids, camids), expected)
    expected = jaccard_by_loop(squared(centroids), 6, 2)
    assert np.allclose(prototype_distances(centroids, camids, k1=6, k2=2), expected)


@pytest.mark.parametrize("metric", ["jaccard", "euclidean", "cosine"])
def test_excluded_pairs_are_infinitely_far(metric):
    rng = np.random.default_rng(3)
    centroids, camids = unit(rng, 15), rng.integers(3, size=15)
    found = prototype_distances(centroids, camids, metric=metric, exclude_same_camera=True)
    own = np.eye(15, dtype=bool)
    assert np.array_equal(np.isinf(found), (camids[:, None] == camids[None]) & ~own)
    if metric != "jaccard":  # there the neighbourhoods change as well
        plain = prototype_distances(centroids, camids, metric=metric)
        assert np.array_equal(found[np.isfinite(found)], plain[np.isfinite(found)])


def test_the_paper_s_threshold_as_a_cosine():
    angle = np.arccos(0.82)
    centroids = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    found = prototype_distances(centroids, [0, 1], metric="euclidean")
    assert found[0, 1] == pytest.approx(0.6)


# prototypes


def test_a_core_point_whose_neighbours_others_have_taken_is_a_prototype_of_one():
    arms = [np.array([np.cos(a), np.sin(a)]) for a in (0, 2 * np.pi / 3, 4 * np.pi / 3)]
    # of each arm a border point, at 0.9 from the centre and from a core point, and two more beyond
    points = [step * arm for arm in arms for step in (0.9, 1.8, 2.2, 2.3)] + [np.zeros(2)]
    labels = silently(np.array(points), [0, 1] * 6 + [0], eps=1.0, metric="euclidean", min_samples=4)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3]


@given(worlds(), st.sampled_from(["jaccard", "euclidean", "cosine"]), st.floats(0.05, 1.2), st.integers(2, 4))
@settings(max_examples=80)
def test_prototypes_are_density_clusters(world, metric, eps, min_samples):
    centroids, camids = world
    for excluded in (False, True):
        options = {"metric": metric, "exclude_same_camera": excluded}
        labels = silently(centroids, camids, eps=eps, min_samples=min_samples, **options)
        distances = prototype_distances(centroids, camids, **options)
        clusters, noise, near = density_clusters_by_loop(distances, eps, min_samples)
        assert set(np.flatnonzero(labels < 0)) == noise
        assert len({labels[min(cluster)] for cluster in clusters}) == len(clusters) == labels.max() + 1
        for cluster in clusters:
            assert len({labels[i] for i in cluster}) == 1
        core = set().union(*clusters)
        for i in set(range(len(labels))) - noise - core:  # a border point has the label of a core point near it
            assert labels[i] in {labels[j] for j in near[i] & core}


@given(worlds(), st.floats(0.05, 1.2))
@settings(max_examples=40)
def test_labels_are_numbered_by_first_identity_and_keep_only_adds(world, eps):
    centroids, camids = world
    dropped = silently(centroids, camids, eps=eps, metric="euclidean")
    kept = silently(centroids, camids, eps=eps, metric="euclidean", isolated="keep")
    for labels in (dropped, kept):
        assert labels.dtype == np.int64
        first = [np.flatnonzero(labels == label)[0] for label in range(labels.max() + 1)]
        assert first == sorted(first)
    counts = np.bincount(dropped[dropped >= 0], minlength=1)
    assert (dropped < 0).sum() == len(dropped) - counts.sum()
    assert len(np.unique(kept)) == dropped.max() + 1 + (dropped < 0).sum()
    assert kept.min() == 0
    alone = np.flatnonzero(dropped < 0)
    assert (np.bincount(kept)[kept[alone]] == 1).all()
    together = dropped[:, None] == dropped[None]
    both = (dropped >= 0)[:, None] & (dropped >= 0)[None]
    assert np.array_equal(together[both], (kept[:, None] == kept[None])[both])


@given(worlds(), st.floats(0.05, 1.2), st.integers(0, 10_000))
@settings(max_examples=25)
def test_order_of_identities_does_not_matter(world, eps, seed):
    centroids, camids = world
    order = np.random.default_rng(seed).permutation(len(camids))
    labels = silently(centroids, camids, eps=eps, metric="euclidean")
    shuffled = silently(centroids[order], camids[order], eps=eps, metric="euclidean")
    same = lambda values: (values[:, None] == values[None]) & (values >= 0)[:, None]  # noqa: E731
    assert np.array_equal(same(shuffled), same(labels)[np.ix_(order, order)])


def test_a_larger_eps_only_merges():
    rng = np.random.default_rng(4)
    centroids, camids = unit(rng, 60, 6), rng.integers(6, size=60)
    previous = None
    for eps in (0.2, 0.4, 0.6, 0.8):
        labels = silently(centroids, camids, eps=eps, metric="euclidean", isolated="keep")
        if previous is not None:
            assert all(len(np.unique(labels[previous == label])) == 1 for label in np.unique(previous))
        previous = labels


def test_people_who_stand_apart_are_found():
    """Ten people far apart, under four cameras with a little noise: every metric finds them at the paper's 0.6."""
    rng = np.random.default_rng(5)
    people = np.repeat(np.eye(10), 4, axis=0)
    centroids = people + 0.05 * rng.normal(size=people.shape)
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    truth, camids = np.repeat(np.arange(10), 4), np.tile(np.arange(4), 10)
    for metric in ("jaccard", "euclidean", "cosine"):
        labels = prototypes(centroids, camids, eps=0.6, metric=metric)
        assert pair_scores(labels, truth) == (1.0, 1.0)


def test_excluding_same_camera_links_splits_what_only_they_joined():
    """Two look-alikes of camera 0 with nobody between them: plain DBSCAN makes them one, which the labels rule out."""
    centroids = np.array([[1.0, 0.0], [0.999, 0.045], [0.0, 1.0], [0.045, 0.999], [-1.0, 0.0]])
    camids = np.array([0, 0, 1, 2, 1])
    plain = prototypes(centroids, camids, eps=0.3, metric="euclidean")
    assert plain.tolist() == [0, 0, 1, 1, -1]
    with pytest.warns(UserWarning, match="one prototype only, of 2 of 5 centroids.* larger eps"):
        masked = prototypes(centroids, camids, eps=0.3, metric="euclidean", exclude_same_camera=True)
    assert masked.tolist() == [-1, -1, 0, 0, -1]


def test_tensors_of_a_memory_bank_will_do():
    rng = np.random.default_rng(6)
    centroids, camids = unit(rng, 30), rng.integers(4, size=30)
    from_arrays = prototypes(centroids.astype(np.float32), camids, eps=0.5)
    from_tensors = prototypes(torch.tensor(centroids, dtype=torch.float32), torch.tensor(camids), eps=0.5)
    assert isinstance(from_tensors, np.ndarray)
    assert np.array_equal(from_arrays, from_tensors)


def test_everything_noise_says_which_eps_would_find_something():
    centroids, camids = np.eye(6), np.arange(6) % 3
    with pytest.warns(UserWarning, match=r"all 6 .* isolated: there is no prototype.* larger eps: .* at 1.41 \(median"):
        labels = prototypes(centroids, camids, eps=0.6, metric="euclidean")
    assert labels.tolist() == [-1] * 6


def test_everything_one_cluster_says_so():
    centroids, camids = np.eye(6), np.arange(6) % 3
    with pytest.warns(UserWarning, match=r"one prototype only, of 6 of 6 centroids.* smaller eps: .* at 1.41 \(median"):
        labels = prototypes(centroids, camids, eps=1.5, metric="euclidean")
    assert labels.tolist() == [0] * 6


def test_no_identity_and_one_identity():
    assert prototypes(np.zeros((0, 3)), np.zeros(0, np.int64)).shape == (0,)
    with pytest.raises(ValueError, match="of one camera"):
        prototypes(np.eye(3)[:1], [0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camids": np.zeros(4, np.int64)}, "all 4 centroids are of one camera"),
        ({"camids": np.arange(3)}, "4 centroids and 3 camids"),
        ({"metric": "manhattan"}, "unknown metric 'manhattan': expected one of jaccard, euclidean, cosine"),
        ({"isolated": "forget"}, "isolated is 'forget'"),
        ({"eps": 0.0}, "eps = 0.0"),
        ({"eps": float("nan")}, "eps = nan"),
        ({"min_samples": 1}, "min_samples = 1"),
        ({"k1": 0}, "k1 = 0"),
        ({"centroids": np.full((4, 3), np.nan)}, "4 of 4 centroids hold NaN"),
    ],
)
def test_prototypes_refuse(change, message):
    given = {"centroids": np.eye(4), "camids": np.arange(4), "eps": 0.6} | change
    with pytest.raises(ValueError, match=message):
        prototypes(given.pop("centroids"), given.pop("camids"), **given)


@pytest.mark.filterwarnings("error")
def test_a_centroid_of_zeros_has_a_finite_cosine_distance():
    found = prototype_distances(np.array([[0.0, 0.0], [3.0, 4.0]]), [0, 1], metric="cosine")
    assert np.isfinite(found).all()


def test_a_point_is_its_own_nearest_whatever_its_duplicates_are():
    assert nearest(np.zeros((3, 3)), 1).tolist() == [[0, 1], [1, 0], [2, 0]]
