"""The CCSC loss against plain loops written from equations 1 to 3, by hand, and at its edges."""

import math

import pytest
import torch

from reidkit.losses import ccsc


def loop(features, pids, camids, *, cross_camera=True, include_self=False):
    """Equation 2, a pair at a time."""
    total, pairs = 0.0, 0
    for i in range(len(features)):
        for j in range(len(features)):
            if pids[i] != pids[j]:
                continue
            if cross_camera and camids[i] == camids[j]:
                continue
            if i == j and not include_self:
                continue
            dot = sum(a * b for a, b in zip(features[i], features[j], strict=True))
            lengths = math.prod(float(f.detach().square().sum()) ** 0.5 for f in (features[i], features[j]))
            if features.requires_grad:
                lengths = features[i].square().sum().sqrt() * features[j].square().sum().sqrt()
            total, pairs = total + 1 / (1 + dot / lengths), pairs + 1
    return total / pairs


def batch(seed=0, n=24, d=5, people=4, cameras=3, positive=True):
    stream = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, dtype=torch.float64, generator=stream)
    features = features.abs() if positive else features
    pids = torch.randint(people, (n,), generator=stream)
    return features.requires_grad_(), pids, torch.randint(cameras, (n,), generator=stream)


READINGS = [
    {"cross_camera": True},
    {"cross_camera": False},
    {"cross_camera": False, "include_self": True},
]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_are_those_of_the_loop(seed, positive, reading):
    features, pids, camids = batch(seed, positive=positive)
    ours, theirs = ccsc(features, pids, camids, **reading), loop(features, pids, camids, **reading)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
    (gradient,) = torch.autograd.grad(ours, features)
    (expected,) = torch.autograd.grad(theirs, features)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-12)


def test_by_hand():
    # Person 0: camera 0 looks along x, camera 1 along y and along the diagonal; person 1 has one camera, two images.
    features = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 3.0], [1.0, 0.0], [1.0, 1.0]])
    pids, camids = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 1, 0, 0])
    along, diagonal = 1.0, 1 / (1 + 0.5**0.5)  # T at cos 0 and at cos 45 degrees
    assert ccsc(features, pids, camids).item() == pytest.approx((along + diagonal) / 2)
    everything = (along + diagonal + diagonal + diagonal) / 4  # pairs 01, 02, 12 and 34, each counted twice
    assert ccsc(features, pids, camids, cross_camera=False).item() == pytest.approx(everything)
    with_itself = (8 * everything + 5 * 0.5) / 13
    assert ccsc(features, pids, camids, cross_camera=False, include_self=True).item() == pytest.approx(with_itself)


def test_the_ends_of_its_range():
    pids, camids = torch.zeros(2, dtype=torch.int64), torch.tensor([0, 1])
    assert ccsc(torch.tensor([[1.0, 0.0], [5.0, 0.0]]), pids, camids).item() == pytest.approx(0.5)
    assert ccsc(torch.tensor([[1.0, 0.0], [0.0, 5.0]]), pids, camids).item() == pytest.approx(1.0)


def test_an_image_with_itself_weakens_the_gradient_to_k_minus_one_of_k():
    features, _, camids = batch(n=12)
    pids = torch.arange(3).repeat_interleave(4)
    (without,) = torch.autograd.grad(ccsc(features, pids, camids, cross_camera=False), features)
    (with_itself,) = torch.autograd.grad(ccsc(features, pids, camids, cross_camera=False, include_self=True), features)
    torch.testing.assert_close(with_itself, 3 / 4 * without)


def test_same_camera_pairs_alone_by_labels_of_person_and_camera():
    features, pids, camids = batch(4)
    both = pids * 3 + camids
    alone = ccsc(features, both, camids, cross_camera=False)
    chosen = [(i, j) for i in range(24) for j in range(24) if i != j and pids[i] == pids[j] and camids[i] == camids[j]]
    cosine = torch.nn.functional.cosine_similarity
    expected = torch.stack([1 / (1 + cosine(features[i], features[j], dim=0)) for i, j in chosen]).mean()
    torch.testing.assert_close(alone, expected)


