"""Plaza in the layout of CUHK03: cuhk-03.mat (MATLAB 7.3, which is HDF5) and the two files of the new protocol.

Persons belong to pairs of cameras (2p - 1 and 2p are pair p); each is seen by both of its pair, up to five times
by either. "labeled" boxes are tight; "detected" ones jitter, and the detector misses some.
"""

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

from .people import stream
from .plaza_plan import Job, Plan

SPLITS = 20  # classic splits


def pids(plan: Plan) -> list[int]:
    return sorted([*plan.train_pids, *plan.test_pids])


def jobs(plan: Plan) -> Iterator[Job]:
    """Every picture, as images_labeled/1_001_1_01.png (pair, person, view, index) and the same in images_detected/."""
    for number, pid in enumerate(pids(plan)):
        pair, person = number % (plan.cameras // 2) + 1, number // (plan.cameras // 2) + 1
        shots, files = [], []
        for view in (1, 2):
            cam = 2 * pair - 3 + view
            missed = stream(plan.world, "missed", pid, cam).random(5) < 0.03
            for k, (shot, _) in enumerate(plan.visit(pid, cam)[:-1]):
                name = f"{pair}_{person:03d}_{view}_{5 * (view - 1) + k + 1:02d}.png"
                shots.append(replace(shot, crop="tight"))
                files.append(f"images_labeled/{name}")
                if k == 0 or not missed[k]:
                    shots.append(shot)
                    files.append(f"images_detected/{name}")
        yield Job(pid, tuple(shots), tuple(files))


def pack(part: Path, plan: Plan) -> None:
    """Put the pictures in `part` into cuhk03_release/cuhk-03.mat, and add the files of the new protocol."""
    release = part / "cuhk03_release"
    release.mkdir(exist_ok=True)
    people, pairs = pids(plan), plan.cameras // 2
    with h5py.File(release / "cuhk-03.mat.tmp", "w") as mat:
        for kind in ("labeled", "detected"):
            cells = []
            for pair in range(1, pairs + 1):
                count = len(people[pair - 1 :: pairs])
                refs = np.empty((10, count), h5py.ref_dtype)
                for person in range(count):
                    for index in range(10):
                        file = part / f"images_{kind}" / f"{pair}_{person + 1:03d}_{index // 5 + 1}_{index + 1:02d}.png"
                        where = f"#refs#/{kind}_{pair}_{person + 1}_{index + 1}"
                        if file.exists():
                            mat[where] = np.asarray(Image.open(file)).transpose(2, 1, 0)  # MATLAB's axes are reversed
                        else:
                            mat[where] = np.zeros(2, np.uint64)
                            mat[where].attrs["MATLAB_empty"] = np.uint8(1)
                        refs[index, person] = mat[where].ref
                cells.append(_cell(mat, f"#refs#/{kind}_{pair}", refs))
            _cell(mat, kind, np.array([cells], h5py.ref_dtype))
        rng = stream(plan.world, "splits")
        everyone = np.array([(i % pairs + 1, i // pairs + 1) for i in range(len(people))], float)
        tests = []
        for split in range(SPLITS):
            chosen = np.sort(rng.permutation(len(people))[: min(100, len(people) // 2)])
            mat[f"#refs#/split_{split + 1}"] = everyone[chosen].T  # (2, persons)
            tests.append(mat[f"#refs#/split_{split + 1}"].ref)
        _cell(mat, "testsets", np.array([tests], h5py.ref_dtype))
    os.replace(release / "cuhk-03.mat.tmp", release / "cuhk-03.mat")
    for kind in ("labeled", "detected"):
        _new_protocol(part, plan, kind)
        shutil.rmtree(part / f"images_{kind}")


def _cell(mat, name, references):
    mat.create_dataset(name, data=references, dtype=h5py.ref_dtype)
    mat[name].attrs["MATLAB_class"] = np.bytes_("cell")
    return mat[name].ref


def _new_protocol(part: Path, plan: Plan, kind: str) -> None:
    """The split by identity (Zhong et al., CVPR 2017): one query per test person and view, the rest is the gallery."""
    people, pairs, train = pids(plan), plan.cameras // 2, set(plan.train_pids)
    names = sorted(os.listdir(part / f"images_{kind}"))
    labels, views, rows, asked = [], [], {"train": [], "query": [], "gallery": []}, set()
    for row, name in enumerate(names, 1):
        pair, person, view, _ = (int(n) for n in name[:-4].split("_"))
        number = (person - 1) * pairs + pair - 1
        labels.append(number + 1)
        views.append(view)
        if people[number] in train:
            rows["train"].append(row)
        else:
            rows["query" if (number, view) not in asked else "gallery"].append(row)
            asked.add((number, view))
    filelist = np.empty((len(names), 1), object)
    filelist[:, 0] = names
    columns = {"labels": labels, "camId": views} | {f"{split}_idx": index for split, index in rows.items()}
    coded = io.BytesIO()
    savemat(
        coded, {"filelist": filelist} | {name: np.array(column, np.int32)[:, None] for name, column in columns.items()}
    )
    without_time = b"MATLAB 5.0 MAT-file".ljust(116) + coded.getvalue()[116:]  # the same bytes whenever it is written
    (part / f"cuhk03_new_protocol_config_{kind}.mat").write_bytes(without_time)
