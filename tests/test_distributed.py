"""Two CPU processes (gloo, loopback) against one."""

import multiprocessing
import os
import socket
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reidkit.distributed import average_gradients, batch_means, whole, world
from reidkit.embedding import embed
from reidkit.evaluation import evaluate
from reidkit.models import BNNeck, ReID, small_resnet
from reidkit.training import NonFiniteLoss, fit


class Batch(NamedTuple):
    images: torch.Tensor
    pids: torch.Tensor
    rows: torch.Tensor


class Shared:
    """4 batches an epoch of 9 of 36 images; with two ranks the shares are 5 and 4."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.images, self.pids, self.seen = rng.normal(size=(36, 3, 6, 4)), rng.integers(0, 5, 36), []

    def __len__(self):
        return 4

    def epoch(self, e, *, device="cpu", rank=0, world=1, skip=0):
        order = np.random.default_rng([1, e]).permutation(36).reshape(4, 9)
        for whole_batch in order[skip:]:
            rows = np.array_split(whole_batch, world)[rank]
            self.seen.append(rows)
            images = torch.tensor(self.images[rows], dtype=torch.float32, device=device)
            yield Batch(images, torch.tensor(self.pids[rows]), torch.tensor(rows))


class Memory:
    def __init__(self):
        self.rows, self.order = torch.zeros(5, 5), []

    def update(self, batch, outputs):
        self.order.append(batch.rows)
        for pid, logits in zip(batch.pids.tolist(), outputs, strict=True):
            self.rows[pid] = 0.5 * self.rows[pid] + 0.5 * logits

    def state_dict(self):
        return {"rows": self.rows}

    def load_state_dict(self, state):
        self.rows = state["rows"].clone()


def net(norm, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(*layers)


class Stop(Exception):
    pass


def train(model, checkpoint=None, stop=None):
    batches, memory, centers = Shared(), Memory(), nn.Embedding(5, 5, _weight=torch.zeros(5, 5))

    def objective(model, batch, step):
        logits = model(batch.images)
        return {
            "id": F.cross_entropy(logits, batch.pids),
            "center": (logits - centers(batch.pids)).square().mean(),
            "memory": (logits - memory.rows[batch.pids]).square().mean(),
        }

    def after_step(batch, outputs):
        memory.update(batch, outputs)
        if len(memory.order) == stop:
            raise Stop

    try:
        history = fit(
            model,
            objective,
            batches,
            steps=10,
            after_step=after_step,
            stateful={"memory": memory, "centers": centers},
            checkpoint=checkpoint,
            checkpoint_every=3,
            device="cpu",
            progress=False,
        )
    except Stop:
        return None
    tensors = {**model.state_dict(), "centers": centers.weight.detach(), "memory": memory.rows}
    return {"tensors": tensors, "frame": history.frame, "seen": batches.seen, "order": memory.order}


def gradients(here):
    """Of a parameter that both ranks use, one that rank 0 uses, and one that nobody uses."""
    both, first, none = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    both.grad = torch.tensor([1.0, 2.0]) * (here.rank + 1)
    if here.rank == 0:
        first.grad = torch.tensor([4.0, 6.0])
    average_gradients(here, [both, first, none])
    return [None if p.grad is None else p.grad.tolist() for p in (both, first, none)]


def nan_on_rank_1(here):
    model = net(nn.Identity())

    def objective(model, batch, step):
        loss = model(batch.images).mean()
        return {"fine": loss, "broken": loss * (float("nan") if here.rank == 1 and step == 1 else 1)}

    try:
        fit(model, objective, Shared(), steps=3, device="cpu", progress=False)
    except NonFiniteLoss as error:
        return error.step, error.terms


def judged():
    """Features of 11 images, which two ranks share unequally, and how the first 4 find their people in the rest."""
    pixels = np.random.default_rng(0).integers(0, 256, (11, 32, 16, 3), dtype=np.uint8)
    features = embed(ReID(small_resnet(4), BNNeck(32)), pixels, batch_size=4, device="cpu")
    pids, camids = np.arange(11) % 4, np.arange(11) // 4
    found = evaluate(features[:4], features[4:], pids[:4], pids[4:], camids[:4], camids[4:])
    return {"features": features, "mAP": found.mAP, "cmc": found.cmc}


def process(rank, port, folder):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    torch.set_num_threads(1)
    here = world("cpu")
    result = {
        "rank": (here.rank, here.size),
        "plain": train(net(nn.Identity(), seed=rank)),  # rank 0's weights go to everyone
        "norm": train(net(nn.BatchNorm2d(8))),
        "gradients": gradients(here),
        "nan": nan_on_rank_1(here),
        "mean": batch_means(here, torch.tensor([1.0 + rank, 4.0]), 3 if rank == 0 else 1),
        "judged": judged(),
        "whole": whole(here, {"rows": torch.arange(2 + rank), "scalar": torch.tensor(7)}, 2 + rank),
    }
    train(net(nn.BatchNorm2d(8)), checkpoint=folder / "run", stop=8)
    result["files"] = sorted(os.listdir(folder))
    result["resumed"] = train(net(nn.BatchNorm2d(8)), checkpoint=folder / "run")
    torch.save(result, folder / f"rank {rank}")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=process, args=(rank, port, folder)) for rank in range(2)]
    for each in processes:
        each.start()
    end = time.monotonic() + 120
    for each in processes:
        each.join(max(0, end - time.monotonic()))
        each.kill()
    assert [each.exitcode for each in processes] == [0, 0]
    return [torch.load(folder / f"rank {rank}", weights_only=False) for rank in range(2)]


def assert_same(run, other):
    assert run["tensors"].keys() == other["tensors"].keys()
    for name, tensor in run["tensors"].items():
        assert torch.equal(tensor, other["tensors"][name]), name
    pd.testing.assert_frame_equal(run["frame"], other["frame"], check_exact=True)


@pytest.mark.parametrize("run", ["plain", "norm", "resumed"])
def test_every_rank_ends_with_the_same(ranks, run):
    assert [rank["rank"] for rank in ranks] == [(0, 2), (1, 2)]
    assert_same(ranks[0][run], ranks[1][run])


def test_two_processes_do_what_one_does(ranks):
    """Without BatchNorm, for losses that are means over the batch; also with unequal shares, centers and a memory."""
    alone, together = train(net(nn.Identity())), ranks[0]["plain"]
    for name, tensor in alone["tensors"].items():
        torch.testing.assert_close(together["tensors"][name], tensor, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(together["frame"], alone["frame"], rtol=1e-5)


def test_every_image_is_seen_once(ranks):
    alone = train(net(nn.Identity()))
    assert len(alone["seen"]) == 10
    for batch, first, second in zip(alone["seen"], *(rank["plain"]["seen"] for rank in ranks), strict=True):
        assert (len(first), len(second)) == (5, 4)
        assert np.concatenate([first, second]).tolist() == batch.tolist()


def test_memories_see_the_whole_batch_in_its_order(ranks):
    for rank in ranks:
        for batch, updated in zip(train(net(nn.Identity()))["seen"], rank["plain"]["order"], strict=True):
            assert updated.tolist() == batch.tolist()


def test_stopped_and_resumed(ranks):
    assert ranks[0]["files"] == ["run"]
    for rank in ranks:
        assert_same(rank["resumed"], rank["norm"])


def test_two_processes_embed_and_evaluate_as_one_does(ranks):
    alone = judged()
    assert 0 < alone["mAP"] < 1
    for rank in ranks:
        for name, values in alone.items():
            np.testing.assert_allclose(rank["judged"][name], values, atol=1e-5)


def test_one_ranks_nan_stops_all(ranks):
    assert [rank["nan"] for rank in ranks] == [(1, ["broken"])] * 2


def test_means_gradients_and_wholes_by_hand(ranks):
    for rank in ranks:
        assert rank["gradients"] == [[1.5, 3.0], [2.0, 3.0], None]
        assert rank["mean"][1] == 4
        assert rank["mean"][2].tolist() == [1.25, 4.0]  # (3 * 1 + 1 * 2) / 4
        assert rank["whole"]["rows"].tolist() == [0, 1, 0, 1, 2]
        assert rank["whole"]["scalar"] == 7
    assert [rank["mean"][0] for rank in ranks] == [1.5, 0.5]


def test_one_process_takes_any_device_at_any_time():
    for device, kind in (("cpu", "cpu"), ("meta", "meta"), ("cpu", "cpu")):
        assert world(device).device.type == kind
    assert (world().rank, world().size) == (0, 1)
