"""The pipeline picture: boxes and heads stand inside the page, apart from one another, in the order given."""

import itertools

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch

from reidkit import plots


def crops(n=4):
    return np.full((n, 64, 32, 3), 120, np.uint8)


def boxes(picture):
    patches = [p for p in picture.axes[0].patches if isinstance(p, FancyBboxPatch)]
    return [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in patches]


def test_boxes_stand_in_order_inside_the_page():
    picture = plots.pipeline(crops(), ["backbone", "GAP", "neck"], ["loss", "classifier"])
    width, height = picture.get_size_inches()
    placed = boxes(picture)
    assert len(placed) == 5
    for x, y, w, h in placed:
        assert x >= 0
        assert x + w <= width
        assert y >= 0
        assert y + h <= height
    steps = placed[:3]
    assert all(a[0] + a[2] < b[0] for a, b in itertools.pairwise(steps))
    heads = placed[3:]
    assert all(head[0] > steps[-1][0] + steps[-1][2] for head in heads)
    assert heads[0][1] + heads[0][3] <= heads[1][1] + 1e-9


@pytest.mark.parametrize("heads", [[], ["one"], ["one", "two", "three", "four"]])
def test_every_word_is_written_once(heads):
    steps = ["backbone\nlast stride 1", "f"]
    picture = plots.pipeline(crops(2), steps, heads, caption="P × K")
    written = [text.get_text() for text in picture.axes[0].texts if text.get_text()]
    assert sorted(written) == sorted([*steps, *heads, "P × K"])
    picture.canvas.draw()


def test_at_most_four_crops_are_drawn():
    assert len(plots.pipeline(crops(9), ["f"]).axes[0].images) == 4
    assert len(plots.pipeline(crops(1), ["f"]).axes[0].images) == 1


def test_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps is empty"):
        plots.pipeline(crops(), [])
