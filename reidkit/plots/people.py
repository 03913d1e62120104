"""Pictures made of crops: contact sheet, the camera-gap dial, ranked lists, the protocol by hand, activation
maps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from .style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    VERMILLION,
    WIDTH,
    Picture,
    camera_colours,
    camera_name,
    same_length,
    styled,
    text_on,
)

RIGHT, WRONG = "✓", "✗"
GAP = 0.05  # inches between neighbours
HEADER = 0.24  # inches for a line of text


def _board(width: float, height: float) -> tuple[Picture, Axes]:
    """An empty page whose data units are inches, y downwards: crops and letters are placed by ruler."""
    picture = Picture(width, height, layout=None)
    axes = picture.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.autoscale(False)
    axes.axis("off")
    return picture, axes


def _crop(axes: Axes, image, x, y, width, height, *, border=None, line=2.5, style="-") -> tuple[float, ...]:
    """Draw an (H, W, 3) crop as large as fits in the box, in its own proportions; return where it lies."""
    image = np.asarray(image)
    scale = min(width / image.shape[1], height / image.shape[0])
    w, h = image.shape[1] * scale, image.shape[0] * scale
    x, y = x + (width - w) / 2, y + (height - h) / 2
    axes.imshow(image, extent=(x, x + w, y + h, y), aspect="auto")
    if border is not None:
        axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=border, linewidth=line, linestyle=style))
    return x, y, w, h


def _tag(axes: Axes, x, y, text, colour, *, ha="left", va="bottom", size=8) -> None:
    axes.text(
        *(x, y, text),
        ha=ha,
        va=va,
        fontsize=size,
        fontweight="bold",
        color=text_on(colour),
        bbox={"boxstyle": "square,pad=0.14", "facecolor": colour, "edgecolor": "none"},
    )


def _camera_tag(axes: Axes, place, camid, colours) -> None:
    x, y, _, h = place
    _tag(axes, x + 0.045, y + h - 0.045, camera_name(camid), colours[int(camid)])


def _array(values) -> np.ndarray | None:
    """By position, also where a DataFrame's column has labels of its own."""
    return None if values is None else np.asarray(values)


def _ratio(images) -> float:
    """Height over width of the first crop; raises ValueError unless there are (H, W, 3) crops."""
    shape = np.shape(images[0])
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"crops must be (H, W, 3), uint8 or floats in [0, 1]; the first one has shape {shape}")
    return shape[0] / shape[1]


def _grey(image) -> np.ndarray:
    """(H, W, 3) float in [0, 1] without colour."""
    image = np.asarray(image)
    light = image @ np.array([0.299, 0.587, 0.114]) / (255 if image.dtype == np.uint8 else 1)  # (H, W)
    return np.repeat(light[..., None], 3, axis=2)


def _choose_people(pids, camids, people) -> list[int]:
    """The people asked for; given a number, those whom most cameras saw, in the order of their pids."""
    if isinstance(people, int):
        seen = {int(p): len(np.unique(camids[pids == p])) for p in np.unique(pids) if p >= 0}
        return sorted(sorted(seen, key=lambda pid: -seen[pid])[:people])
    missing = sorted(set(map(int, people)) - set(map(int, pids)))
    if missing:
        raise ValueError(f"no image of {missing} among the pids given")
    return [int(p) for p in people]


