"""Pictures of links between identities: an association graph drawn on the crops themselves."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from .people import HEADER, _board, _crop, _ratio
from .style import GREEN, INK, VERMILLION, WIDTH, Picture, camera_colours, camera_name, same_length, styled, text_on


@styled
def association_graph(images, pids, camids, edges, *, scores=None) -> Picture:
    """Who was linked to whom across cameras: one crop an identity, a row a person, a column a camera.

    A link within a row is right (green, solid), one between rows is wrong (red, dashed). Two crops of a row without
    a path of links between them are a person that the association did not put together.

    images  (N, H, W, 3), one crop for each intra-camera identity
    pids    (N,) the true person: rows, in the order in which they first come
    camids  (N,) 0-based: columns; a person has at most one identity a camera
    edges   (E, 2) pairs of positions among the N
    scores  (E,) printed on the links, a distance for instance
    """
    same_length(images=images, pids=pids, camids=camids)
    pids, camids, edges = np.asarray(pids), np.asarray(camids), np.asarray(edges, dtype=int).reshape(-1, 2)
    if scores is not None and len(scores) != len(edges):
        raise ValueError(f"{len(edges)} edges and {len(scores)} scores: one each")
    if edges.size and not 0 <= edges.min() <= edges.max() < len(pids):
        raise ValueError(f"edges name {edges.min()} to {edges.max()}; there are {len(pids)} crops, from 0")
    people, cameras = list(dict.fromkeys(pids.tolist())), np.unique(camids).tolist()
    places = list(zip(pids.tolist(), camids.tolist(), strict=True))
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise ValueError(f"person {twice[0]} has two crops under camera {twice[1]}: one for each identity")
    colours, ratio, label = camera_colours(cameras), _ratio(images), 0.75
    step = (WIDTH - label) / len(cameras)
    cell = min(0.62, step * 0.5)
    apart = cell * ratio + 0.5
    picture, axes = _board(WIDTH, HEADER + 0.2 + len(people) * apart + 0.3)
    for column, camid in enumerate(cameras):
        middle = label + (column + 0.5) * step
        axes.text(
            *(middle, 0.16, camera_name(camid)),
            ha="center",
            va="center",
            fontweight="bold",
            color=text_on(colours[camid]),
            bbox={"boxstyle": "square,pad=0.25", "facecolor": colours[camid], "edgecolor": "none"},
        )
    centres = []
    for image, (pid, camid) in zip(images, places, strict=True):
        x, y = label + cameras.index(camid) * step + step / 2, HEADER + 0.25 + people.index(pid) * apart
        _crop(axes, image, x - cell / 2, y, cell, cell * ratio, border=colours[camid], line=2)
        centres.append((x, y + cell * ratio / 2))
    for row, pid in enumerate(people):
        y = HEADER + 0.25 + row * apart + cell * ratio / 2
        axes.text(0.06, y, f"person\n{pid}", va="center", fontsize=8.5)
    for n, (i, j) in enumerate(edges.tolist()):
        right = pids[i] == pids[j]
        if centres[i][0] > centres[j][0]:
            i, j = j, i
        hops = abs(cameras.index(int(camids[i])) - cameras.index(int(camids[j])))
        bend = (0.0 if hops < 2 else 0.16 + 0.05 * hops) if right else 0.12
        look = {"color": GREEN if right else VERMILLION, "linestyle": "-" if right else (0, (4, 2))}
        shrink = 72 * cell / 2 + 2
        arrow = {"arrowstyle": "-", "shrinkA": shrink, "shrinkB": shrink, "linewidth": 2.2, "zorder": 4}
        axes.add_patch(FancyArrowPatch(centres[i], centres[j], connectionstyle=f"arc3,rad={bend}", **arrow, **look))
        if scores is not None:
            (x, y), (dx, dy) = np.mean([centres[i], centres[j]], axis=0), np.subtract(centres[j], centres[i])
            x, y = x - bend * dy / 2, y + bend * dx / 2  # the middle of matplotlib's arc
            axes.text(
                *(x, y, f"{scores[n]:z.2f}"),
                ha="center",
                va="center",
                fontsize=7.5,
                zorder=5,
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
            )
    looks = [
        Line2D([], [], color=GREEN, linewidth=2.2),
        Line2D([], [], color=VERMILLION, linewidth=2.2, linestyle="--"),
    ]
    words = ["linked, one person", "linked, two persons"]
    picture.legend(looks, words, loc="lower left", ncols=2, bbox_to_anchor=(label / WIDTH, 0), labelcolor=INK)
    return picture
