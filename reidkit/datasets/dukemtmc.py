"""DukeMTMC-reID (Ristani et al., ECCV Workshops 2016; Zheng, Zheng and Yang, ICCV 2017).

    bounding_box_train/  query/  bounding_box_test/   0002_c1_f0044158.jpg: person, camera, frame

The gallery's distractors are 408 people who are never queried; they have pids of their own. The data set was
withdrawn by its makers: read data/README.md before using it.
"""

import re

from .base import ReIDDataset, check_counts, find_folder
from .market1501 import PARTS, read_layout

FOLDERS = ("DukeMTMC-reID", "dukemtmc-reid/DukeMTMC-reID", "dukemtmc-reid", "dukemtmc", "DukeMTMC")
SECTION = "dukemtmc-reid"
NAME = re.compile(r"(?P<pid>\d+)_c(?P<camera>\d+)_f(?P<frame>\d+)\.jpg", re.IGNORECASE)
EXPECTED = "DukeMTMC-reID names such as 0002_c1_f0044158.jpg (person, camera, frame)"
PUBLISHED = {
    "train images": 16_522,
    "train identities": 702,
    "query images": 2_228,
    "query identities": 702,
    "gallery images": 17_661,
    "gallery identities": 1_110,
}


def read(root="data") -> ReIDDataset:
    """Open DukeMTMC-reID."""
    folder = find_folder(root, FOLDERS, PARTS, benchmark="DukeMTMC-reID", section=SECTION)
    duke = read_layout(folder, "dukemtmc", {}, pattern=NAME, expected=EXPECTED, section=SECTION)
    check_counts(duke, PUBLISHED, benchmark="DukeMTMC-reID", section=SECTION)
    return duke
