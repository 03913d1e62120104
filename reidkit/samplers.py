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

__all__ = ["CameraQuadrupletSampler", "PKSampler", "PairSampler", "ShuffleSampler"]


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


class CameraQuadrupletSampler(Sampler):
    """Batches of P quadruplets {A1, A2, B1, B2}: one identity, two cameras, two images of each (DCAML, eq. 8).

    - A batch holds `p` different identities; four consecutive rows are one quadruplet (`group` = 4), A1 A2 B1 B2.
    - Identities are visited evenly: in an epoch, the numbers of visits to two of them differ by at most one.
    - The two images of a camera differ wherever the camera has two of the person.

    The paper leaves open what real splits bring up:

    short       an identity seen by two cameras or more, but not by two with two images each. "prefer": cameras with two
                images go first, the others fill up, and their one image stands twice (a positive pair at distance 0).
                "repeat": any two cameras, one image stands twice where it must. "drop": the identity is never drawn,
                and cameras with one image neither.
    one_camera  an identity seen by one camera only. "keep": four of its images, A1 A2 A3 A4, repeated where it has
                fewer; no cross-camera pair, so only the identification loss sees them. "drop": never drawn.
    cameras     which two, where there are more. "uniform": any two, equally likely; "images": each camera in proportion
                to its images.
    length      of an epoch. "images": about as many images as there are, max(1, N // 4p) batches, as in `PKSampler`;
                "identities": every identity once, max(1, M // p) batches.

    pids, camids : (N,) integers, the label and the camera of each row. seed : key of the random stream, with the epoch.

    Raises ValueError where no identity is seen by two cameras, or fewer than p are left; for lengths that differ,
    labels that are empty, negative or not integers, and unknown words.
    """

    group = 4

    def __init__(
        self,
        pids,
        camids,
        *,
        p: int = 8,
        seed: int = 0,
        short: str = "prefer",
        one_camera: str = "keep",
        cameras: str = "uniform",
        length: str = "images",
    ):
        super().__init__(seed)
        for name, value, known in (
            ("short", short, ("prefer", "repeat", "drop")),
            ("one_camera", one_camera, ("keep", "drop")),
            ("cameras", cameras, ("uniform", "images")),
            ("length", length, ("images", "identities")),
        ):
            if value not in known:
                raise ValueError(f"{name} = {value!r}; expected {' or '.join(map(repr, known))}")
        if p < 1:
            raise ValueError(f"p = {p} identities a batch: there must be at least 1")
        pids, camids = np.asarray(pids), np.asarray(camids)
        if pids.shape != camids.shape or camids.dtype.kind not in "iu":
            raise ValueError(f"{len(pids)} pids, but camids are {camids.dtype} {camids.shape}: one whole number each")
        seen = {pid: _by_camera(rows, camids) for pid, rows in rows_by_identity(pids).items()}  # pid -> rows a camera
        if max(map(len, seen.values())) < 2:
            raise ValueError(
                f"no identity is seen by two cameras ({len(np.unique(camids))} in all): a camera quadruplet needs two. "
                "Use PKSampler here, or data where people pass several cameras"
            )
        several = {pid: rows for pid, rows in seen.items() if len(rows) > 1}
        if short == "drop":  # cameras with one image go, and with them who is then left with fewer than two
            several = {pid: [of for of in rows if len(of) > 1] for pid, rows in several.items()}
            several = {pid: rows for pid, rows in several.items() if len(rows) > 1}
        alone = {pid: rows for pid, rows in seen.items() if len(rows) == 1 and one_camera == "keep"}
        seen = several | alone
        if len(seen) < p:
            raise ValueError(
                f"p = {p} identities a batch, but only {len(seen)} can be drawn with short={short!r}, "
                f"one_camera={one_camera!r}: lower p, or let images repeat"
            )
        self._seen, self.p, self.short, self.cameras = list(seen.values()), p, short, cameras
        images = sum(len(of) for rows in self._seen for of in rows)
        self._len = max(1, images // (4 * p) if length == "images" else len(seen) // p)

    def __len__(self) -> int:
        return self._len

    def epoch(self, e: int) -> list[np.ndarray]:
        """The batches of epoch e: a list of (4p,) int64 row numbers, quadruplet after quadruplet."""
        rng = np.random.default_rng([self.seed, e])
        who = deal(len(self._seen), self.p, self._len, rng)  # (batches, p) positions among the identities
        return [np.concatenate([self._quadruplet(self._seen[i], rng) for i in batch]) for batch in who]

    def _quadruplet(self, rows: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """A1 A2 B1 B2 of one identity; rows: its rows, camera by camera."""
        if len(rows) == 1:
            return rows[0][deal(len(rows[0]), 4, 1, rng)[0]]
        size = np.array([len(of) for of in rows])
        odds = size / size.sum() if self.cameras == "images" else np.full(len(rows), 1 / len(rows))
        order = rng.choice(len(rows), len(rows), replace=False, p=odds)  # the cameras as drawn, one after the other
        if self.short == "prefer":
            order = order[np.argsort(size[order] < 2, kind="stable")]
        return np.concatenate([rows[c][deal(len(rows[c]), 2, 1, rng)[0]] for c in order[:2]])


def _by_camera(rows: np.ndarray, camids: np.ndarray) -> list[np.ndarray]:
    """One identity's rows, split by camera."""
    return [rows[camids[rows] == camid] for camid in np.unique(camids[rows])]


class PairSampler(Sampler):
    """Batches of pairs for a siamese network, ever more of them negative (Zheng, Zheng and Yang, TOMM 2018, III-F).

    - A batch holds `pairs` pairs; rows 2i and 2i + 1 are one pair (`group` = 2). The first of them show one person
      twice, the others two people: whole pairs, so that 1 : 4 comes out as 6 : 26 of 32, and one is positive at least.
    - The split is shuffled and each image begins one pair an epoch, so an epoch has max(1, N // pairs) batches.
    - A positive partner is another image of the person, a negative one any image of anybody else, all equally likely;
      cameras are not looked at (paper and released code).
    - A person with a single image cannot begin a positive pair: its image moves to the negatives. Where a batch has too
      few others, it has as many positives as it can.

    Parameters
    ----------
    pids : (N,) integers from 0 on
        Identity of each row; need not be contiguous.
    pairs : int
        A batch; 128 or 48 in the paper.
    growth : float
        Factor an epoch. A run of fewer epochs than the paper's 75 covers the same course with 1.01 ** (75 / epochs).
    schedule : "paper" or "code"
        What grows. "paper": negatives to positives, min(4, growth^e). "code": pairs to positives, min(5, 2 growth^e);
        the ratio is one less, and e counts from 1. After 75 epochs the two stand at 2.1 and 3.2.
    most : float
        Negatives to positives at the end; 1 keeps the ratio where it begins.
    seed : int
        Key of the random stream, together with the epoch.

    Raises ValueError for fewer than two identities, nobody with two images, more pairs than images, labels that are
    empty, negative or not integers, and settings out of range.
    """

    group = 2

    def __init__(
        self, pids, *, pairs: int = 32, growth: float = 1.01, schedule: str = "paper", most: float = 4.0, seed: int = 0
    ):
        super().__init__(seed)
        if schedule not in ("paper", "code"):
            raise ValueError(f"schedule = {schedule!r}; expected 'paper' or 'code'")
        if growth < 1 or most < 1:
            raise ValueError(f"growth = {growth} and most = {most}: the ratio begins at 1 and does not fall")
        self._rows = rows_by_identity(pids)
        if len(self._rows) < 2:
            raise ValueError("all images show one identity: a negative pair needs two")
        if max(map(len, self._rows.values())) < 2:
            raise ValueError("nobody has two images: there is no positive pair")
        self._pids = np.asarray(pids)
        if not 1 <= pairs <= len(self._pids):
            raise ValueError(f"pairs = {pairs} a batch, but there are {len(self._pids)} images: choose from 1 to that")
        self.pairs, self.growth, self.schedule, self.most = pairs, growth, schedule, most

    def __len__(self) -> int:
        return len(self._pids) // self.pairs

    def ratio(self, e: int) -> float:
        """Negatives to positives in epoch e, counted from 0."""
        if self.schedule == "paper":
            return min(self.most, self.growth**e)
        return min(self.most, 2 * self.growth ** (e + 1) - 1)

    def epoch(self, e: int) -> list[np.ndarray]:
        """The batches of epoch e: a list of (2 * pairs,) int64 row numbers, pair after pair."""
        rng = np.random.default_rng([self.seed, e])
        order = rng.permutation(len(self._pids))[: len(self) * self.pairs].reshape(len(self), self.pairs)
        wanted = max(1, round(self.pairs / (1 + self.ratio(e))))
        return [self._batch(firsts, wanted, rng) for firsts in order]

    def _batch(self, firsts: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
        alone = np.array([len(self._rows[pid]) < 2 for pid in self._pids[firsts].tolist()])
        firsts = firsts[np.argsort(alone, kind="stable")]
        positives = min(wanted, int((~alone).sum()))
        seconds = np.empty_like(firsts)
        for i, (row, pid) in enumerate(zip(firsts.tolist(), self._pids[firsts].tolist(), strict=True)):
            own = self._rows[pid]
            if i < positives:
                other = own[rng.integers(len(own) - 1)]
                seconds[i] = own[-1] if other == row else other  # the last stands in for the image itself
            else:
                place = rng.integers(len(self._pids) - len(own))
                seconds[i] = self._others(own, place)
        return np.stack([firsts, seconds], 1).ravel()  # (2 * pairs,)

    @staticmethod
    def _others(own: np.ndarray, place: int) -> int:
        """Row number `place` of those that are not in `own`, which is ascending."""
        return int(place + np.searchsorted(own - np.arange(len(own)), place, "right"))


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
