"""Data sets of person re-identification behind one call: `load(name, root, **protocol)`."""

import difflib
import inspect
from importlib import import_module

import numpy as np
import pandas as pd

from .base import DatasetError, ReIDDataset, cache_dir

__all__ = ["NAMES", "DatasetError", "ReIDDataset", "cache_dir", "labels", "load", "load_seed"]

NAMES = ("plaza", "market1501", "dukemtmc", "msmt17", "cuhk03", "oxford5k", "folder")  # one module each


def load(name: str, root="data", **protocol) -> ReIDDataset:
    """Open a data set: `load("market1501", "data", distractors=100_000)`.

    name      one of NAMES
    root      the folder that holds data sets, or the data set's own folder; for "folder", your images' folder
    protocol  the keyword arguments of `read` in the module of that name (`reidkit.datasets.market1501.read`)

    Raises DatasetError for an unknown name or protocol argument, a missing or half-copied benchmark, file names
    that do not parse, and splits on which nothing could be learnt or measured.
    """
    if name not in NAMES:
        close = difflib.get_close_matches(_plain(str(name)), NAMES, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DatasetError(f"unknown data set {name!r}: {hint}The names are {', '.join(NAMES)}")
    read = import_module(f"{__name__}.{name}").read
    allowed = [p.name for p in inspect.signature(read).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = [key for key in protocol if key not in allowed]
    if unknown:
        choices = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
        raise DatasetError(f"{name!r} has no protocol argument {', '.join(map(repr, unknown))}: {choices}")
    return read(root, **protocol).check()


def load_seed(name: str, root, seed: int, *, gap: float = 1.0, **plaza) -> ReIDDataset:
    """The data set that one seed of a table is run on: Plaza's world of that number, or the data set itself.

    A claim about Plaza should rest on several worlds, so there a seed is a world and a training seed; a fixed data set
    is its own only world, and its seeds are training seeds. `gap` and the other arguments of `plaza.read` are Plaza's
    alone. A DatasetError where there is nothing to train on.
    """
    data = load(name, root, gap=gap, world=seed, **plaza) if name == "plaza" else load(name, root)
    if data.train.empty:
        raise DatasetError(f"{name} in {data.root} has no training images, so no model can be trained on it")
    return data


def labels(df: pd.DataFrame) -> np.ndarray:
    """Contiguous labels 0 … identities-1 of a split, (N,) int64, in the order of the sorted pids."""
    return np.unique(df["pid"].to_numpy(), return_inverse=True)[1].astype(np.int64)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
