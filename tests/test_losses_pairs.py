"""`pairs.hardest` against selections and autograd's own gradient: to the last digit, because training amplifies it."""

import pytest
import torch

from reidkit.losses.pairs import EPS, cosines, euclidean, hardest, having, only


def plain(anchors, others, near, far):
    """All squared distances, the farthest near and the nearest far, and the two differentiated step by step."""
    with torch.no_grad():
        squared = torch.cdist(anchors.double(), others.double()).square()
        farthest = squared.masked_fill(~near, -torch.inf).argmax(1)
        nearest = squared.masked_fill(~far, torch.inf).argmin(1)
    rows = (others.index_select(0, chosen) for chosen in (farthest, nearest))
    return tuple(((anchors - row).square().sum(1) + EPS).sqrt() for row in rows)


def batch(n=24, d=130, seed=0, m=None):
    """features (N, d), others (M, d) or the same tensor, near and far (N, M) bool with at least one True a row."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, generator=draw, requires_grad=True)
    others = features if m is None else torch.randn(m, d, generator=draw, requires_grad=True)
    near = torch.rand(n, len(others), generator=draw) < 0.3
    near[:, 0] = True
    far = ~near
    far[:, 1] = True
    return features, others, near, far


def gradients(function, features, others, near, far, *, beside=False):
    """Of a scalar of both distances by both tensors; `beside`: with other terms of the tensors around."""
    before = features.exp().mean() + others.exp().mean() if beside else 0.0
    farthest, nearest = function(features, others, near, far)
    after = features.sin().mean() if beside else 0.0
    weights = torch.linspace(0.1, 3, len(features))
    loss = before + (weights * farthest).sum() - (nearest * weights.flip(0)).square().mean() + after
    return torch.autograd.grad(loss, [features] if others is features else [features, others])


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("m", [None, 9, 40])
@pytest.mark.parametrize("seed", range(5))
def test_hardest_has_the_digits_of_autograd(seed, m, beside):
    given = batch(seed=seed, m=m)
    for ours, theirs in zip(hardest(*given), plain(*given), strict=True):
        assert torch.equal(ours, theirs)
    ours, theirs = gradients(hardest, *given, beside=beside), gradients(plain, *given, beside=beside)
    for mine, autograds in zip(ours, theirs, strict=True):
        assert torch.equal(mine, autograds)


def test_hardest_by_hand():
    anchors, others = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 1.0], [0.0, -2.0]])
    near, far = torch.tensor([[True, True, False, False]]), torch.tensor([[False, False, True, True]])
    farthest, nearest = hardest(anchors.requires_grad_(), others.requires_grad_(), near, far)
    assert (farthest.item(), nearest.item()) == (10.0, 1.0)
    (farthest + nearest).sum().backward()  # each pulls the anchor along the unit vector from the other image
    torch.testing.assert_close(anchors.grad, torch.tensor([[-0.6, -0.8 - 1.0]]))
    torch.testing.assert_close(others.grad, torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 0.0]]))


@pytest.mark.parametrize("m", [None, 6])
def test_hardest_gradcheck(m):
    features, others, near, far = batch(n=8, d=3, seed=2, m=m)
    features = features.detach().double().requires_grad_()
    others = features if m is None else others.detach().double().requires_grad_()
    if m is None:
        assert torch.autograd.gradcheck(lambda f: hardest(f, f, near, far), features)
    else:
        assert torch.autograd.gradcheck(lambda f, o: hardest(f, o, near, far), (features, others))


def test_hardest_of_equal_vectors_has_a_gradient_of_zero():
    features = torch.ones(4, 5, requires_grad=True)
    everything = torch.ones(4, 4, dtype=torch.bool)
    (gradient,) = torch.autograd.grad(sum(hardest(features, features, everything, everything)).sum(), features)
    assert torch.equal(gradient, torch.zeros(4, 5))


def test_hardest_takes_the_first_of_equals():
    others = torch.tensor([[1.0], [-1.0], [1.0]], requires_grad=True)
    everything = torch.ones(1, 3, dtype=torch.bool)
    for distance in hardest(torch.zeros(1, 1), others, everything, everything):
        (gradient,) = torch.autograd.grad(distance.sum(), others, retain_graph=True)
        assert gradient.flatten().tolist() == [1.0, 0.0, 0.0]


def test_hardest_makes_no_gradient_for_a_constant(monkeypatch):
    features, memory, near, far = batch(m=9)
    farthest, nearest = hardest(features, memory.detach(), near, far)
    made = []
    monkeypatch.setattr(torch.Tensor, "index_add_", lambda *args, **kwargs: made.append(args))
    (gradient,) = torch.autograd.grad((farthest - nearest).sum(), features)
    assert gradient.abs().sum() > 0
    assert not made


def test_hardest_says_that_it_has_no_second_gradient():
    farthest, _ = hardest(*batch())
    with pytest.raises(RuntimeError, match="no second gradient"):
        farthest.sum().backward(create_graph=True)


def test_having_both_by_hand():
    near = torch.tensor([[True, False], [True, True], [False, False], [False, True]])
    far = torch.tensor([[False, True], [False, False], [True, True], [True, True]])
    assert having(near, far).tolist() == [0, 3]
    assert having(torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, 0, dtype=torch.bool)).tolist() == []


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 2], [1], []])
def test_only_some_rows_have_terms_and_gradients(rows):
    terms = torch.tensor([3.0, 4.0, 5.0], requires_grad=True)
    found = only(terms, torch.tensor(rows, dtype=torch.int64))
    assert found.tolist() == [3.0 + row for row in rows]
    (gradient,) = torch.autograd.grad((found * found).sum(), terms)
    assert gradient.tolist() == [2 * (3.0 + row) if row in rows else 0 for row in range(3)]


def test_euclidean_by_hand():
    distances = euclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0], [3.0, 4.0]]))
    torch.testing.assert_close(distances, torch.tensor([[5.0, 1.0, 5.0], [0.0, 18**0.5, 0.0]]), atol=1e-6, rtol=1e-6)


def test_euclidean_of_equal_vectors_is_the_root_of_eps_with_a_gradient_of_zero():
    features = torch.ones(3, 4, requires_grad=True)
    distances = euclidean(features, features)
    torch.testing.assert_close(distances, torch.full((3, 3), 1e-6), rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(distances.sum(), features)
    assert torch.equal(gradient, torch.zeros(3, 4))


def test_euclidean_gradcheck():
    features, others, *_ = batch(n=5, d=3, m=4)
    assert torch.autograd.gradcheck(euclidean, (features.detach().double().requires_grad_(), others.detach().double()))
    assert torch.autograd.gradcheck(euclidean, (others.detach().double(), features.detach().double().requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_zero_vector_has_a_cosine_of_zero_and_no_gradient(dtype):
    features = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=dtype, requires_grad=True)
    found = cosines(features, torch.tensor([0, 1]), torch.tensor([1, 1]))
    found.sum().backward()
    assert found[0] == 0
    assert found[1].item() == pytest.approx(1, abs=0.01)
    assert torch.isfinite(features.grad).all()
