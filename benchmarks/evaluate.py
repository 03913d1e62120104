"""How fast and how small is reidkit.evaluation? Beside its own floor, beside peers, and checked by a plain loop.

    python benchmarks/evaluate.py [--size small|market|msmt17|market+500k] [--rounds 5] [--peers FOLDER]

From features to CMC, mAP and mINP, every measurement in a process of its own, in turns; the fastest round counts:

floor      the bare matrix product, queries x gallery, block by block, and one read of the result: no metric at all
evaluate   the same features to CMC, mAP and mINP
on_disk    the same, the gallery a memory map

From a distance matrix that is there already, also in turns: one `read` of it, and `evaluate_distances`.

With --peers, a folder that holds checkouts of deep-person-reid and fast-reid, the same inputs go through their
evaluators as well, compiled (in `rank_cylib`, build first: python setup.py build_ext --inplace) and, on the first
queries, in Python; beside the time stands the difference between their numbers and ours.

loop       the protocol as a plain Python loop over the first queries, in float64: the definition

Memory is the process's peak above what it held once features or matrix were loaded.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from _common import (
    LABELS,
    SIZES,
    about,
    child,
    default,
    fastest,
    load,
    make,
    memory,
    options,
    peer,
    ratios,
    run,
    start,
    turns,
    wall,
    write,
)

LOOP_QUERIES = 200
PYTHON_QUERIES = 336  # a peer's Python loop takes a minute for all of Market-1501's
FULL_ROWS = 50_000  # galleries up to this size meet a block of queries in one product
PEERS = {
    "fast-reid": "fast-reid/fastreid/evaluation/rank",
    "torchreid": "deep-person-reid/torchreid/metrics/rank",
}


def features(folder, size) -> None:
    make(Path(folder), **SIZES[size])


def floor(folder) -> dict:
    """The fastest way that we know to make all scores and read them once."""
    query, gallery, *_ = load(folder)
    start()
    rows, columns = (1024, 8192) if len(gallery) > FULL_ROWS else ((64 << 20) // (4 * len(gallery)), len(gallery))
    block = np.empty(rows * columns, np.float32)
    for a in range(0, len(query), rows):
        q = query[a : a + rows]
        for c in range(0, len(gallery), columns):
            g = gallery[c : c + columns]
            np.matmul(q, g.T, out=block[: len(q) * len(g)].reshape(len(q), len(g))).max()
    return {}


def evaluate(folder) -> dict:
    from reidkit.evaluation import evaluate

    inputs = load(folder)
    start()
    return evaluate(*inputs).summary()


def on_disk(folder) -> dict:
    from reidkit.evaluation import evaluate

    query, *labels = (np.load(Path(folder, f"{part}.npy")) for part in ("query", *LABELS))
    start()
    return evaluate(query, np.load(Path(folder, "gallery.npy"), mmap_mode="r"), *labels).summary()


def matrix(folder) -> None:
    query, gallery, *_ = load(folder)
    np.save(Path(folder, "distances.npy"), 1 - query @ gallery.T)


def distances(folder) -> tuple[np.ndarray, list[np.ndarray]]:
    """The matrix and the labels; from then on time and memory count."""
    found = np.load(Path(folder, "distances.npy")), [np.load(Path(folder, f"{part}.npy")) for part in LABELS]
    start()
    return found


def read(folder) -> dict:
    matrix, _ = distances(folder)
    matrix.max()
    return {}


def evaluate_distances(folder) -> dict:
    from reidkit.evaluation import evaluate_distances

    matrix, labels = distances(folder)
    return evaluate_distances(matrix, *labels).summary()


def peer_on(folder, peers, name, python="", queries=None) -> dict:
    """A peer's evaluator on a distance matrix; `python` makes it use its Python."""
    matrix, labels = distances(folder)
    labels = labels[0][:queries], labels[1], labels[2][:queries], labels[3]
    sys.path.insert(0, str(Path(peers, PEERS[name]).parent / "rank_cylib"))
    if python:
        module = peer(peers, PEERS[name] + ".py")
        start()
        cmc, ap, *_ = module.eval_market1501(matrix[:queries], *labels, 50)
    else:
        import rank_cy

        start()
        cmc, ap, *_ = rank_cy.evaluate_cy(matrix, *labels, 50, False)
    return {"mAP": float(np.mean(ap)), "rank1": float(cmc[0])}


