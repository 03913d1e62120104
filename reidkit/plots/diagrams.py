"""Pictures of how things hang together: a network, drawn from crops to losses."""

from collections.abc import Sequence

from matplotlib.patches import FancyBboxPatch

from .people import _board, _crop, _ratio
from .style import FAINT, INK, WIDTH, Picture, styled


@styled
def pipeline(images, steps: Sequence[str], heads: Sequence[str] = (), *, caption: str = "batch") -> Picture:
    """A network as a row of boxes: a stack of crops, the `steps` that it passes, and the `heads` among which its last
    step is shared. Read from left to right; what has no arrow between is not connected.

    images   (N, H, W, 3): the crops of the stack, at most four are drawn
    steps    text of each box; keep lines short
    heads    text of each box at the right end, one below the other
    caption  what the crops are
    """
    if not len(steps):
        raise ValueError("nothing to draw: steps is empty")
    images = [images[i] for i in range(min(4, len(images)))]
    ratio, shift, gap = _ratio(images), 0.16, 0.22
    height = max(2.0, 0.62 * len(heads) + 0.3)
    wide = 0.62
    stack = wide + shift * (len(images) - 1)
    last = 2.0 if heads else 0.0
    room = (WIDTH - 0.2 - stack - last - gap * (len(steps) + bool(heads))) / len(steps)
    picture, axes = _board(WIDTH, height)
    middle = height / 2
    top = middle - (wide * ratio + shift * (len(images) - 1)) / 2 - 0.08
    for i, image in enumerate(images):
        _crop(axes, image, 0.08 + shift * i, top + shift * i, wide, wide * ratio, border="white", line=1)
    axes.text(0.08 + stack / 2, height - 0.06, caption, ha="center", va="bottom", fontsize=8)

    def box(x, y, width, words, tall=0.62, colour="#EAF2F8"):
        look = {"boxstyle": "round,pad=0,rounding_size=0.06", "facecolor": colour, "edgecolor": INK, "linewidth": 0.9}
        axes.add_patch(FancyBboxPatch((x, y - tall / 2), width, tall, **look))
        axes.text(x + width / 2, y, words, ha="center", va="center", fontsize=8.5, linespacing=1.25)

    def arrow(x, y, to_x, to_y):
        axes.annotate("", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.9})

    x, end = 0.08 + stack, 0.08 + stack
    for words in steps:
        x = end + gap
        arrow(end + 0.02, middle, x - 0.01, middle)
        box(x, middle, room, words)
        end = x + room
    for i, words in enumerate(heads):
        y = middle + 0.62 * (i - (len(heads) - 1) / 2)
        arrow(end + 0.02, middle, end + gap - 0.01, y)
        box(end + gap, y, last, words, tall=0.5, colour=FAINT)
    return picture
