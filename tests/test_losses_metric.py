"""Batch-hard triplet and center loss against plain loops, by hand, and at their edges."""

import pytest
import torch

from reidkit.losses import CenterLoss, batch_hard_triplet


def triplet_loop(features, pids, margin):
    """Hermans et al., equation 5, an anchor at a time; the mean over anchors that have both partners."""
    hinges = []
    for a in range(len(features)):
        positives = [(features[a] - features[p]).norm() for p in range(len(features)) if p != a and pids[p] == pids[a]]
        negatives = [(features[a] - features[n]).norm() for n in range(len(features)) if pids[n] != pids[a]]
        if positives and negatives:
            hinges.append((margin + max(positives) - min(negatives)).clamp(min=0))
    return sum(hinges) / len(hinges)


def batch(seed=0, n=20, d=4, people=5):
    stream = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, dtype=torch.float64, generator=stream, requires_grad=True)
    return features, torch.randint(people, (n,), generator=stream)


@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_triplet_is_the_loop(seed, margin):
    features, pids = batch(seed)
    ours, theirs = batch_hard_triplet(features, pids, margin=margin), triplet_loop(features, pids, margin)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours, features)
    (expected,) = torch.autograd.grad(theirs, features)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-10)


def test_triplet_by_hand():
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    pids = torch.tensor([0, 0, 1, 2])  # 2 and 7 are alone: they are negatives, never anchors
    # anchor 0: positive at 1, negative at 3 -> 0 + ... ; anchor 1: positive at 1, negative at 2
    assert batch_hard_triplet(features, pids, margin=2.5).item() == pytest.approx(((2.5 + 1 - 3) + (2.5 + 1 - 2)) / 2)
    assert batch_hard_triplet(features, pids, margin=0.3).item() == 0
    assert batch_hard_triplet(features, pids, margin=0.3, hinge=False).item() == pytest.approx(0.3 - 1.5)


def test_triplet_gradcheck():
    features, pids = batch(7, n=8, people=3)
    assert torch.autograd.gradcheck(lambda f: batch_hard_triplet(f, pids, margin=1.0), features)


def test_triplet_default_margin_and_no_look_at_cameras():
    features, pids = batch(1)
    expected = triplet_loop(features, pids, 0.3)
    for camids in (None, torch.zeros(20).long(), torch.arange(20)):
        torch.testing.assert_close(batch_hard_triplet(features, pids, camids), expected)


