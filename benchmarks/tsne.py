"""How long t-SNE takes: reidkit.embedding.tsne beside scikit-learn, with the same PCA before it and without.

    python benchmarks/tsne.py [--images 3000] [--rounds 1] [--whole]

Clustered features (N, 2048); 19,281 are the queries and gallery of Market-1501. --whole lets scikit-learn take all
2048 dimensions too (at 19,281 images some minutes). `kept` says what the pictures are worth: of each image's 10 nearest
in all dimensions, the share that is among its 10 nearest in the plane, over 1,000 images.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from _common import RESULTS, about, child, fastest, make, memory, options, ratios, run, start, stop, turns, wall, write

WATCHED = 1000


def features(folder, images) -> None:
    n = int(images)
    ids = max(2, n // 26)
    make(Path(folder), queries=n // 6, gallery=n - n // 6, ids=ids, cameras=6, distractors=n // 7, dim=2048)


def load(folder) -> np.ndarray:
    return np.concatenate([np.load(Path(folder, f"{part}.npy")) for part in ("query", "gallery")])


def kept(points, plane) -> dict:
    """The share of near neighbours that the picture keeps."""
    from sklearn.neighbors import NearestNeighbors

    watched = np.random.default_rng(0).choice(len(points), min(WATCHED, len(points)), replace=False)
    near = [NearestNeighbors(n_neighbors=11).fit(x).kneighbors(x[watched])[1] for x in (points, plane)]
    shared = [len(set(a) & set(b)) - (i in set(a) & set(b)) for i, a, b in zip(watched, *near, strict=True)]
    return {"kept": round(float(np.mean(shared)) / 10, 3)}


def ours(folder) -> dict:
    from reidkit.embedding import tsne

    points = load(folder)
    start()
    plane = tsne(points)
    stop()
    return kept(points, plane)


def sklearn(folder, components="50") -> dict:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    points = load(folder)
    start()
    reduced = PCA(int(components), random_state=0).fit_transform(points) if components else points
    plane = TSNE(perplexity=30, init="pca", random_state=0, n_jobs=1).fit_transform(reduced)
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
    parser.add_argument("--whole", action="store_true", help="scikit-learn on all dimensions too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(__file__, "features", folder, args.images)
        names = ["ours", "sklearn", *(["sklearn_whole"] if args.whole else [])]
        taken = turns({name: partial(run, __file__, name, folder) for name in names}, args.rounds)
    report = {
        "what": "t-SNE to the plane on a CPU; ours and sklearn after PCA to 50 dimensions",
        **about(),
        "openTSNE": installed("openTSNE"),
        "scikit-learn": installed("scikit-learn"),
        "images": args.images,
        "dim": 2048,
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
