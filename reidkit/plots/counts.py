"""Pictures of a data set and of matrices: who was seen where, how often, and how alike pairs of images
are."""

from collections.abc import Mapping

import numpy as np
import seaborn
from matplotlib.patches import Rectangle

from .style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    WIDTH,
    Picture,
    camera_colours,
    camera_name,
    metric_words,
    same_length,
    styled,
)


@styled
def camera_pair_heatmap(matrix, metric: str = "mAP", *, cameras=None) -> Picture:
    """Accuracy by pair of cameras: a row is the query's camera, a column the gallery's. Look off the diagonal
    (the diagonal, outlined, is the easy case of one camera): a pale row or column is a camera that no other
    agrees with.

    matrix   (C, C) float, fractions; NaN where a pair of cameras has no valid query. Or {metric: (C, C)},
             side by side
    metric   its name, for a single matrix
    cameras  (C,) camids, 0-based (default 0 ... C-1)

    The title gives mean and standard deviation (over the cells, n in the denominator) of what is off the
    diagonal.
    """
    matrices = dict(matrix) if isinstance(matrix, Mapping) else {metric: matrix}
    if not matrices:
        raise ValueError("nothing to draw: there is no matrix")
    panels = {name: np.asarray(m, dtype=float) for name, m in matrices.items()}
    count = len(next(iter(panels.values())))
    cameras = np.arange(count) if cameras is None else np.asarray(cameras)
    for name, cells in panels.items():
        if cells.shape != (len(cameras), len(cameras)):
            raise ValueError(f"{name}: a matrix of {cells.shape} for {len(cameras)} cameras; it must be (C, C)")
    colours, names = camera_colours(cameras), [camera_name(c) for c in cameras]
    side = min(WIDTH / len(panels), (0.55 if count <= 8 else 0.42) * count + 1.6)
    picture = Picture(max(side * len(panels), 4.0), max(side - 0.1, 2.4))
    for axes, (name, cells) in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        label, factor = metric_words(name)
        shown = factor * cells
        seaborn.heatmap(
            shown,
            ax=axes,
            mask=np.isnan(shown),
            cmap="Blues",
            vmin=0 if factor == 100 else None,
            annot=count <= 15,
            fmt=".0f" if factor == 100 else ".2f",
            annot_kws={"size": 9 if count <= 8 else 8},
            square=True,
            linewidths=1,
            cbar_kws={"label": label, "shrink": 0.75},
            xticklabels=names,
            yticklabels=names,
        )
        axes.set_facecolor("#EEEEEE")  # cells without a number
        axes.set(xlabel="gallery camera", ylabel="query camera")
        axes.tick_params(length=0)
        axes.tick_params(axis="y", rotation=0)
        for i, camid in enumerate(cameras):
            axes.add_patch(Rectangle((i, i), 1, 1, fill=False, edgecolor=INK, linewidth=1.6))
            for tick in (axes.get_xticklabels()[i], axes.get_yticklabels()[i]):
                tick.set(fontweight="bold", bbox=_chip(colours[int(camid)]))
        for row, column in np.argwhere(np.isnan(shown)):
            axes.text(column + 0.5, row + 0.5, "–", ha="center", va="center")
        others = shown[~np.eye(count, dtype=bool)]
        others = others[~np.isnan(others)]
        digits = 1 if factor == 100 else 2
        words = f"{others.mean():.{digits}f}, std {others.std():.{digits}f}" if len(others) else "none"
        axes.set_title(f"{label}\noff the diagonal: mean {words}", pad=8)
    return picture


