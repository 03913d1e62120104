import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from reidkit import report
from reidkit.__main__ import main

HERE = Path(__file__).parent / "notebooks"
PYTHON = [sys.executable, "-m", "reidkit"]


def tiny(*words):
    return ["run", "01", "--notebooks", str(HERE), "--quiet", *map(str, words)]


def start(*words, cwd):
    return subprocess.Popen([*PYTHON, *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refused(capsys, argv):
    """The one line on stderr of a command that must be refused with status 2."""
    try:
        status = main(argv)
    except SystemExit as stop:  # argparse
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    return err


def test_two_at_once_run_it_once(tmp_path):
    words = tiny("--profile", "smoke", "-p", "gap", "5e-1", "--out", "out")
    both = [start(*words, cwd=tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    (folder,) = (tmp_path / "out" / "01_tiny").iterdir()
    assert folder.name.startswith("plaza__profile=smoke__gap=0.5__")
    first, second = sorted(out for out, _ in outputs)  # "finished before" < "finished in"
    assert first == f"01_tiny: finished before (--force runs it again): {folder.relative_to(tmp_path)}\n"
    assert second.startswith("01_tiny: finished in ")
    assert second.endswith(f"{folder.relative_to(tmp_path)}\n")


def test_an_interrupt_leaves_no_file_and_no_process(tmp_path):
    numbers = (signal.SIGINT, signal.SIGTERM)
    folders = [tmp_path / number.name for number in numbers]
    processes = []
    for folder in folders:
        folder.mkdir()
        words = tiny("-p", "behave", "wait", "--data-root", folder, "--out", "out")
        processes.append(start(*words, cwd=folder))
    for number, folder, process in zip(numbers, folders, processes, strict=True):
        told = folder / "waiting"  # the notebook tells its kernel's id and that of a process it has started
        deadline = time.monotonic() + 60
        while not (told.is_file() and len(told.read_text().split()) == 2):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        started = [psutil.Process(int(pid)) for pid in told.read_text().split()]
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert (out, err) == ("", "python -m reidkit run: interrupted; nothing half-done is taken for done\n")
        assert list((folder / "out" / "01_tiny").iterdir()) == []
        psutil.wait_procs(started, timeout=5)
        # A killed orphan may wait as a zombie where nobody reaps: it holds nothing.
        assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in started)


def test_a_failing_cell(tmp_path, capsys):
    assert main(tiny("-p", "behave", "fail", "--out", tmp_path / "out")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        "python -m reidkit run: 01_tiny failed in cell 6 of 8 (In [4] under 'Trouble'): RuntimeError: made to fail\n"
    )
    assert "Traceback" not in err
    (failed,) = (tmp_path / "out" / "01_tiny").iterdir()
    assert err.endswith(f"{failed}\n")


def test_what_is_refused(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert "did you mean 'gap'" in refused(capsys, tiny("-p", "gpa", "1", *out))
    assert "is float (default 1.0); got 'wide', str" in refused(capsys, tiny("-p", "gap", "wide", *out))
    assert "given twice" in refused(capsys, tiny("-p", "gap", "1", "-p", "gap", "2", *out))
    assert "by -p and by --dataset" in refused(capsys, tiny("-p", "dataset", "x", "--dataset", "y", *out))
    assert "none of smoke" in refused(capsys, tiny("--profile", "smok", *out))
    assert "did you mean 'plaza'" in refused(capsys, tiny("--dataset", "plazza", *out))
    assert "nowhere" in refused(capsys, tiny("--dataset", "market1501", "--data-root", tmp_path / "nowhere", *out))
    assert "there: 01_tiny" in refused(capsys, ["run", "09", "--notebooks", str(HERE)])
    assert "cannot read" in refused(capsys, tiny("--parameters", tmp_path / "none.yaml", *out))
    assert "required: notebook" in refused(capsys, ["run"])
    assert "invalid choice: 'walk'" in refused(capsys, ["walk"])
    (tmp_path / "file").touch()
    assert "file" in refused(capsys, tiny("--out", tmp_path / "file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_parameter_file_and_who_has_the_last_word(tmp_path, capsys, monkeypatch):
    planned = []
    monkeypatch.setattr("reidkit.runs.execute", lambda plan, **_: planned.append(plan) or True)
    (tmp_path / "p.yaml").write_text("gap: 1e-4\nseeds: [5]\nprofile: smoke\n")
    words = ["--parameters", tmp_path / "p.yaml", "-p", "seeds", "[6, 7]", "--profile", "long"]
    assert main(tiny(*words, "--out", tmp_path)) == 0
    parameters = planned[0].record["parameters"]
    assert (parameters["gap"], parameters["seeds"], parameters["profile"]) == (1e-4, [6, 7], "long")
    for text in ("-1e-1", "-0.1", "-.1"):
        assert main(tiny("-p", "gap", text, "--out", tmp_path)) == 0
        assert planned[-1].record["parameters"]["gap"] == -0.1


def test_plaza_on_disk(tmp_path, capsys):
    out = tmp_path / "my plaza"
    size = ["--ids", "2", "3", "--cameras", "2", "--height", "64", "--workers", "1"]
    words = ["data", "plaza", *size, "--out", str(out)]
    assert main([*words, "--gap", "0.5"]) == 0
    assert capsys.readouterr().out == f"Plaza is in {out}\n"
    assert {"bounding_box_train", "bounding_box_test", "query"} <= {path.name for path in out.iterdir()}
    assert "holds another world" in refused(capsys, [*words, "--gap", "0.6"])
    assert "plaza: gap must be" in refused(capsys, ["data", "plaza", "--gap", "2", "--out", str(tmp_path / "x")])
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_help_tells_parameters_and_commands(capsys):
    assert main(tiny("--help-notebook")) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["name", "type", "default", "description"]
    assert table[4].split(maxsplit=3) == ["gap", "float", "1.0", "how much cameras differ"]
    for argv in (["--help"], ["run", "--help"], ["data", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0
    assert "run a notebook" in capsys.readouterr().out


def test_help_needs_no_heavy_import():
    code = "import sys, reidkit.__main__ as m; m._parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "argparse" in done.stdout.split()
    assert not {"torch", "pandas", "papermill"} & set(done.stdout.split())


def test_a_relative_cache_counts_from_here_in_every_kernel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDKIT_CACHE", "my cache")
    assert main(["report", "--runs", "runs"]) == 0
    assert os.environ["REIDKIT_CACHE"] == str(tmp_path / "my cache")


@pytest.mark.parametrize(
    ("place", "words"), [(("runs/x",), "the disk is full at runs/x; free"), ((), "the disk is full; free")]
)
def test_a_full_disk_is_one_line_that_says_what_to_do(monkeypatch, capsys, place, words):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", *place)

    monkeypatch.setattr(report, "write_report", full)
    assert main(["report"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
