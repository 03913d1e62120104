"""tools/long.py: rows of finished runs become a stored table that the ledger opens."""

import importlib.util
import json
from pathlib import Path

import pytest

from reidkit import ledger

TOOL = Path(__file__).resolve().parents[1] / "tools" / "long.py"


@pytest.fixture
def keep(tmp_path):
    spec = importlib.util.spec_from_file_location("tools_long", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *folders, **more: module.main(
        [*map(str, folders), "--out", str(tmp_path / "long"), *(x for k, v in more.items() for x in (f"--{k}", v))]
    )


def run_folder(folder, rows, notebook="02_ccsc", *, processor="Abacus", **more):
    run = {"notebook": notebook, "profile": "long", "dataset": "plaza", "seconds": 1800, "code_hash": "c0de"} | more
    machine = {"cores": 64, "processor": processor, "system": "Linux of the cluster"}
    environment = {"date": "2026-11-21T09:00:00+00:00", "versions": {"torch": "2.15"}, "machine": machine}
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"rows": rows, "run": run, "environment": environment}))
    return folder


def row(variant, seed, **more):
    return {"variant": variant, "seed": seed, "mAP": 0.4 + seed / 100, "error": None, **more}


def test_rows_come_back_with_their_provenance(tmp_path, keep, capsys):
    first = run_folder(tmp_path / "a", [row("x", 0, curve=[1, 2]), row("x", 1)])
    second = run_folder(tmp_path / "b", [row("x", 1, mAP=0.9), row("y", 1)])
    assert keep(first, second, note="two parts") == 0
    assert "3 rows" in capsys.readouterr().out
    frame = ledger.stored("02_ccsc", data=tmp_path / "long" / "02_ccsc.csv")
    assert list(frame.columns) == ["variant", "seed", "mAP"]  # no arrays, no empty column
    assert frame.mAP.tolist() == [0.4, 0.41, 0.41]  # the first run's row stands
    assert frame.attrs["date"] == "2026-11-21"
    told = frame.attrs["provenance"]
    assert (told["profile"], told["seeds"], told["hours"], told["note"]) == ("long", "0, 1", "1.0", "two parts")
    assert told["machine"] == "64 cores of Abacus, Linux of the cluster"  # not the one that stores


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"notebook": "03_dcaml"}, "more than one notebook: 02_ccsc; 03_dcaml"),
        ({"profile": "smoke"}, "more than one profile: long; smoke"),
        ({"dataset": "folder"}, "more than one dataset: folder; plaza"),
        ({"code_hash": "beef"}, "more than one code_hash: beef; c0de"),
        ({"processor": "Quipu"}, "more than one machine: 64 cores of Abacus.*; 64 cores of Quipu"),
    ],
)
def test_runs_that_are_not_of_one_kind_are_refused(tmp_path, keep, other, message):
    folders = [run_folder(tmp_path / "a", [row("x", 0)]), run_folder(tmp_path / "b", [row("x", 1)], **other)]
    with pytest.raises(SystemExit, match=message):
        keep(*folders)
    assert not (tmp_path / "long").exists()


def test_what_is_not_finished_is_left_out(tmp_path, keep, capsys):
    failed = tmp_path / "b.failed"
    failed.mkdir()
    assert keep(run_folder(tmp_path / "a", [row("x", 0)]), failed) == 0
    assert f"left out, not finished: {failed}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="none of these runs is finished"):
        keep(failed)
