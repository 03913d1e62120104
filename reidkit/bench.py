"""What every notebook does between a data set and a row of its table: one road, so that rows can be compared.

The one place where the wings meet, as in a notebook: a model is trained on a split and embedded (the road), its
features are judged (the science), a dict of metrics comes out (for the desk).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from reidkit.datasets import ReIDDataset, labels
from reidkit.embedding import embed, silhouettes
from reidkit.evaluation import camera_bias, evaluate, ranked
from reidkit.loading import Augment, Batches, pixels
from reidkit.models import Backbone, resnet50, small_resnet
from reidkit.pretrained import stand_in
from reidkit.samplers import PKSampler, Sampler

METRICS = ["mAP", "rank1", "mINP", "bias"]  # of `measure`


def backbone(profile: str, start: str = "stand-in", seed: int = 0) -> Backbone:
    """Where a row starts from. start: "stand-in" (in the profile `paper`: ResNet-50 with torchvision's ImageNet
    weights) or "scratch" (weights drawn from `seed`). In `smoke` the stand-in is itself a quick one."""
    if start not in ("stand-in", "scratch"):
        raise ValueError(f"start is {start!r}: expected 'stand-in' or 'scratch'")
    if profile == "paper":
        return resnet50(last_stride=1, weights="IMAGENET1K_V2" if start == "stand-in" else None, seed=seed)
    if start == "scratch":
        return small_resnet(seed=seed)
    return stand_in(**{"ids": 40, "steps": 40} if profile == "smoke" else {})


def decode(data: ReIDDataset, size: tuple[int, int]) -> None:
    """Decode all splits once, here and on all cores, so that the workers of an ablation only open the cache."""
    for split in (data.train, data.query, data.gallery):
        pixels(split, size)


def batches(
    data: ReIDDataset,
    size: tuple[int, int],
    *,
    p: int = 16,
    k: int = 4,
    seed: int = 0,
    sampler: Sampler | None = None,
    pids: np.ndarray | None = None,
    augment: Augment | None = None,
) -> Batches:
    """The training split in batches of `size` (height, width): P identities × K images unless a `sampler` is given,
    contiguous labels unless `pids` are, flip and pad-and-crop (a sixteenth of the height) unless `augment` is."""
    pids = labels(data.train) if pids is None else pids
    return Batches(
        pixels(data.train, size),
        pids,
        data.train.camid,
        PKSampler(pids, p=p, k=k, seed=seed) if sampler is None else sampler,
        augment=Augment(pad=size[0] // 16) if augment is None else augment,
        seed=seed,
    )


def known(data: ReIDDataset) -> tuple[pd.Series, pd.Series, pd.Series, pd.Series]:
    """Who and where, in the order in which the yardsticks ask: query and gallery pids, query and gallery camids."""
    return data.query.pid, data.gallery.pid, data.query.camid, data.gallery.camid


def embeddings(model: nn.Module, data: ReIDDataset, size: tuple[int, int], **options) -> tuple[np.ndarray, np.ndarray]:
    """Features of query (Q, d) and gallery (G, d), float32; options are those of `embed`."""
    return embed(model, pixels(data.query, size), **options), embed(model, pixels(data.gallery, size), **options)


def measure(
    query: np.ndarray, gallery: np.ndarray, data: ReIDDataset, *, metric: str = "cosine", ap: str = "step"
) -> dict[str, float]:
    """One row of a table, fractions: mAP (by `ap`), rank1, mINP, and camera bias (a ratio, 1 = none)."""
    result = evaluate(query, gallery, *known(data), metric=metric, ap=ap)
    bias = camera_bias(query, gallery, *known(data), metric=metric)
    return {"mAP": result.mAP, "rank1": float(result.cmc[0]), "mINP": result.mINP, "bias": bias}


def structure(features: np.ndarray, frame: pd.DataFrame) -> dict[str, float]:
    """How the test features of one person lie, (N, d) features of the images of `frame`; junk and distractors left out.

    intra_distance         mean distance of a unit feature to the mean of its person's unit features
    silhouette_identity, silhouette_camera    by identity, and by camera within identity (`embedding.silhouettes`)
    cosine_same, cosine_other    mean cosine of a person's pairs: under one camera, and under two
    """
    people = (frame.pid > 0).to_numpy()
    pids, camids = frame.pid.to_numpy()[people], frame.camid.to_numpy()[people]
    features = np.asarray(features[people], dtype=np.float64)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)  # (N, d)
    away, sums, counts = [], np.zeros(2), np.zeros(2)
    for pid in np.unique(pids):
        mine, cameras = unit[pids == pid], camids[pids == pid]
        away.append(np.linalg.norm(mine - mine.mean(0), axis=1))
        cosine, other = mine @ mine.T, cameras[:, None] != cameras[None]  # (n, n)
        for kind, mask in enumerate((~other & ~np.eye(len(mine), dtype=bool), other)):
            sums[kind], counts[kind] = sums[kind] + cosine[mask].sum(), counts[kind] + mask.sum()
    by_identity, by_camera = silhouettes(features, pids, camids)
    same, other = (float(s / c) if c else float("nan") for s, c in zip(sums, counts, strict=True))
    return {
        "intra_distance": float(np.concatenate(away).mean()),
        "silhouette_identity": by_identity,
        "silhouette_camera": by_camera,
        "cosine_same": same,
        "cosine_other": other,
    }


def most_seen(frame: pd.DataFrame, n: int = 12) -> np.ndarray:
    """Rows of the `n` identities that most cameras, then most images, show, by rule and not by hand: (N,) bool.
    Distractors and junk are nobody."""
    people = frame[frame.pid > 0].groupby("pid").camid.agg(["nunique", "count"])
    chosen = people.sort_values(["nunique", "count"], ascending=False, kind="stable").index[:n]
    return frame.pid.isin(chosen).to_numpy()


def chosen_by_ap(ap: np.ndarray, shares: Sequence[float] = (0.0, 0.5, 1.0)) -> np.ndarray:
    """Queries chosen by a rule: those at the given shares of the order by average precision (0 the hardest, 1 the
    easiest); queries without a match are left out."""
    order = np.argsort(ap, kind="stable")[: int(np.isfinite(ap).sum())]  # NaN sorts last
    return order[[round(share * (len(order) - 1)) for share in shares]]


def chosen_by_gain(before: np.ndarray, after: np.ndarray, *, best: int = 3, worst: int = 1) -> list[int]:
    """Queries chosen by a rule that looks both ways: the `best` whose average precision gains most from `before` to
    `after`, then the `worst` that lose most; a query without a match counts as neither."""
    order = np.argsort(np.nan_to_num(after - before), kind="stable").tolist()
    return [*order[::-1][:best], *order[:worst]]


def side_by_side(
    features: Mapping[str, tuple[np.ndarray, np.ndarray]],
    data: ReIDDataset,
    queries: Sequence[int],
    *,
    k: int = 5,
    metric: str = "cosine",
) -> dict[str, Any]:
    """What several models rank first for the same queries, as `plots.ranked_lists(**side_by_side(…))` wants it.

    features  {model: (query (Q, d), gallery (G, d))}
    queries   rows of the query split
    k         how many images each; fewer where the gallery ends
    """
    lists = {name: ranked(*pair, *known(data), k=k, metric=metric) for name, pair in features.items()}
    return {
        "query_images": pixels(data.query, (128, 64))[queries],
        "gallery_images": pixels(data.gallery, (128, 64)),
        "ranking": {name: found.indices[queries] for name, found in lists.items()},
        "relevant": {name: found.relevant[queries] for name, found in lists.items()},
        "query_camids": data.query.camid.iloc[queries],
        "gallery_camids": data.gallery.camid,
    }
