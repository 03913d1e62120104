"""Market-1501 (Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015).

    bounding_box_train/  query/  bounding_box_test/   0002_c1s1_000451_03.jpg
    gt_bbox/             hand-drawn boxes, for multi-query (optional)
    images/              the 500,000 distractors (optional; here or beside this folder)

A name's fields are person, camera, sequence, frame and box. In the gallery pid 0 is a distractor, a false
detection that stays in the ranking, and pid -1 is junk, which the evaluation leaves out.
"""

import re
from dataclasses import replace
from numbers import Integral
from pathlib import Path

import pandas as pd

from .base import (
    DISTRACTOR,
    DatasetError,
    ReIDDataset,
    check_counts,
    find_folder,
    how_to_get,
    images_in,
    parse,
    require,
)

FOLDERS = (
    "Market-1501-v15.09.15",
    "market1501/Market-1501-v15.09.15",
    "market1501",
    "Market-1501",
    "Market1501",
)
PARTS = ("bounding_box_train", "query", "bounding_box_test")
SECTION = "market-1501"
NAME = re.compile(r"(?P<pid>-1|\d+)_c(?P<camera>\d+)s(?P<seq>\d+)_(?P<frame>\d+)_\d+(\.[a-z]+)+", re.IGNORECASE)
EXPECTED = "Market-1501 names such as 0002_c1s1_000451_03.jpg (person, camera, sequence, frame, box)"
# Names of a user's own, and of the 500k: person and camera, and what else there may be.
LOOSE = re.compile(r"(?P<pid>-1|\d+)_c(?P<camera>\d+)(s(?P<seq>\d+)_(?P<frame>\d+))?.*\.[a-z]+", re.IGNORECASE)
PUBLISHED = {
    "train images": 12_936,
    "train identities": 751,
    "query images": 3_368,
    "query identities": 750,
    "gallery images": 19_732,  # 15,913 without the junk
    "gallery identities": 750,
}


def read(root="data", *, distractors: int = 0) -> ReIDDataset:
    """Open Market-1501.

    distractors  how many of the extra 500,000 to append to the gallery, as pid 0: the first in name order, for
                 which ones the papers took is not stated. The rows of the standard gallery stay where they are.
    """
    if not isinstance(distractors, Integral) or distractors < 0:
        raise DatasetError(f"market1501: distractors must be a count, 0 or more; got {distractors!r}")
    folder = find_folder(root, FOLDERS, PARTS, benchmark="Market-1501", section=SECTION)
    market = read_layout(folder, "market1501", {"distractors": int(distractors)})
    check_counts(market, PUBLISHED, benchmark="Market-1501", section=SECTION)
    if not distractors:
        return market
    extra = next((f for f in (folder / "images", folder.parent / "images") if f.is_dir()), None)
    if extra is None:
        raise DatasetError(f"the 500k distractors are not in {folder / 'images'}. {how_to_get(SECTION)}")
    paths = images_in(extra)
    if len(paths) < distractors:
        raise DatasetError(f"{extra} holds {len(paths):,} images, not {distractors:,}. {how_to_get(SECTION)}")
    added = parse(paths[:distractors], LOOSE, EXPECTED).assign(pid=DISTRACTOR)
    return replace(market, gallery=pd.concat([market.gallery, added], ignore_index=True, join="inner"))


def read_layout(
    folder, name: str, protocol: dict, *, pattern=NAME, expected=EXPECTED, section=SECTION, parts=PARTS
) -> ReIDDataset:
    """Open a folder of Market-1501's layout, whichever data set it holds.

    Of `parts` each must be there and hold images; one of PARTS that is not there otherwise is an empty split.
    `multi_query` keeps those images of gt_bbox whose person and camera some query shares.
    """
    folder = Path(folder)
    require(folder, parts, benchmark=name, section=section)
    splits = {}
    for part in PARTS:
        place = folder / part
        splits[part] = parse(images_in(place) if place.is_dir() else [], pattern, expected)
        if part in parts and splits[part].empty:
            raise DatasetError(f"{name}: {place} holds no images. {how_to_get(section)}")
        nobody = int((splits[part]["pid"] <= DISTRACTOR).sum())
        if nobody and part != "bounding_box_test":
            raise DatasetError(
                f"{name}: {nobody} images in {place} have pid 0 or -1, which mark distractors and junk and "
                "belong in bounding_box_test; number people from 1"
            )
    train, query, gallery = splits.values()
    multi_query = None
    if (folder / "gt_bbox").is_dir():
        drawn = parse(images_in(folder / "gt_bbox"), pattern, expected)
        asked = pd.MultiIndex.from_frame(query[["pid", "camid"]])
        shared = pd.MultiIndex.from_frame(drawn[["pid", "camid"]]).isin(asked)
        multi_query = drawn[shared].reset_index(drop=True)
    return ReIDDataset(name, folder, protocol, train, query, gallery, multi_query)
