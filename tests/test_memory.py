"""The memory bank: equation 1 image by image, unit rows, and a state that survives a checkpoint."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.losses import camera_softmax
from reidkit.memory import MemoryBank
from reidkit.training import fit


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def one_at_a_time(memory, features, ids, rate):
    """Equation 1 as it reads."""
    memory = memory.clone()
    for feature, j in zip(features, ids.tolist(), strict=True):
        memory[j] = rate * memory[j] + (1 - rate) * feature
        memory[j] = memory[j] / memory[j].norm()
    return memory


@given(st.lists(st.integers(0, 4), max_size=20), st.sampled_from([0.0, 0.05, 0.5, 0.9, 1.0]), st.integers(0, 99))
@settings(max_examples=60)
def test_update_is_equation_1_image_by_image(ids, rate, seed):
    bank = MemoryBank(5, 3, rate=rate).double()
    bank.fill(unit(5, 3, seed=seed).double(), torch.arange(5))
    ids = torch.tensor(ids, dtype=torch.int64)
    features = unit(len(ids), 3, seed=seed + 1).double()
    expected = one_at_a_time(bank.memory, features, ids, rate)
    bank.update(features, ids)
    torch.testing.assert_close(bank.memory, expected)
    torch.testing.assert_close(bank.memory.norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_update_by_hand_and_in_the_order_of_the_batch():
    bank = MemoryBank(2, 2, rate=0.5)
    assert bank.memory.eq(0).all()  # as the released code starts
    east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    bank.update(east, torch.tensor([1]))
    torch.testing.assert_close(bank.memory, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    bank.update(torch.cat([north, east]), torch.tensor([1, 1]))  # north-east, then nearer to east
    first = F.normalize(east + north)[0]
    torch.testing.assert_close(bank.memory[1], F.normalize((first + east[0])[None])[0])
    other = MemoryBank(2, 2, rate=0.5)
    other.update(torch.cat([east, east, north]), torch.tensor([1, 1, 1]))
    assert not torch.allclose(other.memory[1], bank.memory[1])  # the order of the repeats matters


def test_rate_is_the_share_kept():
    start, seen = unit(1, 4), unit(1, 4, seed=1)
    for rate, expected in ((1.0, start), (0.0, seen)):
        bank = MemoryBank(1, 4, rate=rate)
        bank.fill(start, torch.tensor([0]))
        bank.update(seen, torch.tensor([0]))
        torch.testing.assert_close(bank.memory, expected)


def test_a_mixture_without_direction_leaves_the_row():
    bank = MemoryBank(1, 2, rate=0.5)
    bank.update(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    bank.update(torch.tensor([[-1.0, 0.0]]), torch.tensor([0]))
    torch.testing.assert_close(bank.memory, torch.tensor([[1.0, 0.0]]))


def test_fill_starts_at_the_normalised_mean_of_those_present():
    bank = MemoryBank(3, 2, rate=0.5)
    bank.fill(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -2.0]]), torch.tensor([0, 0, 2]))
    half = 0.5**0.5
    torch.testing.assert_close(bank.memory, torch.tensor([[half, half], [0.0, 0.0], [0.0, -1.0]]))


def test_nothing_is_differentiated():
    bank = MemoryBank(2, 3, rate=0.5)
    features = unit(4, 3).requires_grad_()
    bank.update(features, torch.tensor([0, 0, 1, 1]))
    assert not bank.memory.requires_grad
    assert not list(bank.parameters())


def test_state_comes_back():
    bank, other = MemoryBank(4, 3, rate=0.5), MemoryBank(4, 3, rate=0.5)
    bank.update(unit(4, 3), torch.arange(4))
    other.load_state_dict(bank.state_dict())
    assert torch.equal(bank.memory, other.memory)


class OneBatch:
    """The same batch again and again, as `fit` takes them."""

    def __len__(self):
        return 2

    def epoch(self, e, *, device="cpu", rank=0, world=1, skip=0):
        for i in range(skip, 2):
            yield type("Batch", (), {"images": unit(6, 3, seed=i), "pids": torch.tensor([0, 0, 1, 1, 2, 2])})()


def test_a_run_resumes_with_the_memory_it_had(tmp_path):
    camids = torch.tensor([0, 0, 1])

    def run(steps, checkpoint, after=None):
        torch.manual_seed(0)
        model, bank = torch.nn.Linear(3, 4), MemoryBank(3, 4, rate=0.5)

        def objective(model, batch, step):
            f = F.normalize(model(batch.images), dim=1)
            return {"id": camera_softmax(f, batch.pids, camids[batch.pids], bank.memory, camids, temperature=0.1)}

        def remember(batch, outputs):
            bank.update(F.normalize(outputs, dim=1), batch.pids)
            if after:
                after()

        options = {"steps": steps, "stateful": {"memory": bank}, "checkpoint": checkpoint, "checkpoint_every": 1}
        fit(model, objective, OneBatch(), after_step=remember, progress=False, **options)
        return bank.memory

    whole = run(6, tmp_path / "whole.safetensors")
    count = iter(range(100))

    def killed():
        if next(count) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(6, tmp_path / "part.safetensors", killed)
    assert torch.equal(run(6, tmp_path / "part.safetensors"), whole)
    assert not torch.equal(run(3, tmp_path / "short.safetensors"), whole)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 3, 0.5), "at least 1"),
        ((3, 0, 0.5), "at least 1"),
        ((3, 3, 1.5), "rate is 1.5"),
        ((3, 3, -1), "rate is -1"),
    ],
)
def test_a_bank_that_cannot_be(arguments, words):
    with pytest.raises(ValueError, match=words):
        MemoryBank(*arguments[:2], rate=arguments[2])


@pytest.mark.parametrize(
    ("features", "ids", "words"),
    [
        (torch.zeros(2, 4), torch.tensor([0, 1]), r"expected floating \(B, 3\)"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1]), "floating"),
        (torch.zeros(2, 3), torch.tensor([0]), "one int64 each"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "one int64 each"),
        (torch.zeros(2, 3), torch.tensor([0, 2]), "ids run from 0 to 2"),
        (torch.zeros(2, 3), torch.tensor([-1, 1]), "ids run from -1"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(features, ids, words):
    bank = MemoryBank(2, 3, rate=0.5)
    for call in (bank.update, bank.fill):
        with pytest.raises(ValueError, match=words):
            call(features, ids)
    assert bank.memory.eq(0).all()


@pytest.mark.parametrize("shape", [(3,), (2, 3, 1)])
def test_features_that_are_no_matrix_are_refused(shape):
    bank = MemoryBank(2, 3, rate=0.5)
    for call in (bank.update, bank.fill):
        with pytest.raises(ValueError, match="expected floating"):
            call(torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64))
