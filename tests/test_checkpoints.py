"""What goes in comes out bit for bit, or one clear error."""

import math
import os

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from reidkit import checkpoints
from reidkit.checkpoints import CheckpointError, differences, load, load_weights, save, save_weights


def test_nested_state_comes_back_as_it_was(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    state = {
        "tensor": shared,
        "view of the same": shared.T,
        "kinds": [torch.tensor(3), torch.zeros(0, 4), torch.ones(2, dtype=torch.bfloat16), torch.tensor([True])],
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "array": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.float32(0.1),
        "plain": {1: 2, "one": (1.5, [None, True, "text"], -math.inf), "nan": math.nan, "empty": {}, "long": 2**70},
    }
    save(tmp_path / "new folder" / "s", state)
    back = load(tmp_path / "new folder" / "s")
    assert list(back) == list(state)
    for name in ("tensor", "view of the same", "channels last"):
        assert torch.equal(back[name], state[name])
    for tensor, expected in zip(back["kinds"], state["kinds"], strict=True):
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected)
    assert back["array"].dtype == state["array"].dtype
    np.testing.assert_array_equal(back["array"], state["array"])
    assert (back["scalar"], type(back["scalar"])) == (np.float32(0.1), np.float32)
    assert math.isnan(back["plain"].pop("nan"))
    assert back["plain"] == {1: 2, "one": (1.5, [None, True, "text"], -math.inf), "empty": {}, "long": 2**70}


def test_a_checkpoint_is_not_weights_alone_and_says_where_they_are(tmp_path):
    layer, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save(tmp_path / "run", {"model": layer.state_dict()})
    with pytest.raises(CheckpointError, match=r"not weights alone: its model's are load\(path\)\['model'\]"):
        load_weights(tmp_path / "run", other)
    other.load_state_dict(load(tmp_path / "run")["model"])
    assert torch.equal(other.weight, layer.weight)


def test_an_optimiser_comes_back(tmp_path):
    def trained():
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        return layer, torch.optim.Adam(layer.parameters(), lr=0.1)

    layer, optimizer = trained()
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save(tmp_path / "s", optimizer.state_dict())
    _, other = trained()
    other.load_state_dict(load(tmp_path / "s"))
    assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    for i, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            assert torch.equal(other.state_dict()["state"][i][name], value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {"b": object()}]}, r"state\.a\.1\.b: object"),
        ({"a": np.array(["x"])}, r"state\.a: an array of <U1"),
        ({(1, 2): 3}, r"state: its key \(1, 2\)"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_named(tmp_path, value, message):
    with pytest.raises(TypeError, match=f"a checkpoint cannot hold {message}"):
        save(tmp_path / "s", value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", ["reidkit.checkpoints.save_file", "os.replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, fails):
    save(tmp_path / "s", {"step": 1})

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fails, full)
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path / "s", {"step": 2})
    assert load(tmp_path / "s") == {"step": 1}
    assert os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "s"
    save(path, {"weights": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=f"{path} is truncated or not a safetensors file"):
        load(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "s"
    save(path, {"weights": torch.ones(100)})
    content = bytearray(path.read_bytes())
    content[-50] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{path} is damaged"):
        load(path)


def test_another_kind_of_file_is_refused(tmp_path):
    save_weights(tmp_path / "s", nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match="s is not a checkpoint of this version"):
        load(tmp_path / "s")
    with pytest.raises(FileNotFoundError, match=r"no such file: .*missing"):
        load(tmp_path / "missing")


def test_weights_come_back_and_other_tools_read_them(tmp_path):
    net, other = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
    )
    net.to(memory_format=torch.channels_last)
    net(torch.randn(2, 3, 5, 5))
    save_weights(tmp_path / "w", net)
    load_weights(tmp_path / "w", other)
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
        assert torch.equal(load_file(tmp_path / "w")[name], value)
    save_file({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, tmp_path / "foreign")  # without a checksum
    layer = nn.Linear(2, 1)
    load_weights(tmp_path / "foreign", layer)
    assert layer.weight.tolist() == [[1, 1]]


def test_weights_of_another_model_change_nothing(tmp_path):
    save_weights(tmp_path / "w", nn.Linear(3, 2))
    layer = nn.Linear(3, 4, bias=False)
    before = layer.weight.clone()
    with pytest.raises(CheckpointError) as error:
        load_weights(tmp_path / "w", layer)
    assert sorted(str(error.value).splitlines()[1:]) == [
        "  bias: 2 float32 / (absent)",
        "  weight: 2x3 float32 / 4x3 float32",
    ]
    assert torch.equal(layer.weight, before)


def test_differences_are_counted_where_many():
    stored, asked = {"a": {str(i): i for i in range(10)}}, {"a": {str(i): 0 for i in range(10)}}
    assert differences(stored, asked, most=2) == ["  a.1: 1 / 0", "  a.2: 2 / 0", "  ... and 7 more"]
    assert differences(stored, stored) == []


@pytest.mark.parametrize(
    "value", [{"a": {"b": torch.ones(2)}, "a.b": torch.zeros(2)}, {0: np.ones(2), "0": np.zeros(2)}]
)
def test_two_tensors_of_one_name_are_refused(tmp_path, value):
    with pytest.raises(TypeError, match="two keys spell the same place"):
        save(tmp_path / "c.safetensors", value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match=r"cannot write .*c.safetensors: I/O error: No space left"):
        save(tmp_path / "c.safetensors", {"step": 3})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "FORMAT", "reidkit-0")
        save(tmp_path / "old", {"step": 1})
    with pytest.raises(CheckpointError, match="old is not a checkpoint of this version"):
        load(tmp_path / "old")


def test_folders_are_made_on_the_way(tmp_path):
    save(tmp_path / "a" / "b" / "c", {"step": 1})
    assert load(tmp_path / "a" / "b" / "c") == {"step": 1}


def test_as_many_differences_as_may_be_shown_are_shown_alone():
    assert differences({"a": 1, "b": 2}, {"a": 0, "b": 0}, most=2) == ["  a: 1 / 0", "  b: 2 / 0"]
