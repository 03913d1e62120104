import json

import numpy as np
import pandas as pd
import pytest
import torch

from reidkit.results import save_results, write_json


def load_strictly(path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_rows_and_extras_in_strict_json(tmp_path):
    rows = pd.DataFrame({"variant": ["a", "b"], "mAP": np.array([0.5, np.nan], np.float32), "n": np.array([1, 2])})
    returned = save_results(
        tmp_path / "results.json",
        rows,
        per_camera=np.array([[1.0, np.inf]]),
        loss=torch.tensor(2.5, requires_grad=True),
        curve=torch.ones(2, requires_grad=True),
        flag=np.bool_(True),
        missing=pd.NA,
        by_rank={1: 0.5, np.int64(5): 0.75},
        history=pd.DataFrame({"step": [0, 1]}),
    )
    read = load_strictly(tmp_path / "results.json")
    assert read == returned
    assert read["schema"] == 1
    assert read["rows"] == [{"variant": "a", "mAP": 0.5, "n": 1}, {"variant": "b", "mAP": None, "n": 2}]
    assert read["per_camera"] == [[1.0, None]]
    assert (read["loss"], read["curve"], read["flag"], read["missing"]) == (2.5, [1.0, 1.0], True, None)
    assert read["by_rank"] == {"1": 0.5, "5": 0.75}
    assert read["history"] == [{"step": 0}, {"step": 1}]
    assert read["sections"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_named_index_becomes_columns():
    table = pd.DataFrame({"variant": ["a", "a"], "seed": [0, 1], "mAP": [0.5, 0.7]}).groupby(["variant", "seed"]).mean()
    assert save_results("", table)["rows"] == [
        {"variant": "a", "seed": 0, "mAP": 0.5},
        {"variant": "a", "seed": 1, "mAP": 0.7},
    ]


def test_no_path_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert save_results("", [{"mAP": 0.5}], sections={"training": 1.5})["sections"] == {"training": 1.5}
    assert list(tmp_path.iterdir()) == []


def test_what_json_cannot_hold_is_named_and_nothing_written(tmp_path):
    target = tmp_path / "results.json"
    target.write_text("before")
    with pytest.raises(TypeError, match=r"results\['rows'\]\[0\]\['model'\] is Linear"):
        save_results(target, [{"model": torch.nn.Linear(1, 1)}])
    with pytest.raises(TypeError, match=r"the key \(1, 2\)"):
        save_results(target, [{(1, 2): 0}])
    with pytest.raises(ValueError, match="run is written by the kit"):
        save_results(target, [], run={})
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "results.json"
    target.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reidkit.results.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_json(target, {"a": 1})
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_environment_says_versions_and_machine_but_no_names():
    environment = save_results("", [])["environment"]
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    assert environment["machine"]["cores"] >= 1
    assert environment["machine"]["threads"] == torch.get_num_threads()
    assert set(environment) == {"versions", "machine", "date"}
    assert set(environment["machine"]) == {"system", "processor", "cores", "threads", "accelerator"}


def test_two_rows_of_one_variant_and_seed_are_refused(tmp_path):
    rows = [{"variant": "ID", "seed": 0, "gap": gap, "mAP": 0.5} for gap in (0.5, 1.0)]
    with pytest.raises(ValueError, match=r"1 rows stand there twice: ID, seed 0; name them apart"):
        save_results(tmp_path / "results.json", rows)
    assert not list(tmp_path.iterdir())
