import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import small

from reidkit import outcomes, report, runs
from reidkit.__main__ import main
from reidkit.datasets import DatasetError
from reidkit.kernel import KernelWatch, Progress, end_kernel
from reidkit.parameters import ParameterError
from reidkit.runs import RunError, find_notebook, prepare, run_notebook

HERE = Path(__file__).parent / "notebooks"
TINY = HERE / "01_tiny.ipynb"


@pytest.fixture(scope="module", autouse=True)
def _same_code():
    """Editing the kit while its tests run is no reason to run a notebook anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "code_hash", lambda: "0" * 16)
        yield


CODE_HASH = runs.code_hash  # the real one


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run, in a path with spaces: (out, its folder)."""
    out = tmp_path_factory.mktemp("with spaces") / "my runs"
    return out, run_notebook(TINY, {"gap": 1, "seeds": [3, 4], "profile": "smoke"}, out=out)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_a_folder_of_three_files(finished):
    out, folder = finished
    assert names(out) == ["01_tiny"]
    assert names(out / "01_tiny") == [folder.name]  # no lock, no partial folder
    assert names(folder) == ["01_tiny.ipynb", "log.txt", "results.json"]
    assert folder.name.startswith("plaza__profile=smoke__seeds=3,4__")


def test_results_hold_the_rows_and_what_the_run_knows(finished):
    results = json.loads((finished[1] / "results.json").read_text())
    assert results["rows"] == [{"variant": "only", "seed": s, "mAP": 0.5, "rank1": None} for s in (3, 4)]
    assert results["folder"] == "notebooks"  # executed where the notebook lies
    assert {"Work", "Trouble", "Results"} <= set(results["sections"])
    run = results["run"]
    assert run["parameters"] == {
        "profile": "smoke",
        "dataset": "plaza",
        "gap": 1.0,
        "seeds": [3, 4],
        "behave": "well",
    }
    assert (run["notebook"], run["profile"], run["dataset"]) == ("01_tiny", "smoke", "plaza")
    assert len(run["code_hash"]) == len(run["notebook_hash"]) == 16
    assert run["seconds"] > 0
    assert run["peak_memory_mib"] > 10
    assert {"commit", "dirty", "dataset_fingerprint"} <= set(run)
    assert "numpy" in results["environment"]["versions"]


def test_what_is_printed_and_shown_keeps_its_order(tmp_path):
    shown = """
import sys
from IPython.display import display
print("above", flush=True)
print("the first", flush=True)
display({"text/plain": "one"}, raw=True)
print("above the second")
print("aside", file=sys.stderr, flush=True)
display({"text/plain": "two"}, raw=True)
print("half\\rwhole")"""
    notebook = small.notebook(tmp_path / "nb" / "01_small.ipynb", small.PARAMETERS, shown, small.WORK)
    folder = run_notebook(notebook, out=tmp_path / "runs", progress=False)
    cell = nbformat.read(folder / notebook.name, 4).cells[-2]
    said = [output.get("text") or output["data"]["text/plain"] for output in cell.outputs]
    words = [text for text in said if text != "aside\n"]  # another stream, which may come a little later
    assert words == ["above\nthe first\n", "one", "above the second\n", "two", "whole\n"]
    assert said.count("aside\n") == 1


def test_rows_that_failed_are_said_of_a_finished_run(tmp_path, capsys):
    failing = small.WORK.replace(
        '"rows": rows', '"rows": rows + [{"variant": "b", "seed": 7, "error": "OSError: full"}]'
    )
    notebook = small.notebook(tmp_path / "nb" / "01_small.ipynb", small.PARAMETERS, failing)
    asked = ["run", "01", "--notebooks", str(notebook.parent), "--out", str(tmp_path / "runs"), "--quiet"]
    for word in ("finished in", "finished before"):
        assert main(asked) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert word in first
        assert second == "    1 of 7 rows failed: b, 7: OSError: full"
    (outcome,) = [outcomes.attempt(prepare(notebook, {}, tmp_path / "runs"))]
    assert (outcome.state, outcome.error) == ("skipped", "1 of 7 rows failed: b, 7: OSError: full")
    assert "1 of 7 rows failed: b, 7: OSError: full" in report.write_report(tmp_path / "runs").page.read_text()


