"""Rows in worker processes: order, closures, failures, deaths, memory-mapped pixels, interrupts."""

import importlib
import os
import random
import signal
import subprocess
import sys
import time

import cloudpickle
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from joblib.externals.loky.backend.reduction import dumps

from reidkit import ablation
from reidkit.ablation import _by_name, ablate, summarise


def draw(seed):
    weights = torch.randn(50, 50)
    return {
        "torch": (weights @ weights).sum().item(),
        "numpy": np.random.rand(),  # noqa: NPY002
        "python": random.random(),
        "threads": torch.get_num_threads(),
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """One call with all that may happen: its workers take seconds to start."""
    folder = tmp_path_factory.mktemp("pixels")
    np.arange(6000, dtype=np.uint8).tofile(folder / "p")
    pixels = np.memmap(folder / "p", np.uint8, mode="r", shape=(10, 600))[2:5]
    secret = 40

    def mapped(seed):
        return {"sum": int(pixels.sum()) + secret, "curve": np.arange(seed), "mapped": type(pixels).__name__}

    def fails(seed):
        if seed == 0:
            raise ValueError("no such camera\nand more")
        if seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"sum": secret + seed} if seed == 2 else 3

    variants = {"mapped": mapped, "fails": fails, "draw": draw, "taken": lambda seed: {"seconds": 1}}
    with pytest.warns(RuntimeWarning, match=r"7 of 16 rows failed:\n  fails, 0: ValueError: no such camera\n"):
        frame = ablate(variants, range(4), workers=2, progress=False)
    return frame, int(pixels.sum()) + secret


def test_each_variant_can_have_seeds_of_its_own():
    frame = ablate(
        {"many": lambda seed: {"x": seed}, "one": lambda seed: {"x": -seed}}, {"one": [2], "many": [0, 1]}, workers=0
    )
    assert frame[["variant", "seed", "x"]].to_numpy().tolist() == [["many", 0, 0], ["many", 1, 1], ["one", 2, -2]]
    with pytest.raises(ValueError, match="no seeds for lone: the mapping has one"):
        ablate({"lone": lambda seed: {}}, {"one": [0]})
    with pytest.raises(ValueError, match="seeds for one, which is no variant: there are lone"):
        ablate({"lone": lambda seed: {}}, {"one": [0], "lone": [0]})


def test_rows_come_in_order_with_their_metrics(table):
    frame, total = table
    assert list(frame) == ["variant", "seed", *list(frame)[2:-2], "seconds", "error"]
    assert frame["variant"].tolist() == ["mapped"] * 4 + ["fails"] * 4 + ["draw"] * 4 + ["taken"] * 4
    assert frame["seed"].tolist() == [0, 1, 2, 3] * 4
    mapped = frame[frame["variant"] == "mapped"]
    assert mapped["sum"].tolist() == [total] * 4
    assert [len(curve) for curve in mapped["curve"]] == [0, 1, 2, 3]
    assert set(mapped["mapped"]) == {"memmap"}
    assert frame["sum"].dtype == float
    assert (mapped["seconds"] >= 0).all()


def test_failures_are_named_and_the_others_stand(table):
    frame, _ = table
    errors = frame.set_index(["variant", "seed"])["error"]
    assert errors["fails", 0] == "ValueError: no such camera"
    assert errors["fails", 1].startswith("WorkerDied: ")
    assert errors["fails", 3] == "TypeError: a variant returns a dict of metrics, not int"
    assert errors["taken", 0].startswith("ValueError: a metric cannot be named seconds")
    assert errors.notna().sum() == 7
    assert frame.set_index(["variant", "seed"])["sum"]["fails", 2] == 42
    assert "in fails" in frame.attrs["tracebacks"]["fails, 0"]
    assert "and more" in frame.attrs["tracebacks"]["fails, 0"]
    assert len(frame.attrs["tracebacks"]) == 7


def test_a_worker_draws_what_this_process_draws(table):
    here = ablate({"draw": draw}, range(4), workers=0, progress=False)
    there = table[0].query("variant == 'draw'").reset_index(drop=True)
    for name in ("torch", "numpy", "python"):
        assert here[name].tolist() == there[name].tolist()
        assert here[name].nunique() == 4
    assert set(here["threads"]) == set(there["threads"]) == {1}


def test_this_process_is_left_as_it_was():
    torch.manual_seed(1), random.seed(1)
    expected, threads = (torch.rand(1), random.random()), torch.get_num_threads()
    torch.manual_seed(1), random.seed(1)
    environment = dict(os.environ)
    ablate({"draw": draw}, [0], workers=0, progress=False)
    assert (torch.rand(1), random.random()) == expected
    assert torch.get_num_threads() == threads
    assert dict(os.environ) == environment


