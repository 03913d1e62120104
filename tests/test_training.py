"""fit against a loop written out, its errors, and its resuming after a real SIGKILL."""

import math
import multiprocessing
import os
import pickle
import random
import signal
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reidkit.checkpoints import CheckpointError
from reidkit.training import NonFiniteLoss, fit, warmup_cosine, warmup_milestones


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Batch(NamedTuple):
    images: torch.Tensor
    pids: torch.Tensor


class Output(NamedTuple):
    features: torch.Tensor
    logits: torch.Tensor


class Stub:
    """3 batches an epoch of 4 identities x 2 images, a pure function of (epoch, position)."""

    def __init__(self, length=3):
        self.length, self.asked = length, []

    def __len__(self):
        return self.length

    def epoch(self, e, *, device="cpu", rank=0, world=1, skip=0):
        self.asked.append((e, skip))
        for position in range(skip, self.length):
            rng = np.random.default_rng([e, position])
            pids = np.repeat(rng.permutation(6)[:4], 2)
            images = rng.normal(size=(8, 3, 8, 4)) + pids[:, None, None, None] / 3
            yield Batch(torch.tensor(images, dtype=torch.float32, device=device), torch.tensor(pids, device=device))


class Net(nn.Module):
    def __init__(self, dropout=0.5, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Linear(8, 6)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images):
        features = self.norm(self.conv(images)).relu().mean((2, 3))  # (N, 8)
        return Output(features, self.head(self.dropout(features)))


class Memory:
    """A running mean per identity in plain tensors, with a label array and a count beside it."""

    def __init__(self):
        self.rows, self.labels, self.updates = torch.zeros(6, 8), np.arange(6), 0

    def update(self, batch, outputs):
        for pid, feature in zip(batch.pids.tolist(), outputs.features, strict=True):
            self.rows[pid] = 0.5 * self.rows[pid] + 0.5 * feature
        self.updates += 1

    def state_dict(self):
        return {"rows": self.rows, "labels": self.labels, "updates": self.updates}

    def load_state_dict(self, state):
        self.rows, self.labels, self.updates = state["rows"].clone(), state["labels"], state["updates"]


class Centers(nn.Module):
    def __init__(self):
        super().__init__()
        self.centers = nn.Parameter(torch.zeros(6, 8))


def identify(model, batch, step):
    return {"id": F.cross_entropy(model(batch.images).logits, batch.pids)}