def compiled(folder, peers, name) -> dict:
    return peer_on(folder, peers, name)


def in_python(folder, peers, name) -> dict:
    return peer_on(folder, peers, name, python="python", queries=PYTHON_QUERIES)


def first_queries(folder) -> dict:
    """Ours, on the queries that a peer's Python gets."""
    from reidkit.evaluation import evaluate_distances

    matrix, labels = distances(folder)
    n = PYTHON_QUERIES
    return evaluate_distances(matrix[:n], labels[0][:n], labels[1], labels[2][:n], labels[3]).summary()


def loop(folder) -> dict:
    """Largest difference per query, in AP (both definitions) and INP, between evaluate and the protocol as a loop."""
    from reidkit.evaluation import evaluate

    query, gallery, query_pids, gallery_pids, query_camids, gallery_camids = load(folder)
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


def beside_peers(here, peers: Path, folder: str, rounds: int) -> dict:
    """Peers and ours on one distance matrix: seconds, how many times ours they take, memory, difference in mAP."""
    rows = {}
    for name in PEERS:
        for how, ours in (("compiled", "evaluate_distances"), ("in_python", "first_queries")):
            if how == "compiled" and not any(Path(peers, PEERS[name]).parent.glob("rank_cylib/*.so")):
                continue
            taken = turns(
                {"ours": partial(here, ours, folder), "peer": partial(here, how, folder, peers, name)},
                rounds if how == "compiled" else 1,
            )
            numbers = {side: taken[side][0]["result"] for side in taken}
            rows[f"{name}, {how.replace('_', ' ')}"] = {
                "queries": "all" if how == "compiled" else PYTHON_QUERIES,
                "seconds": fastest(taken),
                "wall": wall(taken),
                "times_ours": ratios(taken, to="ours")["peer"],
                "mib_above_matrix": memory(taken),
                "difference": {
                    metric: abs(numbers["peer"][metric] - numbers["ours"][metric]) for metric in ("mAP", "rank1")
                },
            }
    return rows


def main() -> None:
    parser = options(__doc__, size=("market", ", ".join(SIZES)), rounds=(5, "of each"), peers=(None, "of checkouts"))
    args = parser.parse_args()
    if args.size not in SIZES:
        parser.error(f"--size {args.size}: choose from {', '.join(SIZES)}")

    def here(name: str, *arguments) -> dict:
        return run(__file__, name, *arguments)

    with tempfile.TemporaryDirectory() as folder:
        here("features", folder, args.size)  # in a process of its own: a parent's memory would count as its children's
        taken = turns({name: partial(here, name, folder) for name in ("floor", "evaluate", "on_disk")}, args.rounds)
        report = {
            "what": "features to CMC, mAP and mINP on a CPU, against a bare matrix product and one read",
            **about(),
            "size": args.size,
            **SIZES[args.size],
            "seconds": fastest(taken),
            "wall": wall(taken),
            "ratio_to_floor": ratios(taken, to="floor"),
            "mib_above_features": {name: memory(taken)[name] for name in ("floor", "evaluate")},
            "process_mib": round(max(one["process_mib"] for one in taken["evaluate"]), 1),
            "result": taken["evaluate"][0]["result"],
        }
        if args.size in ("small", "market"):
            report["largest_difference_to_plain_loop"] = here("loop", folder)["result"] | {"queries": LOOP_QUERIES}
            here("matrix", folder)
            given = turns({name: partial(here, name, folder) for name in ("read", "evaluate_distances")}, args.rounds)
            report["distance_matrix_given"] = {
                "seconds": fastest(given),
                "mib_above_matrix": memory(given),
                "peers": beside_peers(here, args.peers, folder, args.rounds) if args.peers else "not given",
            }
    write(args.out or default(f"evaluate_{args.size}", args.peers), report)


if __name__ == "__main__":
    child(globals())
    main()
