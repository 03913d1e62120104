"""The yardstick: how well does an embedding find the same person under another camera?

A *query* image is compared with every *gallery* image, and the gallery is ranked from near to far. The Market-1501
protocol (Zheng et al., Scalable Person Re-identification, ICCV 2015) then reads the ranked list of each query:

- images of the same person from the query's **own camera** are *junk*: too easy, so they leave the list;
- images labelled **pid -1** (bad detections) are junk too;
- images labelled **pid 0** are *distractors*: nobody's match, but they stay and may be ranked too high. They need no
  rule of their own: no Market-1501 query has pid 0. (Where 0 is a real person, as in MSMT17, it is treated as one.)
- what is left of the query's person are its *matches*; a query without any is not valid and is counted out.

With ``m`` matches at places ``r_1 < … < r_m`` (from 1, junk removed):

- **CMC** at rank k: the share of valid queries with ``r_1 <= k``. Did we find the person at all?
- **AP**: the mean precision over the matches, ``step``: ``1/m sum_j j / r_j``; **mAP** is its mean over valid queries.
  Did we find all of them early? The official Market-1501 and Oxford5k code takes the ``trapezoid`` under the
  precision-recall curve instead: ``1/m sum_j (j / r_j + (j - 1) / (r_j - 1)) / 2``, with the second fraction 1 at
  ``r_j = 1``. It is never larger, and often a point or two smaller: say which one you print.
- **INP**: ``m / r_m`` (Ye et al., Deep Learning for Person Re-identification, TPAMI 2021; **mINP** is its mean): what
  does finding the *last* match cost?

All metrics are fractions in [0, 1]; tables print percent. All of them need only the number of wrong images ranked
before each match, which is what makes them fast (see ``_ranking.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from reidkit import _ranking, _ranking_wide
from reidkit._ranking import Labels, alike, array, choice, integers, matrix_of, positive, sliceable


@dataclass(frozen=True, eq=False, repr=False)
class Retrieval:
    """What :func:`evaluate` found. Fractions in [0, 1]; per-query arrays are NaN where a query has no match."""

    cmc: np.ndarray  # (max_rank,) float64; cmc[0] is rank-1
    mAP: float
    mINP: float
    ap: np.ndarray  # (Q,) float64, average precision of each query
    inp: np.ndarray  # (Q,) float64, inverse negative penalty of each query
    valid: np.ndarray  # (Q,) bool, has at least one match
    ap_kind: str  # "step" or "trapezoid": the definition behind ap and mAP
    ties: str  # "pessimistic" or "optimistic"

    def summary(self, ranks: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
        """``{"mAP": …, "rank1": …, "mINP": …}``: a row of a results table; ranks past ``max_rank`` are left out."""
        found = {f"rank{k}": float(self.cmc[k - 1]) for k in ranks if k <= len(self.cmc)}
        return {"mAP": self.mAP, **found, "mINP": self.mINP}

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {100 * value:.1f} %" for name, value in self.summary().items())
        matched = f"{self.valid.sum()} of {len(self.valid)} queries have a match"
        return f"{numbers} ({self.ap_kind} AP, {self.ties} ties, {matched})"


def evaluate(
    query,
    gallery,
    query_pids,
    gallery_pids,
    query_camids,
    gallery_camids,
    *,
    metric: str = "cosine",
    ap: str = "step",
    max_rank: int = 50,
    ties: str = "pessimistic",
    device=None,
) -> Retrieval:
    """CMC, mAP and mINP of features under the Market-1501 protocol (see the top of this module).

    Args:
        query: (Q, d) features: a NumPy array, a memory map or a tensor (detached); float or integer. float64
            and integers of 32 bits and more are computed in float64, all else in float32. Nothing is normalised
            silently: ``metric`` says it all.
        gallery: (G, d) features of the same dtype. Read in tiles, so a memory map may be larger than the RAM.
        query_pids, gallery_pids: (Q,), (G,) integers, the person in each image; -1 is junk.
        query_camids, gallery_camids: (Q,), (G,) integers, the camera of each image.
        metric: "cosine" ranks by the angle between features (a zero vector has cosine 0 with everything);
            "euclidean" by the length of their difference. On unit vectors both give the same ranking. In float32,
            features a hundred times farther from 0 than from each other lose digits: subtract their mean first.
        ap: "step", what most toolboxes report, or "trapezoid", the official Market-1501 / Oxford5k definition.
        max_rank: the length of ``cmc``; may exceed the gallery.
        ties: what happens when a wrong image is exactly as near as a match. "pessimistic": it comes first, so that a
            collapsed model, which gives every image the same feature, has rank-1 = 0. "optimistic": it comes last, and
            that model is perfect. A plain sort gives something in between that depends on the order of the files.
        device: where to compute, such as "cuda". By default a tensor's own device; a CPU means NumPy.

    Returns:
        A :class:`Retrieval`. It agrees with a plain loop to 1e-5, not to the last bit: a matrix product rounds
        differently on another processor, and two images that differ by less than that may swap. (On a GPU, do not let
        TF32 compute the product: its 10-bit mantissa swaps far more.)

    Raises:
        ValueError: for shapes, lengths or dtypes that do not fit (both sides are named), for a feature that is not
            finite (its row is named), or when no query has a match left.

    Memory above the features, on a CPU: 32 MiB of distances, 16 of features where they must be copied (another dtype,
    junk among them; 28 if both), and about 100 bytes for each gallery image and each image of a query's own person; in
    all about 40 MiB at Market-1501's size, 250 MiB with two million images.

    >>> import numpy as np
    >>> query, gallery = np.array([[0.0]]), np.array([[1.0], [2.0], [3.0]])
    >>> evaluate(query, gallery, [7], [5, 7, 7], [0], [1, 1, 2], metric="euclidean").mAP  # (1/2 + 2/3) / 2
    0.5833333333333333
    """
    choice("ap", ap, ("step", "trapezoid"))
    choice("ties", ties, ("pessimistic", "optimistic"))
    positive("max_rank", max_rank)
    labels, kernel, blocks = _open(
        query, gallery, query_pids, gallery_pids, query_camids, gallery_camids, metric, device
    )
    counted = None
    if kernel is _ranking and len(labels.keep) > _ranking_wide.WIDE:
        counted = _ranking_wide.count(array(query), array(gallery), labels, metric, ties)
    if counted is None:
        counted = _count(labels, kernel, blocks, ties)
    return _retrieval(labels, *counted, ap, max_rank, ties)


def evaluate_distances(
    distances,
    query_pids,
    gallery_pids,
    query_camids,
    gallery_camids,
    *,
    ap: str = "step",
    max_rank: int = 50,
    ties: str = "pessimistic",
) -> Retrieval:
    """:func:`evaluate` for a distance matrix, such as a re-ranked one: (Q, G), smaller is nearer, negatives allowed.

    The matrix is read a few rows at a time and never modified. It may be a memory map, or anything else that has a
    shape, a dtype and slices of rows, such as :func:`reidkit.reranking.rerank_rows`, which makes rows as they are
    read. A distance that is not finite is refused by row and column.
    """
    choice("ap", ap, ("step", "trapezoid"))
    choice("ties", ties, ("pessimistic", "optimistic"))
    positive("max_rank", max_rank)
    distances = matrix_of("distances", sliceable(distances))
    labels = Labels.of(
        *distances.shape,
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
        of=("axis 0 of distances", "axis 1 of distances"),
    )
    blocks = _ranking.strips(distances, labels.keep)
    return _retrieval(labels, *_count(labels, _ranking, blocks, ties), ap, max_rank, ties)


# ---- cameras -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CameraPairs:
    """What :func:`camera_pairs` found. Row: the query's camera; column: the camera searched; NaN: nothing to find."""

    cameras: np.ndarray  # (C,) int64, the camid of each row and column
    mAP: np.ndarray  # (C, C)
    rank1: np.ndarray  # (C, C)
    queries: np.ndarray  # (C, C) int64, valid queries behind each cell
    ap_kind: str
    mean_mAP: float = field(init=False)  # over the cells off the diagonal: the cross-camera average
    std_mAP: float = field(init=False)  # their spread (population standard deviation)
    mean_rank1: float = field(init=False)
    std_rank1: float = field(init=False)

    def __post_init__(self):
        for name in ("mAP", "rank1"):
            cells = getattr(self, name)[~np.eye(len(self.cameras), dtype=bool)]
            cells = cells[~np.isnan(cells)]
            object.__setattr__(self, f"mean_{name}", float(cells.mean()) if cells.size else float("nan"))
            object.__setattr__(self, f"std_{name}", float(cells.std()) if cells.size else float("nan"))


