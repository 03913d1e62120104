"""Samplers: which images meet in a batch.

A sampler is stateless: `epoch(e)` returns the batches of epoch e, a list of int64 arrays of row numbers, and the
same (labels, seed, e) always gives the same list. That is what lets a killed run resume, and every row of a table
see the same batches. `len()` is the number of batches in an epoch. Iterating yields the batches of the epoch chosen
with `set_epoch`, so that a sampler also serves as the `batch_sampler` of a torch DataLoader.

`group` is the number of consecutive rows of a batch that belong together (K images of an identity): several
processes share a batch in whole groups.
"""

from collections.abc import Iterator

import numpy as np

__all__ = ["PKSampler", "ShuffleSampler"]


class Sampler:
    """What every sampler shares: its seed, and the two ways to ask for an epoch."""

    group = 1

    def __init__(self, seed: int):
        if seed < 0:
            raise ValueError(f"seed is {seed}; a random stream is keyed by a whole number from 0 on")
        self.seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        raise NotImplementedError

    def epoch(self, e: int) -> list[np.ndarray]:
        raise NotImplementedError

    def set_epoch(self, e: int) -> None:
        self._epoch = e

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.epoch(self._epoch))


class PKSampler(Sampler):
    """Batches of P identities × K images each (Hermans et al. 2017, "In Defense of the Triplet Loss", section 2).

    - A batch holds `p` different identities, and `k` consecutive rows of each (`group` = k).
    - An epoch visits about as many images as there are: max(1, N // (p·k)) batches. (The other custom, every
      identity once an epoch, makes the length of an epoch depend on how many identities there are.)
    - Identities are visited evenly: in an epoch, the numbers of visits to two identities differ by at most one.
    - The images of an identity are dealt like cards: in an epoch, the numbers of times that two of them come differ
      by at most one, and none comes twice in one visit if the identity has k images or more.
    - An identity with fewer than k images fills its k places by repeating each equally often (±1). Real splits hold
      such identities (Market-1501 has people with two images), and the papers repeat them rather than lose them, so
      that is the default; `short="error"` refuses them instead, by name.

    Parameters
    ----------
    pids : (N,) integers from 0 on
        Identity of each row; need not be contiguous. Junk (-1) is refused, unless it is what `ignore` names.
    p, k : int
        Identities a batch, images an identity.
    seed : int
        Key of the random stream, together with the epoch.
    short : "repeat" or "error"
        What to do with an identity that has fewer than k images.
    ignore : int, optional
        A label whose rows are never drawn: -1 for what an association or a clustering left out.

    Raises
    ------
    ValueError
        Fewer than p identities; labels that are empty, negative or not integers; under `short="error"`, k larger
        than an identity's images (the message names the identities and their counts).
    """

    def __init__(
        self,
        pids,
        *,
        p: int = 16,
        k: int = 4,
        seed: int = 0,
        short: str = "repeat",
        ignore: int | None = None,
    ):
        super().__init__(seed)
        if p < 1 or k < 1:
            raise ValueError(f"p = {p} identities × k = {k} images: both must be at least 1")
        if short not in ("repeat", "error"):
            raise ValueError(f"short = {short!r}; expected 'repeat' or 'error'")
        self._rows = rows_by_identity(pids, ignore)
        if len(self._rows) < p:
            raise ValueError(
                f"p = {p} identities a batch, but there are only {len(self._rows)}: lower p, or load more identities"
            )
        few = {pid: len(rows) for pid, rows in self._rows.items() if len(rows) < k}
        if short == "error" and few:
            raise ValueError(
                f"k = {k} images an identity, but {len(few)} identities have fewer: {_some(few)}; "
                "lower k, drop these identities, or let their images repeat with short='repeat'"
            )
        self.p, self.k, self.group = p, k, k
        self._len = max(1, sum(map(len, self._rows.values())) // (p * k))

    def __len__(self) -> int:
        return self._len

    def epoch(self, e: int) -> list[np.ndarray]:
        """The batches of epoch e: a list of (p·k,) int64 row numbers, k consecutive ones per identity."""
        rng = np.random.default_rng([self.seed, e])
        who = deal(len(self._rows), self.p, self._len, rng)  # (batches, p) positions among the identities
        batches = np.empty((*who.shape, self.k), np.int64)  # (batches, p, k)
        for identity, rows in enumerate(self._rows.values()):
            visits = who == identity
            batches[visits] = rows[deal(len(rows), self.k, int(visits.sum()), rng)]
        return list(batches.reshape(self._len, -1))


class ShuffleSampler(Sampler):
    """The `n` rows in a random order, cut into batches of `batch_size`.

    What does not fill a last batch waits for another epoch: batch normalisation wants full batches.
    """

    def __init__(self, n: int, *, batch_size: int = 64, seed: int = 0):
        super().__init__(seed)
        if not 1 <= batch_size <= n:
            raise ValueError(f"batch_size = {batch_size}, but there are {n} images: choose from 1 to {n}")
        self.n, self.batch_size = n, batch_size

    def __len__(self) -> int:
        return self.n // self.batch_size

    def epoch(self, e: int) -> list[np.ndarray]:
        """The batches of epoch e: a list of (batch_size,) int64 row numbers."""
        order = np.random.default_rng([self.seed, e]).permutation(self.n)
        return list(order[: len(self) * self.batch_size].reshape(len(self), self.batch_size))


def rows_by_identity(pids, ignore: int | None = None) -> dict[int, np.ndarray]:
    """pid -> its rows, both ascending; rows labelled `ignore` are left out."""
    pids = np.asarray(pids)
    if pids.ndim != 1 or len(pids) == 0 or pids.dtype.kind not in "iu":
        raise ValueError(f"pids must be (N,) integers with N > 0, not {pids.dtype} of shape {pids.shape}")
    kept = np.arange(len(pids)) if ignore is None else np.flatnonzero(pids != ignore)
    if (pids[kept] < 0).any():
        raise ValueError(
            f"{(pids[kept] < 0).sum()} of {len(pids)} pids are negative (junk, or left out by a clustering): "
            "drop these rows, or pass ignore=-1 so that they are never drawn"
        )
    kept = kept[np.argsort(pids[kept], kind="stable")]
    values, starts = np.unique(pids[kept], return_index=True)
    return dict(zip(values.tolist(), np.split(kept, starts[1:]), strict=True)) if len(kept) else {}


def deal(n: int, size: int, hands: int, rng: np.random.Generator) -> np.ndarray:
    """Deal `hands` hands of `size` cards from a deck of n, shuffled anew when it runs out: (hands, size) int64 < n.

    Over all hands, the numbers of times that two cards are dealt differ by at most one; so they do within a hand,
    which therefore holds no card twice if size <= n.
    """
    whole, rest = divmod(size, n)
    dealt = np.empty((hands, size), np.int64)
    deck = np.empty(0, np.int64)
    for hand in dealt:
        if len(deck) < rest:
            # A fresh deck: what is left of the old one starts the hand, its twins wait until the hand is complete.
            others = rng.permutation(np.delete(np.arange(n), deck))
            first, later = np.split(others, [rest - len(deck)])
            deck = np.concatenate([deck, first, rng.permutation(np.concatenate([later, deck]))])
        hand[:rest], deck = deck[:rest], deck[rest:]
        hand[rest:] = np.tile(np.arange(n), whole)
    return dealt


def _some(counts: dict[int, int], most: int = 5) -> str:
    named = ", ".join(f"pid {pid} has {count}" for pid, count in list(counts.items())[:most])
    return named + (", …" if len(counts) > most else "")
