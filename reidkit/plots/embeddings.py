"""Pictures of an embedding: two-dimensional maps (t-SNE, PCA) with colour = camera and marker = identity."""

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from .style import FAINT, INK, WIDTH, Picture, camera_colours, camera_name, same_length, styled

SHAPES = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "p", "d", "H")  # no star: prototypes are stars
MOST = 2 * len(SHAPES)  # each shape filled, then hollow
STATS = ("mAP", "camera_bias", "silhouettes")


def identity_markers(pids) -> dict[int, tuple[str, bool]]:
    """{pid: (marker, filled)} in the order of the pids: twelve shapes filled, then the same hollow.

    Raises ValueError for more than 24 identities: nobody tells that many shapes apart.
    """
    people = [int(p) for p in np.unique(np.asarray(pids))]
    if len(people) > MOST:
        raise ValueError(
            f"{len(people)} identities, and markers for {MOST}: draw fewer of them, or pass crops= "
            "so that each point shows its picture"
        )
    return {pid: (SHAPES[i % len(SHAPES)], i < len(SHAPES)) for i, pid in enumerate(people)}


@styled
def embedding_map(
    points,
    pids,
    camids,
    *,
    title: str = "",
    stats: Mapping | None = None,
    prototypes=None,
    prototype_pids=None,
    crops=None,
) -> Picture:
    """One embedding as a map of points. See `embedding_maps`, of which this is the case of a single panel.

    points      (N, 2)      stats       {"mAP", "camera_bias", "silhouettes"}
    prototypes  (M, 2)      prototype_pids  (M,)      crops  (N, H, W, 3)
    """
    return embedding_maps(
        {title: points},
        pids,
        camids,
        stats=None if stats is None else {title: stats},
        prototypes=None if prototypes is None else {title: prototypes},
        prototype_pids=prototype_pids,
        crops=crops,
    )


