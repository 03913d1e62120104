"""Protocols that stand on :mod:`reidkit.evaluation`: how a benchmark turns images into queries before it measures."""

from __future__ import annotations

import numpy as np

from reidkit._ranking import array


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
