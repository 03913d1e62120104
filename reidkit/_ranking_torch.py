"""The three steps of :mod:`reidkit._ranking` on an accelerator: only labels and counts travel back.

The gallery is moved tile by tile, so it may be larger than the device's memory. Where a processor sorts the few
distances that matter, a GPU compares all with one match after another, which it does at the speed of its memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from reidkit import _ranking
from reidkit.progress import bar

BLOCK_BYTES = 1 << 30  # distances held on the device at a time
TILE_BYTES = 256 << 20  # features moved there at a time
SORT_BYTES = 256 << 20  # distances sorted at a time, which takes several times their memory


def blocks(query, gallery, keep: np.ndarray, metric: str, device) -> Iterator[tuple[int, torch.Tensor]]:
    """As :func:`reidkit._ranking.blocks`; the features are NumPy arrays, the distances (b, n) live on ``device``."""
    plan = _ranking.Plan.of(query, gallery, keep, metric)
    move = lambda x: torch.tensor(x, device=device)  # noqa: E731 - a copy: a read-only memory map is fine
    weights, copies, originals = map(move, (plan.weights, plan.copies, plan.originals))
    step = plan.step(BLOCK_BYTES)
    for start in range(0, len(query), step):
        q = move(np.asarray(query[start : start + step], plan.dtype))  # (b, d)
        block = torch.empty(len(q), len(keep), dtype=q.dtype, device=device)  # (b, n)
        for a, b, tile in _ranking.tiles(gallery, keep, plan.dtype, TILE_BYTES):
            torch.mm(q, move(tile).T, out=block[:, a:b])
        block = block.mul_(weights) if plan.cosine else torch.sub(weights, block, out=block)
        block[:, copies] = block[:, originals]
        yield start, block


def pick(distances: torch.Tensor, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """As :func:`reidkit._ranking.pick`."""
    return distances[_at(distances, rows, columns)].cpu().numpy()


def take_out(distances: torch.Tensor, rows: np.ndarray, columns: np.ndarray) -> None:
    """As :func:`reidkit._ranking.take_out`."""
    distances[_at(distances, rows, columns)] = torch.inf


def _at(distances: torch.Tensor, *where: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(x, device=distances.device) for x in where)


def ahead(distances: torch.Tensor, rows: np.ndarray, values: np.ndarray, ties: str) -> np.ndarray:
    """As :func:`reidkit._ranking.ahead`: one comparison of the block per match, memory does not grow with matches."""
    if not len(rows):
        return np.empty(0, np.int64)
    before = torch.le if ties == "pessimistic" else torch.lt
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)  # 0, 1, … within a query
    matches = torch.full((len(distances), place.max() + 1), -torch.inf, dtype=distances.dtype)
    matches[rows, place] = torch.tensor(values)
    matches = matches.to(distances.device)  # (b, most matches of a query)
    counts = torch.stack([before(distances, m[:, None]).sum(1) for m in matches.T], 1)
    return counts.cpu().numpy()[rows, place]


def top(distances: torch.Tensor, k: int) -> np.ndarray:
    """As :func:`reidkit._ranking.top`; a stable sort, because ``topk`` promises nothing about equal distances."""
    best = []
    for part in distances.split(max(1, SORT_BYTES // (distances.itemsize * distances.shape[1]))):
        values, columns = part.sort(dim=1, stable=True)  # (b, n)
        best.append(torch.where(values.isposinf(), -1, columns)[:, :k].cpu().numpy())
    best = np.concatenate(best)
    return np.pad(best, ((0, 0), (0, k - best.shape[1])), constant_values=-1)  # (b, k)


def _nearest(found: torch.Tensor, k: int) -> torch.Tensor:
    """The k smallest of each row, smallest first, (b, k); equal ones by column, which ``topk`` does not promise."""
    farthest = found.topk(k, dim=1, largest=False).values.amax(1, keepdim=True)
    near = found <= farthest  # k of each row, or more where some are equal
    if near.sum() > 4 * k * len(found):  # nearly all are, in a collapsed model: their pairs would take more memory
        parts = found.split(max(1, len(found) // 16))
        return torch.cat([part.sort(dim=1, stable=True).indices[:, :k] for part in parts])
    rows, columns = near.nonzero(as_tuple=True)
    order = found[rows, columns].argsort(stable=True)
    order = order[rows[order].argsort(stable=True)]  # row by row, by distance, by column
    first = torch.searchsorted(rows, torch.arange(len(found), device=rows.device))  # where each row begins
    return columns[order][first[:, None] + torch.arange(k, device=rows.device)]


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
            near[a:b] = _nearest(found, k).cpu().numpy()
            shown.update(b - a)
    return near, farthest