def _chip(colour) -> dict:
    return {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": colour, "linewidth": 1.5}


@styled
def identities_per_camera(pids, camids) -> Picture:
    """How the people are spread over the cameras. Left: how many people each camera saw; uneven bars mean
    that cameras weigh unevenly in the data. Right: how many cameras saw a person; people seen by one camera
    only (leftmost bar) cannot serve as cross-camera pairs at all.

    pids, camids  (N,) int, one an image. Junk (negative pids) is left out; leave distractors (pid 0) out
                  first.
    """
    pids, camids = _real(pids, camids)
    pairs = np.unique(np.stack([camids, pids], axis=1), axis=0)  # (M, 2): each camera × person once
    cameras, people = np.unique(pairs[:, 0], return_counts=True)
    colours = camera_colours(cameras)
    picture = Picture(WIDTH, 2.7)
    left, right = picture.subplots(1, 2)
    names = [camera_name(c) for c in cameras]
    bars = left.bar(names, people, color=[colours[int(c)] for c in cameras], width=0.75)
    left.bar_label(bars, padding=2, fontsize=8)
    left.set(xlabel="camera", ylabel="people", title="people seen by each camera")
    _, views = np.unique(pairs[:, 1], return_counts=True)
    numbers = np.arange(1, len(cameras) + 1)
    bars = right.bar(numbers, [(views == n).sum() for n in numbers], color=GREY, width=0.75)
    right.bar_label(bars, padding=2, fontsize=8)
    right.set(xlabel="cameras that saw the person", ylabel="people", xticks=numbers)
    right.set_title(f"cameras a person: {views.mean():.1f} on average")
    for axes in (left, right):
        axes.margins(y=0.14)
        axes.yaxis.get_major_locator().set_params(integer=True)
    return picture


@styled
def images_per_identity(pids, camids=None, *, bins: int = 30) -> Picture:
    """How many images an identity has. With camids also the histogram under intra-camera supervision, where
    one person under two cameras counts as two identities (Precise-ICS, figure 1): look how far it moves to
    the left, that is how little each identity is left with, and how many more identities there are.

    pids, camids  (N,) int, one an image. Junk (negative pids) is left out; leave distractors (pid 0) out
                  first.
    """
    people, cameras = _real(pids, pids if camids is None else camids)
    images = np.unique(people, return_counts=True)[1]  # of each person
    kinds = [("one label a person", images, BLUE, "-")]
    if camids is not None:
        _, counts = np.unique(np.stack([cameras, people], axis=1), axis=0, return_counts=True)
        kinds.append(("one label a person and camera", counts, ORANGE, "--"))
    wide = max(1, round(images.max() / bins))
    edges = np.arange(0.5, images.max() + 0.5 + wide, wide)
    picture = Picture(WIDTH * 0.72, 2.7)
    axes = picture.subplots()
    for name, counts, colour, dash in kinds:
        heights, _ = np.histogram(counts, edges)
        words = f"{name}: {len(counts):,} identities, {counts.mean():.1f} images each"
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(heights, edges, color=colour, linewidth=1.6, linestyle=dash, label=words)
    axes.set(xlabel="images of an identity", ylabel="identities", xlim=(edges[0], edges[-1]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    picture.legend(loc="outside upper left")
    return picture


@styled
def similarity_histogram(
    values,
    pids,
    camids,
    gallery_pids=None,
    gallery_camids=None,
    *,
    quantity: str = "cosine similarity",
    bins: int = 60,
) -> Picture:
    """How alike pairs of images are, by kind of pair. Retrieval works where "same person, other camera"
    stands apart from "different people". Look at the gap between the two kinds of the same person: that is
    what the camera costs.

    values        (Q, G) float: similarities or distances, rows the queries. With no gallery labels: (N, N)
                  among the same images, and each pair counts once
    pids, camids  (Q,) int; gallery_pids, gallery_camids (G,) int. Pairs with junk (a negative pid) are left
                  out
    quantity      what the values are: the axis label
    Each kind has area 1, for there are far more pairs of different people.
    """
    values = np.asarray(values)
    same_length(pids=pids, camids=camids)
    if (gallery_pids is None) != (gallery_camids is None):
        raise ValueError("gallery_pids and gallery_camids come together: give both, or neither")
    alone = gallery_pids is None
    gallery_pids, gallery_camids = (pids, camids) if alone else (gallery_pids, gallery_camids)
    same_length(gallery_pids=gallery_pids, gallery_camids=gallery_camids)
    if values.shape != (len(pids), len(gallery_pids)):
        raise ValueError(
            f"values are {values.shape}, and the labels name {len(pids)} rows, {len(gallery_pids)} columns"
        )
    rows, columns = np.asarray(pids)[:, None], np.asarray(gallery_pids)[None]
    kept = (rows >= 0) & (columns >= 0)  # (Q, G)
    if alone:
        kept &= np.triu(np.ones_like(kept), k=1)
    person = rows == columns
    camera = np.asarray(camids)[:, None] == np.asarray(gallery_camids)[None]
    kinds = (
        ("same person, same camera", values[kept & person & camera], GREEN, ":"),
        ("same person, other camera", values[kept & person & ~camera], BLUE, "-"),
        ("different people", values[kept & ~person], GREY, "--"),
    )
    if not kept.any():
        raise ValueError("nothing to draw: the labels leave no pair of images")
    if not np.isfinite(values[kept]).all():
        raise ValueError("values hold NaN or infinite entries")
    edges = np.histogram_bin_edges(values[kept], bins)
    picture = Picture(WIDTH * 0.78, 3.0)
    axes = picture.subplots()
    for name, pairs, colour, dash in kinds:
        if len(pairs):
            heights, _ = np.histogram(pairs, edges, density=True)
            words = f"{name}: {len(pairs):,} pairs, mean {pairs.mean():z.2f}"
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.22)
            axes.stairs(heights, edges, color=colour, linewidth=1.7, linestyle=dash, label=words)
    axes.set(xlabel=quantity, ylabel="density (area 1 a kind)", xlim=(edges[0], edges[-1]))
    picture.legend(loc="outside upper left")
    return picture


def _real(pids, camids) -> tuple[np.ndarray, np.ndarray]:
    same_length(pids=pids, camids=camids)
    pids, camids = np.asarray(pids), np.asarray(camids)
    if not (pids >= 0).any():
        raise ValueError("nothing to draw: every pid is negative, that is junk")
    return pids[pids >= 0], camids[pids >= 0]