def _sheet(rows, ratio, cameras, per_camera, title, label_width) -> Picture:
    """rows: (label, {camid: crops}, inches of space before the row); cameras become columns."""
    colours = camera_colours(cameras)
    slots = len(cameras) * per_camera
    between = 0.12  # inches between two cameras
    room = WIDTH - label_width - GAP * slots - between * len(cameras)
    cell = min(0.95, room / slots)
    block = per_camera * (cell + GAP) - GAP
    top = HEADER * (2 if title else 1) + 0.1
    width = label_width + len(cameras) * (block + between)
    height = top + sum(cell * ratio + GAP + space for _, _, space in rows)
    picture, axes = _board(width, height)
    if title:
        axes.text(label_width, 0.04, title, va="top", fontsize=10, fontweight="bold")
    lefts = [label_width + i * (block + between) for i in range(len(cameras))]
    for camid, left in zip(cameras, lefts, strict=True):
        colour = colours[camid]
        axes.add_patch(Rectangle((left, top - HEADER - 0.04), block, HEADER - 0.02, facecolor=colour))
        name = f"camera {camid + 1}" if block > 0.75 else camera_name(camid)
        middle = (left + block / 2, top - HEADER / 2 - 0.05)
        axes.text(*middle, name, ha="center", va="center", fontweight="bold", color=text_on(colour))
    y = top
    for label, cells, space in rows:
        y += space
        axes.text(label_width - 0.08, y + cell * ratio / 2, label, ha="right", va="center")
        for camid, left in zip(cameras, lefts, strict=True):
            crops = cells.get(camid, [])[:per_camera]
            for slot in range(per_camera):
                x = left + slot * (cell + GAP)
                if slot < len(crops):
                    _crop(axes, crops[slot], x, y, cell, cell * ratio)
                else:
                    axes.add_patch(Rectangle((x, y), cell, cell * ratio, facecolor="#F2F2F2"))
            if not crops:
                axes.text(left + block / 2, y + cell * ratio / 2, "not\nseen", ha="center", va="center", color=GREY)
        y += cell * ratio + GAP
    return picture


@styled
def contact_sheet(
    images, pids, camids, *, people: int | Sequence[int] = 6, per_camera: int = 2, title: str | None = None
) -> Picture:
    """People in rows, cameras in columns. Look along a row: the same person, and how much each camera changes
    them. Look down a column: different people that one camera makes alike.

    images      (N, H, W, 3) uint8, or floats in [0, 1]; a memory map or a list will do
    pids        (N,) int; the label of a row. Negative pids (junk) are left out
    camids      (N,) int, 0-based; camera c has header "camera c+1" in its colour
    people      how many (those whom most cameras saw), or which
    per_camera  crops of a person from a camera; a camera that never saw the person says "not seen"
    """
    same_length(images=images, pids=pids, camids=camids)
    pids, camids = np.asarray(pids), np.asarray(camids)
    cameras = [int(c) for c in np.unique(camids)]
    rows = []
    for pid in _choose_people(pids, camids, people):
        seen = {c: [images[i] for i in np.flatnonzero((pids == pid) & (camids == c))] for c in cameras}
        rows.append((f"person {pid}", seen, 0.0))
    return _sheet(rows, _ratio(images), cameras, per_camera, title, label_width=0.95)


@styled
def dial(
    images_by_gap: Mapping[float, Sequence],
    pids,
    camids,
    *,
    people: int | Sequence[int] = 2,
    per_camera: int = 2,
    title: str | None = None,
) -> Picture:
    """The same crops at each setting of the camera gap, one setting a row, so that one can read downwards
    what the dial does: at 0 all cameras see alike, at 1 the camera changes a person more than another person
    would.

    images_by_gap  {gap: (N, H, W, 3)}: row i shows the same moment of the same person at every gap
    pids, camids   (N,) int: shared by all gaps
    people, per_camera, title   as in `contact_sheet`
    """
    if not images_by_gap:
        raise ValueError("nothing to draw: images_by_gap is empty")
    for gap, images in images_by_gap.items():
        same_length(**{f"images at gap {gap:g}": images, "pids": pids, "camids": camids})
    pids, camids = np.asarray(pids), np.asarray(camids)
    cameras = [int(c) for c in np.unique(camids)]
    rows = []
    for pid in _choose_people(pids, camids, people):
        for i, (gap, images) in enumerate(images_by_gap.items()):
            where = {c: np.flatnonzero((pids == pid) & (camids == c))[:per_camera] for c in cameras}
            seen = {c: [images[j] for j in rows_] for c, rows_ in where.items()}
            label = f"person {pid}\ngap {gap:g}" if i == 0 else f"gap {gap:g}"
            rows.append((label, seen, 0.15 if i == 0 and rows else 0.0))
    first = next(iter(images_by_gap.values()))
    return _sheet(rows, _ratio(first), cameras, per_camera, title, label_width=0.85)


