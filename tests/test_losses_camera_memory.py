"""Camera-specific softmax and quintuplet loss against loops written from equations 2 to 4, in value and gradient."""

import math

import pytest
import torch
import torch.nn.functional as F

from reidkit.losses import camera_cross_entropy, camera_softmax, quintuplet, quintuplet_hinges

MEMORY_CAMIDS = torch.tensor([0, 0, 0, 1, 1, 2])  # camera 2 has one identity: nobody to tell it from
CASES = {
    "all cameras": [0, 0, 1, 1, 2, 3, 3, 4, 5, 5],
    "one identity a camera": [0, 0, 3, 3, 5],
    "one camera": [3, 4, 3, 4],
    "one image": [1],
    "a lone camera": [5, 5, 5],
}


def given(case, seed=0, d=7):
    """ids, camids, unit features, pooled, unit memory; float64, with gradients where there are any."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor(CASES[case])
    draw = lambda n, dim: torch.randn(n, dim, generator=generator, dtype=torch.float64)  # noqa: E731
    features = F.normalize(draw(len(ids), d), dim=1).requires_grad_()
    pooled = (0.3 * draw(len(ids), 4)).requires_grad_()
    memory = F.normalize(draw(len(MEMORY_CAMIDS), d), dim=1)
    return ids, MEMORY_CAMIDS[ids], features, pooled, memory


def softmax_loop(features, ids, camids, memory, memory_camids, temperature):
    """Equations 2 and 3, an image at a time."""
    total = 0.0
    for camera in sorted(set(camids.tolist())):
        images = [i for i in range(len(ids)) if camids[i] == camera]
        inner = 0.0
        for i in images:
            rows = [k for k in range(len(memory)) if memory_camids[k] == camera]
            scores = {k: torch.exp(memory[k] @ features[i] / temperature) for k in rows}
            inner = inner + torch.log(scores[int(ids[i])] / sum(scores.values()))
        total = total - inner / len(images)
    return total


def quintuplet_loop(pooled, features, ids, camids, memory, memory_camids, m1, m2):
    """Equation 4, an anchor at a time; the mean in a camera, the sum over cameras."""
    total = 0.0
    for camera in sorted(set(camids.tolist())):
        images = [i for i in range(len(ids)) if camids[i] == camera]
        for a in images:
            positives = [(pooled[a] - pooled[p]).norm() for p in images if ids[p] == ids[a] and p != a]
            negatives = [(pooled[a] - pooled[n]).norm() for n in images if ids[n] != ids[a]]
            if negatives:
                farthest = max(positives, default=torch.tensor(0.0, dtype=torch.float64))
                total = total + torch.relu(m1 + farthest - min(negatives)) / len(images)
            others = [k for k in range(len(memory)) if memory_camids[k] == camera and k != ids[a]]
            if others:
                own = (features[a] - memory[ids[a]]).norm()
                nearest = min((features[a] - memory[k]).norm() for k in others)
                total = total + torch.relu(m2 + own - nearest) / len(images)
    return total


def equal_with_gradients(called, looped, *inputs):
    torch.testing.assert_close(called, torch.as_tensor(looped, dtype=torch.float64), rtol=0, atol=1e-6)
    for mine, theirs in zip(
        torch.autograd.grad(called, inputs, allow_unused=True),
        torch.autograd.grad(looped, inputs, allow_unused=True) if torch.is_tensor(looped) else [None] * len(inputs),
        strict=True,
    ):
        mine, theirs = (torch.zeros(1, dtype=torch.float64) if g is None else g for g in (mine, theirs))
        torch.testing.assert_close(mine, theirs.expand_as(mine), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("temperature", [1.0, 1 / 15, 0.01])
def test_camera_softmax_is_equations_2_and_3(case, temperature):
    ids, camids, features, _, memory = given(case)
    called = camera_softmax(features, ids, camids, memory, MEMORY_CAMIDS, temperature=temperature)
    looped = softmax_loop(features, ids, camids, memory, MEMORY_CAMIDS, temperature)
    equal_with_gradients(called, looped, features)


def test_camera_softmax_by_hand():
    """Two identities in camera 0 at 0 and 90 degrees, tau = 1; an image on the first: log(1 + 1/e)."""
    memory = torch.eye(3)
    camids = torch.tensor([0, 0, 1])
    features = torch.tensor([[1.0, 0.0, 0.0]])
    loss = camera_softmax(features, torch.tensor([0]), torch.tensor([0]), memory, camids, temperature=1.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))
    both = camera_softmax(  # camera 1 has one identity: its images add log 1 = 0
        torch.eye(3)[[0, 2]], torch.tensor([0, 2]), torch.tensor([0, 1]), memory, camids, temperature=1.0
    )
    assert both.item() == pytest.approx(loss.item())


def test_gradient_of_the_memory_softmax_is_p_minus_y_times_k_over_tau():
    ids, camids, features, _, memory = given("all cameras")
    tau = 1 / 15
    loss = camera_softmax(features, ids, camids, memory, MEMORY_CAMIDS, temperature=tau)
    (gradient,) = torch.autograd.grad(loss, features)
    for i in range(len(ids)):
        rows = camids[i] == MEMORY_CAMIDS
        p = torch.softmax(features[i].detach() @ memory[rows].T / tau, 0)
        y = (torch.arange(len(memory))[rows] == ids[i]).double()
        share = 1 / (camids == camids[i]).sum()
        torch.testing.assert_close(gradient[i], share * (p - y) @ memory[rows] / tau)


def test_other_cameras_do_not_matter():
    ids, camids, features, pooled, memory = given("one camera")
    changed = memory.clone()
    changed[MEMORY_CAMIDS != 1] = 99.0
    for loss in (
        lambda m: camera_softmax(features, ids, camids, m, MEMORY_CAMIDS, temperature=0.1),
        lambda m: quintuplet(pooled, features, ids, camids, m, MEMORY_CAMIDS),
    ):
        assert torch.equal(loss(memory), loss(changed))


def test_one_camera_for_all_is_the_agnostic_classifier():
    ids, _, features, _, memory = given("all cameras")
    nowhere = torch.zeros_like(ids)
    called = camera_softmax(features, ids, nowhere, memory, torch.zeros_like(MEMORY_CAMIDS), temperature=0.1)
    torch.testing.assert_close(called, F.cross_entropy(features @ memory.T / 0.1, ids))


def test_parametric_branches_are_cross_entropies_within_cameras():
    ids, camids, features, _, memory = given("all cameras")
    weight = memory.clone().requires_grad_()
    loss = camera_cross_entropy(features @ weight.T, ids, camids, MEMORY_CAMIDS)
    first = [0, 3, 5]  # row of each camera's first identity
    expected = sum(
        F.cross_entropy(features[camids == c] @ weight[c == MEMORY_CAMIDS].T, ids[camids == c] - first[c])
        for c in range(3)
    )
    torch.testing.assert_close(loss, expected)
    assert torch.autograd.grad(loss, weight)[0].abs().sum() > 0


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("m1", "m2"), [(0.3, 0.3), (0.0, 1.0), (2.0, 0.1)])
def test_quintuplet_is_equation_4(case, m1, m2):
    ids, camids, features, pooled, memory = given(case)
    arguments = (pooled, features, ids, camids, memory, MEMORY_CAMIDS)
    called = quintuplet(*arguments, instance_margin=m1, centroid_margin=m2)
    equal_with_gradients(called, quintuplet_loop(*arguments, m1, m2), pooled, features)


def test_quintuplet_by_hand():
    """Pooled 0 and 1 of one person, 3 of another; f on its own centroid, the other centroid at distance 2."""
    pooled = torch.tensor([[0.0], [1.0], [3.0]])
    ids, camids = torch.tensor([0, 0, 1]), torch.tensor([4, 4, 4])
    memory = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    hinges = quintuplet_hinges(
        *(pooled, memory[ids], ids, camids, memory, torch.tensor([4, 4])), instance_margin=1.5, centroid_margin=2.5
    )
    expected = torch.tensor([[0.0, 0.5, 0.0], [0.5, 0.5, 0.5]])  # 1.5+1-3 < 0, 1.5+1-2, 1.5+0-2 < 0; 2.5+0-2
    torch.testing.assert_close(hinges, expected, rtol=0, atol=1e-5)


def test_lone_identities_have_zero_hinges_that_stay_in_the_mean():
    """Camera 1: two images of an identity alone in the batch, and in the memory another one far away."""
    ids, camids = torch.tensor([0, 1, 3, 3]), torch.tensor([0, 0, 1, 1])
    pooled = torch.tensor([[0.0], [0.1], [0.0], [5.0]])
    features = F.normalize(torch.ones(4, 2), dim=1)
    memory = torch.zeros(6, 2)
    hinges = quintuplet_hinges(pooled, features, ids, camids, memory, MEMORY_CAMIDS)
    torch.testing.assert_close(hinges[0], torch.tensor([0.2, 0.2, 0.0, 0.0]), rtol=0, atol=1e-5)
    loss = quintuplet(pooled, features, ids, camids, memory, MEMORY_CAMIDS)
    assert loss.item() == pytest.approx(0.2 + 0.3 + 0.3, abs=1e-5)  # camera 0: 0.2 + m2; camera 1: 0 + m2


@pytest.mark.parametrize("case", ["a lone camera", "one image"])
def test_without_a_pair_the_loss_is_a_differentiable_zero(case):
    ids, _, features, pooled, memory = given(case)
    one = torch.tensor([0, 1, 2, 3, 4, 5])  # every identity has a camera of its own
    loss = quintuplet(pooled, features, ids, one[ids], memory, one)
    loss = loss + camera_softmax(features, ids, one[ids], memory, one, temperature=0.1)
    loss.backward()
    assert loss.item() == 0
    assert features.grad.eq(0).all()
    assert pooled.grad.eq(0).all()


def test_an_empty_batch_is_zero_too():
    none = torch.empty(0, dtype=torch.int64)
    features = torch.empty(0, 3, requires_grad=True)
    memory, camids = torch.ones(2, 3), torch.tensor([0, 1])
    loss = camera_softmax(features, none, none, memory, camids, temperature=0.1)
    loss = loss + quintuplet(features, features, none, none, memory, camids)
    loss.backward()
    assert loss.item() == 0


def test_equal_images_have_finite_gradients():
    ids, camids = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.int64)
    pooled = torch.ones(4, 3, requires_grad=True)
    memory = F.normalize(torch.ones(2, 3), dim=1)
    features = memory[ids].clone().requires_grad_()
    quintuplet(pooled, features, ids, camids, memory, camids[:2]).backward()
    assert pooled.grad.isfinite().all()
    assert features.grad.isfinite().all()


def test_the_memory_is_a_constant():
    ids, camids, features, pooled, memory = given("all cameras")
    memory.requires_grad_()
    loss = camera_softmax(features, ids, camids, memory, MEMORY_CAMIDS, temperature=0.1)
    loss = loss + quintuplet(pooled, features, ids, camids, memory, MEMORY_CAMIDS)
    loss.backward()
    assert memory.grad is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camids": torch.tensor([1, 0, 1, 1])}, "image 0 is of camera 1 but its identity, row 0"),
        ({"ids": torch.tensor([0, 0, 3, 6])}, "ids run from 0 to 6; the memory has rows 0 to 5"),
        ({"ids": torch.tensor([0, 0, -1, 3])}, "ids run from -1"),
        ({"ids": torch.tensor([0, 0, 3])}, "4 features but"),
        ({"ids": torch.tensor([0.0, 0.0, 3.0, 3.0])}, "int64"),
        ({"memory": torch.zeros(6, 3)}, r"memory is .*\(6, 3\) and features are \(4, 7\)"),
        ({"memory_camids": MEMORY_CAMIDS[:5]}, "5 memory_camids for a memory of 6 rows"),
        ({"features": torch.zeros(4, 7, dtype=torch.int64)}, "floating"),
    ],
)
def test_bad_input_is_refused(changes, words):
    good = {
        "features": torch.zeros(4, 7),
        "ids": torch.tensor([0, 0, 3, 3]),
        "camids": torch.tensor([0, 0, 1, 1]),
        "memory": torch.zeros(6, 7),
        "memory_camids": MEMORY_CAMIDS,
    }
    with pytest.raises(ValueError, match=words):
        camera_softmax(**good | changes, temperature=0.1)
    with pytest.raises(ValueError, match=words):
        quintuplet(torch.zeros(4, 2), **good | changes)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_temperature_must_be_positive(temperature):
    ids, camids, features, _, memory = given("one camera")
    with pytest.raises(ValueError, match=f"temperature is {temperature}"):
        camera_softmax(features, ids, camids, memory, MEMORY_CAMIDS, temperature=temperature)


def test_logits_must_fit_the_memory():
    with pytest.raises(ValueError, match="2 images, 6 identities"):
        camera_cross_entropy(torch.zeros(2, 5), torch.tensor([0, 3]), torch.tensor([0, 1]), MEMORY_CAMIDS)
    with pytest.raises(ValueError, match=r"logits are torch\.int64"):
        camera_cross_entropy(torch.zeros(2, 6).long(), torch.tensor([0, 3]), torch.tensor([0, 1]), MEMORY_CAMIDS)


@pytest.mark.parametrize(
    ("ids", "camids", "memory_camids", "words"),
    [
        ([0, 3], [1, 1], MEMORY_CAMIDS, "image 0 is of camera 1 but its identity, row 0"),  # else a loss of infinity
        ([0, 6], [0, 0], MEMORY_CAMIDS, "ids run from 0 to 6"),
        ([0, 1], [0], MEMORY_CAMIDS, "2 ids and 1 camids"),
        ([0, 3], [0, 1], MEMORY_CAMIDS.int(), "memory_camids are torch.int32"),
    ],
)
def test_logits_of_the_wrong_camera_are_refused(ids, camids, memory_camids, words):
    with pytest.raises(ValueError, match=words):
        camera_cross_entropy(torch.zeros(2, 6), torch.tensor(ids), torch.tensor(camids), memory_camids)


def test_an_empty_batch_has_no_hinges():
    none = torch.empty(0, dtype=torch.int64)
    memory, camids = torch.ones(2, 3), torch.tensor([0, 1])
    assert quintuplet_hinges(torch.empty(0, 4), torch.empty(0, 3), none, none, memory, camids).shape == (2, 0)


def test_a_memory_of_whole_numbers_is_refused():
    ids, camids, features, _, memory = given("all cameras")
    with pytest.raises(ValueError, match=r"memory is torch\.int64"):
        camera_softmax(features, ids, camids, memory.long(), MEMORY_CAMIDS, temperature=0.1)
