"""Ranking a gallery for many queries without sorting it: the NumPy machinery behind :mod:`reidkit.evaluation`.

Every retrieval metric needs, for each true match of a query, only the *number of wrong images ranked before it*. So we
never sort a whole row, and never hold queries x gallery distances:

1. ``blocks``  a block of queries meets the gallery, tile by tile, in one reused buffer of distances;
   ``strips``  or a given matrix of distances is read a few rows at a time, where it lies;
2. ``ahead``   per query, compare the distances with that of the farthest match, the next and so on; once few come
   before it (a good model leaves few at once), sort those and look the other matches up;
3. ``top``     per query, the k nearest columns, for pictures of ranked lists.

:mod:`reidkit._ranking_torch` offers ``blocks``, ``ahead`` and ``top`` on an accelerator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_BYTES = 32 << 20  # distances held at a time: enough rows for a fast matrix product
TILE_BYTES = 16 << 20  # features copied at a time: what a float16 gallery, or one with junk in it, costs in RAM
VIEW_BYTES = 64 << 20  # features multiplied at a time where they need no copy: each product packs the queries anew
STRIP_BYTES = 2 << 20  # rows of a given matrix of distances read at a time: they stay in cache
SURVEY_BYTES = 1 << 19  # features surveyed at a time, in two passes: these, too
SORT = 64  # to pick out and sort a distance costs as much as to compare so many


def array(x) -> np.ndarray:
    """A NumPy view of an array, memory map, Series, list or tensor; a tensor is detached, bfloat16 becomes float32."""
    if hasattr(x, "detach"):  # a tensor, recognised without importing torch
        x = x.detach().cpu()
        return (x.float() if "bfloat16" in str(x.dtype) else x).numpy()
    return np.asarray(x)


def sliceable(x):
    """`x` as it is where it is a matrix made or read by slices of rows (an HDF5 data set, say), else :func:`array`."""
    if hasattr(x, "toarray"):  # a scipy.sparse matrix: what it leaves out is 0, the nearest of all distances
        raise ValueError("distances are a sparse matrix: missing pairs would be nearest; give a dense one, x.toarray()")
    lazy = all(hasattr(x, name) for name in ("shape", "ndim", "dtype", "__getitem__")) and not hasattr(x, "detach")
    return x if lazy else array(x)


# ---- bad input: one clear error that names both sides ------------------------------------------------------------


def integers(name: str, labels, length: int, of: str) -> np.ndarray:
    labels = array(labels)
    if labels.shape != (length,):
        raise ValueError(f"{name} has shape {labels.shape}, but {of} has length {length}: expected ({length},)")
    if labels.dtype.kind not in "iu":
        hint = ": number query's and gallery's together, by np.unique of both, return_inverse=True"
        raise ValueError(
            f"{name} must be integers, got dtype {labels.dtype}{hint if labels.dtype.kind in 'OSUT' else ''}"
        )
    return labels.astype(np.int64)


def matrix_of(name: str, matrix: np.ndarray) -> np.ndarray:
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} must be a matrix with at least one row and one column, got shape {matrix.shape}")
    if matrix.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, got dtype {matrix.dtype}")
    return matrix


def alike(query: np.ndarray, gallery: np.ndarray) -> None:
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query has {query.shape[1]} dimensions, gallery has {gallery.shape[1]}: same model, same layer?"
        )
    if query.dtype != gallery.dtype:
        raise ValueError(f"query is {query.dtype}, gallery is {gallery.dtype}: convert one to the other's dtype")


def positive(name: str, value: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value}; expected a positive integer")


def choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, known))}")


# ---- who is who --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """Who is who, and which gallery images may appear in a ranked list at all.

    Distances have one column per *kept* gallery image (pid -1 is junk and never compared). ``order`` lists the columns
    person by person, so all images of the person of query i are one slice of it, ``order[first[i]:last[i]]``.
    """

    query_pids: np.ndarray  # (Q,)
    query_camids: np.ndarray  # (Q,)
    keep: np.ndarray  # (n,) gallery row of each column, ascending
    pids: np.ndarray  # (n,) person of each column
    camids: np.ndarray  # (n,) camera of each column
    order: np.ndarray  # (n,) columns sorted by person
    first: np.ndarray  # (Q,)
    last: np.ndarray  # (Q,)

    @classmethod
    def of(
        cls, queries: int, images: int, query_pids, gallery_pids, query_camids, gallery_camids, of=("query", "gallery")
    ) -> Labels:
        """From labels as a caller passes them; ``of`` names, for an error, what they must be as long as."""
        query_pids = integers("query_pids", query_pids, queries, of[0])
        gallery_pids = integers("gallery_pids", gallery_pids, images, of[1])
        query_camids = integers("query_camids", query_camids, queries, of[0])
        gallery_camids = integers("gallery_camids", gallery_camids, images, of[1])
        if (gallery_pids == -1).all():
            raise ValueError(f"all {images} gallery images are junk (pid -1): there is nothing to rank")
        keep = np.flatnonzero(gallery_pids != -1)
        pids = gallery_pids[keep]
        order = np.argsort(pids, kind="stable")
        first, last = (np.searchsorted(pids, query_pids, side, sorter=order) for side in ("left", "right"))
        return cls(query_pids, query_camids, keep, pids, gallery_camids[keep], order, first, last)

    def own(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every pair (query, gallery image of the same person) of queries start..stop: ``(rows, columns, same)``.

        Rows count from ``start``; ``same`` marks a pair from one camera, which the protocol calls junk.
        """
        first, counts = self.first[start:stop], (self.last - self.first)[start:stop]
        rows = np.repeat(np.arange(stop - start), counts)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, … within a query
        columns = self.order[first[rows] + place]
        return rows, columns, self.query_camids[start + rows] == self.camids[columns]