@pytest.mark.parametrize("pids", [[0, 0, 0], [0, 1, 2], []])
def test_triplet_without_an_anchor_is_a_differentiable_zero(pids):
    features = torch.randn(len(pids), 2, requires_grad=True)
    value = batch_hard_triplet(features, torch.tensor(pids, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert torch.equal(features.grad, torch.zeros(len(pids), 2))


def test_triplet_of_a_collapsed_batch_is_the_margin_with_a_finite_gradient():
    features = torch.ones(8, 3, requires_grad=True)
    value = batch_hard_triplet(features, torch.arange(4).repeat_interleave(2), margin=0.3)
    value.backward()
    assert value.item() == pytest.approx(0.3, abs=1e-5)
    assert features.grad.isfinite().all()


def test_triplet_takes_the_first_of_ties():
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    pids = torch.tensor([0, 0, 0, 1])
    batch_hard_triplet(features, pids, margin=5.0).backward()

    other = features.detach().clone().requires_grad_()
    triplets = [(0, 1, 3), (1, 2, 3), (2, 1, 3)]  # to image 0 both 1 and 2 are as far; image 3 has no positive
    gaps = [5.0 + (other[a] - other[p]).norm() - (other[a] - other[n]).norm() for a, p, n in triplets]
    (sum(gaps) / 3).backward()
    torch.testing.assert_close(features.grad, other.grad, rtol=1e-9, atol=1e-9)


# --- center loss


def test_center_is_the_mean_squared_distance_by_loop():
    features, pids = batch(2)
    center = CenterLoss(5, 4).double()
    with torch.no_grad():
        center.centers.copy_(torch.randn(5, 4, generator=torch.Generator().manual_seed(1)))
    expected = 0.0
    for feature, pid in zip(features, pids, strict=True):
        expected = expected + sum((x - c) ** 2 for x, c in zip(feature, center.centers[pid], strict=True))
    expected = expected / len(features)
    ours = center(features, pids)
    torch.testing.assert_close(ours, expected)
    ours.backward()
    torch.testing.assert_close(features.grad, 2 * (features.detach() - center.centers[pids].detach()) / 20)
    assert center.centers.grad.abs().sum() > 0


def test_center_gradcheck():
    features, pids = batch(3, n=6)
    center = CenterLoss(5, 4).double()
    assert torch.autograd.gradcheck(lambda f, c: torch.func.functional_call(center, {"centers": c}, (f, pids)),
                                    (features, torch.randn(5, 4, dtype=torch.float64, requires_grad=True)))  # fmt: skip


def test_center_by_hand():
    center = CenterLoss(2, 2)
    with torch.no_grad():
        center.centers.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert center(features, torch.tensor([0, 1])).item() == pytest.approx((1 + 9) / 2)
    assert center(features, torch.tensor([0, 1]), torch.tensor([4, 4])).item() == pytest.approx(5)


def test_center_update_by_hand():
    center = CenterLoss(3, 1).requires_grad_(False)
    center.update(torch.tensor([[2.0], [4.0], [10.0]]), torch.tensor([0, 0, 2]), rate=0.5)
    # centre 0: 0 - 0.5 * (-2 - 4) / (1 + 2) = 1; centre 1 not seen; centre 2: 0 - 0.5 * (-10) / (1 + 1) = 2.5
    assert center.centers.tolist() == [[1.0], [0.0], [2.5]]


def test_center_updates_converge_to_the_class_means():
    features, pids = batch(5)
    center = CenterLoss(5, 4).double().requires_grad_(False)
    for _ in range(200):
        center.update(features.detach(), pids)
    means = torch.stack([features[pids == pid].mean(0) for pid in range(5)])
    torch.testing.assert_close(center.centers, means.detach())


def test_center_is_learned_by_an_optimiser_too():
    features, pids = batch(6)
    center = CenterLoss(5, 4).double()
    optimiser = torch.optim.SGD(center.parameters(), lr=0.5)
    before = center(features.detach(), pids).item()
    for _ in range(20):
        optimiser.zero_grad()
        center(features.detach(), pids).backward()
        optimiser.step()
    assert center(features.detach(), pids).item() < 0.9 * before


def test_center_of_an_empty_batch_is_zero():
    assert CenterLoss(2, 3)(torch.zeros(0, 3), torch.zeros(0).long()).item() == 0


@pytest.mark.parametrize(
    ("features", "pids", "named"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 1]), "3 dimensions, the centres 2"),
        (torch.zeros(2, 2), torch.tensor([0, 4]), "0 to 4, but there are 4"),
        (torch.zeros(2, 2), torch.tensor([-1, 0]), "-1 to 0"),
        (torch.zeros(2, 2), torch.tensor([0]), "2 features.*pids"),
        (torch.zeros(2, 2), torch.tensor([0.0, 1.0]), "pids must be int64"),
        (torch.zeros(2), torch.tensor([0, 1]), r"\(2,\)"),
    ],
)
def test_center_refuses_what_does_not_fit(features, pids, named):
    center = CenterLoss(4, 2)
    with pytest.raises(ValueError, match=named):
        center(features, pids)
    with pytest.raises(ValueError, match=named):
        center.update(features, pids)


def test_center_refuses_no_centres():
    with pytest.raises(ValueError, match="at least 1"):
        CenterLoss(0, 4)


@pytest.mark.parametrize("camids", [torch.zeros(3).long(), torch.zeros(20)])
def test_triplet_refuses_what_does_not_fit(camids):
    features, pids = batch()
    with pytest.raises(ValueError, match="camids"):
        batch_hard_triplet(features, pids, camids)


def test_center_update_of_a_batch_without_the_last_identities():
    center = CenterLoss(4, 1).requires_grad_(False)
    center.update(torch.tensor([[2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1]))
    # centre 0: 1/2 (2 + 4) / (1 + 2) = 1; centre 1: 1/2 6 / (1 + 1) = 1.5; the others are not seen
    assert center.centers.tolist() == [[1.0], [1.5], [0.0], [0.0]]
