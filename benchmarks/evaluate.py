"""How fast and how small is reidkit.evaluation? Beside its own floor, beside peers, and checked by a plain loop.

    python benchmarks/evaluate.py [--size market] [--rounds 5] [--peers FOLDER]

From features to CMC, mAP and mINP, every measurement in a process of its own, in turns; the fastest round counts:

floor      the bare matrix product, queries x gallery, block by block, and one read of the result: no metric at all; in
           whole rows or in tiles, whichever is faster
evaluate   the same features to CMC, mAP and mINP
on_disk    the same, the gallery a memory map whose pages the system holds already

From a distance matrix that is there already, also in turns: one `read` of it, and `evaluate_distances`.

With --peers, a folder that holds checkouts of deep-person-reid and fast-reid, the same inputs go through their
evaluators as well, compiled (in `rank_cylib`, build first: python setup.py build_ext --inplace) and, on the first
queries, in Python: from features, the distances made by PyTorch as both do, and from a distance matrix. Beside the
time stands the difference between their numbers and ours, of CMC the largest up to rank 50.

loop       the protocol as a plain Python loop over the first queries, in float64: the definition

Memory is the process's peak above what it held once features or matrix were loaded.
"""

from __future__ import annotations

import itertools
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
WIDE_QUERIES = 421  # a peer's distances of all queries and 500,000 distractors take 20 GiB
PEER_ROUNDS = 5  # a peer's evaluator takes seconds
SHAPES = "rows", "tiles"
PEERS = {
    "fast-reid": "fast-reid/fastreid/evaluation/rank",
    "torchreid": "deep-person-reid/torchreid/metrics/rank",
}


def features(folder, size) -> None:
    make(Path(folder), **SIZES[size])


def floor(folder, shape) -> dict:
    """All scores made and read once, in whole rows of 64 MiB or in tiles: which is faster depends on the sizes."""
    query, gallery, *_ = load(folder)
    start()
    fit = (64 << 20) // (4 * len(gallery))
    rows, columns = (1024, 8192) if shape == "tiles" else (fit - fit % 64 or fit, len(gallery))
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


def first(queries, labels) -> list[np.ndarray]:
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    return [query_pids[:queries], gallery_pids, query_camids[:queries], gallery_camids]


def curves(found) -> dict:
    return {"mAP": found.mAP, "mINP": found.mINP, "cmc": found.cmc.tolist()}


def ours(folder, source, queries) -> dict:
    """This kit on the first queries, from features or from the distance matrix."""
    from reidkit import evaluation

    queries = int(queries)
    if source == "matrix":
        matrix, labels = distances(folder)
        return curves(evaluation.evaluate_distances(matrix[:queries], *first(queries, labels)))
    query, gallery, *labels = load(folder)
    start()
    return curves(evaluation.evaluate(query[:queries], gallery, *first(queries, labels)))


def theirs(folder, source, queries, peers, name, how) -> dict:
    """A peer's evaluator, `compiled` or `in Python`; features become distances as both peers make them, by PyTorch."""
    queries = int(queries)
    sys.path.insert(0, str(Path(peers, PEERS[name]).parent / "rank_cylib"))
    if how == "compiled":
        from rank_cy import evaluate_cy as judge
    else:
        judge = peer(peers, PEERS[name] + ".py").eval_market1501
    if source == "matrix":
        matrix, labels = distances(folder)
        matrix = matrix[:queries]
    else:
        import torch
        from torch.nn.functional import normalize

        torch.set_num_threads(1)
        query, gallery, *labels = load(folder)
        start()
        matrix = 1 - torch.mm(normalize(torch.from_numpy(query[:queries])), normalize(torch.from_numpy(gallery)).t())
        matrix = matrix.numpy()
    cmc, ap, *inp = judge(matrix, *first(queries, labels), 50)
    return {"mAP": float(np.mean(ap)), "cmc": np.asarray(cmc).tolist()} | ({"mINP": float(np.mean(inp))} if inp else {})


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


