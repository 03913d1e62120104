"""What a training step holds in memory, counted and not sampled: the same on a busy machine."""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Held:
    """Bytes that autograd has kept for backward: now, and at most (`peak`)."""

    def __init__(self):
        self.now = self.peak = 0
        self._users: Counter[int] = Counter()  # of each storage, by its address


class _Kept:
    """One tensor kept; dies with the graph that keeps it."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


@contextmanager
def held_for_backward() -> Iterator[Held]:
    """Within it, counts the memory that forward passes keep for their backward pass: activations, and the weights that
    they were computed with. Each storage counts once. On any device; what operations use for themselves, gradients
    and the optimiser's state are not in it.

        with held_for_backward() as held:
            fit(model, objective, batches, steps=1)
        held.peak  # bytes
    """
    held = Held()

    def drop(place: int, size: int) -> None:
        held._users[place] -= 1
        if not held._users[place]:
            held.now -= size

    def pack(tensor: Tensor) -> _Kept:
        storage, kept = tensor.untyped_storage(), _Kept(tensor.detach())  # undetached, an output would keep itself
        place, size = storage.data_ptr(), storage.nbytes()
        if not held._users[place]:
            held.now += size
            held.peak = max(held.peak, held.now)
        held._users[place] += 1
        weakref.finalize(kept, drop, place, size).atexit = False
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        yield held
