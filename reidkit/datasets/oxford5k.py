"""Oxford5k, buildings in place of people (Philbin, Chum, Isard, Sivic and Zisserman, CVPR 2007).

    oxbuild_images/      all_souls_000013.jpg, … (or images/, jpg/; or beside the lists)
    gt_files_170407/     all_souls_1_query.txt, all_souls_1_good.txt, …_ok.txt, …_junk.txt (or gt_files/, gt/)
    train_images/        our addition, to train on: building_number.jpg. Oxford5k itself has none

A query file holds one line, `oxc1_all_souls_000013 136.5 34.1 648.5 955.7`: the photograph (its prefix oxc1_ is not
part of the name) and the box in it that is the query, x and y of two corners in pixels. The other three list
photographs, one name a line. Eleven landmarks have five queries each.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from .base import DISTRACTOR, JUNK, DatasetError, ReIDDataset, find_folder, how_to_get, images_in, read_list, rgb

FOLDERS = ("oxford5k", "Oxford5k", "oxbuild", "facades")
LISTS = ("gt_files_170407", "gt_files", "gt")
IMAGES = ("oxbuild_images", "images", "jpg", ".")
SECTION = "oxford5k"
QUERY = re.compile(r"(?P<landmark>.+)_(?P<number>\d+)_query\.txt")
BUILDING = re.compile(r"(?P<name>.+)_\d+\.[a-z]+", re.IGNORECASE)
BOX = ["left", "top", "right", "bottom"]
PUBLISHED = {"query": (55,), "gallery": (5_062, 5_063)}  # the paper counts 5,062; the archive holds one more


@dataclass(frozen=True, eq=False)
class Oxford5k(ReIDDataset):
    """A `ReIDDataset` whose queries have lists of their own.

    relevant, junk   (Q, G) bool, row and column as in `query` and `gallery`: on the good or ok list of the query; on
                     its junk list. They are what `protocols.oxford5k` asks for.
    query            has the columns name ("all_souls_1") and left, top, right, bottom: the box, in pixels
    gallery          every photograph, those that queries were cut from included

    So that all else that takes a data set takes this one, pid is the landmark (from 1; by name; of a photograph, the
    first that lists it as good or ok), -1 where photographs are on junk lists alone, 0 for all others; camid is 0 for
    queries and 1 for the gallery. Only the two matrices say exactly what the lists say.
    """

    relevant: np.ndarray | None = None
    junk: np.ndarray | None = None

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of what every data set's fingerprint tells, and of names, boxes and lists."""
        digest = hashlib.sha256(super().fingerprint.encode())
        digest.update(self.query[["name", *BOX]].to_csv(index=False).encode("utf-8", "surrogateescape"))
        for marks in (self.relevant, self.junk):
            digest.update(repr(None if marks is None else marks.tolist()).encode())
        return digest.hexdigest()[:16]


def read(root="data") -> Oxford5k:
    """Open Oxford5k, or any folder of its layout. Raises DatasetError where lists, boxes and images do not fit."""
    folder = find_folder(root, FOLDERS, LISTS, benchmark="Oxford5k", section=SECTION)
    lists = next((folder / name for name in LISTS if (folder / name).is_dir()), None)
    if lists is None:
        raise DatasetError(f"Oxford5k in {folder}: none of {', '.join(LISTS)} is a folder. {how_to_get(SECTION)}")
    photographs = next(
        (folder / name for name in IMAGES if (folder / name).is_dir() and images_in(folder / name)), None
    )
    if photographs is None:
        raise DatasetError(f"Oxford5k in {folder} has lists and no images. {how_to_get(SECTION)}")
    paths = images_in(photographs)
    place = {os.path.splitext(os.path.basename(path))[0]: i for i, path in enumerate(paths)}
    found = [(match, name) for name in sorted(os.listdir(lists)) if (match := QUERY.fullmatch(name)) and name[0] != "."]
    if not found:
        raise DatasetError(f"{lists} holds no …_query.txt. {how_to_get(SECTION)}")
    landmarks = {name: i for i, name in enumerate(sorted({match["landmark"] for match, _ in found}), 1)}

    rows, relevant, junk = [], np.zeros((len(found), len(paths)), bool), np.zeros((len(found), len(paths)), bool)
    for q, (match, file) in enumerate(found):
        name = file.removesuffix("_query.txt")
        photograph, box = _box(lists / file)
        rows.append([paths[_place(photograph, place, lists / file)], landmarks[match["landmark"]], 0, name, *box])
        for kind, marks in (("good", relevant), ("ok", relevant), ("junk", junk)):
            for image in _lines(lists / f"{name}_{kind}.txt"):
                marks[q, _place(image, place, lists / f"{name}_{kind}.txt")] = True
        if not relevant[q].any():
            raise DatasetError(f"{lists}: the good and ok lists of {name} are both empty")
    query = pd.DataFrame(rows, columns=["path", "pid", "camid", "name", *BOX]).astype({"path": str, "camid": np.int64})

    pids = np.where(junk.any(0), JUNK, DISTRACTOR)
    first = relevant.argmax(0)  # of an image on several lists, the first query's
    pids = np.where(relevant.any(0), query["pid"].to_numpy()[first], pids)
    gallery = pd.DataFrame({"path": pd.Series(paths, dtype=str), "pid": pids.astype(np.int64), "camid": 1})
    _check_counts(folder, query, gallery)
    train = _train(folder / "train_images")
    return Oxford5k("oxford5k", folder, {}, train, query, gallery, None, relevant, junk & ~relevant)


