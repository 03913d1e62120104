"""The command line: `python -m reidkit COMMAND …`. One pair of functions a command: its arguments, and what it does.

Exit status: 0 done, 1 a run that failed, 2 something wrong with what was asked, 130 interrupted.
"""

import argparse
import contextlib
import logging
import signal
import sys
import textwrap
import time
from pathlib import Path

TOOLING = {"papermill", "nbclient", "nbformat", "jupyter_client", "ipykernel", "psutil", "yaml"}


def main(argv: list[str] | None = None) -> int:
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
    except OSError as error:  # a full disk, say
        return _complain(args, error, 1)
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
            profile, dataset, parameters and code."""
        ),
        epilog="example:  python -m reidkit run 03 --dataset plaza --profile smoke -p gap 0.5 -p seeds '[0, 1]'",
    )
    parser.add_argument("notebook", help="number, name or path: 03, 03_dcaml, my/03_dcaml.ipynb")
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

    notebook = runs.find_notebook(args.notebook, args.notebooks)
    if args.help_notebook:
        print(_parameter_table(notebook))
        return 0
    plan = runs.prepare(notebook, _given(args, runs.notebook_parameters(notebook)), args.out)
    folder = _short(plan.folder)
    started = time.monotonic()
    if runs.execute(plan, force=args.force, progress=not args.quiet):
        print(f"{notebook.stem}: finished in {_duration(time.monotonic() - started)}: {folder}")
    else:
        print(f"{notebook.stem}: finished before (--force runs it again): {folder}")
    return 0


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

    names = ("cameras", "gap", "world", "height", "distractors", "junk", "layout", "workers")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if args.ids:
        given["train_ids"], given["test_ids"] = args.ids
    options = (plaza.MARKET_SIZE if args.market_size else {}) | given
    folder = plaza.generate(args.out, **options)
    print(f"Plaza is in {_short(Path(folder))}")
    return 0


# the rest -------------------------------------------------------------------------------------------------------------

COMMANDS = (add_run, add_data)


class _Parser(argparse.ArgumentParser):
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


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ModuleNotFoundError as error:
        if error.name not in TOOLING:
            raise
        sys.exit(f"python -m reidkit: {error.name} is missing; pip install 'reidkit[notebooks]'")
