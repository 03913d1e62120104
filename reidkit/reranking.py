"""Re-ranking with k-reciprocal encoding (Zhong, Zheng, Cao and Li, CVPR 2017): who shares its near neighbours is near.

Queries and gallery are looked at together. An image is described by its *k-reciprocal neighbours*, the images that
have it among their k1 nearest as it has them among its own (equations 2-5), as weights exp(-distance) (7), averaged
over its k2 nearest (11). The Jaccard distance between two such descriptions (10) is mixed with the original distance:

    d*(q, g) = (1 - lambda) d_J(q, g) + lambda d(q, g)                                                           (12)

No label is used, but the *other queries* are: the result for one query depends on which queries stand beside it. Say
so where you report it, and compare re-ranked numbers with re-ranked numbers only.

    rerank(query, gallery)        the whole matrix, (Q, G)
    rerank_rows(query, gallery)   the same, made a few rows at a time: what `evaluate_distances` reads, at any size

The sets and the Jaccard distance are those of `jaccard.py`. Here are the neighbours of many images without an
N x N matrix: tiles of its upper triangle, each looked at by row and by column.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csc_array, csr_array
from tqdm import tqdm

from reidkit._ranking import alike, array, choice, directed, matrix_of, positive, survey
from reidkit.jaccard import encode, shared_weight
from reidkit.progress import bar

__all__ = ["ReRanked", "rerank", "rerank_rows"]

TILE = 1024, 8192  # images by images: distances held at a time while neighbours are looked for
KEEP_BYTES = 256 << 20  # query-gallery distances that fit are kept from that search; others are computed anew
ROWS_BYTES = 32 << 20  # re-ranked rows made at a time
SAY_SECONDS = 10  # a search that will take longer says so before it begins


def rerank(query, gallery, **options) -> np.ndarray:
    """Re-ranked distances (Q, G), smaller is nearer, in [0, 1]; float32, of float64 or wide integers float64.

    Arguments as :func:`rerank_rows`, which never holds this matrix.
    """
    return rerank_rows(query, gallery, **options)[:]


def rerank_rows(
    query,
    gallery,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    metric: str = "cosine",
    power: float = 2,
    device=None,
    progress: bool = True,
) -> ReRanked:
    """The re-ranked distances of every query to the gallery, as rows to be read by slices.

    >>> import numpy as np
    >>> from reidkit.evaluation import evaluate_distances
    >>> features = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1, 2, 3]] + np.float32(0.1)
    >>> rows = rerank_rows(features[:4], features[4:], k1=2, k2=1)
    >>> evaluate_distances(rows, [0, 1, 2, 3], [0, 1, 2, 3], [0] * 4, [1] * 4).mAP
    1.0

    Args:
        query, gallery: (Q, d), (G, d) features: arrays, memory maps or tensors, of the same dtype. Leave junk
            (pid -1) out of the gallery, as other toolboxes do: here it would be somebody's neighbour.
        k1: near neighbours that count, 20 in the paper. No larger than the images that a person has, roughly.
        k2: descriptions averaged, the image's own among them, 6 in the paper; 1 averages nothing.
        lambda_value: the share of the original distance, 0.3 in the paper; 1 gives the original ranking.
        metric: what the distance is of: "cosine", L2-normalised features, or "euclidean", features as they are.
        power: **the trap of squared distances.** The original distance enters as ``(d / max d) ** power``, d Euclidean
            and the maximum over all images beside it. The paper has 2 (its Mahalanobis distance is a square), and so
            has its code, which squares what it is given. Some callers give it distances that are squares already:
            with 4 you get their numbers. No list of neighbours changes, the weights and the mixture do.
        device: where to look for neighbours, such as "cuda"; by default a tensor's own device, a CPU means NumPy.
        progress: say how long the search will take, where that is long, and show a bar.

    Raises:
        ValueError: for shapes or dtypes that do not fit, an option out of range, a feature that is not finite.

    Agrees with the original code to about 1e-6. Distances that are equal up to rounding may swap; an image comes first
    among its own neighbours, whatever its duplicates are. Time grows with (Q + G)^2 d, memory with Q + G: about
    330 MiB above the features at Market-1501's size, kept distances included, and 250 MiB at MSMT17's 93,820 images.
    """
    choice("metric", metric, ("cosine", "euclidean"))
    positive("k1", k1)
    positive("k2", k2)
    if not 0 <= lambda_value <= 1:
        raise ValueError(f"lambda_value is {lambda_value}; expected a share, from 0 to 1")
    if not power > 0:
        raise ValueError(f"power is {power}; expected 2 (the paper), 4 (squared distances squared again), or above 0")
    device = str(getattr(query, "device", "cpu") if device is None else device)
    query, gallery = matrix_of("query", array(query)), matrix_of("gallery", array(gallery))
    alike(query, gallery)
    images = Images.of(query, gallery, metric)
    listed = min(max(k1 + 1, k2), len(images))
    if device == "cpu":
        near, farthest, kept = search(images, listed, progress)
    else:
        from reidkit import _ranking_torch  # only here: the NumPy path never pays for importing torch

        near, farthest = _ranking_torch.search(images, listed, device, progress)
        kept = None

    scale = np.where(farthest > 0, farthest, 1)

    def distances(i, j):
        return (images.pairs(i, j) / scale[i]) ** (power / 2)

    if (farthest <= 100 * np.finfo(images.dtype).eps * images.square).all():
        # A collapsed model: all images are one point, up to rounding. They share one neighbourhood and stay tied.
        encoding, lambda_value = csr_array(np.ones((len(images), 1))), 0.0
    else:
        encoding = encode(near, distances, k1=k1, k2=k2).sorted_indices()
    return ReRanked(images, encoding, encoding.tocsc(), scale, kept, lambda_value, power)


@dataclass(eq=False)
class ReRanked:
    """Re-ranked distances (Q, G), made when a slice of rows is asked for; ``np.asarray`` makes them all."""

    images: Images
    encoding: csr_array  # (N, N) each image's neighbourhood
    columns: csc_array  # the same, by columns
    farthest: np.ndarray  # (N,) squared distance to the farthest image of all; 1 instead of 0
    kept: np.ndarray | None  # (Q, G) squared distances
    lambda_value: float
    power: float
    _last: tuple[int, np.ndarray] = field(default=(-1, np.empty(0)), repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.images.query), len(self.images.gallery)

    @property
    def dtype(self) -> np.dtype:
        return self.images.dtype

    ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows start:stop, (b, G)."""
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise TypeError("re-ranked distances are read by slices of rows, [a:b]; np.asarray(…) makes all of them")
        start, stop, _ = rows.indices(len(self))
        out = np.empty((max(0, stop - start), self.shape[1]), self.dtype)
        step = max(1, ROWS_BYTES // (self.dtype.itemsize * self.shape[1]))
        for block in range(start - start % step, stop, step):
            if self._last[0] != block:  # small slices come one after another: a product of many rows is cheaper
                self._last = block, self._block(block, min(block + step, len(self)))
            a, b = max(start, block), min(stop, block + step)
            out[a - start : b - start] = self._last[1][a - block : b - block]
        return out

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def _block(self, start: int, stop: int) -> np.ndarray:
        first, n = len(self), len(self.images)
        if self.kept is None:
            rows = np.empty((stop - start, self.shape[1]), self.dtype)
            step = n if self.images.gallery.dtype == self.dtype else TILE[1]  # what must be converted, in pieces
            for a, b in self.images.spans(step, start=first):
                self.images.between(start, stop, a, b, out=rows[:, a - first : b - first])
        else:
            rows = self.kept[start:stop].copy()
        np.maximum(rows, 0, out=rows)
        rows /= self.farthest[start:stop, None]
        if self.power != 2:
            rows **= self.power / 2
        rows *= self.lambda_value
        for i, row in enumerate(rows, start):
            shared = shared_weight(self.encoding, self.columns, i)[first:]  # (G,)
            row += (1 - self.lambda_value) * (1 - shared / (2 - shared))
        return rows


# ---- neighbours --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Images:
    """Queries and gallery as one list of N images, numbered queries first, and the squared distances between them:
    ``|x|^2 + |y|^2 - 2 x.y``, of the features themselves or, under the cosine, of the features at length 1."""

    query: np.ndarray
    gallery: np.ndarray
    dtype: np.dtype
    square: np.ndarray  # (N,) |x|^2
    scale: np.ndarray  # (N,) what a feature is multiplied by

    @classmethod
    def of(cls, query: np.ndarray, gallery: np.ndarray, metric: str) -> Images:
        dtype = np.result_type(query.dtype, np.float32)
        of_query, of_gallery = survey(query, "query", dtype)[0], survey(gallery, "gallery", dtype)[0]
        if metric == "cosine":
            directed(query, "query", of_query)
            directed(gallery, "gallery", of_gallery)
        square = np.concatenate([of_query, of_gallery])
        if metric == "euclidean":
            return cls(query, gallery, dtype, square, np.ones_like(square))
        scale = np.divide(1, np.sqrt(square), out=np.zeros_like(square), where=square > 0)
        return cls(query, gallery, dtype, np.ones_like(square), scale)

    def __len__(self) -> int:
        return len(self.query) + len(self.gallery)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Features start:stop, all of them queries or all of them gallery."""
        part, begin = (self.query, 0) if start < len(self.query) else (self.gallery, len(self.query))
        return np.asarray(part[start - begin : stop - begin], self.dtype)

    def spans(self, step: int, start: int = 0) -> Iterator[tuple[int, int]]:
        """Cut start:N into pieces of at most `step` images that do not mix queries and gallery."""
        while start < len(self):
            stop = min(start + step, len(self.query) if start < len(self.query) else len(self))
            yield start, stop
            start = stop

    def between(self, a: int, b: int, c: int, d: int, out: np.ndarray) -> np.ndarray:
        """Squared distances of images a:b to c:d, (b - a, d - c); rounding may leave them a little below 0."""
        columns, step = self.rows(c, d).T, 256  # a strip of 256 rows stays in cache for what follows its product
        for i in range(a, b, step):
            j = min(i + step, b)
            strip = out[i - a : j - a]
            np.matmul(self.rows(i, j) * (-2 * self.scale[i:j, None]), columns, out=strip)
            strip *= self.scale[c:d]
            strip += self.square[c:d]
            strip += self.square[i:j, None]
        return out

    def pairs(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Squared distances of the pairs (i[0], j[0]), …, with i ascending; 0 from an image to itself."""
        products = np.empty(len(i), self.dtype)
        begin = np.searchsorted(i, np.arange(len(self) + 1))
        gallery = j >= len(self.query)
        for row in np.flatnonzero(np.diff(begin)).tolist():
            here = slice(begin[row], begin[row + 1])
            x, others, late = self.rows(row, row + 1)[0], j[here], gallery[here]
            found = np.empty(len(others), self.dtype)
            found[~late] = np.asarray(self.query[others[~late]], self.dtype) @ x
            found[late] = np.asarray(self.gallery[others[late] - len(self.query)], self.dtype) @ x
            products[here] = found
        squared = self.square[i] + self.square[j] - 2 * self.scale[i] * self.scale[j] * products
        return np.where(i == j, 0, np.maximum(squared, 0))


def search(images: Images, k: int, progress: bool):
    """``(near, farthest, kept)``: each image's k nearest, itself first, (N, k) int64; the squared distance to its
    farthest, (N,); and the squared distances (Q, G) where they fit KEEP_BYTES, else None."""
    n, first = len(images), len(images.query)
    best = np.full((n, k), np.inf, images.dtype)  # ascending
    near = np.full((n, k), -1)
    farthest = np.zeros(n, images.dtype)
    keep = first * (n - first) * images.dtype.itemsize <= KEEP_BYTES
    kept = np.empty((first, n - first), images.dtype) if keep else None
    buffer = np.empty(TILE[0] * TILE[1], images.dtype)
    with _announce(images, keep, progress) as shown:
        for a, b in images.spans(TILE[0]):
            for c, d in images.spans(TILE[1], start=a):
                # images a:b among themselves lie in the first tile of these rows, on both sides of its diagonal
                tile = images.between(a, b, c, d, out=buffer[: (b - a) * (d - c)].reshape(b - a, d - c))
                if keep and a < first <= c:
                    kept[a:b, c - first : d - first] = tile
                if c == a:
                    np.fill_diagonal(tile, -np.inf)  # itself comes first
                _offer(best[a:b], near[a:b], farthest[a:b], tile, c)
                below = b - a if c == a else 0
                e = c + below
                if e < d:
                    _offer(best[e:d], near[e:d], farthest[e:d], tile[:, below:].T, a)
                shown.update(tile.size)
    return near, farthest, kept


def _offer(best: np.ndarray, near: np.ndarray, farthest: np.ndarray, tile: np.ndarray, start: int) -> None:
    """Let m more images, numbered from `start`, into lists of k nearest: best, near (b, k), tile (b, m), in place.

    Nearly all of them are farther than the k-th found so far: one comparison shuts them out. At equal distance the
    lower number, which came first, stays.
    """
    np.maximum(farthest, tile.max(axis=1), out=farthest)
    k = best.shape[1]
    bound = np.nextafter(best[:, -1], -np.inf, dtype=best.dtype)  # (b,)
    sample = tile[:, :1024]
    if np.isinf(best[0, -1]) and sample.shape[1] >= k:  # the first images: the k-th nearest of some of them is a bound
        bound = np.partition(sample, k - 1, axis=1)[:, k - 1]
    hopeful = tile <= bound[:, None]  # (b, m)
    if hopeful.flags.c_contiguous:
        i, j = np.divmod(np.flatnonzero(hopeful), hopeful.shape[1])  # np.nonzero of a matrix takes 15 times as long
    else:
        j, i = np.divmod(np.flatnonzero(hopeful.T), len(hopeful))
        order = np.argsort(i, kind="stable")
        i, j = i[order], j[order]
    counts = np.bincount(i, minlength=len(best))
    rows = np.flatnonzero(counts)
    if not len(rows):
        return
    place = k + np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    line = np.repeat(np.arange(len(rows)), counts[rows])
    values = np.full((len(rows), k + counts.max()), np.inf, best.dtype)
    numbers = np.full(values.shape, -1)
    values[:, :k], numbers[:, :k] = best[rows], near[rows]
    values[line, place], numbers[line, place] = tile[i, j], start + j
    order = np.argsort(values, axis=1, kind="stable")[:, :k]
    best[rows], near[rows] = np.take_along_axis(values, order, 1), np.take_along_axis(numbers, order, 1)


def _announce(images: Images, keep: bool, progress: bool) -> tqdm:
    """A bar over the distances; where they will take long, a line that says how long before they begin."""
    n, first = len(images), len(images.query)
    total = sum((b - a) * (n - a) for a, b in images.spans(TILE[0]))
    if progress:
        (a, b), (c, d) = next(images.spans(256)), next(images.spans(TILE[0], start=first))
        out, taken = np.empty((b - a, d - c), images.dtype), []
        for _ in range(4):  # the first product is slow, and any may be interrupted
            begin = time.perf_counter()
            images.between(a, b, c, d, out)
            taken.append(time.perf_counter() - begin)
        each = min(taken) / out.size
        seconds = 1.2 * each * (total + (0 if keep else first * (n - first)))
        if seconds > SAY_SECONDS:
            takes = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
            tqdm.write(f"re-ranking {n:,} images will take about {takes}")
    return bar(total, "re-ranking", "pair", show=progress)