def same_state(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


# --- schedules


def test_warmup_cosine_by_hand():
    factor = warmup_cosine(10, warmup=0.2)
    assert [factor(0), factor(1), factor(2)] == [0.5, 1.0, 1.0]
    assert factor(6) == pytest.approx(0.5)
    assert factor(9) == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert warmup_cosine(1)(0) == 1


def test_warmup_milestones_of_the_papers():
    """120 epochs of 10 steps: from 0.01 linearly over 10 epochs, a tenth from epoch 40, a hundredth from epoch 70."""
    factor = warmup_milestones(1200, (40 / 120, 70 / 120), warmup=10 / 120, start=0.01)
    expected = {0: 0.01, 50: 0.505, 100: 1, 399: 1, 400: 0.1, 699: 0.1, 700: 0.01, 1199: 0.01}
    assert {step: factor(step) for step in expected} == pytest.approx(expected)


def test_schedules_take_fractions():
    with pytest.raises(ValueError, match=r"milestone 1 = 70.*fraction"):
        warmup_milestones(120, (0.3, 70))
    with pytest.raises(ValueError, match=r"warmup = 10.*fraction"):
        warmup_cosine(120, warmup=10)


# --- the loop


def test_equals_a_loop_written_out():
    """Adam 3.5e-3, decay 5e-4, 10 % warm-up and cosine, 7 steps over 3 epochs of 3 batches; two weighted terms."""

    def objective(model, batch, step):
        output = model(batch.images)
        return {"id": F.cross_entropy(output.logits, batch.pids), "size": output.features.square().mean()}

    model = Net(dropout=0)
    history = fit(model, objective, Stub(), steps=7, weights={"size": 0.3}, progress=False)

    reference, batches, logged = Net(dropout=0).train(), Stub(), []
    reference.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(reference.parameters(), lr=3.5e-3, weight_decay=5e-4)
    for step in range(7):
        batch = list(batches.epoch(step // 3))[step % 3]
        for group in optimizer.param_groups:
            group["lr"] = 3.5e-3 * warmup_cosine(7)(step)
        terms = objective(reference, batch, step)
        loss = terms["id"] + 0.3 * terms["size"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        logged.append([step, step // 3, group["lr"], loss.item(), terms["id"].item(), terms["size"].item()])
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert list(history.frame) == ["step", "epoch", "lr", "loss", "id", "size"]
    np.testing.assert_allclose(history.frame.to_numpy(float), logged, rtol=1e-5)
    assert history.frame["step"].dtype == history.frame["epoch"].dtype == np.int64
    assert history.images_per_second == pytest.approx(7 * 8 / history.seconds)


def test_learns():
    history = fit(Net(dropout=0), identify, Stub(10), steps=100, lr=0.03, progress=False)
    assert history.frame["id"].iloc[-5:].mean() < 0.75 * history.frame["id"].iloc[0]


def test_the_seed_decides_and_the_callers_streams_stay():
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    frames, models = [], []
    for seed in (0, 0, 1):
        torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
        models.append(Net())
        frames.append(fit(models[-1], identify, Stub(), steps=4, seed=seed, progress=False).frame)
        assert (torch.rand(1), np.random.rand(), random.random()) == expected  # noqa: NPY002
    assert frames[0].equals(frames[1])
    assert same_state(models[0], models[1])
    assert not frames[0].equals(frames[2])  # other dropout masks


def test_after_step_sees_the_last_outputs_without_gradients_after_the_update():
    model, seen = Net(dropout=0), []

    def objective(model, batch, step):
        model(batch.images * 0)
        output = model(batch.images)
        seen.append([step, output.features.detach().clone(), model.head.bias.detach().clone()])
        return {"id": F.cross_entropy(output.logits, batch.pids)}

    def after_step(batch, outputs):
        _, features, bias = seen[-1]
        assert torch.equal(outputs.features, features)
        assert not outputs.features.requires_grad
        assert not torch.is_grad_enabled()
        assert not torch.equal(model.head.bias, bias)
        assert len(batch.pids) == 8

    fit(model, objective, Stub(), steps=4, after_step=after_step, progress=False)
    assert [step for step, *_ in seen] == [0, 1, 2, 3]
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_after_step_without_a_forward_gets_none():
    seen = []
    fit(
        Net(),
        lambda model, batch, step: {"decay": model.head.weight.square().sum()},
        Stub(),
        steps=1,
        after_step=lambda batch, outputs: seen.append(outputs),
        progress=False,
    )
    assert seen == [None]


def test_before_epoch_may_change_the_batches():
    batches, epochs = Stub(3), []

    def before_epoch(epoch):
        epochs.append(epoch)
        batches.length = epoch + 1
        model.eval()

    model = Net()
    history = fit(model, identify, batches, steps=6, before_epoch=before_epoch, progress=False)
    assert epochs == [0, 1, 2]
    assert history.frame["epoch"].tolist() == [0, 1, 1, 2, 2, 2]
    assert model.training


def test_stateful_modules_are_trained_too():
    centers = Centers()

    def objective(model, batch, step):
        return {"center": (model(batch.images).features - centers.centers[batch.pids]).square().mean()}

    fit(Net(), objective, Stub(), steps=3, stateful={"centers": centers}, progress=False)
    assert (centers.centers != 0).any()


def test_an_optimizer_of_ones_own_keeps_its_rates():
    model = Net(dropout=0)
    groups = [{"params": model.conv.parameters(), "lr": 0.0}, {"params": model.head.parameters(), "lr": 0.1}]
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(groups)
    fit(model, identify, Stub(), steps=3, optimizer=optimizer, progress=False)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.1]


@pytest.mark.filterwarnings("ignore:this processor only emulates bf16")
def test_bf16_then_float32_in_one_notebook():
    kinds = []

    def objective(model, batch, step):
        output = model(batch.images)
        kinds.append((output.logits.dtype, torch.is_autocast_enabled("cpu")))
        return {"id": F.cross_entropy(output.logits, batch.pids)}

    models, frames = [Net(dropout=0), Net(dropout=0), Net(dropout=0)], []
    for model, precision in zip(models, ("no", "bf16", "no"), strict=True):
        frames.append(fit(model, objective, Stub(), steps=3, precision=precision, progress=False).frame)
    assert set(kinds) == {(torch.float32, False)}
    assert same_state(models[0], models[2])
    assert not same_state(models[0], models[1])
    np.testing.assert_allclose(frames[0]["id"], frames[1]["id"], atol=0.05)


@pytest.mark.filterwarnings("ignore:this processor only emulates bf16")
def test_an_error_within_bf16_leaves_autocast():
    def objective(model, batch, step):
        return {"id": model(batch.images[:, :2]).logits.sum()}

    with pytest.raises(RuntimeError, match="channels"):
        fit(Net(), objective, Stub(), steps=1, precision="bf16", progress=False)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("have", [(), ("avx2",), ("avx2", "avx512_bf16"), ("avx2", "amx_tile")])
def test_emulated_bf16_is_one_warning(monkeypatch, have):
    for flag in ("avx2", "avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{flag}_supported", lambda flag=flag: flag in have)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(Net(), identify, Stub(), steps=2, precision="bf16", device="cpu", progress=False)
        fit(Net(), identify, Stub(), steps=1, device="cpu", progress=False)
    said = [str(one.message) for one in caught if "bf16" in str(one.message)]
    assert len(said) == (have == ("avx2",))


def test_channels_last():
    model = Net()
    fit(model, identify, Stub(), steps=1, progress=False)
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_quiet_where_nobody_looks(capfd):
    fit(Net(), identify, Stub(), steps=2)
    assert capfd.readouterr() == ("", "")


# --- errors


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda loss: loss, TypeError, "step 0: the objective must return a dict.*returned Tensor"),
        (lambda loss: {}, TypeError, "returned an empty one"),
        (lambda loss: {"id": loss[None]}, TypeError, r"'id' must be a scalar tensor.*not shape \(1,\)"),
        (lambda loss: {"id": 1.0}, TypeError, "'id' must be a scalar tensor.*not float"),
        (lambda loss: {"loss": loss}, ValueError, "cannot be named 'loss'"),
        (lambda loss: {"id": loss.detach()}, ValueError, "no term depends on the model's parameters: id"),
    ],
)
def test_objectives_that_return_something_else(returned, error, message):
    def objective(model, batch, step):
        return returned(identify(model, batch, step)["id"])

    model = Net()
    with pytest.raises(error, match=message):
        fit(model, objective, Stub(), steps=3, progress=False)
    assert torch.equal(model.conv.weight, Net().conv.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": 2.5}, "steps=2.5: expected a whole number"),
        ({"precision": "fp16"}, "precision='fp16'.*'bf16'"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
        ({"weights": {"triplet": 1.0}}, "weights name 'triplet', but the objective returned 'id'"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(Net(), identify, Stub(), **{"steps": 3, "progress": False, **arguments})


def test_empty_batches():
    with pytest.raises(ValueError, match="epoch 0 of `batches` is empty"):
        fit(Net(), identify, Stub(0), steps=3, progress=False)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named_before_it_does_harm(value):
    def objective(model, batch, step):
        terms = identify(model, batch, step)
        return terms | {"triplet": terms["id"] * (value if step == 2 else 1), "centre": terms["id"] * 2}

    model, weights = Net(), []
    with pytest.raises(
        NonFiniteLoss, match=r"step 2: the loss term 'triplet' is not finite \(id = .*triplet = "
    ) as error:
        fit(
            model,
            objective,
            Stub(),
            steps=5,
            progress=False,
            after_step=lambda batch, outputs: weights.append(model.conv.weight.clone()),
        )
    assert (error.value.step, error.value.terms) == (2, ["triplet"])
    assert isinstance(error.value, FloatingPointError)
    copy = pickle.loads(pickle.dumps(error.value))
    assert (str(copy), copy.step, copy.terms) == (str(error.value), 2, ["triplet"])
    assert torch.equal(model.conv.weight, weights[1])


def test_a_gradient_that_is_not_finite_does_no_harm_either():
    def objective(model, batch, step):
        return {"distance": (model(batch.images).features * 0).sum().sqrt()}  # value 0, slope infinite

    model = Net()
    with pytest.raises(NonFiniteLoss, match="step 0: every loss is finite, but a gradient is not"):
        fit(model, objective, Stub(), steps=1, progress=False)
    assert torch.equal(model.conv.weight, Net().conv.weight)


# --- checkpoints


def train(checkpoint, kill_at=None, epochs=None, **options):
    """A run with dropout, trained centers, a memory, and a term that needs the memory."""
    model, memory, centers = Net(), Memory(), Centers()

    def objective(model, batch, step):
        output = model(batch.images)
        return {
            "id": F.cross_entropy(output.logits, batch.pids),
            "memory": (output.features - memory.rows[batch.pids]).square().mean(),
            "center": (output.features - centers.centers[batch.pids]).square().mean(),
        }

    def after_step(batch, outputs):
        memory.update(batch, outputs)
        if memory.updates == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    history = fit(
        model,
        objective,
        Stub(5),
        after_step=after_step,
        before_epoch=None if epochs is None else epochs.append,
        stateful={"memory": memory, "centers": centers},
        checkpoint=checkpoint,
        **{"steps": 17, "seed": 3, "checkpoint_every": 4, "weights": {"memory": 0.1}, "progress": False} | options,
    )
    return model, memory, centers, history


def killed(path, **options):
    process = multiprocessing.get_context("spawn").Process(target=train, args=(path,), kwargs=options)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def assert_same_run(run, other):
    assert same_state(run[0], other[0])
    assert torch.equal(run[1].rows, other[1].rows)
    assert run[1].updates == other[1].updates == 17
    assert torch.equal(run[2].centers, other[2].centers)
    assert run[3].frame.equals(other[3].frame)


def test_killed_in_mid_epoch_and_resumed(tmp_path):
    """Killed in step 15 (epoch 2, position 4), with the last checkpoint after step 12 in mid-epoch."""
    path = tmp_path / "a run.safetensors"
    killed(path, kill_at=15)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    resumed = train(path)
    assert_same_run(resumed, train(None))
    assert resumed[1].updates == 17


def test_stopped_and_resumed_with_before_epoch(tmp_path):
    """The checkpoint due after step 8 waits for the epoch's end at 10; resuming begins with before_epoch(2)."""
    path, epochs = tmp_path / "run", []

    def stop(epoch):
        epochs.append(epoch)
        if epoch == 3:
            raise KeyboardInterrupt

    class Stopping(list):
        append = staticmethod(stop)

    with pytest.raises(KeyboardInterrupt):
        train(path, epochs=Stopping())
    again = []
    resumed = train(path, epochs=again)
    assert (epochs, again) == ([0, 1, 2, 3], [3])
    assert_same_run(resumed, train(None, epochs=[]))


def test_a_finished_run_returns_at_once(tmp_path):
    first = train(tmp_path / "run")
    model, memory, centers = Net(seed=1), Memory(), Centers()
    history = fit(
        model,
        lambda model, batch, step: pytest.fail("trained again"),
        Stub(5),
        stateful={"memory": memory, "centers": centers},
        checkpoint=tmp_path / "run",
        **{"steps": 17, "seed": 3, "weights": {"memory": 0.1}, "progress": False},
    )
    assert_same_run(first, (model, memory, centers, history))
    assert history.seconds == first[3].seconds


def test_a_checkpoint_at_each_epochs_end_by_default(tmp_path):
    path, there = tmp_path / "run", []

    def after_step(batch, outputs):
        there.append(path.exists())

    fit(Net(), identify, Stub(3), steps=5, after_step=after_step, checkpoint=path, progress=False)
    assert there == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 18}, "steps: 17 / 18"),
        ({"seed": 4}, "seed: 3 / 4"),
        ({"lr": 1e-3}, r"optimizer.group 0.lr: 0.0035 / 0.001"),
        ({"weights": {"memory": 0.2}}, "weights.memory: 0.1 / 0.2"),
        ({"schedule": lambda step: 1.0}, "schedule: "),
        ({"precision": "bf16"}, "precision: no / bf16"),
    ],
)
def test_a_checkpoint_of_another_run_says_what_differs(tmp_path, options, message):
    train(tmp_path / "run", steps=17)
    with pytest.raises(CheckpointError, match=rf"run belongs to another run[^/]*/ asked\):(.|\n)*{message}"):
        train(tmp_path / "run", **options)


def test_a_checkpoint_of_another_model_changes_nothing(tmp_path):
    fit(Net(), identify, Stub(), steps=2, checkpoint=tmp_path / "run", progress=False)
    other = Net()
    other.head = nn.Linear(8, 7)
    before = other.head.weight.clone()
    with pytest.raises(CheckpointError, match=r"model.head.weight: 6x8 float32 / 7x8 float32"):
        fit(other, identify, Stub(), steps=2, checkpoint=tmp_path / "run", progress=False)
    assert torch.equal(other.head.weight, before)


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "run"
    fit(Net(), identify, Stub(), steps=2, checkpoint=path, progress=False)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"{path} is truncated"):
        fit(Net(), identify, Stub(), steps=2, checkpoint=path, progress=False)