@styled
def ranked_lists(
    query_images,
    gallery_images,
    ranking,
    relevant,
    *,
    query_camids=None,
    gallery_camids=None,
    labels: Sequence[str] | None = None,
) -> Picture:
    """Each query (blue border) and what a model ranks first for it: ✓ on bluish green = the same person, ✗ on
    vermillion = another. Look at the cameras' numbers of the wrong answers: a model with camera bias returns
    the query's own.

    query_images    (Q, H, W, 3)
    gallery_images  (G, H, W, 3): may be the whole gallery, memory-mapped; only the rows shown are read
    ranking         (Q, K) int: gallery rows, best first, junk taken out; -1 leaves a place empty.
                    Or {model: (Q, K)} to set several models side by side
    relevant        (Q, K) bool, in the shape of `ranking`: is it the same person?
    query_camids    (Q,) and gallery_camids (G,) int, 0-based: printed on the crops
    labels          (Q,) text left of each query, e.g. "AP 35 %"
    """
    query_camids, gallery_camids = _array(query_camids), _array(gallery_camids)
    rankings = dict(ranking) if isinstance(ranking, Mapping) else {"": ranking}
    answers = dict(relevant) if isinstance(relevant, Mapping) else {"": relevant}
    if rankings.keys() != answers.keys():
        raise ValueError(f"ranking has {list(rankings)} and relevant has {list(answers)}: one of each per model")
    same_length(
        query_images=query_images,
        query_camids=query_camids,
        labels=labels,
        **{f"ranking {name}".strip(): rows for name, rows in rankings.items()},
    )
    same_length(gallery_images=gallery_images, gallery_camids=gallery_camids)
    for name in rankings:
        rankings[name], answers[name] = np.atleast_2d(rankings[name]), np.atleast_2d(answers[name])
        if rankings[name].shape != answers[name].shape:
            raise ValueError(f"ranking is {rankings[name].shape} and relevant {answers[name].shape}: (Q, K) both")
        if rankings[name].max() >= len(gallery_images):
            raise ValueError(f"ranking names row {rankings[name].max()} of a gallery of {len(gallery_images)}")
    colours = camera_colours(
        [*(() if query_camids is None else query_camids), *(() if gallery_camids is None else gallery_camids)]
    )

    ratio, apart = _ratio(query_images), 0.16
    label_width = 0.08 if labels is None else max(0.75, 0.15 + _widest(labels))
    widths = [rows.shape[1] for rows in rankings.values()]
    crops = 1 + sum(widths)
    step = 0.09  # between crops: room for two borders
    cell = min(0.95, (WIDTH - label_width - apart * len(widths)) / crops - step)
    top = HEADER * (2 if any(rankings) else 1) + 0.04
    width = label_width + crops * (cell + step) + apart * len(widths)
    height = top + len(query_images) * (cell * ratio + step + 0.03) + 0.03
    picture, axes = _board(width, height)

    axes.text(label_width + cell / 2, top - 0.06, "query", ha="center", va="bottom", color=BLUE, fontweight="bold")
    lefts, left = [], label_width + cell + step + apart
    for name, k in zip(rankings, widths, strict=True):
        lefts.append(left)
        if name:
            middle = left + (k * (cell + step) - step) / 2
            axes.text(middle, 0.04, name, ha="center", va="top", fontsize=10, fontweight="bold")
        for rank in range(k):
            where = (left + rank * (cell + step) + cell / 2, top - 0.06)
            axes.text(*where, f"rank {rank + 1}" if cell > 0.55 else f"{rank + 1}", ha="center", va="bottom")
        left += k * (cell + step) + apart

    for q in range(len(query_images)):
        y = top + q * (cell * ratio + step + 0.03)
        if labels is not None:
            axes.text(label_width - 0.1, y + cell * ratio / 2, labels[q], ha="right", va="center")
        place = _crop(axes, query_images[q], label_width, y, cell, cell * ratio, border=BLUE, line=3)
        if query_camids is not None:
            _camera_tag(axes, place, query_camids[q], colours)
        for name, left in zip(rankings, lefts, strict=True):
            for rank, (row, right) in enumerate(zip(rankings[name][q], answers[name][q], strict=True)):
                if row < 0:
                    continue
                x, colour = left + rank * (cell + step), GREEN if right else VERMILLION
                place = _crop(axes, gallery_images[row], x, y, cell, cell * ratio, border=colour)
                edge = (place[0] + place[2] - 0.05, place[1] + 0.05)
                _tag(axes, *edge, RIGHT if right else WRONG, colour, ha="right", va="top", size=9)
                if gallery_camids is not None:
                    _camera_tag(axes, place, gallery_camids[row], colours)
    return picture