# ---- distances ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a pass over the features tells before the first product.

    A row is ordered as the metric does by ``-q.g / |g|``, ``-|q|`` times the cosine (0 for a zero vector), or by
    ``|g|^2 / 2 - q.g``, since the squared Euclidean distance ``|q - g|^2`` is ``|q|^2`` and twice that.
    ``copies`` are columns whose feature repeats, bit for bit, that of the column in ``originals``.
    """

    dtype: np.dtype
    cosine: bool
    weights: np.ndarray  # (n,): -1 / |g|, or |g|^2 / 2
    copies: np.ndarray
    originals: np.ndarray

    @classmethod
    def of(cls, query: np.ndarray, gallery: np.ndarray, keep: np.ndarray, metric: str) -> Plan:
        dtype = np.result_type(query.dtype, np.float32)  # float16 and small integers are computed in float32
        of_query, _ = survey(query, "query", dtype)
        norms2, prints = survey(gallery, "gallery", dtype)
        if cosine := metric == "cosine":
            directed(query, "query", of_query)
            directed(gallery, "gallery", norms2)
        norms2 = norms2[keep]
        zeros = np.zeros_like(norms2)
        weights = np.divide(-1, np.sqrt(norms2), out=zeros, where=norms2 > 0) if cosine else norms2 / 2
        return cls(dtype, cosine, weights, *duplicates(gallery, keep, prints[keep]))

    def step(self, budget: int) -> int:
        """Queries per block, so that their distances fit in ``budget`` bytes."""
        fit = max(1, budget // (self.dtype.itemsize * max(1, len(self.weights))))
        return fit - fit % 64 if fit > 64 else fit  # matrix products are fastest in whole pieces of the processor's

    def between(self, query: np.ndarray, gallery: np.ndarray, columns, out: np.ndarray | None = None) -> np.ndarray:
        """Distances (b, m) of queries (b, d) and of these columns' features (m, d)."""
        found = np.matmul(query, gallery.T, out=out)
        if self.cosine:  # to scale the products spares a scaled copy of the gallery
            found *= self.weights[columns]
        else:
            np.subtract(self.weights[columns], found, out=found)
        return found