def test_workers_wait_for_the_next_call_in_the_same_circumstances(monkeypatch):
    def who(seed):
        return {"pid": os.getpid(), "said": os.environ.get("SAID", "")}

    def pids():
        return set(ablate({"who": who}, [0, 1], workers=1, progress=False).pid)

    (first,) = pids()
    assert pids() == {first}
    monkeypatch.setenv("SAID", "something")
    frame = ablate({"who": who}, [0, 1], workers=1, progress=False)
    assert set(frame.said) == {"something"}
    assert first not in set(frame.pid)
    assert not psutil.pid_exists(first)

    killed = psutil.Process(int(frame.pid[0]))  # while it waits: the next call has another
    killed.kill()
    until(lambda: not psutil.pid_exists(killed.pid))
    assert killed.pid not in pids()

    (last,) = pids()
    for executor, (since, started_in) in ablation._idle.items():  # nearly gone: a row given to it now would be lost
        ablation._idle[executor] = since - ablation.IDLE + 5, started_in
    assert last not in pids()


def test_a_worker_that_dies_as_it_is_taken_loses_no_row(monkeypatch):
    def who(seed):
        return {"pid": os.getpid()}

    (killed,) = ablate({"who": who}, [0], workers=1, progress=False).pid
    executor, _ = ablation._idle.popitem()
    psutil.Process(int(killed)).kill()
    until(lambda: executor._flags.broken is not None)
    taken, another = [executor], ablation._executor
    monkeypatch.setattr(ablation, "_executor", lambda: taken.pop() if taken else another())
    frame = ablate({"who": who}, [0, 1], workers=1, progress=False)
    assert frame.error.isna().all()
    assert killed not in set(frame.pid)


def test_a_worker_that_waits_has_no_old_code(tmp_path, monkeypatch):
    module = tmp_path / "edited.py"
    module.write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    edited = importlib.import_module("edited")

    def value(seed):
        return {"value": edited.value}

    def values():
        return ablate({"value": value}, [0], workers=1, progress=False).value.tolist()

    assert values() == [1]
    module.write_text("value = 22\n")
    importlib.reload(edited)
    assert values() == [22]


def test_nothing_to_run():
    with pytest.raises(ValueError, match="nothing to run"):
        ablate({}, [0])
    with pytest.raises(ValueError, match=r"seeds repeat: \[0, 0\]"):
        ablate({"a": draw}, [0, 0])


@pytest.mark.parametrize("part", [np.s_[:], np.s_[3:7], np.s_[3], np.s_[::2], np.s_[:, :5]])
def test_a_memory_map_travels_by_name_and_place(tmp_path, part):
    file = np.memmap(tmp_path / "p", np.int16, mode="w+", offset=6, shape=(1000, 50))
    file[:] = np.arange(50000).reshape(1000, 50)
    file.flush()
    array = np.memmap(tmp_path / "p", np.int16, mode="r", offset=6, shape=(1000, 50))[part]
    parcel = dumps(lambda: array, reducers={np.memmap: _by_name})
    np.testing.assert_array_equal(cloudpickle.loads(parcel)(), array)
    assert (len(parcel) < 2000) == array.flags.c_contiguous


def test_summarise_by_hand():
    frame = pd.DataFrame({"variant": ["b", "b", "b", "a"], "seed": [0, 1, 2, 0], "mAP": [1.0, 3.0, np.nan, 5.0]})
    table = summarise(frame, "mAP")
    assert table.index.tolist() == ["b", "a"]
    assert table["mAP"].columns.tolist() == ["mean", "std", "n"]
    np.testing.assert_allclose(table["mAP"], [[2, 2**0.5, 2], [5, np.nan, 1]])


SCRIPT = """
import os, time
from reidkit.ablation import ablate

def sleep(seed):
    open(os.path.join(FOLDER, str(os.getpid())), "w").close()
    time.sleep(600)

try:
    ablate({"sleep": sleep}, range(2), workers=1)
except KeyboardInterrupt:
    print("stopped", flush=True)
ablate({"sleep": sleep}, range(2), workers=1)
"""


def test_no_worker_outlives_an_interrupt_or_its_parent(tmp_path):
    """A script without a __main__ guard gets Ctrl-C (as a terminal sends it, to the whole group), then SIGKILL."""
    pids = tmp_path / "pids"
    pids.mkdir()
    (tmp_path / "script.py").write_text(SCRIPT.replace("FOLDER", repr(str(pids))))
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def workers(number):
        until(lambda: len(os.listdir(pids)) == number or parent.poll() is not None)
        children = psutil.Process(parent.pid).children(recursive=True)
        assert {str(child.pid) for child in children} & set(os.listdir(pids))
        return children

    try:
        first = workers(1)
        os.killpg(parent.pid, signal.SIGINT)
        second = workers(2)
        until(lambda: not any(str(child.pid) in os.listdir(pids) and child.is_running() for child in first))
        parent.kill()
        until(lambda: not any(child.is_running() for child in second))
        output = parent.communicate(timeout=180)[0]
        assert output.startswith("stopped\n")
        assert "Traceback" not in output
    finally:
        parent.kill()


def until(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
