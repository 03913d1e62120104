"""Who is who across cameras: identities labelled camera by camera, and the pseudo labels that join them.

Arrays in, NumPy or tensors; NumPy int64 out. Nothing here is trained.
"""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import DBSCAN

from reidkit._ranking import array
from reidkit.jaccard import k_reciprocal_jaccard

RULES = ("reciprocal", "greedy", "one-sided")
METRICS = ("jaccard", "euclidean", "cosine")


class PairScores(NamedTuple):
    """Fractions; NaN where there is nothing to divide by."""

    precision: float  # of the pairs joined, those that are one person
    recall: float  # of the pairs that are one person, those joined


def intra_camera_labels(pids, camids) -> np.ndarray:
    """The accumulated identities of intra-camera supervision, simulated from full labels (Precise-ICS, section 4.1).

    pids, camids (N,) integers. One person under two cameras becomes two identities that share nothing. Returns ids (N,)
    int64, 0 ... N_ICS - 1, ordered by (camid, pid): the paper's j = A + y, counted from 0. Junk (a negative pid) is
    nobody and is refused.
    """
    pids, camids = _labels(pids, "pids"), _labels(camids, "camids")
    if len(pids) != len(camids):
        raise ValueError(f"{len(pids)} pids and {len(camids)} camids: expected one of each an image")
    if (pids < 0).any():
        raise ValueError(f"{(pids < 0).sum()} of {len(pids)} pids are negative (junk): drop these rows first")
    if not len(pids):
        return np.empty(0, np.int64)
    pairs = np.stack([camids, pids], axis=1)  # (N, 2)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def associate(centroids, camids, *, n_pairs: int, rule: str = "reciprocal", singles: str = "own") -> np.ndarray:
    """Pseudo labels: the connected components of the graph of `edges` (Precise-ICS, section 3.2.1).

    centroids (N, d), camids (N,), n_pairs, rule: as in `edges`. singles: what an identity without an edge gets, its
    "own" label (the paper keeps "all IDs within each component") or "drop", -1 (the released code leaves their images
    out of the second stage). Returns labels (N,) int64, 0, 1, ... in the order of each component's first identity.

    A component may hold two identities of one camera, joined through others: only direct edges are cross-camera.
    """
    if singles not in ("own", "drop"):
        raise ValueError(f"singles is {singles!r}: expected 'own' (a label of their own) or 'drop' (-1)")
    pairs = edges(centroids, camids, n_pairs=n_pairs, rule=rule)
    return components(pairs, len(_labels(camids, "camids")), singles=singles)


