"""CUHK03 (Li et al., DeepReID, CVPR 2014), under the new protocol (Zhong et al., CVPR 2017) or the classic one.

    cuhk-03.mat                                  here or in cuhk03_release/
    cuhk03_new_protocol_config_labeled.mat       for the new protocol; likewise _detected.mat
    images_labeled/  images_detected/            written on first use: 1_001_1_01.png

or, for the new protocol, the CUHK03-NP release: labeled/ and detected/, each with bounding_box_train/, query/
and bounding_box_test/, and names such as 0003_c1_21.png.

cuhk-03.mat is a MATLAB 7.3 file, which is HDF5. There MATLAB's arrays have their axes reversed, and a cell array
is a data set of object references. With sizes as h5py shows them:

    labeled, detected   (1, 5) references, one a pair of cameras, each to
                            (10, persons) references (0 … 4: the pair's first camera, 5 … 9: its second), each to
                                (3, width, height) uint8, an image, or
                                (2,) uint64, both 0, with the attribute MATLAB_empty = 1: an empty cell
    testsets            (1, 20) references, one a classic split, each to
                            (2, 100) float64: the test persons' pair, and number in that pair, from 1

The new protocol's file is a MATLAB 5 file (scipy.io.loadmat). For N images: filelist (N, 1) cells of names such
as 1_001_1_01.png (pair, person in the pair, view 1 or 2, index 1 … 10), labels (N, 1), camId (N, 1); and
train_idx, query_idx, gallery_idx (·, 1), which count from 1.

A pid is the file's label under the new protocol, and a person's number over all pairs, from 1, under the classic
one, which has no labels. camid is the view, 0 or 1, as in every protocol of this data set; seq is the pair, so that
2 * (seq - 1) + camid tells the ten cameras apart.
"""

import os
import re
import shutil
import uuid
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import loadmat

from ..progress import bar
from .base import (
    DatasetError,
    ReIDDataset,
    check_counts,
    find_folder,
    how_to_get,
    images_in,
    parse,
    require,
)
from .market1501 import read_layout

FOLDERS = ("cuhk03", "CUHK03", "cuhk03_release", "cuhk03-np", "CUHK03-NP")
SECTION = "cuhk03"
MAT = ("cuhk-03.mat", "cuhk03_release/cuhk-03.mat")
NAME = re.compile(r"(?P<seq>\d)_(?P<pid>\d+)_(?P<camera>[12])_(?P<frame>\d+)\.png")  # pid: in the pair
EXPECTED = "names such as 1_001_1_01.png (pair, person, view, index)"
NP_NAME = re.compile(r"(?P<pid>\d+)_c(?P<camera>\d+)_(?P<frame>\d+)\.[a-z]+")
NP_EXPECTED = "CUHK03-NP names such as 0003_c1_21.png (person, camera, index)"
IDENTITIES = {"train identities": 767, "query identities": 700, "gallery identities": 700}
PUBLISHED = {
    "labeled": {"train images": 7_368, "query images": 1_400, "gallery images": 5_328},
    "detected": {"train images": 7_365, "query images": 1_400, "gallery images": 5_332},
}


def read(root="data", *, images: str = "detected", protocol: str = "new", split: int = 0) -> ReIDDataset:
    """Open CUHK03; on first use its images are written beside the .mat files, all of them or none.

    images    "detected" (boxes by a detector) or "labeled" (by hand)
    protocol  "new": 767 identities to train on and 700 to test on, under Market-1501's rules;
              "classic": 1,367 and 100, in 20 splits. Query and gallery then both hold every test image, from
              which the evaluation takes its single-shot or multi-shot galleries.
    split     0 … 19, of the classic protocol
    """
    if images not in PUBLISHED:
        raise DatasetError(f"cuhk03: images must be 'labeled' or 'detected'; got {images!r}")
    if protocol not in ("new", "classic"):
        raise DatasetError(f"cuhk03: protocol must be 'new' or 'classic'; got {protocol!r}")
    if protocol == "new" and split:
        raise DatasetError(f"cuhk03: the new protocol has one split; split={split!r} is for protocol='classic'")
    markers = MAT if protocol == "classic" else (*MAT, f"{images}/bounding_box_train")
    folder = find_folder(root, FOLDERS, markers, benchmark="CUHK03", section=SECTION)
    choices = {"images": images, "protocol": protocol}
    if protocol == "new":
        cuhk = _new(folder, images, choices)
        published = PUBLISHED[images] | IDENTITIES
    else:
        cuhk = _classic(folder, images, split, choices)
        published = {"all images": sum(PUBLISHED[images].values())}
        published |= {"train identities": 1_367, "query identities": 100}
    check_counts(cuhk, published, benchmark=f"CUHK03 ({images})", section=SECTION)
    return cuhk


