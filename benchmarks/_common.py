"""What the benchmark scripts share: features to measure on, one process a measurement, turns, and a file of results.

A measurement is a function of a script, run in a process of its own, so that its memory is its own: the script's
`main` calls `run(__file__, name, folder)`, the new process calls `child(globals())`, and that function's result comes
back with its seconds and its memory above the inputs. Seconds are the processor's, on one thread: a busy machine
stretches them least; `wall` are those of the clock.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
import types
from pathlib import Path
from statistics import median

import numpy as np

RESULTS = Path(__file__).parent / "results"
LABELS = ("query_pids", "gallery_pids", "query_camids", "gallery_camids")
SIZES = {
    "small": {"queries": 1000, "gallery": 5000, "ids": 250, "cameras": 6, "distractors": 800, "dim": 2048},
    "half-market": {"queries": 1684, "gallery": 7957, "ids": 376, "cameras": 6, "distractors": 1399, "dim": 2048},
    "market": {"queries": 3368, "gallery": 15913, "ids": 751, "cameras": 6, "distractors": 2798, "dim": 2048},
    "msmt17": {"queries": 11659, "gallery": 82161, "ids": 3060, "cameras": 15, "distractors": 0, "dim": 2048}
    | {"lost": 0.05},  # a person's last match of 27 is found as late as Market's last of 17
    "market+500k": {"queries": 3368, "gallery": 515913, "ids": 751, "cameras": 6, "distractors": 502798, "dim": 128}
    | {"noise": (0.5, 1.5), "lost": 0.0},  # few dimensions blur more: about as hard as real models find that gallery
}


def make(folder: Path, *, queries, gallery, ids, cameras, distractors, dim, noise=(1.0, 3.0), lost=0.1, seed=0) -> None:
    """Seeded unit features clustered by person, shifted by camera; pid 0 = distractor, each its own cluster.

    As hard as Market-1501 is for a good model: mAP 0.83, mINP 0.20, and the `lost` images stay lost when re-ranked.
    """
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((ids + 1, dim), dtype=np.float32)
    shifts = rng.standard_normal((cameras, dim), dtype=np.float32)
    for split, size, lonely in (("query", queries, 0), ("gallery", gallery, distractors)):
        pids = np.concatenate([np.zeros(lonely, int), 1 + np.arange(size - lonely) % ids])
        camids = rng.integers(0, cameras, size)
        features = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.float32, (size, dim))
        for a in range(0, size, 4096):
            b = min(a + 4096, size)
            rows = rng.standard_normal((b - a, dim), dtype=np.float32)
            blur = rng.uniform(*noise, (b - a, 1)) * np.where(rng.random((b - a, 1)) < lost, 3, 1)
            rows *= blur.astype(np.float32)  # some images are harder than others, and some show next to nobody
            stranger = pids[a:b] == 0
            rows[stranger] += rng.standard_normal((stranger.sum(), dim), dtype=np.float32)
            rows[~stranger] += centres[pids[a:b][~stranger]]
            rows += 0.5 * shifts[camids[a:b]]
            features[a:b] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for name, values in ((f"{split}_pids", pids), (f"{split}_camids", camids)):
            np.save(folder / f"{name}.npy", values)


def load(folder: Path) -> list[np.ndarray]:
    """query, gallery and their four label arrays."""
    return [np.load(Path(folder) / f"{part}.npy") for part in ("query", "gallery", *LABELS)]


# ---- measurements ------------------------------------------------------------------------------------------------


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def run(script: str, name: str, *arguments) -> dict:
    """Call the function `name` of the script in a new process: {"result", "seconds", "wall", "mib", "process_mib"}."""
    libraries = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, script, "--child", name, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | libraries, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{Path(script).name}: {name} ended with status {done.returncode} (-9: out of memory?)")
    return json.loads(done.stdout.splitlines()[-1])


def child(functions: dict) -> None:
    """In the new process: the measurement asked for, printed as JSON. Does nothing in a process that is no such child.

    A function calls `start()` once it has loaded its inputs, and may call `stop()` before it does something else.
    """
    if sys.argv[1:2] != ["--child"]:
        return
    name, *arguments = sys.argv[2:]
    start()
    result = functions[name](*arguments)
    stop()
    begin, end = _clock["begin"], _clock["end"]
    report = {key: end[key] - begin[key] for key in ("seconds", "wall", "mib")}
    print(json.dumps({"result": result, **report, "process_mib": end["mib"]}))
    sys.exit()


_clock: dict[str, dict] = {}


def _now() -> dict[str, float]:
    return {"seconds": time.process_time(), "wall": time.perf_counter(), "mib": peak_mib()}


def start() -> None:
    """From here on time and memory count."""
    _clock["begin"] = _now()


def stop() -> None:
    """From here on they no longer do."""
    _clock.setdefault("end", _now())


def turns(functions: dict, rounds: int) -> dict[str, list[dict]]:
    """Each function's measurements; the functions take turns, so that a busy machine slows all of them alike."""
    taken = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            taken[name].append(function())
    return taken


