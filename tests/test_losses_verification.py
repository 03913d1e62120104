"""Verification and contrastive losses against plain loops, by hand, and at their edges."""

import math

import pytest
import torch
import torch.nn.functional as F

from reidkit.losses import Verification, contrastive


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def verification_loop(first, second, weight, bias, same):
    """Eqs. 3-4, a number at a time; weight (2, d), row 1 = the same person."""
    total = 0.0
    for f1, f2, s in zip(first, second, same, strict=True):
        scores = [sum(w * (a - b) ** 2 for w, a, b in zip(row, f1, f2, strict=True)) + c
                  for row, c in zip(weight, bias, strict=True)]  # fmt: skip
        total = total - scores[s] + torch.log(torch.exp(scores[0]) + torch.exp(scores[1]))
    return total / len(same)


def contrastive_loop(features, pids, margin, pairs):
    total = 0.0
    for i, j in pairs:
        distance = torch.sqrt(sum((a - b) ** 2 for a, b in zip(features[i], features[j], strict=True)))
        total = total + (distance**2 if pids[i] == pids[j] else max(margin - distance, 0 * distance) ** 2) / 2
    return total / len(pairs)


@pytest.mark.parametrize("init", ["free", "signed"])
def test_verification_is_the_loop_in_value_and_gradient(init):
    module = Verification(5, dropout=0.0, init=init).double()
    first, second = random(7, 5).requires_grad_(), random(7, 5, seed=1).requires_grad_()
    same = [1, 0, 0, 1, 1, 0, 1]
    with torch.no_grad():
        module.classifier.weight.add_(random(2, 5, seed=2))
    wanted = [first, second, module.classifier.weight, module.classifier.bias]
    looped = verification_loop(first, second, module.classifier.weight, module.classifier.bias, same)
    called = F.cross_entropy(module(first, second), torch.tensor(same))
    torch.testing.assert_close(called, looped)
    for a, b in zip(torch.autograd.grad(called, wanted), torch.autograd.grad(looped, wanted), strict=True):
        torch.testing.assert_close(a, b)


def test_verification_by_hand():
    module = Verification(2, dropout=0.0)
    with torch.no_grad():
        module.classifier.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
        module.classifier.bias.copy_(torch.tensor([0.5, 1.0]))
    logits = module(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 0.0]]))  # (f1 - f2)^2 = (4, 1)
    assert logits.tolist() == [[6.5, -3.0]]
    assert module.metric_weights().tolist() == [2.0, 2.0]
    assert F.cross_entropy(logits, torch.tensor([True]).long()).item() == pytest.approx(math.log1p(math.exp(9.5)))


def test_a_signed_start_is_a_distance_and_a_free_one_is_not():
    signed, free = Verification(64, init="signed"), Verification(64)
    assert (signed.metric_weights() >= 0).all()
    assert (free.metric_weights() < 0).any()
    torch.testing.assert_close(signed.classifier.weight.abs(), free.classifier.weight.abs())
    near, far = torch.zeros(1, 64), torch.ones(1, 64)
    signed.eval()
    score = signed(near, near)[0, 1] - signed(near, near)[0, 0], signed(near, far)[0, 1] - signed(near, far)[0, 0]
    assert score[0] > score[1]


def test_the_order_of_a_pair_does_not_matter_and_equal_images_give_the_bias():
    module = Verification(4).eval()
    first, second = random(3, 4).float(), random(3, 4, seed=1).float()
    torch.testing.assert_close(module(first, second), module(second, first))
    torch.testing.assert_close(module(first, first), module.classifier.bias.expand(3, 2))


def test_where_dropout_acts():
    """On the difference, equal features stay at no difference; on the features, two masks make one."""
    features = torch.ones(8, 32)
    on_difference = Verification(32, dropout=0.5)
    torch.testing.assert_close(on_difference(features, features), on_difference.classifier.bias.expand(8, 2))
    on_features = Verification(32, dropout=0.5, dropout_on="features")
    assert (on_features(features, features) - on_features.classifier.bias).abs().max() > 0.1
    on_features.eval()
    torch.testing.assert_close(on_features(features, features), on_features.classifier.bias.expand(8, 2))


