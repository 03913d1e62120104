import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from reidkit import pretrained
from reidkit.checkpoints import CheckpointError
from reidkit.models import BNNeck, ReID, small_resnet
from reidkit.pretrained import stand_in

TINY = {"width": 4, "ids": 3, "steps": 3, "size": (32, 16), "progress": False}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache in which the tiny stand-in has been made."""
    folder = tmp_path_factory.mktemp("cache")
    stand_in(**TINY, cache=folder)
    return folder


def weights(backbone):
    return {name: tensor.clone() for name, tensor in backbone.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_is_trained_once_and_then_opened(cache, monkeypatch):
    monkeypatch.setattr(pretrained, "_train", _never)
    first, second = stand_in(**TINY, cache=cache), stand_in(**TINY, cache=cache)
    assert equal(weights(first), weights(second))
    assert not equal(weights(first), weights(small_resnet(4)))
    first.conv1.weight.data.zero_()
    assert second.conv1.weight.any()  # each call gives a backbone of its own
    assert [path.name[:9] for path in cache.glob("*.safetensors")] == ["stand_in-"]


def test_of_two_first_users_one_trains_it(tmp_path, monkeypatch):
    asked = []

    def train(backbone, folder, **_):
        asked.append(folder)
        time.sleep(0.5)

    monkeypatch.setattr(pretrained, "_train", train)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: stand_in(**TINY, cache=tmp_path / "new"), range(2))
    assert len(asked) == 1
    assert equal(weights(first), weights(second))
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".safetensors"]  # no lock is left


def _never(*_, **__):
    raise AssertionError("trained again")


def test_it_is_the_same_whatever_the_threads_and_the_global_seed(cache, tmp_path):
    (tmp_path / "plaza").symlink_to(cache / "plaza")  # the pictures are made already
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(123)
    try:
        again = stand_in(**TINY, cache=tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert equal(weights(again), weights(stand_in(**TINY, cache=cache)))


@pytest.mark.parametrize("changed", [{"steps": 4}, {"ids": 4}, {"seed": 1}, {"world": 1001}, {"width": 8}])
def test_other_settings_are_another_file(cache, monkeypatch, changed):
    asked = []
    monkeypatch.setattr(pretrained, "_train", lambda backbone, folder, **settings: asked.append(settings))
    monkeypatch.setattr(pretrained.checkpoints, "save_weights", lambda file, model: asked.append(file))
    monkeypatch.setattr(pretrained.checkpoints, "load_weights", lambda file, model: None)
    stand_in(**TINY | changed, cache=cache)
    settings, file = asked
    assert changed.items() <= settings.items()
    assert file.parent == cache
    assert not file.exists()


def test_it_sees_people_of_its_own_world_without_camera_differences(monkeypatch, tmp_path):
    seen = {}

    def read(root, **protocol):
        seen.update(protocol)
        raise InterruptedError

    monkeypatch.setattr(pretrained.plaza, "read", read)
    with pytest.raises(InterruptedError):
        stand_in(cache=tmp_path, progress=False)
    assert (seen["gap"], seen["world"], seen["train_ids"]) == (0.0, 1000, 300)


def test_the_kits_cache_is_the_default(cache, monkeypatch):
    monkeypatch.setenv("REIDKIT_CACHE", str(cache))
    monkeypatch.setattr(pretrained, "_train", _never)
    assert equal(weights(stand_in(**TINY)), weights(stand_in(**TINY, cache=cache)))


def test_a_failed_training_leaves_no_weights(cache, monkeypatch):
    before = sorted(cache.glob("*"))
    monkeypatch.setattr(pretrained, "fit", _stop)
    with pytest.raises(KeyboardInterrupt):
        stand_in(**TINY | {"steps": 5}, cache=cache)
    assert sorted(cache.glob("*")) == before


def _stop(*_, **__):
    raise KeyboardInterrupt


def test_damaged_weights_are_refused(cache, tmp_path):
    (file,) = cache.glob("stand_in-*")
    (tmp_path / file.name).write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="delete it"):
        stand_in(**TINY, cache=tmp_path)


def test_several_processes_do_not_train_it(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "processes", lambda: SimpleNamespace(size=2))
    with pytest.raises(RuntimeError, match="single process"):
        stand_in(**TINY, cache=tmp_path)
    stand_in(**TINY, cache=cache)  # once there, all may open it


def test_identity_loss_is_cross_entropy_with_smoothed_targets():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
    pids = torch.tensor([0, 2])
    rows = []
    for row, pid in zip(logits, pids, strict=True):
        log_p = row - row.exp().sum().log()
        target = torch.full((3,), 0.1 / 3)
        target[pid] += 0.9
        rows.append(-(target * log_p).sum())
    found = pretrained._identity_loss(
        lambda images: SimpleNamespace(logits=logits), SimpleNamespace(images=None, pids=pids), 0
    )
    torch.testing.assert_close(found["id"], torch.stack(rows).mean())


def test_a_warm_start_is_one_line(cache):
    model = ReID(stand_in(**TINY, cache=cache), BNNeck(32), 5)
    assert model(torch.zeros(2, 3, 32, 16)).logits.shape == (2, 5)
    assert isinstance(model, nn.Module)
    assert all(p.requires_grad for p in model.backbone.parameters())