@pytest.mark.parametrize("reading", READINGS)
def test_gradcheck(reading):
    features, pids, camids = batch(1, n=10, people=2)
    assert torch.autograd.gradcheck(lambda f: ccsc(f, pids, camids, **reading), features)


def test_scale_of_a_feature_does_not_matter():
    features, pids, camids = batch(2)
    scales = torch.rand(24, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(ccsc(features * scales, pids, camids), ccsc(features, pids, camids))


def test_order_of_the_batch_does_not_matter():
    features, pids, camids = batch(3)
    order = torch.randperm(24)
    torch.testing.assert_close(ccsc(features[order], pids[order], camids[order]), ccsc(features, pids, camids))


@pytest.mark.parametrize(
    ("pids", "camids"),
    [
        ([0, 0, 1, 1], [2, 2, 2, 2]),  # one camera
        ([0, 1, 2, 3], [0, 1, 0, 1]),  # nobody twice
        ([0, 0, 1, 1], [0, 0, 1, 1]),  # each person in a camera of their own
        ([], []),
    ],
)
def test_without_a_cross_camera_pair_it_is_a_differentiable_zero(pids, camids):
    features = torch.randn(len(pids), 3, requires_grad=True)
    value = ccsc(features, torch.tensor(pids, dtype=torch.int64), torch.tensor(camids, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert torch.equal(features.grad, torch.zeros(len(pids), 3))


def test_at_the_pole_it_is_one_over_eps_and_pushes_nothing():
    features = torch.tensor([[1.0, 0.0], [-2.0, 0.0]], requires_grad=True)
    pids, camids = torch.tensor([0, 0]), torch.tensor([0, 1])
    value = ccsc(features, pids, camids, eps=1e-3)
    value.backward()
    assert value.item() == pytest.approx(1e3)
    assert torch.equal(features.grad, torch.zeros(2, 2))


def test_away_from_the_pole_eps_changes_nothing():
    features, pids, camids = batch(5)
    assert torch.equal(ccsc(features, pids, camids, eps=1e-9), ccsc(features, pids, camids, eps=1e-2))


@pytest.mark.parametrize("reading", READINGS)
def test_a_feature_of_zeros_counts_as_at_right_angles(reading):
    features = torch.tensor([[0.0, 0.0], [1.0, 1.0]], requires_grad=True)
    value = ccsc(features, torch.tensor([0, 0]), torch.tensor([0, 1]), **reading)
    value.backward()
    parallel = "include_self" in reading  # one of four then, the ones beside themselves: not so the zeros
    assert value.item() == pytest.approx((3 * 1.0 + 0.5) / 4 if parallel else 1.0)
    assert torch.isfinite(features.grad).all()
    assert torch.equal(features.grad[0], torch.zeros(2))  # not one of 1e12


def test_one_step_down_the_gradient_brings_cross_camera_images_together():
    features, pids, camids = batch(6)
    before = ccsc(features, pids, camids)
    (gradient,) = torch.autograd.grad(before, features)
    assert ccsc(features.detach() - 0.1 * gradient, pids, camids) < before


@pytest.mark.parametrize(
    ("features", "pids", "camids", "named"),
    [
        (torch.zeros(4), torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), r"\(4,\)"),
        (torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4).long(), torch.zeros(4).long(), "int64"),
        (torch.zeros(4, 2), torch.zeros(3).long(), torch.zeros(4).long(), "4 features.*pids.*3"),
        (torch.zeros(4, 2), torch.zeros(4).long(), torch.zeros(5).long(), "4 features.*camids.*5"),
        (torch.zeros(4, 2), torch.zeros(4), torch.zeros(4).long(), "pids must be int64, not torch.float32"),
        (torch.zeros(4, 2), torch.zeros(4).long(), torch.zeros(4, dtype=torch.int32), "camids must be int64"),
    ],
)
def test_what_does_not_fit_is_refused(features, pids, camids, named):
    with pytest.raises(ValueError, match=named):
        ccsc(features, pids, camids)


@pytest.mark.parametrize("eps", [0, -1e-3, float("nan")])
def test_eps_must_be_positive(eps):
    features, pids, camids = batch()
    with pytest.raises(ValueError, match="eps"):
        ccsc(features, pids, camids, eps=eps)
