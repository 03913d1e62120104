"""The memory that a step holds, counted by hand where that is possible."""

import torch

from reidkit.costs import held_for_backward


def test_a_storage_counts_once_and_leaves_with_its_graph():
    x = torch.ones(1000, requires_grad=True)
    with held_for_backward() as held:
        y = x.exp()  # keeps its result
        z = y * y  # keeps y, twice: the same storage
        assert held.now == held.peak == 4 * 1000
        z.sum().backward()
        del y, z
        assert held.now == 0
        assert held.peak == 4 * 1000


def test_the_peak_is_that_of_the_largest_step_not_the_sum():
    with held_for_backward() as held:
        for size in (100, 300, 200):
            x = torch.ones(size, requires_grad=True)
            x.exp().sum().backward()
    assert held.peak == 4 * 300
    assert held.now == 0


def test_without_gradients_nothing_is_held():
    with held_for_backward() as held, torch.no_grad():
        torch.ones(1000, requires_grad=True).exp()
    assert held.peak == 0


def test_two_tensors_are_two():
    a, b = torch.ones(10, requires_grad=True), torch.ones(30, requires_grad=True)
    with held_for_backward() as held:
        kept = a.exp(), b.exp()
        assert held.now == 4 * 40
        del kept
        assert held.now == 0


def test_views_share_their_storage():
    x = torch.ones(4, 100, requires_grad=True)
    with held_for_backward() as held:
        y = x.exp()
        kept = y[:2].square().sum() + y[2:].square().sum()
        assert held.peak == 4 * 400
        kept.backward()