def fastest(taken: dict[str, list[dict]]) -> dict[str, float]:
    return {name: round(min(one["seconds"] for one in rounds), 4) for name, rounds in taken.items()}


def ratios(taken: dict[str, list[dict]], to: str, of: str = "seconds") -> dict[str, float]:
    """Time over that of `to`: of the fastest rounds and, far from it where the machine was busy, of the medians."""
    middle = {name: median(one[of] for one in rounds) for name, rounds in taken.items()}
    best = {name: min(one[of] for one in rounds) for name, rounds in taken.items()}
    return {
        name: {"fastest": round(best[name] / best[to], 3), "median": round(middle[name] / middle[to], 3)}
        for name in taken
        if name != to
    }


def wall(taken: dict[str, list[dict]]) -> dict[str, float]:
    return {name: round(min(one["wall"] for one in rounds), 4) for name, rounds in taken.items()}


def memory(taken: dict[str, list[dict]]) -> dict[str, float]:
    return {name: round(max(one["mib"] for one in rounds), 1) for name, rounds in taken.items()}


# ---- peers -------------------------------------------------------------------------------------------------------


def peer(folder: Path | None, path: str):
    """A file of a peer's checkout below `folder` as a module, or None where it is not there.

    Its folder serves as its package, so that relative imports work and the packages above it are never imported.
    """
    file = Path(folder or "/nonexistent", path)
    if not file.exists():
        return None
    package = types.ModuleType("peer_" + hashlib.sha1(str(file.parent).encode()).hexdigest())
    package.__path__ = [str(file.parent)]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.{file.stem}")


# ---- results -----------------------------------------------------------------------------------------------------


def options(doc: str, **others) -> argparse.ArgumentParser:
    """A parser with --out, and an option (default, explanation) for each of `others`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the file of results (JSON); by default one in benchmarks/results/")
    for name, (default, text) in others.items():
        parser.add_argument(f"--{name}", type=Path if default is None else type(default), default=default, help=text)
    return parser


def default(name: str, peers: Path | None) -> Path:
    """Where results go: beside each other with and without peers, so that a run without them loses nothing."""
    return RESULTS / f"{name}{'_peers' if peers else ''}.json"


def load_average() -> float:
    """Processes that wanted a core in the last minute; above the number of cores times are long."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else float("nan")


LOAD_AT_THE_BEGINNING = load_average()
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "neon", "sve")  # what tells processors of one name apart


def about() -> dict:
    """The machine and the day."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "vectors": flags(),
        "cores": os.cpu_count(),
        "load": {"begin": LOAD_AT_THE_BEGINNING},  # `write` adds the end's
        "threads": 1,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
    }


def flags() -> list[str]:
    info = Path("/proc/cpuinfo")
    have = set(info.read_text().split()) if info.exists() else set()
    return [flag for flag in FLAGS if flag in have]


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write(path: Path, report: dict) -> None:
    """The report on the screen and, whole or not at all, in its file."""
    report["load"]["end"] = load_average()
    text = json.dumps(report, indent=2)
    print(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(text + "\n")
    os.replace(partial, path)
