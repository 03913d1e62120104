"""How fast and how small is reidkit.reranking? From features to mAP on re-ranked distances, beside floors and peers.

    python benchmarks/rerank.py [--size small|market|msmt17] [--rounds 2] [--peers FOLDER]

floor   the bare product of all images with all images, block by block, and one read: what a plain search costs at least
ours    rerank_rows, its rows read by evaluate_distances as they are made
peer    with --peers, a folder that holds checkouts of person-re-ranking (the authors' own) or of deep-person-reid (its
        copy): the distances that they want, made by a matrix product, then their re_ranking; the metrics are not timed

Every measurement runs in a process of its own, in turns; the fastest round counts. `difference` is the largest between
two re-ranked distances, `places` how many of the 50 nearest differ, over all queries. Memory is the process's peak
above what it held once the features were loaded.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from _common import (
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
    stop,
    turns,
    wall,
    write,
)

ORIGINAL = "person-re-ranking/python-version/re_ranking_ranklist.py"
COPY = "deep-person-reid/torchreid/utils/rerank.py"


def features(folder, size) -> None:
    make(Path(folder), **SIZES[size])


def floor(folder) -> dict:
    query, gallery, *_ = load(folder)
    start()
    block = np.empty(1024 * 8192, np.float32)
    for rows in (query, gallery):
        for a in range(0, len(rows), 1024):
            q = rows[a : a + 1024]
            for columns in (query, gallery):
                for c in range(0, len(columns), 8192):
                    g = columns[c : c + 8192]
                    np.matmul(q, g.T, out=block[: len(q) * len(g)].reshape(len(q), len(g))).max()
    return {}


def ours(folder) -> dict:
    from reidkit.evaluation import evaluate_distances
    from reidkit.reranking import rerank_rows

    query, gallery, *labels = load(folder)
    start()
    begin = time.perf_counter()
    rows = rerank_rows(query, gallery, progress=False)
    search = time.perf_counter() - begin
    return evaluate_distances(rows, *labels).summary() | {"seconds_until_the_first_row": round(search, 2)}


def before(folder) -> dict:
    from reidkit.evaluation import evaluate

    return evaluate(*load(folder)).summary()


def original(folder, peers) -> dict:
    module = peer(peers, ORIGINAL) or peer(peers, COPY)
    query, gallery, *_ = load(folder)
    start()

    def distances(x, y):  # not squared: re_ranking squares what it is given
        return np.sqrt(np.maximum(2 - 2 * x @ y.T, 0))

    found = module.re_ranking(distances(query, gallery), distances(query, query), distances(gallery, gallery))
    stop()
    np.save(Path(folder, "theirs.npy"), found)
    return {}


def difference(folder) -> dict:
    """Ours and theirs, where both gave a matrix."""
    from reidkit.evaluation import evaluate_distances
    from reidkit.reranking import rerank

    query, gallery, *labels = load(folder)
    a, b = rerank(query, gallery, progress=False), np.load(Path(folder, "theirs.npy"))
    near_a, near_b = (np.argpartition(x, 50, axis=1)[:, :50] for x in (a, b))
    places = sum(len(set(x) - set(y)) for x, y in zip(near_a.tolist(), near_b.tolist(), strict=True))
    mean = [evaluate_distances(x, *labels).mAP for x in (a, b)]
    return {
        "largest": float(np.abs(a - b).max()),
        "places": f"{places} of {near_a.size}",
        "mAP": abs(mean[0] - mean[1]),
    }


def main() -> None:
    parser = options(__doc__, size=("market", ", ".join(SIZES)), rounds=(2, "of each"), peers=(None, "checkouts"))
    args = parser.parse_args()
    if args.size not in SIZES:
        parser.error(f"--size {args.size}: choose from {', '.join(SIZES)}")

    def here(name: str, *arguments) -> dict:
        return run(__file__, name, *arguments)

    with tempfile.TemporaryDirectory() as folder:
        here("features", folder, args.size)  # in a process of its own: a parent's memory would count as its children's
        sides = {name: partial(here, name, folder) for name in ("floor", "ours")}
        if args.peers:
            sides["original"] = partial(here, "original", folder, args.peers)
        taken = turns(sides, args.rounds)
        report = {
            "what": "features to mAP on k-reciprocal re-ranked distances (k1 20, k2 6, lambda 0.3) on a CPU",
            **about(),
            "size": args.size,
            **SIZES[args.size],
            "seconds": fastest(taken),
            "wall": wall(taken),
            "ratio_to_floor": ratios(taken, to="floor"),
            "times_ours": ratios(taken, to="ours"),
            "mib_above_features": memory(taken),
            "process_mib": round(max(one["process_mib"] for one in taken["ours"]), 1),
            "before": here("before", folder)["result"],
            "result": taken["ours"][0]["result"],
        }
        if args.peers:
            report["difference_to_the_original"] = here("difference", folder)["result"]
    write(args.out or default(f"rerank_{args.size}", args.peers), report)


if __name__ == "__main__":
    child(globals())
    main()