@styled
def embedding_maps(
    panels: Mapping[str, np.ndarray],
    pids,
    camids,
    *,
    stats: Mapping[str, Mapping] | None = None,
    prototypes: Mapping[str, np.ndarray] | None = None,
    prototype_pids=None,
    crops=None,
    columns: int | None = None,
) -> Picture:
    """The same images in several embeddings. One question: do the blobs have one marker (people) or one
    colour (cameras)?

    In a camera-blind embedding every blob is one marker in mixed colours; with camera bias a blob is one
    colour in mixed markers, or a person falls into islands, one a camera. t-SNE invents distances between
    blobs, so the numbers above each panel decide: mAP, camera bias (1 = none) and two silhouettes, by
    identity (higher is better) and by camera within an identity (0 = a person's cameras are mixed, higher =
    islands).

    panels      {title: (N, 2)}: the points of the same N images in each embedding; one scale for all panels
    pids        (N,) int, at most 24 identities (unless crops are given): one marker each
    camids      (N,) int, 0-based: one colour each
    stats       {title: {"mAP": fraction, "camera_bias": float, "silhouettes": (by identity, by camera)}},
                each optional
    prototypes  {title: (M, 2)}: cluster centres, drawn as white stars
    prototype_pids  (M,) int among pids: whose centres they are; then each is its person's marker, large and white
    crops       (N, H, W, 3): draw the crops themselves, framed in the camera's colour, in place of markers; with
                prototype_pids each has its person's marker at its corner
    columns     panels in a row (default: up to 4)
    """
    if not panels:
        raise ValueError("nothing to draw: panels is empty")
    points = {title: np.asarray(p, dtype=float) for title, p in panels.items()}
    same_length(**{f"points {title}".strip(): p for title, p in points.items()}, pids=pids, camids=camids, crops=crops)
    for title, p in points.items():
        if p.ndim != 2 or p.shape[1] != 2:
            raise ValueError(f"points {title}".strip() + f" must be (N, 2); got shape {p.shape}")
        if not np.isfinite(p).all():
            raise ValueError(f"points {title}".strip() + " hold NaN or infinite values")
    for given in (stats, prototypes):
        if given is not None and not given.keys() <= points.keys():
            raise ValueError(f"no panel called {sorted(given.keys() - points.keys())[0]!r} among {list(points)}")
    pids, camids = np.asarray(pids), np.asarray(camids)
    colours = camera_colours(camids)
    markers = identity_markers(pids) if crops is None or prototype_pids is not None else {}
    if prototype_pids is not None and not set(map(int, prototype_pids)) <= markers.keys():
        raise ValueError(
            f"prototype_pids {sorted(set(map(int, prototype_pids)) - markers.keys())} are not among the pids: "
            "give each prototype the pid of a person who is drawn"
        )
    for title, centres in (prototypes or {}).items():
        same_length(**{f"prototypes {title}".strip(): centres, "prototype_pids": prototype_pids})

    texts = {title: _heading((stats or {}).get(title)) for title in points}
    star = (None, "prototype") if prototypes is None else ("*", "prototype")
    star = star if prototype_pids is None else ("o", "large: centre")
    keys = _keys(colours, markers, *star)

    # Placed by ruler, in inches: panels of one size, their headings above, the keys below.
    columns = columns or min(len(points), 4)
    lines = -(-len(points) // columns)
    apart, row, edge = 0.1, 0.165, 0.06
    side = min((WIDTH - edge) / columns - apart, 4.6 if crops is None else 7.5)
    titles = {title: textwrap.wrap(title, int(side * 11), break_on_hyphens=False) for title in points}
    above = row * max(len(titles[t]) + len(texts[t]) for t in points) + 0.08
    width = max(columns * (side + apart) + edge, 4.7)
    key_rows = [-(-len(handles) // int((width - 1.45) / 0.62)) for _, handles, _ in keys]
    height = lines * (above + side) + 0.12 + 0.2 * sum(key_rows) + 0.04
    picture = Picture(width, height, layout=None)
    everything = np.concatenate([*points.values(), *map(np.asarray, (prototypes or {}).values())])
    low, high = everything.min(axis=0), everything.max(axis=0)
    middle, reach = (low + high) / 2, max((high - low).max() * (0.54 if crops is None else 0.57), 1e-9)
    first = (width - columns * (side + apart) + apart) / 2
    for i, (title, p) in enumerate(points.items()):
        left = first + (i % columns) * (side + apart)
        bottom = height - (i // columns + 1) * (above + side)
        axes = picture.add_axes((left / width, bottom / height, side / width, side / height))
        axes.set(xticks=[], yticks=[])
        axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(FAINT)
        if crops is None:
            _scatter(axes, p, pids, camids, colours, markers, size=30 if columns > 2 else 46)
        else:
            corners = _pin_crops(axes, p, crops, camids, colours, reach)
            for pid, (marker, filled) in markers.items():
                look = {
                    "facecolor": "#BBBBBB" if filled else "white",
                    "edgecolor": INK,
                    "linewidth": 0.8,
                    "zorder": 3.5,
                }
                axes.scatter(*corners[pids == pid].T, marker=marker, s=30, **look)
        if prototypes is not None and title in prototypes:
            stars = np.asarray(prototypes[title], dtype=float)
            look = {"facecolor": "white", "edgecolor": INK, "zorder": 4}
            if prototype_pids is None:
                axes.scatter(*stars.T, marker="*", s=130, linewidth=1.1, **look)
            else:
                for at, pid in zip(stars, prototype_pids, strict=True):
                    axes.scatter(*at, marker=markers[int(pid)][0], s=200, linewidth=1.8, **look)
        for j, line in enumerate(reversed(titles[title] + texts[title])):
            bold = j >= len(texts[title])
            axes.annotate(
                *(line, (0.5, 1), (0, 72 * (0.05 + j * row)), "axes fraction", "offset points"),
                ha="center",
                va="bottom",
                fontsize=9.5 if bold else 8,
                fontweight="bold" if bold else "normal",
            )
    down = height - lines * (above + side) - 0.12
    for (name, handles, words), rows in zip(keys, key_rows, strict=True):
        picture.text(first / width, (down - 0.04) / height, name, va="top", fontsize=8.5, fontweight="bold")
        picture.legend(
            handles,
            words,
            loc="upper left",
            bbox_to_anchor=((first + 1.25) / width, down / height),
            ncols=-(-len(handles) // rows),
            handletextpad=0.1,
            columnspacing=0.9,
            labelspacing=0.35,
            borderpad=0,
            borderaxespad=0.2,
        )
        down -= 0.2 * rows
    return picture


def _heading(stats: Mapping | None) -> list[str]:
    """The numbers above a panel, at most three lines."""
    stats = dict(stats or {})
    unknown = sorted(set(stats) - set(STATS))
    if unknown:
        raise ValueError(f"unknown statistic {unknown[0]!r}: give any of {', '.join(STATS)}")
    first = []
    if "mAP" in stats:
        first.append(f"mAP {100 * stats['mAP']:.0f} %")
    if "camera_bias" in stats:
        first.append(f"camera bias {stats['camera_bias']:.1f}")
    lines = [", ".join(first)] if first else []
    if "silhouettes" in stats:
        identity, camera = (f"{value:+z.2f}".replace("-", "−") for value in stats["silhouettes"])
        lines += [f"silhouette by identity {identity}", f"by camera within identity {camera}"]
    return lines


def _scatter(axes: Axes, points, pids, camids, colours, markers, size) -> None:
    """One collection a person. Hollow markers carry the camera's colour on their edge."""
    for pid, (marker, filled) in markers.items():
        mine = pids == pid
        colour = [colours[int(c)] for c in camids[mine]]
        look = {"facecolor": colour, "edgecolor": INK, "linewidth": 0.6}
        if not filled:
            look = {"facecolor": "white", "edgecolor": colour, "linewidth": 1.6}
        axes.scatter(*points[mine].T, marker=marker, s=size, label=str(pid), zorder=3, alpha=0.92, **look)


def _pin_crops(axes: Axes, points, crops, camids, colours, reach) -> np.ndarray:
    """Crops as markers, small enough that N of them can share the panel; their upper right corners (N, 2)."""
    corners = []
    tall = 2 * reach * float(np.clip(0.9 / np.sqrt(len(points)), 0.035, 0.12))
    for (x, y), image, camid in zip(points, crops, camids, strict=True):
        wide = tall * np.shape(image)[1] / np.shape(image)[0]
        left, bottom = x - wide / 2, y - tall / 2
        axes.imshow(image, extent=(left, left + wide, bottom, bottom + tall), aspect="auto", zorder=3)
        frame = {"edgecolor": colours[int(camid)], "linewidth": 1.3, "fill": False, "zorder": 3}
        axes.add_patch(Rectangle((left, bottom), wide, tall, **frame))
        corners.append((left + wide, bottom + tall))
    return np.array(corners)


def _keys(colours, markers, star: str | None, word: str) -> list[tuple[str, list[Line2D], list[str]]]:
    """(title, handles, words) of the legends: cameras by colour, identities by marker."""

    def dot(marker, face, edge, width, size=7):
        return Line2D([], [], linestyle="", marker=marker, ms=size, mfc=face, mec=edge, mew=width)

    squares = [dot("s", colour, "none", 0, 8) for colour in colours.values()]
    keys = [("colour = camera", squares, [camera_name(camid) for camid in colours])]
    shapes = [dot(m, "#BBBBBB" if f else "white", INK, 0.6 if f else 1.3) for m, f in markers.values()]
    words = [str(pid) for pid in markers]
    if star:
        shapes.append(dot(star, "white", INK, 1.1, 11))
        words.append(word)
    if shapes:
        keys.append(("marker = identity", shapes, words))
    return keys
