import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import layouts
import psutil
import pytest
import small

from reidkit import outcomes, sweeps
from reidkit.__main__ import main
from reidkit.parameters import ParameterError

HANGING = small.PARAMETERS.replace("well", "hang", 1)
PYTHON = [sys.executable, "-m", "reidkit"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory, in a path with a space, with two notebooks; where Dask sees two cores."""
    folder = tmp_path / "my work"
    for name in ("00_first", "01_second"):
        small.notebook(folder / "notebooks" / f"{name}.ipynb")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    return folder


def write(text, name="sweep.yaml"):
    Path(name).write_text(text)
    return name


def start(*words):
    return subprocess.Popen([*PYTHON, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def started(out="runs"):
    """The partial folders of all runs that began."""
    return (Path(out) / "started").read_text().splitlines()


def hanging(process, out="runs"):
    """The kernel of the run that hangs."""
    told, deadline = Path(out) / "hung", time.monotonic() + 180
    while not told.is_file():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return psutil.Process(int(told.read_text()))


def gone(process, seconds=5):
    psutil.wait_procs([process], timeout=seconds)
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def left_over(out="runs"):
    return list(Path(out).rglob(".*"))


# the file -------------------------------------------------------------------------------------------------------------


def test_the_grid_is_the_product_of_its_axes_in_their_order():
    sweep = {
        "notebooks": ["02", {"notebook": "03", "parameters": {"margin": [0.1, 0.3]}}],
        "datasets": ["plaza", {"dataset": "folder", "data_root": "my cameras"}],
        "profiles": "smoke",
        "seeds": [0, [1, 2]],
    }
    grid = list(sweeps.grid(sweep))
    plaza, folder = {"dataset": "plaza"}, {"dataset": "folder", "data_root": "my cameras"}
    smoke = {"profile": "smoke"}
    assert grid[:4] == [
        ("02", plaza | smoke | {"seeds": [0]}),
        ("02", plaza | smoke | {"seeds": [1, 2]}),
        ("02", folder | smoke | {"seeds": [0]}),
        ("02", folder | smoke | {"seeds": [1, 2]}),
    ]
    assert len(grid) == 2 * 2 + 2 * 2 * 2
    assert grid[4] == ("03", plaza | smoke | {"margin": 0.1, "seeds": [0]})
    assert grid[-1] == ("03", folder | smoke | {"margin": 0.3, "seeds": [1, 2]})


def test_what_is_left_out_is_left_to_the_notebook():
    assert list(sweeps.grid({"notebooks": "02"})) == [("02", {})]
    assert list(sweeps.grid({"notebooks": ["02"], "parameters": {"gaps": [[0, 1]], "k": 4}})) == [
        ("02", {"gaps": [0, 1], "k": 4})
    ]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"notebook": ["02"]}, "no key 'notebook'; did you mean 'notebooks'"),
        ({"notebooks": ["02"], "sedes": [1]}, "did you mean 'seeds'"),
        ({"notebooks": ["02"], "xyz": 1}, "it knows: notebooks, datasets"),
        ({"notebooks": [{"notbook": "02"}]}, "notebooks has no key 'notbook'; did you mean 'notebook'"),
        ({"notebooks": [{"parameters": {}}]}, "says no `notebook`"),
        ({"datasets": ["plaza"]}, "names no notebooks"),
        ({"notebooks": ["02"], "datasets": [{"gap": 1}]}, "neither a name nor"),
        ({"notebooks": ["02"], "parameters": [1]}, "expected `name: "),
        ({"notebooks": ["02"], "parameters": {"gap": []}}, "sweep.yaml, parameters: 'gap' is an empty list"),
        ({"notebooks": ["02"], "parameters": {"gap": None}}, "sweep.yaml, parameters: 'gap' has no value"),
        ({"notebooks": ["02"], "seeds": []}, "sweep.yaml: 'seeds' is an empty list"),
        ({"notebooks": ["02"], "profiles": []}, "'profiles' is an empty list"),
        ({"notebooks": ["02"], "datasets": []}, "'datasets' is an empty list"),
        ({"notebooks": []}, "'notebooks' is an empty list"),
        ({"notebooks": [{"notebook": "02", "parameters": {"k": []}}]}, "notebooks, 02: 'k' is an empty list"),
        ({"notebooks": ["02"], "seeds": [1], "parameters": {"seeds": [[1]]}}, "'seeds' of notebook 02 is given twice"),
    ],
)
def test_what_a_sweep_file_may_not_say(sweep, message):
    with pytest.raises(ParameterError, match=message):
        list(sweeps.grid(sweep, where="sweep.yaml"))


def test_a_plan_is_checked_before_anything_runs(here, capsys):
    cameras = here / "my cameras"
    layouts.folders(cameras, layouts.MARKET)
    text = "notebooks: [00]\ndatasets: [plaza, {dataset: plaza, gap: 1e-4}, {dataset: folder, data_root: my cameras}]\n"
    planned = sweeps.plan(write(text + "seeds: [0, 1, 0]\n"))
    assert len(planned) == 6  # the same run twice is one run
    assert planned[2].injected["gap"] == 1e-4
    assert planned[4].injected["data_root"] == str(cameras)
    for change, message in [
        (("gap", "gpa"), "00_first has no parameter 'gpa'; did you mean 'gap'"),
        (("1e-4", "wide"), "'gap' of 00_first is float"),
        (("[00]", "[09]"), "no notebook '09'"),
        (("my cameras", "other"), "other"),
        (("notebooks", "notebook"), "sweep.yaml has no key 'notebook'; did you mean 'notebooks'"),
        (("datasets:", "profiles: [smok]\ndatasets:"), "'smok' is none of smoke"),
    ]:
        assert main(["sweep", write(text.replace(*change))]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert len(err.splitlines()) == 1
    assert main(["sweep", "none.yaml"]) == 2
    assert not Path("runs").exists()


# the plan, told -------------------------------------------------------------------------------------------------------


def test_an_estimate_says_what_it_goes_by(here):
    def plan(profile, seeds="[0, 1]"):
        return sweeps.plan(write(f"notebooks: [00]\nprofiles: [{profile}]\nseeds: [{seeds}]\n"))[0]

    assert sweeps.estimate(plan("smoke"), "runs") == sweeps.Estimate(60, "the profile's budget")
    assert sweeps.estimate(plan("paper"), "runs").seconds is None
    for seconds, seeds in ((30, (5,)), (50, (6,)), (70, (7,)), (300, (8, 9))):
        small.finished(here / "runs", "00_first", profile="smoke", rows=[], seeds=seeds, seconds=seconds)
    assert sweeps.estimate(plan("smoke"), "runs") == sweeps.Estimate(300, "1 earlier run")
    assert sweeps.estimate(plan("smoke", "0"), "runs") == sweeps.Estimate(50, "3 earlier runs")
    assert sweeps.estimate(plan("smoke", "[0, 1, 2]"), "runs") == sweeps.Estimate(
        60, "4 earlier runs, with other seeds"
    )
    assert sweeps.estimate(plan("demo"), "runs").source == "the profile's budget"
    for seeds, nothing in ((10, 11), None), ((98, 99), float("nan")):  # damaged: they say nothing
        small.finished(here / "runs", "00_first", profile="smoke", rows=[], seeds=seeds, seconds=nothing)
    assert sweeps.estimate(plan("smoke"), "runs") == sweeps.Estimate(300, "1 earlier run")


def test_a_dry_run_tells_the_plan(here, capsys, monkeypatch):
    monkeypatch.setattr(sweeps, "_cards", lambda: [])
    planned = sweeps.plan(write("notebooks: [00, 01]\nprofiles: [smoke, paper]\nseeds: [0, 1]\n"))
    planned[0].folder.mkdir(parents=True)
    (planned[0].folder / "results.json").touch()
    planned[1].failed_folder.mkdir(parents=True)
    assert main(["sweep", "sweep.yaml", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert [line.split("  ")[0] for line in out.splitlines()[1:3]] == [
        "00_first plaza profile=smoke seeds=0",
        "00_first plaza profile=smoke seeds=1",
    ]
    assert "finished" in out.splitlines()[1]
    assert "failed before" in out.splitlines()[2]
    assert out.splitlines()[-1] == ("8 runs, 7 to do: about 1 min 30 s, 2 at a time; 4 of unknown length not counted")
    assert {path.name for path in Path("runs").iterdir()} == {"00_first"}


# execution ------------------------------------------------------------------------------------------------------------


def test_a_worker_killed_a_failing_cell_two_sweeps_at_once_and_then_again(here, capsys):
    """Two notebooks x three data sets (one in a path with spaces) x two seeds: the road of a sweep, as one goes it."""
    layouts.folders(here / "my cameras", layouts.MARKET)
    work = small.WORK.replace('behave == "fail"', "gap == 0.5 and not Path('mended').exists()")
    small.notebook(here / "notebooks" / "00_first.ipynb", HANGING, small.WORK)
    small.notebook(here / "notebooks" / "01_second.ipynb", small.PARAMETERS, work)
    folder = "{dataset: folder, data_root: my cameras}"
    text = f"""
        notebooks: [00, 01]
        datasets: [plaza, {{dataset: plaza, gap: 5e-1}}, {folder}]
        profiles: [smoke]
        seeds: [0, 1]
        """
    process = start("sweep", write(text))
    kernel = hanging(process)
    kernel.parent().kill()
    assert gone(kernel)  # no orphan stays
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert out.splitlines()[-1].startswith("10 ran, 2 failed, in ")
    assert out.count("01_second failed in cell 3 of 3 (In [3] under 'A small one'): RuntimeError: made to fail") == 2
    assert err.count("[12/12]") == 1
    assert len(started()) == 13  # the killed one twice
    assert len(list(Path("runs").glob("*/*/results.json"))) == 10
    assert len(list(Path("runs").glob("*/*.failed"))) == 2
    assert left_over() == []

    Path("notebooks/mended").touch()
    both = [start("sweep", "sweep.yaml", "--quiet") for _ in range(2)]
    told = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert len(started()) == 15  # each once
    assert sum(out.count("  ran  ") for out, _ in told) == 2
    assert [err for _, err in told] == ["", ""]
    assert len(list(Path("runs").glob("*/*/results.json"))) == 12
    assert len(list(Path("runs").glob("*/*"))) == 12  # no failure is left, no lock, no partial folder

    before = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/*/*")}
    assert main(["sweep", "sweep.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "12 skipped (finished before), in 0 s"
    assert {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/*/*")} == before
    assert len(started()) == 15


def test_an_interrupt_leaves_no_file_and_no_process(here, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    small.notebook(here / "notebooks" / "00_first.ipynb", HANGING, small.WORK)
    process = start("sweep", write("notebooks: [00]\nseeds: [0]\n"))
    kernel = hanging(process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "python -m reidkit sweep: interrupted; nothing half-done is taken for done\n"
    assert all(gone(each) for each in [kernel, *workers])
    assert left_over() == []
    assert list(Path("runs/00_first").iterdir()) == []


def test_a_scheduler_that_does_not_answer(here, capsys):
    began = time.monotonic()
    assert main(["sweep", write("notebooks: [00]\n"), "--scheduler", "tcp://127.0.0.1:9"]) == 1
    assert time.monotonic() - began < 30
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("python -m reidkit sweep: no Dask scheduler answers at 'tcp://127.0.0.1:9' (Timed out ")
    assert len(err.splitlines()) == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize("address", ["foo", "", "tcp://", "http://x:1", "tcp://127.0.0.1:abc", "tls://127.0.0.1:9"])
def test_an_address_that_is_none(here, capsys, address):
    began, threads = time.monotonic(), threading.active_count()
    assert main(["sweep", write("notebooks: [00]\n"), "--scheduler", address]) == 1
    assert time.monotonic() - began < 5
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"python -m reidkit sweep: no Dask scheduler answers at {address!r} (")
    assert len(err.splitlines()) == 1
    assert threading.active_count() == threads  # no client keeps trying


def test_a_running_cluster_by_its_address(here, capsys, monkeypatch):
    monkeypatch.setattr(sweeps, "_cards", lambda: [])
    with sweeps.client(None, 1) as cluster:
        address = cluster.scheduler.address
        words = ["sweep", write("notebooks: [00]\nseeds: [4]\n"), "--scheduler", address, "--quiet"]
        assert main([*words, "--dry-run"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "1 run, 1 to do: about 7 min 0 s, 1 at a time"
        assert main(words) == 0
        assert set(cluster.run(os.getenv, "REIDKIT_WORKERS").values()) == {"1"}  # a run takes one core
        ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
        heard = [c.laddr.ip for p in ours for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert set(heard) == {"127.0.0.1"}
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("1 ran, in ")
    assert err == ""


def test_a_worker_that_is_not_as_the_sweep_is(here, monkeypatch):
    monkeypatch.setenv("REIDKIT_WORKERS", "1")
    (run,) = sweeps.plan(write("notebooks: [00]\nseeds: [0]\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reidkit.runs.code_hash", lambda: "other")
        assert "another version of reidkit" in sweeps.work(run).error
    shutil.rmtree("notebooks")
    assert "does not see" in sweeps.work(run).error
    assert not Path("runs").exists()


def test_every_gpu_has_its_worker(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert sweeps._cards() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-aa")
    assert sweeps._cards() == ["5", "GPU-aa"]
    assert sweeps.slots() == 2
    workers = sweeps._workers(2, ["5", "GPU-aa"])
    assert [worker["options"]["env"]["CUDA_VISIBLE_DEVICES"] for worker in workers.values()] == ["5", "GPU-aa"]
    assert all(worker["options"]["resources"] == {"GPU": 1} for worker in workers.values())


def test_many_runs_in_order(here, capsys):
    """`run` with several notebooks: one that fails does not stop the next; the page is written in mid-run, once."""
    pixel = f"from IPython.display import display\ndisplay({{'image/png': {small.png()!r}}}, raw=True)"
    cells = small.PARAMETERS, "## Pictured", pixel, "## Again", pixel, "## Trouble", small.WORK
    small.notebook(here / "notebooks" / "00_first.ipynb", small.PARAMETERS.replace("well", "fail", 1), *cells[1:])
    small.notebook(here / "notebooks" / "01_second.ipynb", *cells)
    assert main(["run", "all", "--profile", "smoke"]) == 1
    out, err = capsys.readouterr()
    assert "00_first failed in cell 8 of 8 (In [5] under 'Trouble'): RuntimeError: made to fail" in err
    lines = out.splitlines()
    assert lines[:2] == ["[1/2] 00_first", "    a picture under 'Pictured': look at runs/report.html"]
    assert lines[2].startswith("    failed in ")
    assert lines[3:6] == ["    look at runs/report.html, section '00_first'", "[2/2] 01_second", lines[1]]
    assert lines[-2].startswith("1 ran, 1 failed, in ")
    assert lines[-1] == "the page of results: runs/report.html"
    assert "01_second plaza profile=smoke  ran" in out
    page = Path("runs/report.html").read_text()
    assert "1 failed" in page
    assert "not finished" not in page
    assert page.count("data:image/png") == 2


def test_a_page_that_cannot_be_written_ends_no_run(here, capsys, monkeypatch):
    def write_report(out):
        raise ValueError("an odd\nfile")

    monkeypatch.setattr("reidkit.report.write_report", write_report)
    pixel = f"from IPython.display import display\ndisplay({{'image/png': {small.png()!r}}}, raw=True)"
    small.notebook(here / "notebooks" / "00_first.ipynb", small.PARAMETERS, pixel, small.WORK)
    assert main(["run", "all", "--profile", "smoke", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("2 ran, in ")
    assert "look at" not in out
    assert err.splitlines() == ["    the page of results is not written: ValueError: an odd file"] * 3


def test_times_are_told_in_words():
    told = [outcomes.duration(seconds) for seconds in (0.4, 59.6, 3599, 7300)]
    assert told == ["0 s", "1 min 0 s", "59 min 59 s", "2 h 1 min"]


def test_no_thread_of_a_cluster_is_left():
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if "Nanny" in name]