def _widest(labels: Sequence[str]) -> float:
    """The width of the longest line, in inches."""
    lines = [line for label in labels for line in label.splitlines() if line.strip()]
    return max((TextPath((0, 0), line).get_extents().width for line in lines), default=0) / 72


@styled
def protocol_picture(query, gallery, statuses: Sequence[str], *, query_camid=None, camids=None) -> Picture:
    """The Market-1501 protocol by hand: one query and its ranked gallery, junk greyed and passed over.
    Count along the row: junk takes no rank; every right answer notes the precision so far, and AP is their
    mean.

    query     (H, W, 3)
    gallery   (K, H, W, 3), in ranked order, junk included
    statuses  (K,) of "right" (same person, another camera), "wrong" (another person, or a distractor),
              "junk" (same person and same camera, or pid -1)
    query_camid, camids (K,)   0-based: printed on the crops
    """
    camids = _array(camids)
    same_length(gallery=gallery, statuses=statuses, camids=camids)
    unknown = sorted(set(statuses) - {"right", "wrong", "junk"})
    if unknown:
        raise ValueError(f"unknown status {unknown[0]!r}: use 'right', 'wrong' or 'junk'")
    ratio, apart, step, under = _ratio([query]), 0.3, 0.12, 0.48
    cell = min(1.0, (WIDTH - apart - 0.16) / (len(gallery) + 1) - step)
    width = 0.16 + (len(gallery) + 1) * (cell + step) + apart - step
    picture, axes = _board(width, 0.12 + cell * ratio + under)
    colours = camera_colours([*(() if query_camid is None else [query_camid]), *(() if camids is None else camids)])

    def caption(x, text, colour=INK, weight="normal"):
        where = (x + cell / 2, 0.16 + cell * ratio)
        axes.text(*where, text, ha="center", va="top", fontsize=8.5, color=colour, fontweight=weight)

    place = _crop(axes, query, 0.08, 0.08, cell, cell * ratio, border=BLUE, line=3)
    caption(0.08, "query", BLUE, "bold")
    if query_camid is not None:
        _camera_tag(axes, place, query_camid, colours)
    rank = hits = 0
    for i, status in enumerate(statuses):
        x, image = 0.08 + (i + 1) * (cell + step) + apart, np.asarray(gallery[i])
        if status == "junk":
            image = 0.3 * _grey(image) + 0.65
            place = _crop(axes, image, x, 0.08, cell, cell * ratio, border=GREY, line=1.5, style="--")
            caption(x, "junk\nno rank", "#666666")
        else:
            rank, hits = rank + 1, hits + (status == "right")
            colour, mark = (GREEN, RIGHT) if status == "right" else (VERMILLION, WRONG)
            place = _crop(axes, image, x, 0.08, cell, cell * ratio, border=colour)
            _tag(axes, place[0] + place[2] - 0.05, place[1] + 0.05, mark, colour, ha="right", va="top", size=9)
            caption(x, f"rank {rank}" + (f"\nprecision {hits}/{rank}" if status == "right" else ""))
        if camids is not None:
            _camera_tag(axes, place, camids[i], colours)
    return picture


