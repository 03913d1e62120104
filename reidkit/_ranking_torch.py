"""The three steps of :mod:`reidkit._ranking` on an accelerator: only labels and counts travel back.

The gallery is moved tile by tile, so it may be larger than the device's memory. Where a processor sorts the few
scores that matter, a GPU compares all of them with one match after another, which it does at the speed of its memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from reidkit import _ranking
from reidkit.progress import bar

BLOCK_BYTES = 1 << 30  # scores held on the device at a time
TILE_BYTES = 256 << 20  # features moved there at a time
SORT_BYTES = 256 << 20  # scores sorted at a time, which takes several times their memory


def blocks(query, gallery, keep: np.ndarray, metric: str, device) -> Iterator[tuple[int, torch.Tensor]]:
    """As :func:`reidkit._ranking.blocks`; the features are NumPy arrays, the scores (b, n) live on ``device``."""
    plan = _ranking.Plan.of(query, gallery, keep, metric)
    move = lambda x: torch.tensor(x, device=device)  # noqa: E731 - a copy: a read-only memory map is fine
    scale, shift, copies, originals = map(move, (plan.scale, plan.shift, plan.copies, plan.originals))
    step = plan.step(BLOCK_BYTES)
    for start in range(0, len(query), step):
        q = move(np.asarray(query[start : start + step], plan.dtype))  # (b, d)
        scores = torch.empty(len(q), len(keep), dtype=q.dtype, device=device)
        for a, b, tile in _ranking.tiles(gallery, keep, plan.dtype, TILE_BYTES):
            torch.mm(q, move(tile).T, out=scores[:, a:b])
        scores.mul_(scale).sub_(shift)
        scores[:, copies] = scores[:, originals]
        yield start, scores


def take_out(scores: torch.Tensor, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """As :func:`reidkit._ranking.take_out`."""
    rows, columns = (torch.tensor(x, device=scores.device) for x in (rows, columns))
    values = scores[rows, columns]
    scores[rows, columns] = -torch.inf
    return values.cpu().numpy()


def ahead(scores: torch.Tensor, rows: np.ndarray, values: np.ndarray, ties: str) -> np.ndarray:
    """As :func:`reidkit._ranking.ahead`: one comparison of the block per match, memory does not grow with matches."""
    if not len(rows):
        return np.empty(0, np.int64)
    before = torch.ge if ties == "pessimistic" else torch.gt
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)  # 0, 1, … within a query
    matches = torch.full((len(scores), place.max() + 1), torch.inf, dtype=scores.dtype)
    matches[rows, place] = torch.tensor(values)
    matches = matches.to(scores.device)  # (b, most matches of a query)
    counts = torch.stack([before(scores, m[:, None]).sum(1) for m in matches.T], 1)
    return counts.cpu().numpy()[rows, place]


def top(scores: torch.Tensor, k: int) -> np.ndarray:
    """As :func:`reidkit._ranking.top`; a stable sort, because ``topk`` promises nothing about equal scores."""
    best = []
    for part in scores.split(max(1, SORT_BYTES // (scores.itemsize * scores.shape[1]))):
        values, columns = part.sort(dim=1, descending=True, stable=True)  # (b, n)
        best.append(torch.where(values.isneginf(), -1, columns)[:, :k].cpu().numpy())
    best = np.concatenate(best)
    return np.pad(best, ((0, 0), (0, k - best.shape[1])), constant_values=-1)  # (b, k)


def search(images, k: int, device, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of every image, itself first, (N, k) int64, and the squared distance to its farthest, (N,).

    As `reidkit.reranking.search`: images are its `Images`; here a block of rows meets all images, tile by tile.
    """
    n, tile = len(images), TILE_BYTES // (images.dtype.itemsize * images.query.shape[1])
    step = max(1, SORT_BYTES // (images.dtype.itemsize * n))
    near, farthest = np.empty((n, k), np.int64), np.empty(n, images.dtype)
    move = lambda x: torch.tensor(x, device=device)  # noqa: E731
    square, scale = move(images.square), move(images.scale)
    with bar(n, "re-ranking", "image", show=progress) as shown:
        for a, b in images.spans(step):
            x = move(images.rows(a, b)) * (-2 * scale[a:b, None])  # (b - a, d)
            found = torch.empty(b - a, n, dtype=x.dtype, device=device)
            for c, d in images.spans(max(1, tile)):
                torch.mm(x, move(images.rows(c, d)).T, out=found[:, c:d])
            found.mul_(scale).add_(square).add_(square[a:b, None])  # (b - a, n)
            farthest[a:b] = found.amax(1).cpu().numpy()
            found[torch.arange(b - a), torch.arange(a, b)] = -torch.inf  # itself comes first
            near[a:b] = found.topk(k, dim=1, largest=False, sorted=True).indices.cpu().numpy()
            shown.update(b - a)
    return near, farthest
