"""How fast and how small is reidkit.reranking? From features to mAP on re-ranked distances, beside floors and peers.

    python benchmarks/rerank.py [--size small|market|msmt17] [--rounds 2] [--peers FOLDER] [--no-floor]

floor   the full product of all images with all images, tile by tile, and one read; ours computes its upper triangle.
        At MSMT17's size it takes longer than all of ours: --no-floor leaves it out
ours    rerank_rows, its rows read by evaluate_distances as they are made; `announced` is what it says beforehand about
        the time until the first row
peer    with --peers, a folder that holds checkouts of person-re-ranking (the authors' own) or of deep-person-reid (its
        copy): the distances that they want, made by a matrix product, then their re_ranking; the metrics are not timed

Every measurement runs in a process of its own, in turns; the fastest round counts. `difference` is the largest between
two re-ranked distances, `places` how many of the 50 nearest differ, over all queries. Memory is the process's peak
above what it held once the features were loaded.
"""

from __future__ import annotations

import contextlib
import io
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
    said = io.StringIO()
    start()
    begin = time.perf_counter()
    with contextlib.redirect_stdout(said):
        rows = rerank_rows(query, gallery)
    search = time.perf_counter() - begin
    return evaluate_distances(rows, *labels).summary() | {
        "announced": said.getvalue().strip() or "nothing: it takes seconds",
        "wall_until_the_first_row": round(search, 2),
    }


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
    parser.add_argument("--no-floor", action="store_true", help="without the full product")
    args = parser.parse_args()
    if args.size not in SIZES:
        parser.error(f"--size {args.size}: choose from {', '.join(SIZES)}")
    if args.peers and not any(Path(args.peers, file).exists() for file in (ORIGINAL, COPY)):
        parser.error(f"--peers {args.peers}: holds neither {ORIGINAL} nor {COPY}")
    if args.peers and args.size in ("msmt17", "market+500k"):
        parser.error(f"--peers: at --size {args.size} the original needs more than 60 GiB; choose another size")

    def here(name: str, *arguments) -> dict:
        return run(__file__, name, *arguments)

    with tempfile.TemporaryDirectory() as folder:
        here("features", folder, args.size)  # in a process of its own: a parent's memory would count as its children's
        sides = {name: partial(here, name, folder) for name in ("floor", "ours")[args.no_floor :]}
        if args.peers:
            sides["original"] = partial(here, "original", folder, args.peers)
        taken = turns(sides, args.rounds)
        report = {
            "what": "features to mAP on k-reciprocal re-ranked distances (k1 20, k2 6, lambda 0.3) on a CPU",
            **about(),
            "size": args.size,
            **SIZES[args.size],
            "rounds": args.rounds,
            "seconds": fastest(taken),
            "wall": wall(taken),
            "ratio_to_floor": "floor left out" if args.no_floor else ratios(taken, to="floor"),
            "floor_is": "the full product; ours computes its upper triangle",
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