@styled
def activation_overlay(
    images, maps, *, labels: Sequence[str] | None = None, quantity: str = "activation", alpha: float = 0.6
) -> Picture:
    """Where a model looks: its last maps laid over the crops (in grey), bright (yellow) = strong, dark (purple) = weak.
    Look whether the bright spots follow the person or the background, and whether two views of a person
    agree.

    images  (N, H, W, 3), one column each
    maps    (N, h, w) float, e.g. the mean over channels of the last maps; or {model: (N, h, w)}, one row
            each. Upsampled smoothly to the crop. A row has one scale, given beside it, so its columns can be
            compared; rows have their own, since two models' activations have no common unit
    labels  (N,) text above the columns
    """
    maps = dict(maps) if isinstance(maps, Mapping) else {"": maps}
    same_length(images=images, labels=labels, **{f"maps {name}".strip(): m for name, m in maps.items()})
    for name, values in maps.items():
        maps[name] = np.asarray(values, dtype=float)
        if maps[name].ndim != 3:
            raise ValueError(f"maps {name}".strip() + f" must be (N, h, w); got shape {maps[name].shape}")
        if not np.isfinite(maps[name]).all():
            raise ValueError(f"maps {name}".strip() + " hold NaN or infinite values")
    ratio = _ratio(images)
    left, bar, top = 0.95 if any(maps) else 0.1, 0.75, HEADER if labels is not None else 0.06
    cell = min(0.95, (WIDTH - left - bar) / len(images) - GAP)
    width = left + len(images) * (cell + GAP) + bar
    picture, axes = _board(width, top + (1 + len(maps)) * (cell * ratio + GAP) + 0.05)
    for i, image in enumerate(images):
        x = left + i * (cell + GAP)
        if labels is not None:
            axes.text(x + cell / 2, top - 0.05, labels[i], ha="center", va="bottom", fontsize=8.5)
        _crop(axes, image, x, top, cell, cell * ratio)
    for row, (name, values) in enumerate(maps.items(), start=1):
        y = top + row * (cell * ratio + GAP)
        axes.text(left - 0.1, y + cell * ratio / 2, name, ha="right", va="center", fontweight="bold")
        scale = Normalize(min(0.0, values.min()), max(values.max(), values.min() + 1e-12))
        for i, image in enumerate(images):
            x, y_, w, h = _crop(axes, _grey(image), left + i * (cell + GAP), y, cell, cell * ratio)
            axes.imshow(
                values[i],
                extent=(x, x + w, y_ + h, y_),
                aspect="auto",
                cmap="plasma",
                norm=scale,
                alpha=alpha,
                interpolation="bicubic",
            )
        height = picture.get_figheight()
        box = (  # a little shorter than the row, so that the numbers at its ends do not meet the next row's
            (width - bar + 0.06) / width,
            1 - (y + 0.96 * cell * ratio) / height,
            0.1 / width,
            0.92 * cell * ratio / height,
        )
        colourbar = picture.colorbar(ScalarMappable(scale, "plasma"), cax=picture.add_axes(box), alpha=alpha)
        colourbar.ax.tick_params(labelsize=8)
        colourbar.set_label(quantity, fontsize=8)
        colourbar.ax.yaxis.set_label_coords(4.6, 0.5)
        colourbar.outline.set_visible(False)
    return picture
