"""What a notebook leaves behind for tables, sweeps and the page of results: `save_results`, called by its last cell."""

import json
import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

SCHEMA = 1  # of results.json; goes up when a reader must care
PACKAGES = ("reidkit", "torch", "torchvision", "numpy", "pandas", "scipy", "scikit-learn", "accelerate")


def save_results(
    results_path: str | Path, rows: pd.DataFrame | list[dict], *, sections: dict | None = None, **extra
) -> dict:
    """Write a notebook's results as strict JSON, whole or not at all, and return them.

    results_path  where to; "" (the default of every notebook, opened by hand) writes nothing
    rows          one row a variant × seed: a DataFrame (a named index becomes columns) or a list of dicts
    sections      seconds by section of the notebook; left out, `python -m reidkit run` fills it in from the headings
    extra         anything else worth keeping, by name: verdicts, the dataset, a history

    NumPy and pandas values become JSON's own; NaN, NA and infinities become null. Raises TypeError that names the
    place of a value that JSON cannot hold, and ValueError for two rows of one variant and seed: whoever reads the
    results would average two experiments under one name.
    """
    if isinstance(rows, pd.DataFrame):
        named = rows.reset_index() if any(name is not None for name in rows.index.names) else rows
        rows = named.to_dict(orient="records")
    seen = Counter((row["variant"], row["seed"]) for row in rows if "variant" in row and "seed" in row)
    if twice := [f"{variant}, seed {seed}" for (variant, seed), times in seen.items() if times > 1]:
        raise ValueError(f"save_results: {len(twice)} rows stand there twice: {'; '.join(twice[:5])}; name them apart")
    if taken := {"schema", "rows", "sections", "environment", "run"} & set(extra):
        raise ValueError(f"save_results: {', '.join(sorted(taken))} is written by the kit; choose another name")
    results = {"schema": SCHEMA, "rows": rows, "sections": sections, **extra, "environment": environment()}
    results = strict(results)
    if str(results_path):
        write_json(results_path, results)
    return results


def environment() -> dict:
    """What a number depends on besides the code: versions, processor, threads, date. No host name, no path."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    machine = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    if torch := sys.modules.get("torch"):  # only what the notebook itself has loaded
        machine["threads"] = torch.get_num_threads()
        machine["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "versions": versions,
        "machine": machine,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def strict(value: object, where: str = "results") -> object:
    """`value` in JSON's own types. Raises TypeError naming the place of what JSON cannot hold."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic) or (hasattr(value, "item") and getattr(value, "ndim", None) == 0):
        return strict(value.item(), where)  # a NumPy number, or a tensor or array of no dimension
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_key(key, where): strict(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, pd.DataFrame):
        return strict(value.to_dict(orient="records"), where)
    if isinstance(value, np.ndarray | pd.Series | pd.Index) or hasattr(value, "detach"):
        return strict(value.tolist(), where)
    if isinstance(value, list | tuple):
        return [strict(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where} is {type(value).__name__}, which JSON cannot hold")


def _key(key: object, where: str) -> str:
    if isinstance(key, str | int | np.integer) and not isinstance(key, bool):
        return str(key)
    raise TypeError(f"{where} has the key {key!r}; keys are names or whole numbers")


def metrics_of(rows: pd.DataFrame, parameters: Mapping = MappingProxyType({})) -> tuple[list[str], list[str]]:
    """Which columns of a table of results say what a row is, and which are its numbers.

    A row is its `variant`, and where there is no such column all that is text in it, or a parameter of the notebook
    (`gap`, say). Seed, seconds and error are neither.
    """
    apart = ("seed", "seconds", "error")
    filled = [column for column in rows.columns if column not in apart and rows[column].notna().any()]
    numbers = [
        column
        for column in filled
        if column not in ("variant", *parameters)
        and pd.api.types.is_numeric_dtype(rows[column])
        and not pd.api.types.is_bool_dtype(rows[column])
    ]
    keys = ["variant"] if "variant" in rows else [column for column in filled if column not in numbers]
    return keys, numbers


def write_json(path: str | Path, value: object) -> None:
    """Strict JSON that appears whole or not at all."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """A text file that appears whole or not at all."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
