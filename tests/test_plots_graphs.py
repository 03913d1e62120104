"""The association graph: one crop an identity, right and wrong links told apart by more than colour."""

import io

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch

from reidkit.plots import association_graph

IMAGES = np.full((4, 12, 6, 3), 90, np.uint8)
PIDS, CAMIDS = [7, 7, 9, 9], [0, 2, 0, 1]


def links(picture):
    return [patch for patch in picture.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def test_a_link_within_a_row_is_solid_and_one_between_rows_is_dashed():
    picture = association_graph(IMAGES, PIDS, CAMIDS, [[0, 1], [1, 3]])
    right, wrong = links(picture)
    assert right.get_linestyle() in ("-", "solid")
    assert wrong.get_linestyle() not in ("-", "solid")
    assert right.get_edgecolor() != wrong.get_edgecolor()
    assert len(picture.axes[0].images) == 4
    picture.savefig(io.BytesIO())


def test_scores_and_no_links_at_all():
    picture = association_graph(IMAGES, PIDS, CAMIDS, [[0, 1], [0, 2]], scores=[0.25, -0.001])
    assert {"0.25", "0.00", "person\n9"} <= {text.get_text() for text in picture.axes[0].texts}
    assert links(association_graph(IMAGES, PIDS, CAMIDS, [])) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((IMAGES, PIDS, [0, 0, 0, 1], []), "person 7 has two crops under camera 0"),
        ((IMAGES, PIDS, CAMIDS, [[0, 4]]), "edges name 0 to 4"),
        ((IMAGES, PIDS[:3], CAMIDS, []), "lengths differ"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        association_graph(*arguments)


def test_one_score_for_each_link():
    with pytest.raises(ValueError, match="1 edges and 2 scores"):
        association_graph(IMAGES, PIDS, CAMIDS, [[0, 1]], scores=[1.0, 2.0])