def beside_peers(here, peers: Path, folder: str, size: str, rounds: int) -> dict:
    """Peers and ours on the same inputs: seconds, how many times ours they take, memory, differences in the numbers."""
    rows = {}
    for source, name, how in itertools.product(("features", "matrix"), PEERS, ("compiled", "in Python")):
        built = any(Path(peers, PEERS[name]).parent.glob("rank_cylib/rank_cy*.so"))
        if not Path(peers, PEERS[name] + ".py").exists() or (how == "compiled" and not built):
            continue
        if size == "market+500k" and (source == "matrix" or how == "in Python"):
            continue
        part = PYTHON_QUERIES if how == "in Python" else WIDE_QUERIES if size == "market+500k" else None
        case = (folder, source, part or SIZES[size]["queries"])
        sides = {"ours": partial(here, "ours", *case), "peer": partial(here, "theirs", *case, peers, name, how)}
        taken = turns(sides, rounds)
        mine, their = (taken[side][0]["result"] for side in sides)
        rows.setdefault(f"from_{source}", {})[f"{name}, {how}" + (f", {part} queries" if part else "")] = {
            "rounds": rounds,
            "seconds": fastest(taken),
            "wall": wall(taken),
            "times_ours": ratios(taken, to="ours")["peer"],
            f"mib_above_{source}": memory(taken),
            "difference": {
                metric: float(np.abs(np.subtract(their[metric], mine[metric])).max()) for metric in sorted(their)
            },
        }
    return rows


def main() -> None:
    parser = options(__doc__, size=("market", ", ".join(SIZES)), rounds=(5, "of each"), peers=(None, "of checkouts"))
    args = parser.parse_args()
    if args.size not in SIZES:
        parser.error(f"--size {args.size}: choose from {', '.join(SIZES)}")
    if args.peers and args.size == "msmt17":
        parser.error("--peers: at --size msmt17 peers take minutes and more than 12 GiB; choose another size")
    if args.peers and not any(Path(args.peers, file + ".py").exists() for file in PEERS.values()):
        parser.error(f"--peers {args.peers}: holds none of {', '.join(PEERS.values())}")

    def here(name: str, *arguments) -> dict:
        return run(__file__, name, *arguments)

    with tempfile.TemporaryDirectory() as folder:
        here("features", folder, args.size)  # in a process of its own: a parent's memory would count as its children's
        sides = {shape: partial(here, "floor", folder, shape) for shape in SHAPES}
        sides |= {name: partial(here, name, folder) for name in ("evaluate", "on_disk")}
        taken = turns(sides, args.rounds)
        floors = fastest({shape: taken[shape] for shape in SHAPES})
        taken = {"floor": taken[min(floors, key=floors.get)]} | {name: taken[name] for name in ("evaluate", "on_disk")}
        result, from_disk = (taken[name][0]["result"] for name in ("evaluate", "on_disk"))
        report = {
            "what": "features to CMC, mAP and mINP on a CPU, against a bare matrix product and one read",
            **about(),
            "size": args.size,
            **SIZES[args.size],
            "rounds": args.rounds,
            "seconds": fastest(taken),
            "wall": wall(taken),
            "floors": floors,
            "ratio_to_floor": ratios(taken, to="floor"),
            "wall_ratio_to_floor": ratios(taken, to="floor", of="wall"),
            "mib_above_features": {name: memory(taken)[name] for name in ("floor", "evaluate")},
            "process_mib": round(max(one["process_mib"] for one in taken["evaluate"]), 1),
            "result": result,
            "on_disk": {
                "mib_above_queries": memory(taken)["on_disk"],
                "of_it": "mapped pages of the gallery, which the system may drop",
                "page_cache": "warm",
                "largest_difference": max(abs(from_disk[name] - result[name]) for name in result),
            },
        }
        if args.size in ("small", "half-market", "market"):
            report["largest_difference_to_plain_loop"] = here("loop", folder)["result"] | {"queries": LOOP_QUERIES}
            here("matrix", folder)
            given = turns({name: partial(here, name, folder) for name in ("read", "evaluate_distances")}, args.rounds)
            report["distance_matrix_given"] = {"seconds": fastest(given), "mib_above_matrix": memory(given)}
        if args.peers:
            report["peers"] = beside_peers(here, args.peers, folder, args.size, min(args.rounds, PEER_ROUNDS))
    write(args.out or default(f"evaluate_{args.size}", args.peers), report)


if __name__ == "__main__":
    child(globals())
    main()