def camera_pairs(
    query,
    gallery,
    query_pids,
    gallery_pids,
    query_camids,
    gallery_camids,
    *,
    itself=None,
    metric: str = "cosine",
    ap: str = "step",
    ties: str = "pessimistic",
    device=None,
) -> CameraPairs:
    """How well each camera finds people seen by each other camera (the confusion matrices of Zheng et al., TOMM 2018).

    In cell (a, b) the queries come from camera a and only the person's images from camera b count as matches. The
    person's images from *every other* camera are junk: they leave the list, right or wrong they are not asked for.
    Images of other people and distractors stay, whatever their camera: the whole gallery is searched, as usual, and
    only what counts as found changes. (Searching camera b's images alone would be an easier task.)

    On the diagonal the matches are the person's images from the query's own camera, which :func:`evaluate` calls junk:
    it shows how easy the task is without a camera change, and stays out of the averages. Market-1501's queries are not
    in its gallery; where yours are, pass ``itself``, or each query finds itself first and the diagonal is worthless.

    Args:
        itself: (Q,) integers, the gallery row that *is* the query image, -1 where there is none. That row is junk.
        others: as :func:`evaluate`.

    Returns:
        :class:`CameraPairs`. A cell averages the queries that have a match in it; ``mean_mAP`` averages the cells.
    """
    choice("ap", ap, ("step", "trapezoid"))
    choice("ties", ties, ("pessimistic", "optimistic"))
    labels, kernel, blocks = _open(
        query, gallery, query_pids, gallery_pids, query_camids, gallery_camids, metric, device
    )
    if itself is None:
        itself = np.full(len(labels.query_pids), -1)
    itself = integers("itself", itself, len(labels.query_pids), "query")
    if itself.min() < -1 or itself.max() >= len(gallery):
        raise ValueError(
            f"itself runs from {itself.min()} to {itself.max()}: gallery rows are 0 to {len(gallery) - 1}, -1 none"
        )

    query_of, column_of, ahead = _count(labels, kernel, blocks, ties, itself)
    if not len(ahead):
        raise ValueError("camera_pairs: no query has an image of its person in the gallery, under any camera")

    cameras, code = np.unique(np.concatenate([labels.query_camids, labels.camids]), return_inverse=True)
    size, asks, sees = len(cameras), code[: len(labels.query_camids)], code[len(labels.query_camids) :]
    group = query_of * size + sees[column_of]  # one ranked list per (query, camera searched)
    order = np.argsort(group, kind="stable")  # stable: within a list the matches stay sorted from near to far
    group, aps, _, first = _per_list(group[order], ahead[order], ap)
    cell = asks[group // size] * size + group % size
    total = lambda x: np.bincount(cell, x, minlength=size * size).reshape(size, size)  # noqa: E731
    number = total(np.ones(len(cell)))
    with np.errstate(invalid="ignore"):
        return CameraPairs(cameras, total(aps) / number, total(first == 1) / number, number.astype(int), ap)


def camera_bias(
    query,
    gallery,
    query_pids,
    gallery_pids,
    query_camids,
    gallery_camids,
    *,
    k: int = 10,
    metric: str = "cosine",
    device=None,
) -> float:
    """Does the embedding retrieve cameras rather than people? 1 = no bias; 2 = twice as often as chance would have it.

    Look at the wrong images (other people and distractors) among the k nearest, junk removed. Which share of them
    comes from the query's own camera? Divide by the share that camera has of *all* wrong images in the gallery. Both
    shares are pooled over the queries: first add up images, then divide. NaN where a share is 0/0 (nothing is wrong).

    Arguments as :func:`evaluate`; of equally near images the earlier in the gallery is taken.
    """
    positive("k", k)
    labels, kernel, blocks = _open(
        query, gallery, query_pids, gallery_pids, query_camids, gallery_camids, metric, device
    )
    near = near_own = 0
    for start, columns in _nearest(labels, kernel, blocks, k):
        who = slice(start, start + len(columns))
        wrong = (columns >= 0) & (labels.pids[columns] != labels.query_pids[who, None])  # (b, k)
        near += wrong.sum()
        near_own += (wrong & (labels.camids[columns] == labels.query_camids[who, None])).sum()
    cameras, sizes = np.unique(labels.camids, return_counts=True)
    size = dict(zip(cameras.tolist(), sizes.tolist(), strict=True))
    _, _, same = labels.own(0, len(labels.query_pids))
    every = len(labels.query_pids) * len(labels.keep) - len(same)
    every_own = sum(size.get(camera, 0) for camera in labels.query_camids.tolist()) - same.sum()
    if not near or not every_own:
        return float("nan")
    return float((near_own / near) / (every_own / every))


# ---- ranked lists ------------------------------------------------------------------------------------------------


class Ranked(NamedTuple):
    """The nearest gallery images of each query, junk removed."""

    indices: np.ndarray  # (Q, k) int64 gallery rows, nearest first; -1 where the list is shorter than k
    relevant: np.ndarray  # (Q, k) bool, shows the query's person


def ranked(
    query,
    gallery,
    query_pids,
    gallery_pids,
    query_camids,
    gallery_camids,
    *,
    k: int = 10,
    metric: str = "cosine",
    device=None,
) -> Ranked:
    """The k nearest gallery images of each query, junk removed: what a picture of ranked lists shows.

    Arguments as :func:`evaluate`; of equally near images the earlier in the gallery comes first.
    """
    positive("k", k)
    labels, kernel, blocks = _open(
        query, gallery, query_pids, gallery_pids, query_camids, gallery_camids, metric, device
    )
    columns = np.concatenate([found for _, found in _nearest(labels, kernel, blocks, k)])  # (Q, k)
    padded = np.append(labels.keep, -1)  # so that column -1 means gallery row -1
    relevant = (columns >= 0) & (np.append(labels.pids, -1)[columns] == labels.query_pids[:, None])
    return Ranked(padded[columns], relevant)


# ---- inside ------------------------------------------------------------------------------------------------------


def _count(labels: Labels, kernel, blocks, ties: str, itself: np.ndarray | None = None):
    """For every match of every query: ``(query, column, wrong images ranked before it)``, from near to far.

    Junk is the person's images from the query's own camera or, where ``itself`` is given, the query image alone.
    """
    found = []
    for start, distances in blocks:
        rows, columns, junk = labels.own(start, start + len(distances))
        if itself is not None:
            junk = labels.keep[columns] == itself[start + rows]
        values = kernel.pick(distances, rows, columns)
        order = np.lexsort((values, rows))
        rows, columns, values = rows[order], columns[order], values[order]
        match = ~junk[order]
        own = _own_ahead(rows, values, ties)[match]  # matches and junk: only wrong images are to be counted
        rows, columns, values = rows[match], columns[match], values[match]
        found.append((start + rows, columns, kernel.ahead(distances, rows, values, ties) - own))
    return tuple(map(np.concatenate, zip(*found, strict=True)))


def _own_ahead(rows: np.ndarray, values: np.ndarray, ties: str) -> np.ndarray:
    """How many of a row's values come before each of them, as `ahead` counts, itself included where ties come first."""
    fresh = np.append(True, (rows[1:] != rows[:-1]) | (values[1:] != values[:-1]))[: len(rows)]  # no tie with the last
    begin, run = np.append(np.flatnonzero(fresh), len(rows)), np.cumsum(fresh)  # where runs of ties begin; 1, 1, 2, …
    return begin[run if ties == "pessimistic" else run - 1] - np.searchsorted(rows, rows)


def _per_list(group: np.ndarray, ahead: np.ndarray, ap: str):
    """``(groups, AP, INP, place of the first match)`` of ranked lists; matches sorted by list, from near to far."""
    groups, begin, matches = np.unique(group, return_index=True, return_counts=True)
    found = np.arange(len(group)) - np.repeat(begin, matches) + 1  # 1, 2, … within a list
    place = ahead + found  # from 1
    precision = found / place
    if ap == "trapezoid":  # mean of the precision here and one place before, which is 1 before the first place
        precision = (precision + np.divide(found - 1, place - 1, out=np.ones(len(place)), where=place > 1)) / 2
    return groups, np.add.reduceat(precision, begin) / matches, matches / place[begin + matches - 1], place[begin]


def _retrieval(labels: Labels, query_of, column_of, ahead, ap: str, max_rank: int, ties: str) -> Retrieval:
    size = len(labels.query_pids)
    if not len(ahead):
        _, _, same = labels.own(0, size)
        hint = (
            "are the camera ids right, or is there only one camera?" if len(same) else "do the two sets share a person?"
        )
        raise ValueError(
            f"no valid query: none of the {size} queries has a match from another camera in the gallery "
            f"({len(same)} matches were removed as same-camera junk); {hint}"
        )
    valid, aps, inps, first = _per_list(query_of, ahead, ap)
    hits = np.bincount(np.minimum(first, max_rank + 1), minlength=max_rank + 2)[1:-1]  # first matches at rank 1, 2, …

    def per_query(values):
        out = np.full(size, np.nan)
        out[valid] = values
        return out

    return Retrieval(
        cmc=np.cumsum(hits) / len(valid),
        mAP=float(aps.mean()),
        mINP=float(inps.mean()),
        ap=per_query(aps),
        inp=per_query(inps),
        valid=np.isin(np.arange(size), valid),
        ap_kind=ap,
        ties=ties,
    )


def _nearest(labels: Labels, kernel, blocks, k: int):
    """Yield ``(first query, columns (b, k))``: the k nearest, same-camera junk removed, -1 where there are fewer."""
    for start, distances in blocks:
        rows, columns, junk = labels.own(start, start + len(distances))
        kernel.take_out(distances, rows[junk], columns[junk])
        yield start, kernel.top(distances, k)


def _open(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids, metric: str, device):
    """Check everything, then ``(labels, kernel, blocks)``: who is who, the module to count with, the distances."""
    choice("metric", metric, ("cosine", "euclidean"))
    if device is None:
        device = getattr(query, "device", "cpu")
    query, gallery = matrix_of("query", array(query)), matrix_of("gallery", array(gallery))
    alike(query, gallery)
    labels = Labels.of(len(query), len(gallery), query_pids, gallery_pids, query_camids, gallery_camids)
    if str(device) == "cpu":
        return labels, _ranking, _ranking.blocks(query, gallery, labels.keep, metric)
    from reidkit import _ranking_torch  # only here: the NumPy path never pays for importing torch

    return labels, _ranking_torch, _ranking_torch.blocks(query, gallery, labels.keep, metric, device)