def _new(folder: Path, images: str, choices: dict) -> ReIDDataset:
    if (folder / images / "bounding_box_train").is_dir():
        release = folder / images
        return read_layout(release, "cuhk03", choices, pattern=NP_NAME, expected=NP_EXPECTED, section=SECTION)
    mat = _mat(folder)
    config = f"cuhk03_new_protocol_config_{images}.mat"
    home = mat.parent if (mat.parent / config).exists() else folder
    require(home, (config,), benchmark="CUHK03", section=SECTION)
    try:
        fields = loadmat(home / config)
        names = [str(cell.item()) for cell in fields["filelist"].ravel()]
        pids = fields["labels"].ravel()
        rows = {split: fields[f"{split}_idx"].ravel() - 1 for split in ("train", "query", "gallery")}
        listed = {split: {names[row]: int(pids[row]) for row in index} for split, index in rows.items()}
    except Exception as error:  # SciPy has no one error for a file that is not what it should be
        raise DatasetError(f"{home / config} cannot be read ({error!r}). {how_to_get(SECTION)}") from error
    place = _extract(mat, folder, images)
    there = {os.path.basename(path): path for path in images_in(place)}
    missing = [name for split in listed.values() for name in split if name not in there]
    if missing:
        raise DatasetError(
            f"{place} lacks {len(missing):,} of the images in {config}, such as {missing[0]}; delete that folder "
            f"to have it written again from {mat.name}"
        )
    frames = {}
    for split, pid in listed.items():
        frame = parse([there[name] for name in pid], NAME, EXPECTED)
        frames[split] = frame.assign(pid=[pid[os.path.basename(path)] for path in frame["path"]])
    return ReIDDataset("cuhk03", folder, choices, **frames)


def _classic(folder: Path, images: str, split: int, choices: dict) -> ReIDDataset:
    mat = _mat(folder)
    with _open(mat) as file:
        persons = [file[pair].shape[1] for pair in file[images][()].ravel()]
        testsets = file["testsets"][()].ravel()
        if split not in range(len(testsets)):
            raise DatasetError(f"cuhk03: split must be 0 … {len(testsets) - 1}; got {split!r}")
        pair, person = file[testsets[split]][()].astype(int)  # (2, persons in test)
    before = np.cumsum([0, *persons])  # people in the pairs before this one
    frame = parse(images_in(_extract(mat, folder, images)), NAME, EXPECTED)
    frame["pid"] += before[frame["seq"].to_numpy() - 1]
    in_test = frame["pid"].isin(before[pair - 1] + person)
    train, test = (frame[rows].reset_index(drop=True) for rows in (~in_test, in_test))
    return ReIDDataset("cuhk03", folder, choices | {"split": int(split)}, train, test, test.copy())


def _mat(folder: Path) -> Path:
    return next(folder / place for place in MAT if (folder / place).exists())


def _open(mat: Path) -> h5py.File:
    try:
        file = h5py.File(mat)
    except OSError as error:
        raise DatasetError(f"{mat} is no MATLAB 7.3 file, or was cut short ({error}). {how_to_get(SECTION)}") from error
    lacking = [name for name in ("labeled", "detected", "testsets") if name not in file]
    if lacking:
        file.close()
        raise DatasetError(f"{mat} has no {', '.join(lacking)}: not CUHK03's file. {how_to_get(SECTION)}")
    return file


def _extract(mat: Path, folder: Path, images: str) -> Path:
    """The folder of extracted images, written on first use under a passing name until it is whole."""
    target = folder / f"images_{images}"
    if target.is_dir() and any(target.iterdir()):
        return target
    partial = folder / f".{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        partial.mkdir()
    except OSError as error:
        raise DatasetError(
            f"CUHK03's images cannot be written into {folder} ({error}); make it writable once, or put links "
            "to its .mat files into a folder of your own"
        ) from error
    try:
        with _open(mat) as file:
            cells = [
                (pair, person, index, reference)
                for pair, references in enumerate(file[images][()].ravel(), 1)
                for (index, person), reference in np.ndenumerate(file[references][()])
            ]
            with bar(len(cells), f"CUHK03: writing {target.name}", "image") as progress:
                for pair, person, index, reference in cells:
                    image = file[reference]
                    if image.ndim == 3:  # not an empty cell
                        name = f"{pair}_{person + 1:03d}_{index // 5 + 1}_{index + 1:02d}.png"
                        pixels = np.ascontiguousarray(image[()].T)  # (height, width, 3)
                        Image.fromarray(pixels).save(partial / name)
                    progress.update()
        os.replace(partial, target)
    except (OSError, RuntimeError, KeyError) as error:
        if not (target.is_dir() and any(target.iterdir())):  # else another process was first
            raise DatasetError(
                f"the images of {mat} could not be written out ({error}); nothing was kept. {how_to_get(SECTION)}"
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
