"""The look that all pictures share: size, colours, the words for cameras and metrics, and the figure
class."""

import io
from collections.abc import Iterable, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from reidkit.ledger.names import is_fraction

WIDTH = 9.0  # inches: the text column of a notebook
DPI = 96  # a picture 9 in wide is 864 pixels: sharp on the page, tens of kilobytes in the file

# Okabe and Ito (2008), "Color universal design"; grey stands for black, which outlines and text use.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW, GREY)
INK, FAINT = "#222222", "#D9D9D9"

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.title_fontsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "image.interpolation": "antialiased",
}

styled = matplotlib.rc_context(STYLE)  # `@styled`: the style holds inside a function and nowhere else


class Picture(Figure):
    """A matplotlib figure that pyplot does not know of.

    It draws itself in the kit's style whatever the session's settings are (ticks are made while drawing), and
    shows itself in a notebook without a backend: charts as PNG, photographs as JPEG, a quarter of the size.
    """

    def __init__(self, width: float, height: float, *, layout: str | None = "constrained"):
        super().__init__(figsize=(width, height), dpi=DPI, layout=layout)

    @styled
    def draw(self, renderer):
        super().draw(renderer)

    @styled
    def get_tightbbox(self, *args, **kwargs):
        return super().get_tightbbox(*args, **kwargs)

    def _ipython_display_(self) -> None:
        from IPython.display import display  # only a notebook has it

        display(self.stored(), raw=True)  # and nothing else: matplotlib's inline backend would add a PNG

    def stored(self) -> dict[str, bytes | str]:
        """What a notebook stores of the picture: {"image/jpeg" or "image/png": bytes, "text/plain": str}."""
        photographs = any(axes.images for axes in self.axes)
        kind, options = ("jpeg", {"quality": 90, "subsampling": 0}) if photographs else ("png", {})
        buffer = io.BytesIO()
        self.savefig(buffer, format=kind, dpi=DPI, pil_kwargs=options)
        return {f"image/{kind}": buffer.getvalue(), "text/plain": repr(self)}


def camera_colours(camids: Iterable[int]) -> dict[int, tuple[float, float, float]]:
    """The colour of each camera: {camid: (r, g, b)}, the same in every picture.

    camids: int, 0-based, any repeats. Cameras 0 to 7 have Okabe and Ito's colours. Beyond eight no set of
    colours is safe for all eyes: cameras 8 to 15 have darker and 16 to 23 lighter versions of them (MSMT17
    has 15 cameras), and the pictures always print the camera's number as well. A camid above 23 is coloured
    by its rank among `camids`. Raises ValueError for more than 24 cameras.
    """
    cameras = np.unique(np.asarray(list(camids), dtype=np.int64))
    base = np.array([to_rgb(colour) for colour in COLOURS])  # (8, 3)
    palette = np.concatenate([base, 0.55 * base, 0.5 * base + 0.5])  # (24, 3)
    if len(cameras) > len(palette):
        raise ValueError(f"{len(cameras)} cameras, and colours for {len(palette)}: draw fewer cameras at a time")
    by_rank = len(cameras) > 0 and (cameras.max() >= len(palette) or cameras.min() < 0)
    return {int(c): tuple(palette[i if by_rank else c]) for i, c in enumerate(cameras)}


def text_on(colour) -> str:
    """Black or white, whichever reads better on `colour`."""
    red, green, blue = to_rgb(colour)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"


def camera_name(camid: int) -> str:
    return f"c{int(camid) + 1}"


DIFFERENCES = {"gain", "change", "gap", "below"}  # words of what is a difference of fractions; with "/" it is a share


def metric_words(metric: str) -> tuple[str, float]:
    """How a metric is printed: (axis label, factor). Fractions in percent, their differences in points of it."""
    if is_fraction(metric):
        name = f"rank-{metric[4:]}" if metric.startswith("rank") and metric[4:].isdigit() else metric
        share = "/" in name or DIFFERENCES.isdisjoint(name.replace("_", " ").split())
        return f"{name} ({'%' if share else 'points'})", 100.0
    if metric in ("camera_bias", "bias"):
        return "camera bias (1 = none)", 1.0
    return metric.replace("_", " "), 1.0


def same_length(**arrays: Sequence) -> None:
    """Raise ValueError, naming every length, unless all the arrays that are not None have one row for each
    image."""
    lengths = {name: len(array) for name, array in arrays.items() if array is not None}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"lengths differ: {found}; each needs one entry per image, in the same order")
    if 0 in lengths.values():
        raise ValueError(f"nothing to draw: {', '.join(lengths)} are empty")