# --- with the kit's own parts


def test_with_the_kits_batches_sampler_and_model(tmp_path):
    from reidkit.loading import Batches
    from reidkit.models import BNNeck, ReID, small_resnet
    from reidkit.samplers import PKSampler

    pids, camids = np.repeat(np.arange(8), 6), np.tile(np.arange(3), 16)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 32, 16, 3), dtype=np.uint8)
    pixels //= 2
    pixels += (pids * 15).astype(np.uint8)[:, None, None, None]

    def run(**options):
        model = ReID(small_resnet(8), BNNeck(64), 8)
        batches = Batches(pixels, pids, camids, PKSampler(pids, p=4, k=2))
        return model, fit(model, identify, batches, steps=9, progress=False, **options).frame

    class Stop(Exception):
        pass

    def stop(batch, outputs):
        if (tmp_path / "run").exists():
            raise Stop

    with pytest.raises(Stop):
        run(checkpoint=tmp_path / "run", checkpoint_every=4, after_step=stop)
    model, frame = run(checkpoint=tmp_path / "run", checkpoint_every=4)
    unbroken, expected = run()
    assert frame.equals(expected)
    assert same_state(model, unbroken)


@pytest.mark.parametrize(("precision", "warned"), [("bf16", True), ("no", False)])
def test_only_bf16_is_warned_about(monkeypatch, precision, warned):
    monkeypatch.setattr("reidkit.training._emulates_bf16", lambda: True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(Net(), identify, Stub(), steps=1, precision=precision, device="cpu", progress=False)
    assert any("only emulates bf16" in str(one.message) for one in caught) == warned


@pytest.mark.parametrize("steps", [1, 5])
def test_a_schedule_is_asked_for_the_steps_of_the_run_alone(steps):
    factors = [1 / (step + 1) for step in range(steps)]
    history = fit(Net(), identify, Stub(), steps=steps, lr=1.0, schedule=factors.__getitem__, progress=False)
    assert history.frame["lr"].tolist() == factors


def test_no_checkpoint_before_it_is_due(tmp_path):
    path, there = tmp_path / "run", []
    options = {"checkpoint": path, "checkpoint_every": 5, "before_epoch": lambda epoch: None}
    fit(Net(), identify, Stub(2), steps=7, after_step=lambda *_: there.append(path.exists()), progress=False, **options)
    assert there == [False] * 6 + [True]  # due after step 5, written at the end of its epoch


def test_a_checkpoint_written_is_not_due_again(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr("reidkit.checkpoints.save", lambda path, state: saved.append(state["run"]["step"]))
    fit(Net(), identify, Stub(2), steps=9, checkpoint=tmp_path / "run", checkpoint_every=3, progress=False)
    assert saved == [3, 6, 9]
