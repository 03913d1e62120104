"""Facades: buildings rendered from a seed in Oxford5k's layout, so that instance retrieval runs without a download.

A *world* (a number) has its own buildings. Each is a wall with a grid of windows, a door, a roof or towers, painted
once and then photographed: from the front and from either side, near and far, whole or in part, in sun and under cloud,
behind a tree or a lamp post. The photographs have different sizes. One building in five has the style of its neighbour:
the same wall, windows and kind of roof, other numbers of bays and storeys.

    oxbuild_images/     hall_000003.jpg: the landmarks, and buildings that nobody asks for
    gt_files_170407/    hall_1_query.txt, …_good.txt, …_ok.txt, …_junk.txt
    train_images/       other buildings, to train on
    facades.json        the arguments

As in Oxford5k, a photograph is good where most of the front is in sight, ok from a quarter on, junk below; here that is
computed, not judged. Queries are boxes around a part of the building. Same seed, same bytes: on one machine, with one
version of Pillow.
"""

import io
import json
import os
import shutil
import uuid
from pathlib import Path

from .base import DatasetError
from .facade_rendering import building, photograph
from .oxford5k import Oxford5k, pictures
from .oxford5k import read as read_layout
from .people import stream

__all__ = ["generate", "pictures", "read"]

VERSION = 1  # of the pictures; another number makes kept worlds anew
NAMES = (
    "abbey",
    "arcade",
    "bank",
    "chapel",
    "college",
    "court",
    "exchange",
    "gallery",
    "gate",
    "guild",
    "hall",
    "hotel",
    "house",
    "inn",
)
NAMES += (
    "library",
    "lodge",
    "market",
    "mill",
    "museum",
    "observatory",
    "palace",
    "school",
    "station",
    "theatre",
    "tower",
    "villa",
)
GOOD, OK = 0.6, 0.25  # of the front in sight


def generate(
    out, *, world: int = 0, buildings: int = 20, train: int = 40, views: int = 10, others: int = 30, side: int = 144
) -> Path:
    """Render a world into the folder `out` and return its path.

    buildings  landmarks to be searched for, with three queries each
    train      other buildings, to train on, `views` photographs each
    views      photographs of a landmark; one more is aimed past its edge: "ok" or "junk" where it shows too little
    others     buildings that are no landmark, two photographs each in the gallery
    side       the longer side of a photograph, in pixels; the shorter one is two thirds of it or more

    `out` appears whole or not at all; a finished world is left alone. DatasetError for arguments out of range, a folder
    that holds something else, a full disk.
    """
    arguments = {"world": world, "buildings": buildings, "train": train, "views": views, "others": others, "side": side}
    for name, value in arguments.items():
        low = {"world": 0, "buildings": 1, "train": 0, "views": 3, "others": 0, "side": 32}[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise DatasetError(f"facades: {name} must be a whole number from {low} on; got {value!r}")
    if buildings > len(NAMES):
        raise DatasetError(
            f"facades: buildings must be {len(NAMES)} or fewer, for that many have names; got {buildings}"
        )
    out, made = Path(os.path.abspath(os.path.expanduser(out))), json.dumps(arguments | {"version": VERSION})
    if (out / "facades.json").exists() and (out / "facades.json").read_text() == made:
        return out
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DatasetError(f"facades: {out} is there and holds something else; choose another folder")
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        for folder in ("oxbuild_images", "gt_files_170407", "train_images"):
            (part / folder).mkdir(parents=True)
        _landmarks(part, world, buildings, views, side)
        for i in range(others):
            _photographs(part / "oxbuild_images", f"street{i:02d}", world, 1_000 + i, 2, side)
        for i in range(train):
            _photographs(part / "train_images", f"building{i:03d}", world, 2_000 + i, views, side)
        (part / "facades.json").write_text(made)
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(part, out)
        except OSError:
            if not (out / "facades.json").exists():  # else another process was first
                raise
    except OSError as error:
        raise DatasetError(f"facades: cannot make {out}: {error}; nothing was kept") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def read(
    root="data",
    *,
    world: int = 0,
    buildings: int = 20,
    train: int = 40,
    views: int = 10,
    others: int = 30,
    side: int = 144,
) -> Oxford5k:
    """Open a world, made on first use (some seconds) in a folder of its own under root/facades/; see `generate`."""
    arguments = {"world": world, "buildings": buildings, "train": train, "views": views, "others": others, "side": side}
    key = f"w{world}-{buildings}+{train}-v{views}-o{others}-s{side}-r{VERSION}"
    found = read_layout(generate(Path(os.path.expanduser(root)) / "facades" / key, **arguments))
    return Oxford5k("facades", found.root, arguments, *(getattr(found, name) for name in _FIELDS))


_FIELDS = ("train", "query", "gallery", "multi_query", "relevant", "junk")


def _landmarks(part: Path, world: int, buildings: int, views: int, side: int) -> None:
    """Photographs, queries and lists of all landmarks."""
    names = [NAMES[i] for i in stream(world, "names").permutation(len(NAMES))[:buildings]]
    for i, name in enumerate(sorted(names)):
        shown = _photographs(part / "oxbuild_images", name, world, i, views, side, glimpse=True)
        lists = {"good": [], "ok": [], "junk": []}
        for file, (seen, _) in shown.items():
            lists["good" if seen >= GOOD else "ok" if seen >= OK else "junk"].append(file)
        for q, file in enumerate(lists["good"][:3] or list(shown)[:1], 1):
            box = " ".join(f"{edge:.1f}" for edge in _part_of(shown[file][1], stream(world, "query", i, q)))
            (part / "gt_files_170407" / f"{name}_{q}_query.txt").write_text(f"oxc1_{file} {box}\n")
            for kind, listed in lists.items():
                (part / "gt_files_170407" / f"{name}_{q}_{kind}.txt").write_text("".join(f"{n}\n" for n in listed))


def _part_of(box, rng) -> tuple[float, float, float, float]:
    """A box that holds two thirds to all of the width and the height of another."""
    left, top, right, bottom = box
    width, height = (right - left) * rng.uniform(0.65, 1), (bottom - top) * rng.uniform(0.65, 1)
    x, y = rng.uniform(left, right - width), rng.uniform(top, bottom - height)
    return x, y, x + width, y + height


def _photographs(folder: Path, name: str, world: int, number: int, views: int, side: int, *, glimpse=False) -> dict:
    """Write a building's photographs; file name without ending -> (share of its front in sight, box of it)."""
    front = building(world, number)
    shown = {}
    for view in range(views + glimpse):
        rng = stream(world, "view", number, view)
        picture, seen, box = photograph(front, rng, side, view, glimpse and view == views)
        shown[f"{name}_{view:06d}"] = (seen, box)
        coded = io.BytesIO()
        picture.save(coded, "JPEG", quality=92, subsampling=0)
        (folder / f"{name}_{view:06d}.jpg").write_bytes(coded.getbuffer())
    return shown