def test_folders_of_ones_own_are_told_apart_by_name_and_have_no_dial(tmp_path, monkeypatch):
    class Dataset:
        fingerprint = "0" * 16

    monkeypatch.setattr("reidkit.datasets.load", lambda name, root: Dataset)
    mine, other = (prepare(TINY, {"dataset": "folder", "data_root": f"my {n}"}, tmp_path) for n in ("one", "other"))
    assert mine.folder.name.rpartition("__")[0] == "folder__profile=demo__data_root=my-one"
    assert (mine.record["dataset"], other.record["dataset"]) == ("folder: my one", "folder: my other")
    assert "gap" not in mine.record["parameters"]
    assert prepare(TINY, {"dataset": "market1501"}, tmp_path).record["dataset"] == "market1501"


def test_the_copy_is_executed_and_the_source_untouched(finished):
    _, folder = finished
    executed = nbformat.read(folder / "01_tiny.ipynb", as_version=4)
    injected = [c for c in executed.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert len(injected) == 1
    assert "seeds = [3, 4]" in injected[0].source
    assert any("a printed line" in str(c.get("outputs")) for c in executed.cells)
    assert ".part" not in (folder / "01_tiny.ipynb").read_text()
    source = nbformat.read(TINY, as_version=4)
    assert all(not c.outputs for c in source.cells if c.cell_type == "code")


def test_log(finished):
    log = (finished[1] / "log.txt").read_text()
    assert "== cell 4 of 8 (In [3] under 'Work')\na printed line\n" in log


def test_a_finished_run_is_not_done_twice(finished, monkeypatch):
    out, folder = finished
    monkeypatch.setattr(runs, "_execute_in", lambda *_: pytest.fail("executed again"))
    assert run_notebook(TINY, {"gap": 1.0, "seeds": [3, 4], "profile": "smoke"}, out=out) == folder


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        ("fail", r"01_tiny failed in cell 6 of 8 \(In \[4\] under 'Trouble'\): RuntimeError: made to fail"),
        ("die", r"01_tiny failed in cell 6 of 8 .*the kernel died"),
        ("forget", "01_tiny saved no results: its last cell should call save_results"),
        ("[1, 2]", "01_tiny saved a list, not results: its last cell should call save_results"),
        ("{", "01_tiny saved results that cannot be read .*: its last cell should call save_results"),
    ],
)
def test_failures_are_told_and_kept_apart(tmp_path, behave, message):
    with pytest.raises(RunError, match=message) as failure:
        run_notebook(TINY, {"behave": behave}, out=tmp_path, progress=False)
    (folder,) = (tmp_path / "01_tiny").iterdir()
    assert folder.name.endswith(".failed")
    assert str(folder) in str(failure.value)
    assert names(folder) == ["01_tiny.ipynb", "log.txt"]  # never mistaken for a finished run
    last = (folder / "log.txt").read_text()
    assert str(failure.value).splitlines()[0].removeprefix("01_tiny ") in last
    if behave == "fail":
        assert '----> 2     raise RuntimeError("made to fail")' in str(failure.value)
        assert "\x1b" not in str(failure.value)
    assert not prepare(TINY, {"behave": behave}, tmp_path).finished


def test_a_later_success_removes_the_failure_and_what_a_killed_run_left(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "needed").touch()
    run = prepare(TINY, {"behave": "need", "data_root": str(data)}, tmp_path)
    run.failed_folder.mkdir(parents=True)
    (run.folder.parent / f".{run.folder.name}.x1y2.part").mkdir()  # SIGKILL in mid-run
    (run.folder.parent / f".{run.folder.name}.lock").touch()
    other = run.folder.parent / ".another__run.x1y2.part"
    other.mkdir()
    assert runs.execute(run, progress=False)
    assert names(run.folder.parent) == [other.name, run.folder.name]
    before = (run.folder / "results.json").stat().st_ino
    assert not runs.execute(run, progress=False)
    assert (run.folder / "results.json").stat().st_ino == before


def fake(part, run, progress, shown):
    (part / "results.json").write_text(str(time.time_ns()))


