"""The command line: `python -m reidkit COMMAND …`. One pair of functions a command: its arguments, and what it does.

Exit status: 0 done, 1 a run that failed, 2 something wrong with what was asked, 130 interrupted.
"""

import argparse
import contextlib
import errno
import logging
import os
import re
import signal
import sys
import textwrap
import time
from pathlib import Path

TOOLING = {"papermill", "nbclient", "nbformat", "jupyter_client", "ipykernel", "psutil", "yaml", "jinja2"}
TOOLING |= {"dask", "distributed"}


def main(argv: list[str] | None = None) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: one thread a process repeats to the bit
    if cache := os.environ.get("REIDKIT_CACHE"):  # a notebook's kernel stands in another folder
        os.environ["REIDKIT_CACHE"] = os.path.abspath(os.path.expanduser(cache))
    args = _parser().parse_args(argv)
    from reidkit.datasets import DatasetError
    from reidkit.parameters import ParameterError
    from reidkit.runs import RunError

    try:
        with _interruptible():
            return args.command(args)
    except RunError as error:
        return _complain(args, error, 1)
    except (ParameterError, DatasetError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        return _complain(args, error, 2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _complain(args, error, 1)
        where = f" at {error.filename}" if error.filename else ""
        return _complain(args, f"the disk is full{where}; free some space and call again: what is finished is kept", 1)
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # else it tells of the cell that nobody waits for now
        return _complain(args, "interrupted; nothing half-done is taken for done", 130)


# run ------------------------------------------------------------------------------------------------------------------


def add_run(commands) -> None:
    parser = commands.add_parser(
        "run",
        help="run a notebook with parameters of your own",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=textwrap.dedent(
            """\
            Run a notebook in a folder of its own: RUNS/NOTEBOOK/DATASET__KEY-VALUES__HASH/ with the executed notebook,
            results.json and log.txt. A finished run is not done twice, unless forced; the hash stands for notebook,
            profile, dataset, parameters and code. With several notebooks, or `all`, one that fails does not stop the
            others, and the page of results (see `report`) is written after each."""
        ),
        epilog=textwrap.dedent(
            """\
            examples:  python -m reidkit run 03 --dataset plaza --profile smoke -p gap 0.5 -p seeds '[0, 1]'
                       python -m reidkit run all --profile smoke"""
        ),
    )
    parser.add_argument("notebook", nargs="+", help="number, name or path: 03, 03_dcaml, my/03_dcaml.ipynb; or all")
    parser.add_argument("--dataset", metavar="NAME", help="plaza (default), market1501, folder, …")
    parser.add_argument("--data-root", metavar="DIR", help="where datasets are (default: the notebook's own data/)")
    parser.add_argument("--profile", metavar="NAME", help="smoke, demo (default), long or paper")
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="one parameter; lists as [0, 1, 2]; may be given several times",
    )
    parser.add_argument("--parameters", metavar="FILE", help="a YAML file of `name: value` lines; -p has the last word")
    parser.add_argument("--out", metavar="DIR", default="runs", help="where runs are kept (default: runs)")
    parser.add_argument("--notebooks", metavar="DIR", help="where notebooks are (default: notebooks)")
    parser.add_argument("--force", action="store_true", help="run again though the run is finished")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--help-notebook", action="store_true", help="list the notebook's parameters and stop")
    parser.set_defaults(command=run)


def run(args) -> int:
    from reidkit import runs
    from reidkit.outcomes import duration, short

    notebooks = _notebooks(args)
    if args.help_notebook:
        print("\n\n".join(_parameter_table(notebook) for notebook in notebooks))
        return 0
    plans = [
        runs.prepare(notebook, _given(args, runs.notebook_parameters(notebook)), args.out) for notebook in notebooks
    ]
    if args.notebook == ["all"] or len(plans) > 1:
        return _run_in_order(args, plans)
    (plan,) = plans
    started = time.monotonic()
    if runs.execute(plan, force=args.force, progress=not args.quiet):
        print(f"{plan.notebook.stem}: finished in {duration(time.monotonic() - started)}: {short(plan.folder)}")
    else:
        print(f"{plan.notebook.stem}: finished before (--force runs it again): {short(plan.folder)}")
    if lacks := plan.lacks:
        print(f"    {lacks}")
    return 0


def _notebooks(args) -> list[Path]:
    from reidkit import runs

    named = []
    for name in args.notebook:
        named += runs.all_notebooks(args.notebooks) if name == "all" else [runs.find_notebook(name, args.notebooks)]
    return list(dict.fromkeys(named))


def _run_in_order(args, plans) -> int:
    """Several notebooks, one after another; a table at the end. The page of results is written at the first picture of
    each and at its end: it holds the pictures of all runs, and in mid-run its time is the run's."""
    from tqdm import tqdm

    from reidkit.outcomes import FAILED, attempt, duration, short, summary, table

    outcomes, pictured = [], set()
    started = time.monotonic()
    for number, plan in enumerate(plans, 1):
        name = plan.notebook.stem

        def shown(heading, name=name):
            if name in pictured:
                return
            pictured.add(name)
            page = _page(args.out)
            if page and not args.quiet:
                tqdm.write(f"    a picture under {heading!r}: look at {short(page)}")

        tqdm.write(f"[{number}/{len(plans)}] {name}")
        outcomes.append(outcome := attempt(plan, force=args.force, progress=not args.quiet, shown=shown))
        if outcome.state == FAILED:
            print(outcome.error, file=sys.stderr, flush=True)
        page = _page(args.out)
        tqdm.write(f"    {outcome.state} in {duration(outcome.seconds)}: {short(outcome.place)}")
        if page:
            tqdm.write(f"    look at {short(page)}, section {name!r}")
    print(f"\n{table(outcomes)}\n\n{summary(outcomes)}, in {duration(time.monotonic() - started)}")
    if page:
        print(f"the page of results: {short(page)}")
    return int(any(outcome.state == FAILED for outcome in outcomes))


def _page(out) -> Path | None:
    """Write the page of results. What goes wrong with it is said in a line, and is no affair of the runs."""
    from tqdm import tqdm

    from reidkit.report import write_report

    try:
        return write_report(out).page
    except Exception as error:
        why = " ".join(str(error).split())
        tqdm.write(f"    the page of results is not written: {type(error).__name__}: {why}", file=sys.stderr)
        return None


def _given(args, declared) -> dict:
    """The parameters asked for: the file's, then -p, then the options that are parameters by another name."""
    from reidkit.parameters import ParameterError, parse_value, read_yaml_file

    given = read_yaml_file(args.parameters) if args.parameters else {}
    typed = {}
    for name, text in args.parameter:
        if name in typed:
            raise ParameterError(f"-p {name} is given twice")
        typed[name] = parse_value(text, declared.get(name))
    for name in ("dataset", "data_root", "profile"):
        if (value := getattr(args, name)) is not None:
            if name in typed:
                raise ParameterError(f"{name} is given twice: by -p and by --{name.replace('_', '-')}")
            typed[name] = value
    return given | typed


def _parameter_table(notebook: Path) -> str:
    from reidkit.runs import notebook_parameters

    rows = [("name", "type", "default", "description")]
    rows += [(p.name, p.type_name, repr(p.default), p.help) for p in notebook_parameters(notebook).values()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows)


# sweep ----------------------------------------------------------------------------------------------------------------


def add_sweep(commands) -> None:
    parser = commands.add_parser(
        "sweep",
        help="run a grid of notebooks, data sets, profiles, parameters and seeds",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the grid that a YAML file spans; finished runs are skipped, failed or killed ones redone.",
        epilog=textwrap.dedent(
            """\
            the file:
                notebooks: [02, 03]        # or {notebook: 03, parameters: {margin: [0.1, 0.3]}}
                datasets: [plaza, {dataset: plaza, gap: 0.5}, {dataset: folder, data_root: my cameras}]
                profiles: [demo]
                parameters: {}             # a list of values each, for every notebook
                seeds: [0, 1, 2]           # a run each

            Without --scheduler the runs go to this machine, one a core, or one a GPU where there are any. With it, to
            any Dask cluster that runs already, one a thread, or one a GPU where its workers declare --resources GPU=1.
            Its workers need this environment and must see the same folders under the same names.

            On SLURM, say on a login node with a shared home:
                dask scheduler --interface ib0 --scheduler-file ~/scheduler.json &
                sbatch --array=1-8 --gpus=1 --cpus-per-task=4 --time=8:00:00 --wrap \\
                    "dask worker --scheduler-file ~/scheduler.json --nthreads 1 --resources GPU=1"
                python -m reidkit sweep sweep.yaml --scheduler tcp://10.0.0.7:8786
            The address is the one that the scheduler prints ("Scheduler at:") and that ~/scheduler.json holds: it is
            that of its interface, here ib0, not that of the host's name. Workers may come and go: the runs of one that
            is preempted are given to another. dask-jobqueue's SLURMCluster(…).scheduler_address serves as well."""
        ),
    )
    parser.add_argument("file", metavar="FILE.yaml", help="the grid; see below")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and about how long it takes, and stop")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler, as it prints: tcp://127.0.0.1:8786")
    parser.add_argument("--out", metavar="DIR", default="runs", help="where runs are kept (default: runs)")
    parser.add_argument("--notebooks", metavar="DIR", help="where notebooks are (default: notebooks)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=sweep)


def sweep(args) -> int:
    from reidkit import sweeps
    from reidkit.outcomes import FAILED, duration, summary, table

    planned = sweeps.plan(args.file, out=args.out, notebooks=args.notebooks)
    if args.dry_run:
        print(sweeps.describe(planned, args.out, sweeps.slots(args.scheduler)))
        return 0
    started = time.monotonic()
    outcomes = sweeps.sweep(planned, scheduler=args.scheduler, progress=not args.quiet)
    print(f"{table(outcomes)}\n\n{summary(outcomes)}, in {duration(time.monotonic() - started)}")
    return int(any(outcome.state == FAILED for outcome in outcomes))


# report ---------------------------------------------------------------------------------------------------------------


def add_report(commands) -> None:
    parser = commands.add_parser(
        "report",
        help="gather the runs into one page and one CSV",
        description="Gather the runs into one HTML page that needs no network: tables beside what the papers printed, "
        "verdicts on their claims, pictures, versions and times; and one CSV of its numbers.",
    )
    parser.add_argument("--runs", metavar="DIR", default="runs", help="where runs are kept (default: runs)")
    parser.add_argument(
        "--out", metavar="FILE.html", help="the page (default: RUNS/report.html); its CSV lies beside it"
    )
    parser.set_defaults(command=report)


def report(args) -> int:
    from reidkit.outcomes import short
    from reidkit.report import write_report

    written = write_report(args.runs, args.out)
    runs = f"{written.finished} finished run" + "s" * (written.finished != 1)
    failed = f", {written.failed} failed" if written.failed else ""
    print(f"{runs}{failed}: {short(written.page)}, {short(written.csv)}")
    if written.unreadable:
        print(f"    {written.unreadable} cannot be read: the page says why")
    return 0


# data -----------------------------------------------------------------------------------------------------------------


def add_data(commands) -> None:
    parser = commands.add_parser(
        "data",
        help="make a Plaza data set on disk",
        description="Render Plaza, the synthetic data set, into a folder in the layout of a benchmark.",
        epilog="example:  python -m reidkit data plaza --ids 100 200 --gap 0.5 --out data/my-plaza",
    )
    number = {"type": int, "metavar": "N"}
    parser.add_argument("dataset", choices=["plaza"])
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--market-size", action="store_true", help="as large as Market-1501; what else is given counts")
    parser.add_argument("--ids", nargs=2, type=int, metavar=("TRAIN", "TEST"), help="identities to train and test on")
    parser.add_argument("--cameras", **number, help="cameras on the plaza")
    parser.add_argument("--gap", type=float, metavar="X", help="how much the cameras differ, from 0 (all alike) to 1")
    parser.add_argument("--world", **number, help="the seed: which people, which cameras")
    parser.add_argument("--height", **number, help="of the images, in pixels; they are half as wide")
    parser.add_argument("--distractors", **number, help="images in the gallery of people nobody asks for")
    parser.add_argument("--junk", **number, help="images in the gallery that cut a person")
    parser.add_argument("--layout", choices=["market1501", "cuhk03"], help="whose folders and names to follow")
    parser.add_argument("--workers", **number, help="processes that render (default: one a core)")
    parser.set_defaults(command=data)


def data(args) -> int:
    from reidkit.datasets import plaza
    from reidkit.outcomes import short

    names = ("cameras", "gap", "world", "height", "distractors", "junk", "layout", "workers")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if args.ids:
        given["train_ids"], given["test_ids"] = args.ids
    options = (plaza.MARKET_SIZE if args.market_size else {}) | given
    folder = plaza.generate(args.out, **options)
    print(f"Plaza is in {short(Path(folder))}")
    return 0


# the rest -------------------------------------------------------------------------------------------------------------

COMMANDS = (add_run, add_sweep, add_report, add_data)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options):
        super().__init__(**options)
        self._negative_number_matcher = re.compile(r"^-\.?(\d|inf)")  # -1e-1 is a value too, as -0.1 is

    def error(self, message):  # one line, instead of the usage and a line
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m reidkit",
        description="Camera-aware person re-identification, paper by paper.",
        epilog="python -m reidkit COMMAND --help tells more of each.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for add in COMMANDS:
        add(commands)
    return parser


@contextlib.contextmanager
def _interruptible():
    """A polite kill, and the end of a terminal, count as Ctrl-C: kernels are ended and partial folders removed."""

    def stop(number, frame):
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup means it
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _complain(args, error, status: int) -> int:
    print(f"python -m reidkit {args.command.__name__}: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ModuleNotFoundError as error:
        if error.name not in TOOLING:
            raise
        sys.exit(f"python -m reidkit: {error.name} is missing; pip install 'reidkit[notebooks]'")
