"""What every benchmark turns into, three tables of images, and the errors that say why one cannot be opened."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
JUNK, DISTRACTOR = -1, 0  # the two pids of Market-1501 that are no person


class DatasetError(ValueError):
    """A data set is missing, incomplete or of no use; the message says where, what, and what to do."""


def cache_dir() -> Path:
    """Where derived things live (decoded pixels, stand-in weights): $REIDKIT_CACHE, else ~/.cache/reidkit."""
    return Path(os.environ.get("REIDKIT_CACHE") or "~/.cache/reidkit").expanduser().absolute()


@dataclass(frozen=True, eq=False)
class ReIDDataset:
    """One benchmark under one protocol.

    Each split is a DataFrame with a RangeIndex, sorted by file name, and the columns
        path   str    absolute
        pid    int64  the data set's own number; -1 is junk, and 0 a distractor unless a query bears it
        camid  int64  0-based: the camera in the file name, less one
        seq, frame    where the names carry them
    `root` is the data set's own folder; `protocol` holds every choice that was made, said or by default.
    Treat the frames as read-only and work on a copy: `fingerprint` names what was read.
    """

    name: str
    root: Path
    protocol: dict
    train: pd.DataFrame
    query: pd.DataFrame
    gallery: pd.DataFrame
    multi_query: pd.DataFrame | None = None

    @property
    def splits(self) -> dict[str, pd.DataFrame]:
        """The splits by name, in the order of the papers' tables."""
        splits = {"train": self.train, "query": self.query, "gallery": self.gallery}
        return splits if self.multi_query is None else splits | {"multi_query": self.multi_query}

    def summary(self) -> pd.DataFrame:
        """The table that papers print: one row a split, with name and protocol in its upper left corner.

        Junk (pid -1) and distractors (pid 0 that no query bears) are among the images, but are no identities.
        """
        zero_is_a_person = (self.query["pid"] == DISTRACTOR).any()  # MSMT17 counts people from 0
        rows = {}
        for split, frame in self.splits.items():
            junk = frame["pid"] == JUNK
            distractor = (frame["pid"] == DISTRACTOR) & (split == "gallery" and not zero_is_a_person)
            rows[split] = {
                "identities": frame["pid"][~junk & ~distractor].nunique(),
                "cameras": frame["camid"].nunique(),
                "images": len(frame),
                "distractors": int(distractor.sum()),
                "junk": int(junk.sum()),
            }
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.columns.name = self._title if len(self._title) <= 40 else self.name  # Plaza's would fill the page
        return table

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of name, protocol, and every image's place, split, labels and size in bytes; of a bitmap, whose
        size says nothing, all bytes."""
        digest = hashlib.sha256(repr((self.name, sorted(self.protocol.items()))).encode())
        place = cache(lambda folder: os.path.relpath(folder, self.root).replace(os.sep, "/"))
        for split, frame in self.splits.items():
            for path, pid, camid in zip(frame["path"], frame["pid"], frame["camid"], strict=True):
                folder, name = os.path.split(path)
                row = f"{split} {place(folder)}/{name} {pid} {camid} {os.path.getsize(path)}\n"
                digest.update(row.encode("utf-8", "surrogateescape"))  # a name need not be UTF-8
                if name.lower().endswith(".bmp"):
                    digest.update(Path(path).read_bytes())
        return digest.hexdigest()[:16]

    def check(self) -> "ReIDDataset":
        """Return self; raise DatasetError where nothing could be learnt from, or measured on, the splits."""
        where = f"{self.name} in {self.root}"
        for split in ("query", "gallery"):
            if self.splits[split].empty:
                raise DatasetError(f"{where}: the {split} split has no images")
        if len(self.train) and self.train["pid"].nunique() < 2:
            raise DatasetError(
                f"{where}: all {len(self.train)} training images show one identity (pid "
                f"{self.train['pid'].iloc[0]}); training needs two or more, so check the file names"
            )
        seen = self.gallery[["pid", "camid"]].drop_duplicates()
        pairs = self.query.merge(seen, on="pid", suffixes=("", "_gallery"))
        if not (pairs["camid"] != pairs["camid_gallery"]).any():
            cameras = sorted({*(self.query["camid"] + 1), *(self.gallery["camid"] + 1)})
            raise DatasetError(
                f"{where}: no query's person is seen by another camera in the gallery, so nothing can be scored "
                "(a match in the query's own camera is junk by the protocol); cameras in the file names: "
                f"{', '.join(map(str, cameras))}"
            )
        return self

    @property
    def _title(self) -> str:
        choices = ", ".join(f"{key}={value}" for key, value in self.protocol.items())
        return f"{self.name} ({choices})" if choices else self.name

    def __repr__(self) -> str:
        rows = self.summary().iterrows()
        splits = ", ".join(f"{split} {row.images:,} images of {row.identities:,}" for split, row in rows)
        return f"<{self._title}: {splits}; {self.root}>"


def rgb(opened: Image.Image) -> Image.Image:
    """An image file, upright as its EXIF orientation says, as 8-bit RGB; of 16 bits of grey, as thermal and depth
    cameras have them, the upper 8. ValueError for 32 bits, whose range only their maker knows."""
    image = ImageOps.exif_transpose(opened)
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM")):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # `convert` would clip at 255
    elif opened.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {opened.mode}): save it with 8 or 16")
    return image.convert("RGB")


def images_in(folder: Path) -> list[str]:
    """Absolute paths of a folder's images, sorted by name; all else (Thumbs.db, ._x.jpg) is passed over."""
    folder = os.path.abspath(folder)
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    images = (name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."))
    return [os.path.join(folder, name) for name in sorted(images)]


def parse(paths: list[str], pattern: re.Pattern, expected: str) -> pd.DataFrame:
    """The split that file names spell, sorted by file name so that labels never depend on the file system.

    `pattern` must match a whole file name. Its groups `pid`, `camera` (from 1) and, if it has them, `seq` and
    `frame` become columns; one that some name leaves out is left out. Raises DatasetError with the names that
    do not match.
    """
    paths = sorted(paths, key=lambda path: (os.path.basename(path), path))
    matches = [pattern.fullmatch(os.path.basename(path)) for path in paths]
    most = np.iinfo(np.int64).max
    bad = [
        path
        for path, match in zip(paths, matches, strict=True)
        if not match or not 0 < int(match["camera"]) <= most or int(match["pid"]) > most
    ]
    if bad:
        refuse_names(os.path.dirname(bad[0]), [os.path.basename(p) for p in bad], len(paths), expected)
    columns = {
        "path": pd.Series(paths, dtype=str),
        "pid": np.array([int(match["pid"]) for match in matches], dtype=np.int64),
        "camid": np.array([int(match["camera"]) - 1 for match in matches], dtype=np.int64),
    }
    for extra in ("seq", "frame"):
        values = [match[extra] for match in matches] if extra in pattern.groupindex else [None]
        if None not in values:
            columns[extra] = [int(value) if value.isdigit() else value for value in values]
    return pd.DataFrame(columns)


def read_list(file: Path, section: str) -> str:
    """A benchmark's text file, UTF-8 with or without its mark. DatasetError names a file of another encoding."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{file} is no UTF-8 text: save it as such. {how_to_get(section)}") from None


def refuse_names(place, bad: list[str], total: int, expected: str) -> NoReturn:
    """Raise DatasetError for names that do not parse: where, how many, the first few, what was expected."""
    shown = ", ".join(map(repr, bad[:3])) + (", …" if len(bad) > 3 else "")
    raise DatasetError(f"{place}: {len(bad)} of {total} names do not parse: {shown}; expected {expected}")


def find_folder(root, names: tuple, markers: tuple, *, benchmark: str, section: str) -> Path:
    """A benchmark's folder: `root` itself or one of `names` in it, the first that holds any of `markers`."""
    root = Path(os.path.abspath(os.path.expanduser(root)))
    for folder in (root, *(root / name for name in names)):
        if any((folder / marker).exists() for marker in markers):
            return folder
    absent = "" if root.is_dir() else " (which does not exist)"
    raise DatasetError(
        f"{benchmark} is not in {root}{absent}: neither it nor {', '.join(names)} in it holds any of "
        f"{', '.join(markers)}. {how_to_get(section)}"
    )


def require(folder: Path, pieces: tuple, *, benchmark: str, section: str) -> None:
    """Raise DatasetError naming the `pieces` (files or folders) that a half-copied benchmark lacks."""
    missing = [piece for piece in pieces if not (folder / piece).exists()]
    if missing:
        raise DatasetError(
            f"{benchmark} in {folder} is incomplete: missing {', '.join(missing)}. {how_to_get(section)}"
        )


def check_counts(dataset: ReIDDataset, published: dict[str, int], *, benchmark: str, section: str) -> None:
    """Raise DatasetError where the counts are not the `published` ones, such as {"train images": 12_936}.

    A folder with less than half of the published images is taken for what it must be, a small stand-in of the
    same layout, and let through.
    """
    table = dataset.summary()
    found = {f"{split} {what}": int(table.loc[split, what]) for split in table.index for what in table}
    found["all images"] = len(set().union(*(frame["path"] for frame in dataset.splits.values())))
    images = [what for what in published if what.endswith("images")]
    if 2 * sum(found[what] for what in images) < sum(published[what] for what in images):
        return
    wrong = [f"{what} {found[what]:,}, not {n:,}" for what, n in published.items() if found[what] != n]
    if wrong:
        unchecked = f" load('folder', {str(dataset.root)!r}) opens it as it is."
        raise DatasetError(
            f"{benchmark} in {dataset.root} is not what was published ({'; '.join(wrong)}), so it would not give "
            f"the published scores; was it cut short? {how_to_get(section)}"
            + (unchecked if (dataset.root / "query").is_dir() else "")
        )


def how_to_get(section: str) -> str:
    """The end of an error message: where data/README.md tells how to get a benchmark."""
    return f"How to get it: data/README.md#{section}."