def test_force_replaces(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_execute_in", fake)
    run = prepare(TINY, {}, tmp_path)
    assert runs.execute(run)
    first = (run.folder / "results.json").read_text()
    assert runs.execute(run, force=True)
    assert (run.folder / "results.json").read_text() != first
    assert names(run.folder.parent) == [run.folder.name]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(part, run, progress, shown):
        (part / "results.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_execute_in", interrupted)
    run = prepare(TINY, {}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        runs.execute(run)
    assert names(run.folder.parent) == []


def test_the_key_holds_all_that_a_result_depends_on(tmp_path, monkeypatch):
    def key(parameters=None, notebook=TINY):
        return prepare(notebook, parameters or {}, tmp_path).folder.name

    copy = tmp_path / "01_tiny.ipynb"
    shutil.copy(TINY, copy)
    assert key() == key({"profile": "demo", "gap": 1}) == key(notebook=copy)
    assert key() == key({"data_root": str(tmp_path)})  # Plaza is the same wherever it lies
    different = [key(), key({"profile": "smoke"}), key({"gap": 0.5}), key({"seeds": [0]}), key({"seeds": [0, 1]})]
    copy.write_text(TINY.read_text().replace("gap / 2", "gap / 4"))
    different.append(key(notebook=copy))
    monkeypatch.setattr(runs, "code_hash", lambda: "other code")
    different.append(key())
    assert len(set(different)) == len(different)


def test_the_key_holds_what_stands_beside_a_result(tmp_path, monkeypatch):
    data = tmp_path / "data"
    monkeypatch.setattr(runs, "PACKAGE", tmp_path / "reidkit")
    assert prepare(TINY, {}, tmp_path).record["ledger_hash"] is None  # an installed kit has no data/
    (data / "long").mkdir(parents=True)
    (data / "demo").mkdir()
    planned = []
    for name, text in (("claims.csv", "a"), ("reported.csv", "a"), ("long/02.csv", "a"), ("long/02.csv", "b")):
        (data / name).write_text(text)
        planned.append(prepare(TINY, {}, tmp_path))
    (data / "long" / "02.csv").rename(data / "long" / "03.csv")
    planned.append(prepare(TINY, {}, tmp_path))
    (data / "demo" / "02.json").write_text("{}")  # kept runs are no part of a run's key, nor is what is read by nobody
    (data / "README.md").write_text("text")
    assert prepare(TINY, {}, tmp_path).folder == planned[-1].folder
    assert len({run.folder for run in planned}) == len({run.record["ledger_hash"] for run in planned}) == 5


def test_code_is_known_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "PACKAGE", tmp_path)
    (tmp_path / "inner").mkdir()
    hashes = []
    for text in ("a = 1", "a = 2", "a = 1"):
        (tmp_path / "inner" / "module.py").write_text(text)
        (tmp_path / "README.md").write_text(f"{len(hashes)}")
        hashes.append(CODE_HASH())
    assert hashes[0] == hashes[2] != hashes[1]
    assert runs.git_state() == {"commit": None, "dirty": None}


def test_the_key_holds_the_fingerprint_of_the_data(tmp_path, monkeypatch):
    class Dataset:
        fingerprint = "0" * 16

    monkeypatch.setattr("reidkit.datasets.load", lambda name, root: Dataset)
    first = prepare(TINY, {"dataset": "folder", "data_root": "x"}, tmp_path)
    Dataset.fingerprint = "1" * 16
    second = prepare(TINY, {"dataset": "folder", "data_root": "x"}, tmp_path)
    assert first.folder.name.startswith("folder__profile=demo__")
    assert first.folder != second.folder


def test_a_relative_data_root_counts_from_here_and_the_default_from_the_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare(TINY, {"data_root": "mine"}, "out").injected["data_root"] == str(tmp_path / "mine")
    assert prepare(TINY, {}, "out").injected["data_root"] == str(HERE.parent / "data")
    assert prepare(TINY, {}, "out").folder.is_relative_to(tmp_path / "out")
    assert names(tmp_path) == []  # planning writes nothing


def test_another_place_is_looked_at_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cell = 'oxford: str = ""\nresults_path: str = ""\n'
    notebook = small.notebook(tmp_path / "nb" / "01_small.ipynb", cell, "pass")
    asked = []

    def fingerprint(dataset, root):
        asked.append((dataset, root))
        return f"print of {root}" if root else None

    plain = prepare(notebook, {}, "out", fingerprint=fingerprint)
    assert "oxford_fingerprint" not in plain.record
    told = prepare(notebook, {"oxford": "ox"}, "out", fingerprint=fingerprint)
    assert told.injected["oxford"] == str(tmp_path / "ox")
    assert ("oxford5k", str(tmp_path / "ox")) in asked
    assert told.record["oxford_fingerprint"] == f"print of {tmp_path / 'ox'}"
    with pytest.raises(DatasetError, match="Oxford5k is not in"):
        prepare(notebook, {"oxford": "ox"}, "out")


def test_names_of_folders_are_plain(tmp_path):
    name = prepare(TINY, {"behave": "a b/../c:" + "x" * 300}, tmp_path).folder.name
    assert name.startswith("plaza__profile=demo__behave=a-b-..-c-x")
    assert len(name) < 140


def test_refusals_before_anything_runs(tmp_path):
    for parameters, message in [
        ({"gpa": 1.0}, "did you mean 'gap'"),
        ({"gap": "wide"}, "float.*str"),
        ({"profile": "smok"}, "none of smoke, demo, long, paper"),
        ({"results_path": "x"}, "--out"),
        ({"dataset": "folder", "gap": 0.5}, "gap is the dial of Plaza, 'folder' has none"),
    ]:
        with pytest.raises(ParameterError, match=message):
            run_notebook(TINY, parameters, out=tmp_path)
    assert names(tmp_path) == []


def notebook(path, *cells):
    made = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]} if "=" in source else {})
        for source in cells
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def test_notebooks_that_cannot_be_run(tmp_path):
    with pytest.raises(ParameterError, match="0 cells tagged 'parameters'"):
        prepare(notebook(tmp_path / "a.ipynb", "print()"), {})
    with pytest.raises(ParameterError, match="2 cells tagged"):
        prepare(notebook(tmp_path / "a.ipynb", "a = 1", "b = 1"), {})
    with pytest.raises(ParameterError, match="no parameter 'results_path'"):
        prepare(notebook(tmp_path / "a.ipynb", "a = 1"), {})
    (tmp_path / "b.ipynb").write_text("not a notebook")
    with pytest.raises(ParameterError, match="not a notebook"):
        prepare(tmp_path / "b.ipynb", {})


