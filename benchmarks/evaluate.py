"""How fast and how small is reidkit.evaluation.evaluate? It is compared with its own floor and checked by a plain loop.

    python benchmarks/evaluate.py [--size market|small] [--rounds 5] [--threads 1] [--out FILE.json]

floor     the bare matrix product, queries x gallery, block by block, and one read of the result: no metric at all
evaluate  the same features to CMC, mAP and mINP
loop      the protocol as a plain Python loop over the first queries, in float64: the definition

Floor and evaluate run in processes of their own, in turn, so that a busy machine slows both; the fastest round counts.
Memory is the process's peak above what it held once the features were loaded.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

SIZES = {
    "market": {"queries": 3368, "gallery": 15913, "ids": 751, "cameras": 6, "distractors": 2798, "dim": 2048},
    "small": {"queries": 1000, "gallery": 5000, "ids": 250, "cameras": 6, "distractors": 800, "dim": 2048},
}
LABELS = ("query_pids", "gallery_pids", "query_camids", "gallery_camids")
LOOP_QUERIES = 200


def make(folder: Path, *, queries, gallery, ids, cameras, distractors, dim, seed=0) -> None:
    """Seeded unit features clustered by person, shifted by camera; pid 0 = distractor, each its own cluster."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((ids + 1 + distractors, dim), dtype=np.float32)
    shifts = rng.standard_normal((cameras, dim), dtype=np.float32)
    for split, size, lonely in (("query", queries, 0), ("gallery", gallery, distractors)):
        pids = np.concatenate([np.zeros(lonely, int), 1 + np.arange(size - lonely) % ids])
        camids = rng.integers(0, cameras, size)
        clusters = np.concatenate([ids + 1 + np.arange(lonely), pids[lonely:]])
        features = rng.standard_normal((size, dim), dtype=np.float32)
        features *= rng.uniform(1, 3.5, (size, 1)).astype(np.float32)  # some images are harder than others
        features += centres[clusters] + 0.5 * shifts[camids]
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        for name, values in ((split, features), (f"{split}_pids", pids), (f"{split}_camids", camids)):
            np.save(folder / f"{name}.npy", values)


def floor(query, gallery, *labels) -> dict:
    from reidkit._ranking import BLOCK_BYTES

    step = BLOCK_BYTES // (4 * len(gallery))
    block = np.empty((step, len(gallery)), np.float32)
    for start in range(0, len(query), step):
        q = query[start : start + step]
        np.matmul(q, gallery.T, out=block[: len(q)]).max()
    return {}


def evaluate(query, gallery, *labels) -> dict:
    from reidkit.evaluation import evaluate

    return evaluate(query, gallery, *labels).summary()


def loop(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids) -> dict:
    """Largest difference per query, in AP (both definitions) and INP, between evaluate and the protocol as a loop."""
    from reidkit.evaluation import evaluate

    n = LOOP_QUERIES
    ours = {
        kind: evaluate(query[:n], gallery, query_pids[:n], gallery_pids, query_camids[:n], gallery_camids, ap=kind)
        for kind in ("step", "trapezoid")
    }
    wide = gallery.astype(np.float64)
    worst = {"ap": 0.0, "ap_trapezoid": 0.0, "inp": 0.0}
    for i in range(n):
        places, place, step, trapezoid = [], 0, 0.0, 0.0
        for j in np.argsort(-(wide @ query[i].astype(np.float64)), kind="stable"):
            same = gallery_pids[j] == query_pids[i]
            if gallery_pids[j] == -1 or (same and gallery_camids[j] == query_camids[i]):
                continue
            place += 1
            if same:
                before = len(places) / (place - 1) if place > 1 else 1.0
                places.append(place)
                step += len(places) / place
                trapezoid += (before + len(places) / place) / 2
        m = len(places)
        worst["ap"] = max(worst["ap"], abs(step / m - ours["step"].ap[i]))
        worst["ap_trapezoid"] = max(worst["ap_trapezoid"], abs(trapezoid / m - ours["trapezoid"].ap[i]))
        worst["inp"] = max(worst["inp"], abs(m / places[-1] - ours["step"].inp[i]))
    return worst


def child(name: str, folder: Path) -> dict:
    """One implementation in this process: its result, seconds, and MiB above the loaded features."""
    inputs = [np.load(folder / f"{part}.npy") for part in ("query", "gallery", *LABELS)]
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # noqa: E731 - KiB on Linux
    import reidkit.evaluation  # noqa: F401 - loading code is not the measurement

    before, start = peak(), time.perf_counter()
    result = globals()[name](*inputs)
    return {"result": result, "seconds": time.perf_counter() - start, "mib": peak() - before, "process_mib": peak()}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="market")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, folder = args.child[0], Path(args.child[1])
        print(json.dumps(make(folder, **SIZES[args.size]) if name == "make" else child(name, folder)))
        return

    threads = {f"{library}_NUM_THREADS": str(args.threads) for library in ("OMP", "OPENBLAS", "MKL")}

    def run(name: str, folder: str) -> dict:
        command = [sys.executable, __file__, "--size", args.size, "--child", name, folder]
        return json.loads(subprocess.run(command, env=os.environ | threads, check=True, stdout=subprocess.PIPE).stdout)

    with tempfile.TemporaryDirectory() as folder:
        run("make", folder)  # in a process of its own: a parent's memory would count as its children's
        rounds = [(run("floor", folder), run("evaluate", folder)) for _ in range(args.rounds)]
        difference = run("loop", folder)["result"]
    floors, ours = zip(*rounds, strict=True)
    fastest, middle = (
        {"floor": of([r["seconds"] for r in floors]), "evaluate": of([r["seconds"] for r in ours])}
        for of in (min, median)
    )
    report = {
        "what": "features to CMC, mAP and mINP on a CPU, against a bare matrix product and one read",
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "threads": args.threads,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "size": args.size,
        **SIZES[args.size],
        "seconds": {name: round(value, 3) for name, value in fastest.items()},
        "seconds_of_each_round": {
            "floor": [round(r["seconds"], 3) for r in floors],
            "evaluate": [round(r["seconds"], 3) for r in ours],
        },
        "ratio_to_floor": round(fastest["evaluate"] / fastest["floor"], 3),
        "ratio_of_medians": round(middle["evaluate"] / middle["floor"], 3),  # far from the other: the machine was busy
        "mib_above_features": {
            "floor": round(max(r["mib"] for r in floors), 1),
            "evaluate": round(max(r["mib"] for r in ours), 1),
        },
        "process_mib": round(max(r["process_mib"] for r in ours), 1),
        "largest_difference_to_plain_loop": difference | {"queries": LOOP_QUERIES},
        "result": ours[0]["result"],
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        partial = args.out.with_name(args.out.name + ".part")
        partial.write_text(text + "\n")
        os.replace(partial, args.out)


if __name__ == "__main__":
    main()