def components(pairs, count: int, *, singles: str = "own") -> np.ndarray:
    """Labels (count,) int64 of the connected components that `pairs` (E, 2) make of `count` vertices."""
    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    if not count:
        return np.empty(0, np.int64)
    graph = coo_array((np.ones(len(pairs), np.int8), tuple(pairs.T)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    kept = np.ones(count, bool) if singles == "own" else np.isin(np.arange(count), pairs)
    labels = np.where(kept, labels, -1)
    _, first, inverse = np.unique(labels[kept], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    result = np.full(count, -1, np.int64)
    result[kept] = rank[inverse]
    return result


def edges(centroids, camids, *, n_pairs: int, rule: str = "reciprocal") -> np.ndarray:
    """The association graph: which identities of different cameras are linked (equation 6), nearest first.

    centroids (N, d) float, one an identity (in the paper the memory's rows, unit length; compared by Euclidean distance
    as they are), camids (N,) their cameras. Only the `n_pairs` nearest cross-camera pairs are looked at, S of
    the paper, which takes S = N. 0 looks at none and more than there are at all, so S can be swept from end to end;
    with a single camera there are none. Of these pairs, `rule` keeps

        "reciprocal"   those where each is the other's nearest in the other's camera (the paper)
        "greedy"       walking from the nearest, those where neither is linked to the other's camera yet (the released
                       code; a superset of "reciprocal")
        "one-sided"    those where one of the two is the other's nearest in its camera

    Returns (E, 2) int64 pairs i < j, nearest first; at equal distance the lower (i, j) comes first.
    """
    centroids, camids = _centroids(centroids), _labels(camids, "camids")
    if len(centroids) != len(camids):
        raise ValueError(f"{len(centroids)} centroids and {len(camids)} camids: expected one of each an identity")
    if isinstance(n_pairs, bool) or not n_pairs >= 0 or n_pairs % 1:
        raise ValueError(f"n_pairs is {n_pairs}: it is a number of pairs, 0 or more (the paper: as many as identities)")
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}: expected one of {', '.join(RULES)}")
    distances = squared_distances(centroids)  # (N, N)
    first, second = np.nonzero(np.triu(camids[:, None] != camids[None]))  # i < j, other camera, in order of (i, j)
    nearest = np.argsort(distances[first, second], kind="stable")[: int(n_pairs)]
    pairs = np.stack([first[nearest], second[nearest]], axis=1).astype(np.int64)  # (S, 2)
    return pairs[_greedy(pairs, camids) if rule == "greedy" else _neighbours(pairs, distances, camids, rule)]


def prototypes(
    centroids,
    camids,
    *,
    eps: float = 0.6,
    metric: str = "jaccard",
    min_samples: int = 2,
    exclude_same_camera: bool = False,
    isolated: str = "drop",
    k1: int | None = None,
    k2: int = 1,
) -> np.ndarray:
    """Inter-camera prototypes: DBSCAN over the centroids of intra-camera identities (PIRID, section 2.3).

    centroids   (N, d) float, one an identity, unit length as a memory bank keeps them; camids (N,) their cameras
    eps         the largest distance that links two centroids, in units of `metric`; the paper's "threshold of 0.6"
    metric      of what, the paper does not say: "jaccard" (the custom where re-identification clusters), "euclidean"
                (0.6 between unit vectors is a cosine of 0.82) or "cosine", 1 - cosine
    min_samples DBSCAN's, from 2 on: neighbours within eps, itself included, that make a centroid a core point. With 2
                every link joins, and DBSCAN is single linkage; a person has at most as many centroids as cameras
    exclude_same_camera
                never link two identities of one camera, who cannot be one person (not in the paper). They may still
                meet in a prototype through others
    isolated    what becomes of centroids that no cluster holds: "drop", -1 (the paper rules them out), or "keep", each
                a prototype of its own
    k1, k2      of the Jaccard distance (`jaccard.k_reciprocal_jaccard`); k1 None: the number of cameras - 1, as many
                others as one person can have

    Returns labels (N,) int64: prototypes 0, 1, ... in the order of each one's first identity, -1 = ruled out.
    Warns where clustering has said nothing, no prototype or only one, and says at which distances neighbours lie.
    ValueError for a single camera: there is nothing to link across.
    """
    if isolated not in ("drop", "keep"):
        raise ValueError(f"isolated is {isolated!r}: expected 'drop' (-1) or 'keep' (a prototype of its own)")
    if not eps > 0 or min_samples < 2:
        raise ValueError(f"eps = {eps} and min_samples = {min_samples}: a distance above 0, and a number from 2 on")
    distances = prototype_distances(
        centroids, camids, metric=metric, exclude_same_camera=exclude_same_camera, k1=k1, k2=k2
    )  # (N, N)
    if not len(distances):
        return np.empty(0, np.int64)
    if len(np.unique(_labels(camids, "camids"))) == 1:
        raise ValueError(f"all {len(distances)} centroids are of one camera: prototypes join identities across cameras")
    finite = np.nan_to_num(distances, posinf=np.finfo(np.float64).max)
    found = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(finite).labels_
    _say_if_degenerate(found, distances, eps, metric)
    clusters = [np.flatnonzero(found == label) for label in range(found.max() + 1)]
    # the first with itself too: a cluster may be one core point, all of whose neighbours are border points of others
    pairs = [(members[0], other) for members in clusters for other in members]
    return components(pairs, len(found), singles="own" if isolated == "keep" else "drop")


def prototype_distances(
    centroids,
    camids,
    *,
    metric: str = "jaccard",
    exclude_same_camera: bool = False,
    k1: int | None = None,
    k2: int = 1,
) -> np.ndarray:
    """The distances that `prototypes` clusters, (N, N) float64; infinite between identities of one camera if excluded.

    Under "jaccard", neighbours are the nearest by Euclidean distance and weigh exp(-its square). Excluded pairs are not
    neighbours there either.
    """
    centroids, camids = _centroids(centroids), _labels(camids, "camids")
    if len(centroids) != len(camids):
        raise ValueError(f"{len(centroids)} centroids and {len(camids)} camids: expected one of each an identity")
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}: expected one of {', '.join(METRICS)}")
    if not len(centroids):
        return np.zeros((0, 0))
    if metric == "cosine":
        lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
        centroids = centroids / np.where(lengths > 0, lengths, 1)
    distances = squared_distances(centroids)  # (N, N)
    excluded = np.zeros_like(distances, bool)
    if exclude_same_camera:
        excluded = (camids[:, None] == camids[None]) & ~np.eye(len(camids), dtype=bool)
    distances[excluded] = np.inf
    if metric == "jaccard":
        k1 = max(1, len(np.unique(camids)) - 1) if k1 is None else k1
        distances = k_reciprocal_jaccard(distances, k1=k1, k2=k2)
        distances[excluded] = np.inf
        return distances
    return np.sqrt(distances) if metric == "euclidean" else distances / 2  # 1 - cosine = half of it, on unit vectors


def _say_if_degenerate(labels: np.ndarray, distances: np.ndarray, eps: float, metric: str) -> None:
    """A warning where there is no prototype, or only one: a softmax over one class teaches nothing."""
    count, joined = len(labels), int((labels >= 0).sum())
    if labels.max() > 0 or count < 2:
        return
    nearest = np.where(np.eye(count, dtype=bool), np.inf, distances).min(1)  # (N,)
    low, middle, high = np.quantile(nearest, [0.25, 0.5, 0.75], method="lower")
    said = f"there is one prototype only, of {joined} of {count} centroids"
    if not joined:
        said = f"all {count} centroids are isolated: there is no prototype"
    warnings.warn(
        f"{said}, at eps = {eps:g} ({metric} distance). Choose a {'smaller' if 2 * joined > count else 'larger'} eps: "
        f"a centroid's nearest lies at {middle:.3g} (median; quartiles {low:.3g} and {high:.3g})",
        stacklevel=3,
    )


def pair_scores(labels, truth) -> PairScores:
    """Precision and recall of the associated pairs (Precise-ICS, table 3).

    labels (N,) pseudo labels of the identities, -1 = alone; truth (N,) the person behind each. Every pair of identities
    with one label counts, also those that only a chain of edges joined.
    """
    labels, truth = _labels(labels, "labels"), _labels(truth, "truth")
    if len(labels) != len(truth):
        raise ValueError(f"{len(labels)} labels and {len(truth)} true identities: expected one of each")
    kept = labels >= 0
    joined, real = _pairs(labels[kept]), _pairs(truth)
    right = _pairs(np.unique(np.stack([labels[kept], truth[kept]], 1), axis=0, return_inverse=True)[1].reshape(-1))
    return PairScores(right / joined if joined else float("nan"), right / real if real else float("nan"))


def squared_distances(centroids: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (N, N) float64, exactly symmetric."""
    products = centroids @ centroids.T
    lengths = np.diag(products)
    return np.maximum(lengths[:, None] + lengths[None] - (products + products.T), 0.0)


def _neighbours(pairs: np.ndarray, distances: np.ndarray, camids: np.ndarray, rule: str) -> np.ndarray:
    """Which pairs are nearest neighbours in each other's camera: (S,) bool; under "one-sided", in either's."""
    cameras, camera = np.unique(camids, return_inverse=True)
    nearest = np.empty((len(camids), len(cameras)), np.int64)  # of each identity, in each camera
    for c in range(len(cameras)):
        there = np.flatnonzero(camera == c)
        nearest[:, c] = there[distances[:, there].argmin(1)]
    i, j = pairs.T
    forth, back = nearest[i, camera[j]] == j, nearest[j, camera[i]] == i
    return forth | back if rule == "one-sided" else forth & back


def _greedy(pairs: np.ndarray, camids: np.ndarray) -> np.ndarray:
    taken, kept = set(), np.zeros(len(pairs), bool)
    for position, (i, j) in enumerate(pairs.tolist()):
        links = {(i, int(camids[j])), (j, int(camids[i]))}
        if not links & taken:
            taken |= links
            kept[position] = True
    return kept


def _pairs(labels: np.ndarray) -> int:
    counts = np.unique(labels, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _labels(values, name: str) -> np.ndarray:
    values = array(values)
    if values.ndim != 1 or (values.dtype.kind not in "iu" and len(values)):
        raise ValueError(f"{name} are {values.dtype} {values.shape}: expected (N,) integers")
    return values.astype(np.int64)


def _centroids(values) -> np.ndarray:
    values = array(values)
    if values.ndim != 2 or values.dtype.kind != "f":
        raise ValueError(f"centroids are {values.dtype} {values.shape}: expected floating (N, d)")
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).any(1).sum()} of {len(values)} centroids hold NaN or infinity")
    return values.astype(np.float64)
