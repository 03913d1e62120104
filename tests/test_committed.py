"""What `make notebooks` keeps and `make verify` compares."""

import copy
import json
import sys
from pathlib import Path

import nbformat
import pytest
import small

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import committed

ROWS = [
    {"variant": name, "seed": seed, "mAP": base + spread * seed, "seconds": 3.0, "error": None}
    for seed in range(3)
    for name, base, spread in (("a", 0.4, 0.01), ("b", 0.6, 0.03))
]


@pytest.fixture
def results(tmp_path):
    return json.loads((small.finished(tmp_path, rows=ROWS) / "results.json").read_text())


def changed(results, by, row=0, processor="P1"):
    other = copy.deepcopy(results)
    other["rows"][row]["mAP"] += by
    other["rows"][row]["seconds"] = 99.0
    other["environment"]["machine"]["processor"] = processor
    return other


def test_the_same_machine_to_a_thousandth(results):
    assert committed.compare(results, changed(results, 0.0009)) == ([], "6 numbers compared to 1e-3 (same machine)")
    differences, _ = committed.compare(results, changed(results, -0.0011, row=1))
    assert differences == ["b, 0, mAP: 0.6000 committed, 0.5989 now, more than 0.0010 apart"]


def test_another_machine_to_three_standard_deviations(results):
    # sample variances over three seeds: 0.01² and 0.03²; pooled 0.0005, so 3 s = 0.0671
    differences, how = committed.compare(results, changed(results, 0.0670, processor="P2"))
    assert differences == []
    assert "three standard deviations over seeds" in how
    (line,), how = committed.compare(results, changed(results, -0.0672, processor="P2"))
    assert how.endswith("16.7% lie further apart (of two seeds on one machine 3.4% would)")  # 1 of 6
    assert line == "a, 0, mAP: 0.4000 committed, 0.3328 now, more than 0.0671 apart"
    assert not committed.same_machine(results, changed(results, 0, processor="P2"))


def test_other_versions_are_another_machine(results):
    other = changed(results, 0.01)
    other["environment"]["versions"]["torch"] = "2.12"
    assert committed.compare(results, other)[0] == []


def test_one_seed_is_not_judged_elsewhere(results):
    results["rows"] = results["rows"][:2]
    differences, how = committed.compare(results, changed(results, 0.5, processor="P2"))
    assert differences == []
    assert how.startswith("0 numbers compared")
    assert how.endswith("2 not judged: one seed")
    assert committed.compare(results, changed(results, 0.5))[0]  # here it is


def test_rows_that_came_or_went(results):
    other = copy.deepcopy(results)
    other["rows"][0]["variant"] = "new"
    assert committed.compare(results, other)[0] == ["other rows: only committed ['a, 0'], only fresh ['new, 0']"]
    del other["rows"][3:]
    assert "only committed" in committed.compare(results, other)[0][0]
    other = copy.deepcopy(results)
    for row in other["rows"]:
        del row["mAP"]
    assert committed.compare(results, other)[0] == ["the fresh rows have no column mAP"]
    other = copy.deepcopy(results)
    other["run"]["parameters"]["gap"] = 0.5
    assert "other parameters" in committed.compare(results, other)[0][0]


def test_a_row_that_fails_now_differs_and_one_that_always_did_does_not(results):
    other = copy.deepcopy(results)
    other["rows"][0]["mAP"] = None
    assert "nan now" in committed.compare(results, other)[0][0]
    assert committed.compare(other, copy.deepcopy(other))[0] == []


def test_keep_and_verify(tmp_path, capsys):
    notebook = small.notebook(tmp_path / "notebooks" / "01_small.ipynb")
    numbers, runs = tmp_path / "demo", tmp_path / "runs"
    words = ["--runs", str(runs), "--notebooks", str(tmp_path / "notebooks"), "--numbers", str(numbers)]
    assert committed.main(["keep", *words]) == 1
    assert "no finished demo run of this very notebook and code" in capsys.readouterr().out

    run = committed.prepare(notebook, {"profile": "demo"}, runs)
    made = small.finished(tmp_path / "made", "01_small", rows=ROWS)
    run.folder.parent.mkdir(parents=True)
    made.rename(run.folder)
    executed = nbformat.read(notebook, as_version=4)
    executed.cells[2].outputs = [nbformat.v4.new_output("stream", name="stdout", text="43 %\n")]
    executed.cells[2].execution_count = 3
    nbformat.write(executed, run.folder / "01_small.ipynb")
    assert committed.main(["verify", *words]) == 1
    assert "nothing committed to compare with" in capsys.readouterr().out
    assert committed.main(["keep", *words]) == 0
    assert nbformat.read(notebook, as_version=4).cells[2].outputs[0].text == "43 %\n"
    kept = json.loads((numbers / "01_small.json").read_text())
    assert kept["rows"] == ROWS
    assert str(tmp_path) not in json.dumps(kept)

    assert committed.main(["verify", *words]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "01_small: agrees; 6 numbers compared to 1e-3 (same machine)"
    kept["rows"][0]["mAP"] += 0.1
    kept["run"]["notebook_hash"] = "older"
    (numbers / "01_small.json").write_text(json.dumps(kept))
    assert committed.main(["verify", *words]) == 1
    out = capsys.readouterr().out
    assert "01_small: DIFFERS" in out
    assert "the notebook's text has changed since" in out
    assert "a, 0, mAP: 0.5000 committed, 0.4000 now" in out
