"""Protocols that stand on :mod:`reidkit.evaluation`: how a benchmark turns images into queries before it measures."""

from __future__ import annotations

import numpy as np

from reidkit._ranking import alike, array, choice, integers, matrix_of
from reidkit.evaluation import Retrieval, evaluate, evaluate_distances


def multi_query(features, pids, camids, query_pids, query_camids, *, how: str = "average") -> np.ndarray:
    """One feature per query from *all* images of that person in that camera (Market-1501's "MQ" setting).

    A single query image may show a person from behind, half hidden. Market-1501 also ships ``gt_bbox/``: every
    image of each query's person under the query's camera; they are pooled into one feature, which then queries the
    gallery as usual: ``evaluate(multi_query(...), gallery, query_pids, ...)``.

    Each image's feature is L2-normalised, so that every image has one vote; the features are pooled; the result is
    L2-normalised again. Pooling by average and by maximum gave Zheng et al. (TOMM 2018; released code) 70.16 and 70.68
    mAP; which of them the paper's 70.33 used is open.

    Args:
        features: (N, d) features of the images to pool, for instance of ``dataset.multi_query``; array or tensor.
        pids, camids: (N,) their person and camera.
        query_pids, query_camids: (Q,) person and camera of each query; repeats are fine.
        how: "average", or "maximum" of each dimension over the images.

    Returns:
        (Q, d) unit rows, float32 (float64 where the features are); a zero feature stays zero.

    Raises:
        ValueError: if lengths differ, a feature is not finite, or a query has no image.
    """
    if how not in ("average", "maximum"):
        raise ValueError(f"how is {how!r}; expected 'average' or 'maximum'")
    features, pids, camids, query_pids, query_camids = map(array, (features, pids, camids, query_pids, query_camids))
    if features.ndim != 2 or pids.shape != (len(features),) or camids.shape != pids.shape:
        raise ValueError(
            f"features {features.shape}, pids {pids.shape} and camids {camids.shape} do not fit: "
            "expected (N, d), (N,) and (N,)"
        )
    if query_pids.ndim != 1 or query_camids.shape != query_pids.shape:
        raise ValueError(
            f"query_pids {query_pids.shape} and query_camids {query_camids.shape} differ: expected (Q,) each"
        )
    bad = np.flatnonzero(~np.isfinite(features).all(1))
    if bad.size:
        raise ValueError(f"features row {bad[0]} holds NaN or infinity ({bad.size} of {len(features)} rows do)")

    keys = np.stack([pids, camids], 1)  # (N, 2)
    order = np.lexsort((camids, pids))  # images of one person and camera next to each other
    groups, begin, counts = np.unique(keys[order], axis=0, return_index=True, return_counts=True)
    rows_of = {(p, c): order[a : a + n] for (p, c), a, n in zip(groups.tolist(), begin, counts, strict=True)}

    dtype = np.result_type(features.dtype, np.float32)
    pooled = np.empty((len(query_pids), features.shape[1]), dtype)
    for i, key in enumerate(zip(query_pids.tolist(), query_camids.tolist(), strict=True)):
        if key not in rows_of:
            missing = sum(k not in rows_of for k in zip(query_pids.tolist(), query_camids.tolist(), strict=True))
            raise ValueError(
                f"query {i} (pid {key[0]}, camid {key[1]}) has no image to pool, nor have {missing - 1} other queries: "
                "are these the images of the queries' own person and camera (gt_bbox in Market-1501)?"
            )
        images = _unit(features[rows_of[key]].astype(dtype))  # (n, d)
        pooled[i] = images.mean(0) if how == "average" else images.max(0)
    return _unit(pooled)


def _unit(features: np.ndarray) -> np.ndarray:
    """L2-normalised rows; a zero row stays zero."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, norms, out=np.zeros_like(features), where=norms > 0)


# ---- CUHK03, the classic protocol --------------------------------------------------------------------------------


def multi_shot(features, pids, camids, *, metric: str = "cosine", ap: str = "trapezoid", **options) -> Retrieval:
    """CUHK03's classic protocol with *all* images of the other view as gallery (Zheng et al., TOMM 2018, table V).

    Every image of both views is a query; it is searched for among the images of the other view only. That is easier
    than Market-1501's gallery, which keeps other people's images of the query's own camera.

    Args:
        features: (N, d), the test images of both views, for instance of ``load("cuhk03", protocol="classic").query``.
        pids, camids: (N,) their person and view; two different camids.
        metric, ap, options: as in :func:`~reidkit.evaluation.evaluate`. The trapezoid is the paper's.

    Returns:
        One :class:`~reidkit.evaluation.Retrieval` over the N queries; who was not seen by the other view is not valid.

    Raises:
        ValueError: if lengths differ, or there are not exactly two views.
    """
    features, pids, views = _two_views(features, pids, camids)
    return _each_way(features, pids, views, *(np.flatnonzero(view) for view in views), metric=metric, ap=ap, **options)


def single_shot(
    features, pids, camids, *, trials: int = 10, seed: int = 0, metric: str = "cosine", ap: str = "trapezoid", **options
) -> list[Retrieval]:
    """CUHK03's classic protocol with *one* image of each person in the gallery, drawn at random (table IV).

    As :func:`multi_shot`, but each view's gallery holds one image a person, so that each query has one right answer
    and its AP is (1 / rank + [rank = 1]) / 2 by the trapezoid. Which image is drawn moves the result: it is measured
    for ``trials`` galleries (10 in the released code), the t-th keyed by (``seed``, t).

    Returns:
        One :class:`~reidkit.evaluation.Retrieval` a gallery.
    """
    if trials < 1:
        raise ValueError(f"trials is {trials}; expected at least one random gallery")
    features, pids, views = _two_views(features, pids, camids)
    found = []
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        drawn = [_one_each(np.flatnonzero(view), pids, rng) for view in views]
        found.append(_each_way(features, pids, views, *drawn, metric=metric, ap=ap, **options))
    return found


def _two_views(features, pids, camids) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Features, pids, and which rows are of the first and of the second view."""
    features = matrix_of("features", array(features))
    pids, camids = (integers(n, x, len(features), "features") for n, x in (("pids", pids), ("camids", camids)))
    cameras = np.unique(camids)
    if len(cameras) != 2:
        raise ValueError(
            f"CUHK03's classic protocol has two views, but camids hold {len(cameras)}: {cameras.tolist()[:9]}; "
            "use evaluation.evaluate, or keep the images of two cameras"
        )
    return features, pids, (camids == cameras[0], camids == cameras[1])


