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


def run_folder(folder, rows, notebook="02_ccsc"):
    run = {"notebook": notebook, "profile": "long", "dataset": "plaza", "seconds": 1800, "code_hash": "c0de"}
    environment = {"date": "2026-11-21T09:00:00+00:00", "versions": {"torch": "2.15"}}
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


def test_runs_of_two_notebooks_are_refused(tmp_path, keep):
    folders = [run_folder(tmp_path / n, [row("x", 0)], n) for n in ("02_ccsc", "03_dcaml")]
    with pytest.raises(SystemExit, match="02_ccsc, 03_dcaml"):
        keep(*folders)
    assert not (tmp_path / "long").exists()
