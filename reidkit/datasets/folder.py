"""Your own images, named as Market-1501 names its own.

    bounding_box_train/   to train on (optional: a model trained elsewhere needs none)
    query/                the images to search for
    bounding_box_test/    the images to search in
    gt_bbox/              more images of the queries, for multi-query (optional)

A name starts with person and camera, 0002_c1_anything.jpg, and may carry sequence and frame,
0002_c1s1_000451_03.jpg. People and cameras count from 1: in bounding_box_test/, and only there, pid 0 marks a
distractor and -1 junk.
"""

import os
from pathlib import Path

from .base import DatasetError, ReIDDataset, how_to_get
from .market1501 import LOOSE, read_layout

SECTION = "your-own-images"
EXPECTED = "person and camera first, as in 0002_c1_anything.jpg or 0002_c1s1_000451_03.jpg"


def read(root) -> ReIDDataset:
    """Open a folder of your own; without bounding_box_train/ the train split is empty."""
    folder = Path(os.path.abspath(os.path.expanduser(root)))
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}. {how_to_get(SECTION)}")
    parts = ("query", "bounding_box_test")
    return read_layout(folder, "folder", {}, pattern=LOOSE, expected=EXPECTED, section=SECTION, parts=parts)