def _one_each(rows: np.ndarray, pids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of `rows` for each person, all of hers equally likely; sorted by person."""
    rows = rng.permutation(rows)
    return rows[np.unique(pids[rows], return_index=True)[1]]


def _each_way(features, pids, views, first: np.ndarray, second: np.ndarray, **options) -> Retrieval:
    """Images of either view against gallery rows of the other; `first` and `second` are rows of either view."""
    parts = []
    for view, gallery in zip(views, (second, first), strict=True):
        rows = np.flatnonzero(view)
        if not np.isin(pids[rows], pids[gallery]).any():
            raise ValueError("nobody is seen by both views: there is no right answer to find")
        known = pids[rows], pids[gallery], np.zeros(len(rows), int), np.ones(len(gallery), int)
        parts.append((rows, evaluate(features[rows], features[gallery], *known, **options)))
    return _joined(parts, len(pids))


# ---- Oxford5k ----------------------------------------------------------------------------------------------------


def oxford5k(
    query, gallery, relevant, junk, *, metric: str = "cosine", ap: str = "trapezoid", ties: str = "pessimistic"
) -> Retrieval:
    """Instance retrieval by the rules of Oxford5k (Philbin et al., CVPR 2007), as its own script computes them.

    Each query, a box in a photograph of a landmark, has lists of its own. *Good* and *ok* images (more than a quarter
    of the landmark in sight) are right; *junk* (less than that, or distorted) leaves the ranked list; all others are
    wrong. The photograph that the query was cut from stays in the gallery, where it is a good image. AP is the area
    under the precision-recall curve by trapezoids, with precision 1 before the first place.

    Args:
        query, gallery: (Q, d), (G, d) features of the same dtype.
        relevant, junk: (Q, G) bool, such as ``load("oxford5k").relevant``: what each query's lists say of each image.
        metric, ap, ties: as in :func:`~reidkit.evaluation.evaluate`.

    Returns:
        One :class:`~reidkit.evaluation.Retrieval`. Oxford5k's number is its ``mAP``. A query without a right image is
        not valid.

    Raises:
        ValueError: if shapes differ, a feature is not finite, an image is both right and junk for a query, or no query
            has a right image.
    """
    choice("metric", metric, ("cosine", "euclidean"))
    query, gallery = matrix_of("query", array(query)), matrix_of("gallery", array(gallery))
    relevant, junk = array(relevant), array(junk)
    for name, features in (("query", query), ("gallery", gallery)):
        bad = np.flatnonzero(~np.isfinite(features).all(1))
        if bad.size:
            raise ValueError(f"{name} row {bad[0]} is not finite ({bad.size} of {len(features)} rows are not)")
    for name, marks in (("relevant", relevant), ("junk", junk)):
        if marks.shape != (len(query), len(gallery)) or marks.dtype != bool:
            raise ValueError(
                f"{name} is {marks.dtype} {marks.shape}: expected bool ({len(query)}, {len(gallery)}), a row a query"
            )
    alike(query, gallery)
    query, gallery = (x.astype(np.result_type(x.dtype, np.float32), copy=False) for x in (query, gallery))
    if (both := relevant & junk).any():
        q, g = np.argwhere(both)[0]
        raise ValueError(f"gallery image {g} is both relevant and junk for query {q} ({both.sum()} such cases)")
    if not relevant.any():
        raise ValueError("no query has a relevant image: there is nothing to find")
    if metric == "cosine":
        query, gallery = _unit(query), _unit(gallery)
    parts = []
    for q in np.flatnonzero(relevant.any(1)):
        similarity = gallery @ query[q]  # (G,)
        distances = -similarity if metric == "cosine" else (gallery**2).sum(1) - 2 * similarity
        pids = np.where(junk[q], -1, relevant[q].astype(int))  # 1: right, 0: wrong, -1: leaves the list
        cameras = [0], np.ones(len(gallery), int)
        parts.append(([q], evaluate_distances(distances[None], [1], pids, *cameras, ap=ap, ties=ties)))
    return _joined(parts, len(query))


def _joined(parts: list[tuple[np.ndarray, Retrieval]], queries: int) -> Retrieval:
    """Retrievals of disjoint sets of queries, each with the queries' places, as one of all of them."""
    ap, inp, valid = np.full(queries, np.nan), np.full(queries, np.nan), np.zeros(queries, bool)
    for rows, part in parts:
        ap[rows], inp[rows], valid[rows] = part.ap, part.inp, part.valid
    cmc = np.average([part.cmc for _, part in parts], axis=0, weights=[part.valid.sum() for _, part in parts])
    kind, ties = parts[0][1].ap_kind, parts[0][1].ties
    return Retrieval(cmc, float(np.nanmean(ap)), float(np.nanmean(inp)), ap, inp, valid, kind, ties)
