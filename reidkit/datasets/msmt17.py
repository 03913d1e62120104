"""MSMT17 (Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018).

    MSMT17_V1/  train/          test/           list_train.txt  list_val.txt  list_query.txt  list_gallery.txt
    MSMT17_V2/  mask_train_v2/  mask_test_v2/   the same lists; faces are blurred

A line of a list is a path and a pid: `0000/0000_000_01_0303morning_0015_0.jpg 0`. A name's fields are person,
image, camera, date and time of day (our seq), frame, box, and sometimes _ex. Train and test both count people
from 0: pid 0 of one is not pid 0 of the other, and it is a person, not a distractor.
"""

import os
import re
from pathlib import Path

import pandas as pd

from .base import (
    DatasetError,
    ReIDDataset,
    check_counts,
    find_folder,
    how_to_get,
    parse,
    read_list,
    refuse_names,
    require,
)

VERSIONS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
FOLDERS = (
    "MSMT17_V1",
    "MSMT17_V2",
    "msmt17/MSMT17_V1",
    "msmt17/MSMT17_V2",
    "MSMT17/MSMT17_V1",
    "MSMT17/MSMT17_V2",
    "msmt17",
    "MSMT17",
)
SECTION = "msmt17"
LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
TRAIN = {"train": LISTS[:1], "train+val": LISTS[:2]}
NAME = re.compile(r"(?P<pid>\d+)_\d+_(?P<camera>\d+)_(?P<seq>\d+[a-z]+)_(?P<frame>\d+)_\d+(_ex)?\.jpe?g", re.IGNORECASE)
EXPECTED = "MSMT17 names such as 0000_000_01_0303morning_0015_0.jpg (person, image, camera, time, frame, box)"
PUBLISHED = {
    "train identities": 1_041,
    "query images": 11_659,
    "query identities": 3_060,
    "gallery images": 82_161,
    "gallery identities": 3_060,
}
PUBLISHED_TRAIN = {"train": 30_248, "train+val": 32_621}


def read(root="data", *, train: str = "train+val") -> ReIDDataset:
    """Open MSMT17; `protocol`, and with it the summary, says which version was found and what train holds.

    train  "train+val": the 32,621 images of both lists, as Precise-ICS trains on;
           "train": the 30,248 of list_train.txt alone
    """
    if train not in TRAIN:
        raise DatasetError(f"msmt17: train must be {' or '.join(map(repr, TRAIN))}; got {train!r}")
    folder = find_folder(root, FOLDERS, LISTS, benchmark="MSMT17", section=SECTION)
    version = "V2" if any((folder / part).exists() for part in VERSIONS["V2"]) else "V1"
    train_part, test_part = VERSIONS[version]
    require(folder, (*LISTS, train_part, test_part), benchmark="MSMT17", section=SECTION)
    in_train, in_test = (_files(folder / part) for part in (train_part, test_part))
    msmt = ReIDDataset(
        "msmt17",
        folder,
        {"train": train, "version": version},
        _split(folder, TRAIN[train], train_part, in_train),
        _split(folder, ("list_query.txt",), test_part, in_test),
        _split(folder, ("list_gallery.txt",), test_part, in_test),
    )
    published = PUBLISHED | {"train images": PUBLISHED_TRAIN[train]}
    check_counts(msmt, published, benchmark="MSMT17", section=SECTION)
    return msmt


def _split(folder: Path, lists: tuple, part: str, files: set[str]) -> pd.DataFrame:
    """The images that the lists name; `files` are those in the folder `part`, and pids are the lists' own."""
    pids = {}
    for name in lists:
        lines = [line.rsplit(maxsplit=1) for line in read_list(folder / name, SECTION).splitlines() if line.strip()]
        bad = [" ".join(line) for line in lines if len(line) != 2 or not line[1].isdigit()]
        if bad:
            refuse_names(folder / name, bad, len(lines), "lines of a path and a pid")
        pids |= {path: int(pid) for path, pid in lines}
    missing = [path for path in pids if path not in files]
    if missing:
        raise DatasetError(
            f"MSMT17 in {folder} is incomplete: of the {len(pids):,} images in {' and '.join(lists)}, "
            f"{len(missing):,} are missing from {part}, such as {missing[0]}. {how_to_get(SECTION)}"
        )
    by_path = {os.path.join(folder, part, *path.split("/")): pid for path, pid in pids.items()}
    frame = parse(list(by_path), NAME, EXPECTED)
    return frame.assign(pid=[by_path[path] for path in frame["path"]])


def _files(folder: Path) -> set[str]:
    """All files below a folder, as the lists write them: one walk is faster than 126,441 questions."""
    return {
        f"{person}/{name}"
        for place, _, names in os.walk(folder, followlinks=True)
        for person in [os.path.relpath(place, folder).replace(os.sep, "/")]
        for name in names
    }