def blocks(query: np.ndarray, gallery: np.ndarray, keep: np.ndarray, metric: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield ``(first query, distances (b, n))`` for consecutive blocks of queries; the buffer is reused."""
    plan = Plan.of(query, gallery, keep, metric)
    step = plan.step(BLOCK_BYTES)
    buffer = np.empty((min(step, len(query)), len(keep)), plan.dtype)
    for start in range(0, len(query), step):
        q = np.asarray(query[start : start + step], plan.dtype)  # (b, d)
        block = buffer[: len(q)]  # (b, n)
        for a, b, tile in tiles(gallery, keep, plan.dtype, TILE_BYTES, VIEW_BYTES):
            plan.between(q, tile, slice(a, b), out=block[:, a:b])
            del tile  # before the next is read: if it is a copy, there is one at a time
        for row in block if len(plan.copies) else ():
            row[plan.copies] = row[plan.originals]
        yield start, block


def strips(distances: np.ndarray, keep: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield ``(first query, distances)`` as :func:`blocks` does, from a given matrix: a view if it is in C order."""
    dtype = np.result_type(distances.dtype, np.float32)
    step = max(1, STRIP_BYTES // (dtype.itemsize * distances.shape[1]))
    columns, ones = run(keep), np.ones(distances.shape[1], dtype)
    for start in range(0, len(distances), step):
        strip = np.asarray(distances[start : start + step], dtype, order="C")  # each row is read several times
        with np.errstate(over="ignore", invalid="ignore"):  # a sum is finite only if all of it is, and quicker to make
            sums = strip @ ones
        if not np.isfinite(sums).all() and not np.isfinite(strip).all():
            row, column = np.argwhere(~np.isfinite(strip))[0]
            raise ValueError(
                f"distances[{start + row}, {column}] is {strip[row, column]}: it has no place in a ranking; "
                "look for NaN in the features or an overflow before this matrix"
            )
        yield start, strip[:, columns] if isinstance(columns, slice) else strip.take(columns, 1)


def tiles(
    features: np.ndarray, rows: np.ndarray, dtype, budget: int, in_place: int | None = None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Read ``features[rows]`` (rows ascending) in pieces of ``budget`` bytes: ``(a, b, features[rows[a:b]])``.

    ``in_place``, if given, is the budget for features that need no copy: of this dtype, in C order, rows without a gap.
    """
    straight = features.dtype == dtype and features.flags.c_contiguous and features.flags.aligned
    if in_place is not None and straight and isinstance(run(rows), slice):
        budget = in_place
    step = max(1, budget // (np.dtype(dtype).itemsize * features.shape[1]))
    for a in range(0, len(rows), step):
        part = rows[a : a + step]
        yield a, a + len(part), np.asarray(features[run(part)], dtype)


def run(rows: np.ndarray) -> slice | np.ndarray:
    """Ascending rows as a slice where each follows the last: a slice is a view of an array, a list of rows a copy."""
    together = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
    return slice(rows[0], rows[-1] + 1) if together else rows


def survey(features: np.ndarray, name: str, dtype) -> tuple[np.ndarray, np.ndarray]:
    """Squared norms and fingerprints of all rows, in one pass that also refuses a row that is not finite.

    A fingerprint is the sum of a row's bit patterns as integers: equal rows have equal fingerprints.
    """
    norms2 = np.empty(len(features), dtype)
    prints = np.empty(len(features), np.int64)
    bits = np.dtype(f"i{np.dtype(dtype).itemsize}")
    for a, b, tile in tiles(features, np.arange(len(features)), dtype, SURVEY_BYTES):
        tile = np.ascontiguousarray(tile)
        with np.errstate(over="ignore", invalid="ignore"):
            np.einsum("ij,ij->i", tile, tile, out=norms2[a:b])
        prints[a:b] = np.add.reduce(tile.view(bits), axis=1, dtype=bits)
    bad = np.flatnonzero(~np.isfinite(norms2))
    if bad.size and np.isfinite(features[bad[0]]).all():
        raise ValueError(f"{name} row {bad[0]} is too large for {np.dtype(dtype)}: its squared norm overflows; rescale")
    if bad.size:
        raise ValueError(
            f"{name} row {bad[0]} holds NaN or infinity (so do {bad.size - 1} others of {len(features)} {name} rows): "
            "it has no place in a ranking; look for a diverged training or a division by zero"
        )
    return norms2, prints


def directed(features: np.ndarray, name: str, norms2: np.ndarray) -> None:
    """Refuse a row that has a direction, as the cosine asks for, and too small a norm to find it."""
    small = np.flatnonzero(norms2 < np.finfo(norms2.dtype).tiny)  # zero vectors, that should mean
    for a, b, tile in tiles(features, small, norms2.dtype, SURVEY_BYTES):
        if tile.any():
            row = small[a:b][tile.any(1)][0]
            raise ValueError(f"{name} row {row} is too small for {norms2.dtype}: its squared norm underflows; rescale")


def duplicates(features: np.ndarray, keep: np.ndarray, prints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(copies, originals)``: columns whose gallery feature repeats that of an earlier column.

    Two identical features must tie, but a matrix product does not promise it: columns at the edge of a block are
    summed in another order and differ in the last bits. Without this, a collapsed model (every feature the same) would
    be scored by rounding noise instead of by the tie rule.
    """
    _, first, group = np.unique(prints, return_index=True, return_inverse=True)
    original = first[group]
    copies = np.flatnonzero(original != np.arange(len(prints)))
    same = np.zeros(len(copies), bool)  # equal fingerprints may be chance: look
    for a, _, tile in tiles(features, keep[copies], features.dtype, TILE_BYTES):
        for i, row in enumerate(tile, start=a):
            same[i] = np.array_equal(row, features[keep[original[copies[i]]]])
    return copies[same], original[copies[same]]


# ---- counting and picking ----------------------------------------------------------------------------------------


def pick(distances, rows, columns):
    """The distances of these (row, column) pairs."""
    return distances[rows, columns]


def take_out(distances, rows, columns) -> None:
    """The distances of these (row, column) pairs become infinity: these images leave the list."""
    distances[rows, columns] = np.inf


def ahead(distances: np.ndarray, rows: np.ndarray, values: np.ndarray, ties: str) -> np.ndarray:
    """How many distances of row ``rows[j]`` come before ``values[j]``; sorted by row, then from nearest to farthest.

    Ties: "pessimistic", a distance equal to the match's comes before it; "optimistic", after it.
    """
    before, side = (np.less_equal, "right") if ties == "pessimistic" else (np.less, "left")
    counts = np.zeros(len(rows), np.int64)
    starts = np.searchsorted(rows, np.arange(len(distances) + 1)).tolist()  # where a row's pairs begin
    width = distances.shape[1]
    nearer = np.empty(width, bool)
    bounds = values.tolist()  # a Python number is compared as a scalar of the row's dtype, and sooner
    for row, start, stop in zip(distances, starts, starts[1:], strict=False):
        for j in range(stop - 1, start - 1, -1):  # from the farthest match on
            n = counts[j] = np.count_nonzero(before(row, bounds[j], out=nearer))
            if SORT * n <= (stop - j) * width:  # sorting what is left costs no more than the comparisons so far
                if n and j > start:
                    few = row[nearer.nonzero()]
                    few.sort()
                    counts[start:j] = few.searchsorted(values[start:j], side)
                break
    return counts


def top(distances: np.ndarray, k: int) -> np.ndarray:
    """The k nearest columns of each row, nearest first, equal ones in column order; -1 where a row has fewer. (b, k)"""
    best = np.full((len(distances), k), -1)
    size = min(k, distances.shape[1])
    for row, out in zip(distances, best, strict=True) if size else ():
        near = np.flatnonzero(row <= np.partition(row, size - 1)[size - 1])
        near = near[np.argsort(row[near], kind="stable")][:size]
        near = near[row[near] < np.inf]
        out[: near.size] = near
    return best