def pictures(frame: pd.DataFrame) -> list[np.ndarray]:
    """The images of a frame in their own sizes, cut to the box where the frame has one: (H, W, 3) uint8 each."""
    found = []
    for row in frame.to_dict("records"):
        try:
            with Image.open(row["path"]) as image:
                image = rgb(image)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{row['path']} cannot be read as an image: {error}") from None
        if "left" in row:
            left, top = max(0, round(row["left"])), max(0, round(row["top"]))
            right, bottom = min(image.width, round(row["right"])), min(image.height, round(row["bottom"]))
            if left >= right or top >= bottom:
                raise DatasetError(f"{row['path']}: the box of {row['name']} lies outside the image")
            image = image.crop((left, top, right, bottom))
        found.append(np.asarray(image))
    return found


def _box(file: Path) -> tuple[str, list[float]]:
    fields = read_list(file, SECTION).split()
    try:
        left, top, right, bottom = map(float, fields[1:])
    except ValueError:
        left = right = top = bottom = 0.0  # no box
    if not (left < right and top < bottom):  # NaN neither
        raise DatasetError(f"{file}: expected a name and a box, x y of two corners; got {' '.join(fields)!r}")
    return fields[0].removeprefix("oxc1_"), [left, top, right, bottom]


def _lines(file: Path) -> list[str]:
    if not file.exists():
        raise DatasetError(f"{file.parent} is incomplete: missing {file.name}. {how_to_get(SECTION)}")
    return read_list(file, SECTION).split()


def _place(name: str, place: dict[str, int], file: Path) -> int:
    if name not in place:
        raise DatasetError(f"{file} names {name}, and there is no such image. {how_to_get(SECTION)}")
    return place[name]


def _check_counts(folder: Path, query: pd.DataFrame, gallery: pd.DataFrame) -> None:
    if len(gallery) < PUBLISHED["gallery"][0] / 2:
        return  # a small stand-in of the same layout
    for what, frame in (("query", query), ("gallery", gallery)):
        if len(frame) not in PUBLISHED[what]:
            raise DatasetError(
                f"Oxford5k in {folder} is not what was published ({len(frame):,} {what} images, not "
                f"{PUBLISHED[what][0]:,}); was it cut short? {how_to_get(SECTION)}"
            )


def _train(folder: Path) -> pd.DataFrame:
    """Images to train on, a building a name; none if the folder is not there."""
    paths = images_in(folder) if folder.is_dir() else []
    names = [BUILDING.fullmatch(os.path.basename(path)) for path in paths]
    if None in names:
        bad = os.path.basename(paths[names.index(None)])
        raise DatasetError(f"{folder}: the name {bad!r} does not parse; expected building_number.jpg")
    buildings = {name: i for i, name in enumerate(sorted({match["name"] for match in names}), 1)}
    pids = np.array([buildings[match["name"]] for match in names], np.int64)
    return pd.DataFrame({"path": pd.Series(paths, dtype=str), "pid": pids, "camid": np.zeros(len(paths), np.int64)})
