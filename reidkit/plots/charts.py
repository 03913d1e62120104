"""Pictures of results: training curves, ablation tables, curves over a dial, CMC. Every one shows its spread
over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
    Picture,
    metric_words,
    styled,
)

# Lines of methods: colours apart from the cameras' order, each with its own dash and marker.
LINES = (BLUE, VERMILLION, GREEN, PURPLE, INK, SKY, ORANGE, GREY)
DASHES = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    "--",
    ":",
)
MARKERS = "osD^vPXd"
NOT_TERMS = ("step", "epoch", "seed", "seconds", "images_per_second", "lr")


def _looks(names) -> dict[str, dict]:
    count = len(names)
    if count > len(LINES):
        raise ValueError(f"{count} curves in one picture, and looks for {len(LINES)}: draw fewer at a time")
    return {
        name: {"color": colour, "linestyle": dash, "marker": marker}
        for name, colour, dash, marker in zip(names, LINES, DASHES, MARKERS, strict=False)
    }


def _needs(frame: pd.DataFrame, columns, what: str) -> None:
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise ValueError(f"{what} has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")


def _legend(picture: Picture, ncols: int) -> None:
    """One legend above all panels, each name once."""
    looks = {}
    for axes in picture.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            looks.setdefault(name, handle)
    picture.legend(looks.values(), looks.keys(), loc="outside upper left", ncols=ncols)


@styled
def loss_curves(
    history: pd.DataFrame | Mapping[str, pd.DataFrame | Sequence[pd.DataFrame]],
    terms: Sequence[str] | None = None,
    *,
    smooth: int | None = None,
    x: str = "step",
) -> Picture:
    """Training curves, one panel a term. Look for terms that still fall at the end (train longer), that never
    move (the term does nothing), and whether seeds differ more than methods do.

    history  the frame of `fit`'s History (step, epoch, lr, loss, each term); or {name: frame} for several
             runs; or {name: [frames]}, one a seed: then the line is their mean and the band one standard
             deviation either side
    terms    columns to draw (default: the loss and every term)
    smooth   each point is the mean of `smooth` rows around it, by default a tenth of all, at most 20; 1 draws what
             was logged. The axis says so.
    x        "step" or "epoch" (mean over the epoch)
    """
    runs = history if isinstance(history, Mapping) else {"": history}
    runs = {name: [frames] if isinstance(frames, pd.DataFrame) else list(frames) for name, frames in runs.items()}
    if not runs or not all(runs.values()):
        raise ValueError("nothing to draw: history holds no frame")
    if smooth is not None and smooth < 1:
        raise ValueError(f"smooth is {smooth}: it is a number of rows, at least 1 (no smoothing)")
    everything = [frame for frames in runs.values() for frame in frames]
    for frame in everything:
        _needs(frame, [x], "a history")
    known = list(dict.fromkeys(c for frame in everything for c in frame.select_dtypes("number").columns))
    terms = [c for c in known if c not in NOT_TERMS] if terms is None else list(terms)
    for term in terms:
        if term not in known:
            raise ValueError(f"no history has a term {term!r}; there are {', '.join(known)}")
    if not terms:
        raise ValueError(f"nothing to draw: the history has no terms beside {', '.join(known)}")
    smooth = smooth or min(20, max(1, max(frame[x].nunique() for frame in everything) // 10))
    looks = _looks(list(runs))
    columns = min(len(terms), 3)
    lines = -(-len(terms) // columns)
    picture = Picture(WIDTH if columns > 1 else 0.6 * WIDTH, 2.3 * lines + 0.5)
    grid = picture.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for axes in grid[len(terms) :]:
        axes.set_visible(False)
    for axes, term in zip(grid, terms, strict=False):
        for name, frames in runs.items():
            logged = [frame.groupby(x)[term].mean() for frame in frames if term in frame.columns]
            if logged:
                _curve(axes, pd.concat(logged, axis=1), smooth, name, looks[name])
        axes.set_title(term)
        axes.tick_params(labelbottom=True)
        axes.grid(axis="y")
    said = f"lines: mean over {smooth} neighbouring points" if smooth > 1 else "as logged"
    if smooth > 1 and any(len(frames) == 1 for frames in runs.values()):
        said += "; faint: as logged"
    if any(len(frames) > 1 for frames in runs.values()):
        said += "; bands: ± 1 standard deviation over seeds"
    picture.supxlabel(f"{x}   ({said})", fontsize=9)
    if "" not in runs:
        _legend(picture, ncols=4)
    return picture


def _curve(axes: Axes, seeds: pd.DataFrame, smooth: int, name: str, look: Mapping) -> None:
    """seeds: one column a seed, indexed by step."""
    colour, dash = look["color"], look["linestyle"]
    lines = seeds.rolling(smooth, min_periods=1, center=True).mean().where(seeds.notna())
    mean = lines.mean(axis=1)
    if seeds.shape[1] == 1 and smooth > 1:
        axes.plot(seeds.index, seeds.iloc[:, 0], color=colour, alpha=0.25, linewidth=0.7)
    elif seeds.shape[1] > 1:
        spread = lines.std(axis=1)
        axes.fill_between(mean.index, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    axes.plot(mean.index, mean, color=colour, linestyle=dash, linewidth=1.7, label=name)


@styled
def ablation_chart(
    frame: pd.DataFrame,
    metric: str | Sequence[str] = "mAP",
    *,
    reported: Mapping | None = None,
    variant: str = "variant",
) -> Picture:
    """An ablation table as a chart: a row of the table is a line, every seed a dot, their mean a black
    bar on ± one standard deviation, and beside it, on an axis of its own, the paper's number as an open diamond.
    Dots that overlap between two lines are differences one should not believe. The paper measured on other data:
    compare the ORDER of the diamonds with the order of the bars, and their steps, not their height.

    frame     what `ablate` returns: variant, seed, metrics as fractions, and perhaps `error`. Lines stand in
              the order in which the variants first appear; a seed whose metric is NaN has failed, and the
              chart says how many did
    metric    a column, or several: one panel each
    reported  {variant: value}, in the frame's unit (fractions); with several metrics {metric: {variant:
              value}}
    variant   the column that names the lines
    """
    metrics = [metric] if isinstance(metric, str) else list(metric)
    reported = ({metrics[0]: reported} if isinstance(metric, str) else reported) if reported else {}
    _needs(frame, [variant, *metrics], "the frame")
    names = list(dict.fromkeys(frame[variant]))
    if not names:
        raise ValueError("nothing to draw: the frame has no rows")
    _check_reported(reported, metrics, names)
    panels = [(m, kind) for m in metrics for kind in ("ours", "reported") if kind == "ours" or m in reported]
    picture = Picture(WIDTH if len(panels) > 1 else 0.8 * WIDTH, 0.33 * len(names) + 1.25)
    shares = [1 if kind == "ours" else 0.5 for _, kind in panels]
    grid = picture.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=shares)[0]
    for axes, (column, kind) in zip(grid, panels, strict=True):
        label, factor = metric_words(column)
        if kind == "ours":
            groups = [factor * frame.loc[frame[variant] == name, column].to_numpy(dtype=float) for name in names]
            _ours(axes, groups, digits=1 if factor == 100 else 2)
            axes.set(xlabel=label, title="measured here" if column in reported else "")
        else:
            _reported(axes, {names.index(n): factor * v for n, v in reported[column].items()}, factor == 100)
            axes.set(xlabel=label, title="reported")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    grid[0].set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6))
    grid[0].set_yticklabels(names)
    _legend(picture, ncols=5)
    return picture


def _check_reported(reported: Mapping, metrics, names) -> None:
    for metric, values in reported.items():
        if metric not in metrics:
            raise ValueError(f"reported names the metric {metric!r}, which the chart lacks: {metrics}")
        for name, value in values.items():
            if name not in names:
                raise ValueError(f"reported names {name!r}, which the frame lacks: {names}")
            if metric_words(metric)[1] == 100 and value > 1:
                raise ValueError(f"reported {metric} of {name!r} is {value}: give a fraction, not percent")


def _ours(axes: Axes, groups: list[np.ndarray], digits: int) -> None:
    """A line a group: dots for the seeds, mean, standard deviation, and the numbers at the right end."""
    for y, seeds in enumerate(groups):
        failed, seeds = int(np.isnan(seeds).sum()), seeds[~np.isnan(seeds)]
        words = "failed"
        if len(seeds):
            mean, spread = seeds.mean(), seeds.std(ddof=1) if len(seeds) > 1 else 0.0
            bar = {"linewidth": 6, "alpha": 0.35, "solid_capstyle": "butt", "label": "± 1 standard deviation"}
            axes.plot(seeds, np.full(len(seeds), y), "o", color=BLUE, ms=4.8, mec="white", mew=0.5, zorder=3.5,
                      label="one seed")  # fmt: skip
            axes.plot([mean, mean], [y - 0.27, y + 0.27], color=INK, linewidth=2, zorder=3, label="mean")
            axes.plot([mean - spread, mean + spread], [y, y], color=BLUE, **bar)
            words = f"{mean:z.{digits}f}" + (f" ± {spread:.{digits}f}" if len(seeds) > 1 else "")
            words += f" ({failed} failed)" if failed else ""
        beside = {"transform": axes.get_yaxis_transform(), "ha": "left", "va": "center", "fontsize": 8}
        axes.text(1.02, y, words, color=VERMILLION if failed else INK, **beside)
    if len(groups) > 1 and np.isfinite(groups[0]).any():
        first = np.nanmean(groups[0])
        axes.axvline(first, color=GREY, linewidth=0.9, linestyle="--", zorder=1, label="mean of the first line")
    axes.margins(x=0.06)


def _reported(axes: Axes, values: Mapping[int, float], percent: bool) -> None:
    """Open diamonds at {line: value}, each with its number."""
    look = {"color": "white", "markeredgecolor": ORANGE, "markeredgewidth": 1.8, "markersize": 7}
    axes.plot(list(values.values()), list(values), "D", label="reported in the paper", **look)
    for y, value in values.items():
        axes.text(1.04, y, f"{value:.1f}" if percent else f"{value:.2f}", transform=axes.get_yaxis_transform(),
                  ha="left", va="center", fontsize=8)  # fmt: skip
    axes.margins(x=0.25)


@styled
def dial_chart(frame: pd.DataFrame, y: str | Sequence[str] = "mAP", *, x: str = "gap", hue: str = "variant") -> Picture:
    """A metric over a dial, by method: lines are means over seeds, bands one standard deviation either side,
    dots the seeds. Look at the distance BETWEEN lines as the dial turns, not at the lines' own slope:
    everything gets worse as the cameras part. Over `gap` a from-scratch curve belongs in the picture, since
    the pre-trained start never saw camera variation and the dial also measures the distance from it.

    frame  one row a (hue, x, seed), metrics as fractions; NaN = failed: left out (the line breaks where
           no seed is left), and the legend says how many
    y      a column, or several: one panel each
    x      the dial's column, numeric (gap, weight, gallery size ...)
    hue    the column that names the lines, at most 8
    """
    columns = [y] if isinstance(y, str) else list(y)
    _needs(frame, [x, hue, *columns], "the frame")
    if frame.empty:
        raise ValueError("nothing to draw: the frame has no rows")
    names = list(dict.fromkeys(frame[hue]))
    looks = _looks(names)
    picture = Picture(WIDTH if len(columns) > 1 else 0.66 * WIDTH, 3.2)
    stops = np.sort(frame[x].unique())
    for axes, column in zip(picture.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        label, factor = metric_words(column)
        for name in names:
            mine = frame[frame[hue] == name]
            seeds = (factor * mine.set_index(x)[column].astype(float)).dropna().sort_index()
            failed = int(mine[columns].isna().any(axis=1).sum())
            at = seeds.groupby(level=0)
            mean, spread = at.mean().reindex(stops), at.std().fillna(0.0).reindex(stops)  # NaN breaks the line
            look, words = looks[name], f"{name} ({failed} of {len(mine)} failed)" if failed else str(name)
            axes.fill_between(mean.index, mean - spread, mean + spread, color=look["color"], alpha=0.18, linewidth=0)
            axes.plot(seeds.index, seeds, look["marker"], color=look["color"], alpha=0.45, ms=3.5, linewidth=0)
            axes.plot(mean.index, mean, **look, markersize=6, linewidth=1.8, markeredgecolor="white", label=words)
        axes.set(xlabel=x, ylabel=label)
        if len(stops) <= 8:
            axes.set_xticks(stops)
        axes.grid(axis="y")
    _legend(picture, ncols=3)
    return picture


@styled
def cmc_curve(curves, *, max_rank: int = 20) -> Picture:
    """Cumulative match characteristic: the share of queries whose first right answer stands at this rank or
    before. Rank-1 is where the curve begins; a steep start says that misses are near misses, a low plateau
    that some people are lost.

    curves    (R,) fractions, index 0 = rank-1, as `evaluate` returns it; or {name: (R,)}; or {name: (seeds,
              R)}, drawn as the mean with a band of one standard deviation either side
    max_rank  the last rank drawn
    """
    curves = curves if isinstance(curves, Mapping) else {"": curves}
    looks = _looks(list(curves))
    picture = Picture(0.6 * WIDTH, 3.1)
    axes = picture.subplots()
    for name, values in curves.items():
        seeds = 100 * np.atleast_2d(np.asarray(values, dtype=float))[:, :max_rank]  # (seeds, R)
        if seeds.ndim != 2 or seeds.size == 0 or not ((seeds >= 0) & (seeds <= 100)).all():
            raise ValueError(f"the CMC {name}".strip() + " must be (R,) or (seeds, R) fractions in [0, 1]")
        ranks, mean = np.arange(1, seeds.shape[1] + 1), seeds.mean(axis=0)
        words = f"{name}: rank-1 {mean[0]:.1f} %".removeprefix(": ")
        if len(seeds) > 1:
            spread = seeds.std(axis=0, ddof=1)
            axes.fill_between(ranks, mean - spread, mean + spread, color=looks[name]["color"], alpha=0.18, linewidth=0)
        axes.plot(
            ranks,
            mean,
            **looks[name],
            markersize=5,
            markevery=[0, *range(4, len(ranks), 5)],
            linewidth=1.7,
            label=words,
        )
    axes.set(xlabel="rank", ylabel="queries matched (%)")
    axes.set_xticks([1, *range(5, max_rank + 1, 5)])
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    return picture