def test_verification_weights_depend_on_the_seed_alone():
    torch.manual_seed(0)
    one = Verification(8, seed=3)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    torch.testing.assert_close(Verification(8, seed=3).classifier.weight, one.classifier.weight)
    assert not torch.equal(Verification(8, seed=4).classifier.weight, one.classifier.weight)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("pairs", ["all", "consecutive"])
@pytest.mark.parametrize("margin", [0.5, 1.0, 4.0])
def test_contrastive_is_the_loop_in_value_and_gradient(pairs, margin):
    features = random(8, 3).requires_grad_()
    pids = torch.tensor([4, 4, 1, 2, 2, 4, 1, 1])
    wanted = {
        "all": [(i, j) for i in range(8) for j in range(i + 1, 8)],
        "consecutive": [(0, 1), (2, 3), (4, 5), (6, 7)],
    }
    looped = contrastive_loop(features, pids, margin, wanted[pairs])
    called = contrastive(features, pids, margin=margin, pairs=pairs)
    torch.testing.assert_close(called, looped)
    torch.testing.assert_close(*(torch.autograd.grad(x, features)[0] for x in (called, looped)))


def test_contrastive_by_hand():
    features = torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.0, 0.5], [0.0, 3.0]])
    pids = torch.tensor([1, 1, 2, 3])
    # consecutive: 1/2 · 1^2 (same, distance 1) and 1/2 · 0 (different, distance 2.5 > 2): mean 0.25
    assert contrastive(features, pids, margin=2.0, pairs="consecutive").item() == pytest.approx(0.25)
    # rows 0 and 2: different, distance 0.5: 1/2 · 1.5^2
    assert contrastive(features[[0, 2]], pids[[0, 2]], margin=2.0).item() == pytest.approx(1.125)


def test_equal_images_have_a_finite_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    contrastive(features, torch.tensor([0, 0, 1, 2])).backward()
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("n", [0, 1])
def test_no_pair_is_a_differentiable_zero(n):
    features = torch.ones(n, 3, requires_grad=True)
    loss = contrastive(features, torch.zeros(n, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert (features.grad == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Verification(3)(torch.ones(2, 3), torch.ones(3, 3)), r"first is \(2, 3\), second \(3, 3\)"),
        (lambda: Verification(3)(torch.ones(2, 4), torch.ones(2, 4)), r"expected \(N, 3\) both"),
        (lambda: Verification(3, dropout_on="both"), "dropout_on is 'both'"),
        (lambda: Verification(3, init="metric"), "init is 'metric'"),
        (lambda: contrastive(torch.ones(3, 2), torch.zeros(2).long()), "3 features but pids of shape"),
        (lambda: contrastive(torch.ones(3, 2), torch.zeros(3).long(), pairs="consecutive"), "3 rows are no"),
        (lambda: contrastive(torch.ones(2, 2), torch.zeros(2).long(), pairs="some"), "pairs is 'some'"),
        (lambda: contrastive(torch.ones(2, 2), torch.zeros(2).long(), margin=0.0), "margin is 0.0"),
        (lambda: contrastive(torch.ones(2, 2).long(), torch.zeros(2).long()), "features must be floating"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_dropout_on_the_features_does_not_touch_the_difference():
    module = Verification(1, dropout=0.5, dropout_on="features")
    with torch.no_grad():
        module.classifier.weight.fill_(1)
        module.classifier.bias.fill_(0)
    ones = torch.ones(64, 1)  # each becomes 0 or 2
    assert set(module(ones, ones).flatten().tolist()) == {0.0, 4.0}


def test_the_dropout_of_the_released_code_is_the_default():
    assert Verification(3).dropout.p == 0.9