def test_finding_a_notebook(tmp_path):
    for name in ("00_start", "03_dcaml", "03_other", "04_ics"):
        (tmp_path / f"{name}.ipynb").touch()
    assert find_notebook("04", tmp_path) == tmp_path / "04_ics.ipynb"
    assert find_notebook("03_dcaml", tmp_path) == tmp_path / "03_dcaml.ipynb"
    assert find_notebook("00_start.ipynb", tmp_path) == tmp_path / "00_start.ipynb"
    assert find_notebook(tmp_path / "00_start.ipynb") == tmp_path / "00_start.ipynb"
    with pytest.raises(FileNotFoundError, match="03_dcaml or 03_other"):
        find_notebook("03", tmp_path)
    with pytest.raises(FileNotFoundError, match="there: 00_start, 03_dcaml, 03_other, 04_ics"):
        find_notebook("09", tmp_path)


def test_progress_on_a_terminal_shows_section_and_last_line(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((100, 24)))
    cell = nbformat.v4.new_code_cell("train()")
    source = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T\n## 6. Training"), cell])
    with Progress("03_x", source, io.StringIO()) as progress:
        progress.cell_started(cell, 1)
        shown = {"text/plain": "fit:  50%|\u2588\u2588   | 5/10"}
        cell.outputs.append(nbformat.v4.new_output("display_data", shown))
        progress.tick()
        progress.cell_finished(cell, 1, {})
    assert "03_x · 6. Training · 0/1 cells done · 00:00, fit:  50% 5/10" in sys.stderr.getvalue()


def test_no_kernel_is_left(finished):
    kernels = [p for p in psutil.Process().children(recursive=True) if "ipykernel_launcher" in " ".join(p.cmdline())]
    assert kernels == []


def test_only_the_process_that_a_note_tells_of_is_ended(tmp_path):
    note = tmp_path / "note"
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        created = psutil.Process(sleeper.pid).create_time()
        note.write_text(json.dumps({"pid": sleeper.pid, "created": created - 60}))  # another one had its number before
        end_kernel(note)
        with pytest.raises(subprocess.TimeoutExpired):
            sleeper.wait(0.5)
        note.write_text(json.dumps({"pid": sleeper.pid, "created": created}))
        end_kernel(note)
        assert sleeper.wait(10) == -signal.SIGKILL
    finally:
        sleeper.kill()
        sleeper.wait()
    end_kernel(note)  # nobody has this number any more
    end_kernel(tmp_path / "no note")


def test_memory_is_that_of_a_kernel(tmp_path):
    with KernelWatch(io.StringIO(), tmp_path / "note") as watch:
        time.sleep(0.5)  # no kernel yet
    assert watch.peak_memory_mib == 0


def test_a_bar_may_tick_before_the_first_cell(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("03_x", nbformat.v4.new_notebook(), io.StringIO()) as progress:
        progress.tick()
