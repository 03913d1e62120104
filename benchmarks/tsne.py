"""How long t-SNE takes: reidkit.embedding.tsne beside scikit-learn, with the same PCA before it and without.

    python benchmarks/tsne.py [--images 3000] [--rounds 1] [--whole]

Clustered features (N, 2048) with a falling spectrum; 19,281 are the queries and gallery of Market-1501. Both take the
same number of iterations. --whole lets both take all 2048 dimensions too (at 19,281 images some minutes). `kept` says
what the pictures are worth: of each image's 10 nearest in all dimensions, the share that is among its 10 nearest in
the plane, over 1,000 images.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from _common import RESULTS, about, child, fastest, memory, options, ratios, run, start, stop, turns, wall, write

DIM = 2048
WATCHED = 1000
ITERATIONS = 750  # openTSNE's 250 of early exaggeration and 500 more; scikit-learn's own default is 1000


def features(folder, images) -> None:
    """Unit features, 26 images a person; the variance of dimension j falls as j^-1.5, so that PCA keeps most of it."""
    rng = np.random.default_rng(0)
    n = int(images)
    fall = np.arange(1, DIM + 1, dtype=np.float32) ** -0.75
    people = rng.standard_normal((max(2, n // 26), DIM), dtype=np.float32)
    points = rng.standard_normal((n, DIM), dtype=np.float32)
    points += people[np.arange(n) % len(people)]
    points *= fall
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    np.save(Path(folder, "points.npy"), points)


def load(folder) -> np.ndarray:
    return np.load(Path(folder, "points.npy"))


def kept(points, plane) -> dict:
    """The share of near neighbours that the picture keeps."""
    from sklearn.neighbors import NearestNeighbors

    watched = np.random.default_rng(0).choice(len(points), min(WATCHED, len(points)), replace=False)
    near = [NearestNeighbors(n_neighbors=11).fit(x).kneighbors(x[watched])[1] for x in (points, plane)]
    shared = [len(set(a) & set(b)) - (i in set(a) & set(b)) for i, a, b in zip(watched, *near, strict=True)]
    return {"kept": round(float(np.mean(shared)) / 10, 3)}


def ours(folder, components="50") -> dict:
    from reidkit.embedding import tsne

    with suppress(ImportError):
        import openTSNE  # noqa: F401 - so that its memory is not the measurement's

    points = load(folder)
    start()
    plane = tsne(points, components=int(components) if components else None)
    stop()
    return kept(points, plane)


def ours_whole(folder) -> dict:
    return ours(folder, components="")


def sklearn(folder, components="50") -> dict:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    points = load(folder)
    start()
    reduced = PCA(int(components), random_state=0).fit_transform(points) if components else points
    plane = TSNE(perplexity=30, init="pca", max_iter=ITERATIONS, random_state=0, n_jobs=1).fit_transform(reduced)
    stop()
    return kept(points, plane)


def sklearn_whole(folder) -> dict:
    return sklearn(folder, components="")


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    parser = options(__doc__, images=(3000, "points"), rounds=(1, "of each"))
    parser.add_argument("--whole", action="store_true", help="both on all dimensions too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(__file__, "features", folder, args.images)
        names = ["ours", "sklearn", *(["ours_whole", "sklearn_whole"] if args.whole else [])]
        taken = turns({name: partial(run, __file__, name, folder) for name in names}, args.rounds)
    report = {
        "what": "t-SNE to the plane on a CPU; ours and sklearn after PCA to 50 dimensions",
        **about(),
        "openTSNE": installed("openTSNE"),
        "scikit-learn": installed("scikit-learn"),
        "images": args.images,
        "dim": DIM,
        "iterations": ITERATIONS,
        "rounds": args.rounds,
        "seconds": fastest(taken),
        "wall": wall(taken),
        "times_ours": ratios(taken, to="ours"),
        "mib_above_features": memory(taken),
        "kept": {name: rounds[0]["result"]["kept"] for name, rounds in taken.items()},
    }
    write(args.out or RESULTS / f"tsne_{args.images}.json", report)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    child(globals())
    main()
