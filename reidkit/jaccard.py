"""The k-reciprocal Jaccard distance (Zhong et al. 2017, "Re-ranking with k-reciprocal Encoding"): two points are near
if they share their near neighbours.

It serves the clustering of centroids (`association.prototypes`) and re-ranking alike:

    encode(neighbours, distance_of, k1=, k2=)   each point's neighbourhood, a sparse row of sum 1 (equations 3-7, 11)
    jaccard(encoding)                           the distances between rows (equation 10)
    k_reciprocal_jaccard(distances, k1=, k2=)   both, from a square matrix

`encode` never needs all distances at once: lists of neighbours, and the distances of the pairs that it names.
"""

from collections.abc import Callable

import numpy as np
from scipy.sparse import csc_array, csr_array

__all__ = ["encode", "jaccard", "k_reciprocal_jaccard", "nearest", "shared_weight"]


def k_reciprocal_jaccard(distances, *, k1: int, k2: int = 1) -> np.ndarray:
    """Jaccard distances from a square matrix of distances: (N, N) -> (N, N) float64 in [0, 1], 0 on the diagonal.

    k1  near neighbours that count, the point itself not among them. No larger than the images (here: centroids) that
        one identity has: beyond that, strangers are bound to be shared.
    k2  each encoding is averaged over the k2 nearest points, the point itself among them; 1 averages nothing.

    An infinite distance is no neighbour. The published settings, for images: k1 20 and k2 6.
    """
    distances = np.asarray(distances, dtype=np.float64)
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"distances must be (N, N), not {distances.shape}")
    if np.isnan(distances).any():
        raise ValueError("distances hold NaN")
    neighbours = nearest(distances, max(k1, k2 - 1))
    return jaccard(encode(neighbours, lambda i, j: distances[i, j], k1=k1, k2=k2))


def nearest(distances: np.ndarray, k: int) -> np.ndarray:
    """Each row's nearest columns, itself first, then k others (fewer if N is smaller): (N, k + 1) int64.

    Ties go to the lower index. A place is -1 where only infinite distances are left.
    """
    own = np.arange(len(distances))
    distances = distances.copy()
    distances[own, own] = -np.inf  # first, whatever its duplicates are
    order = np.argsort(distances, axis=1, kind="stable")[:, : k + 1]  # (N, k + 1)
    return np.where(np.take_along_axis(distances, order, axis=1) < np.inf, order, -1)


def encode(neighbours, distance_of: Callable, *, k1: int, k2: int = 1) -> csr_array:
    """Every point's neighbourhood as a row of weights: a sparse (N, N) whose rows sum to 1.

    neighbours   (N, K) int, as `nearest` returns: each point itself, then its nearest others, -1 for none.
                 K at least max(k1 + 1, k2), or as many as there are points
    distance_of  (i, j) -> distances of the pairs (i[0], j[0]), (i[1], j[1]), ...; the weights are exp(-distance)

    Equation by equation: R(i), who are mutually among the k1 nearest (3); R*(i), with the halved neighbourhoods of
    those members that overlap with R(i) by more than two thirds (4); exp(-distance) over R*(i) (7); averaged over the
    k2 nearest (11). Rows are scaled to sum to 1, as all implementations do. Equation 4 prints "at least" two thirds;
    the authors' code, and all after it, have "more than". With a small k1 the two differ often: 2 of 3 is a tie.
    """
    neighbours = np.asarray(neighbours)
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 = {k1} and k2 = {k2}: both count neighbours, from 1 on")
    n, listed = neighbours.shape
    if listed < min(n, max(k1 + 1, k2)):
        raise ValueError(
            f"{listed} neighbours a point are listed, but k1 = {k1} and k2 = {k2} look at {max(k1 + 1, k2)}"
        )
    whole, half = _mutual(neighbours, k1), _mutual(neighbours, int(np.around(k1 / 2)))
    overlap = (whole @ half.T) * whole  # (i, j): how much of j's half lies in R(i), for j in R(i)
    i, j = overlap.nonzero()
    joins = overlap.data > 2 / 3 * half.sum(axis=1)[j]
    joined = csr_array((np.ones(joins.sum()), (i[joins], j[joins])), shape=(n, n))
    i, j = (whole + joined @ half).nonzero()
    encoding = _rows_to_one(csr_array((np.exp(-distance_of(i, j)), (i, j)), shape=(n, n)))
    return encoding if k2 == 1 else _rows_to_one(_members(neighbours[:, :k2])) @ encoding


def jaccard(encoding: csr_array, rows=None) -> np.ndarray:
    """1 - sum of minima / sum of maxima, between `rows` (default all) and all rows of an encoding: (R, N) float64."""
    encoding = encoding.sorted_indices()  # sums in one order, so that the result is exactly symmetric
    columns = encoding.tocsc()
    rows = np.arange(encoding.shape[0]) if rows is None else np.asarray(rows)
    shared = np.empty((len(rows), encoding.shape[0]))
    for out, i in zip(shared, rows, strict=True):
        out[:] = shared_weight(encoding, columns, i)
    distances = np.clip(1 - shared / (2 - shared), 0, 1)  # rows sum to 1: maxima and minima together make 2
    distances[np.arange(len(rows)), rows] = 0
    return distances


def shared_weight(encoding: csr_array, columns: csc_array, i: int) -> np.ndarray:
    """The sum of minima of row i and every row of an encoding: (N,) float64. `columns` is the encoding as CSC."""
    mine = slice(encoding.indptr[i], encoding.indptr[i + 1])
    members = encoding.indices[mine]
    begin, counts = columns.indptr[members], columns.indptr[members + 1] - columns.indptr[members]
    entries = np.repeat(begin - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    minima = np.minimum(columns.data[entries], np.repeat(encoding.data[mine], counts))  # who else has weight there
    return np.bincount(columns.indices[entries], weights=minima, minlength=encoding.shape[0])


def _members(neighbours: np.ndarray) -> csr_array:
    """(N, N) of ones: is the column in the row's list?"""
    i, place = np.nonzero(neighbours >= 0)
    return csr_array((np.ones(len(i)), (i, neighbours[i, place])), shape=(len(neighbours),) * 2)


def _mutual(neighbours: np.ndarray, k: int) -> csr_array:
    """R(i, k), equation 3: who is among i's k nearest others, and has i among his; i itself is."""
    near = _members(neighbours[:, : k + 1])
    return csr_array(near * near.T)


def _rows_to_one(matrix: csr_array) -> csr_array:
    return csr_array(matrix / matrix.sum(axis=1)[:, None])
