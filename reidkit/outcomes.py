"""Many runs, one after another or on a cluster: how each ended, and the table of it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reidkit.parameters import ParameterError
from reidkit.runs import Run, RunError, execute

RAN, FAILED, SKIPPED = "ran", "failed", "skipped"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `ran`, `failed` or `skipped`, for it was finished before. `error` says why it failed, or which
    rows of a finished run did."""

    run: Run
    state: str
    seconds: float = 0.0
    error: str = ""

    @property
    def place(self) -> Path:
        """Where to look: the executed notebook, half-executed where it failed."""
        folder = self.run.failed_folder if self.state == FAILED else self.run.folder
        notebook = folder / self.run.notebook.name
        return notebook if notebook.is_file() else folder


def attempt(run: Run, **options) -> Outcome:
    """`execute` a run; a failure is an outcome. Only an interrupt goes through."""
    started = time.monotonic()
    try:
        state = RAN if execute(run, **options) else SKIPPED
        error = run.lacks
    except (RunError, ParameterError, OSError) as failure:  # the notebook; its file; a full disk
        state, error = FAILED, str(failure)
    return Outcome(run, state, time.monotonic() - started, error)


def table(outcomes: Iterable[Outcome]) -> str:
    """One line a run, and under it the first line of what went wrong."""
    outcomes = list(outcomes)
    lines = [("run", "outcome", "time", "where")]
    for outcome in outcomes:
        took = "" if outcome.state == SKIPPED else duration(outcome.seconds)
        lines.append((label(outcome.run), outcome.state, took, short(outcome.place)))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    told = ["  ".join([*map(str.ljust, line[:3], widths), line[3]]).rstrip() for line in lines]
    for index in range(len(outcomes), 0, -1):
        if error := outcomes[index - 1].error:
            told.insert(index + 1, f"    {error.strip().splitlines()[0]}")
    return "\n".join(told)


def summary(outcomes: Iterable[Outcome]) -> str:
    """`3 ran, 1 failed, 2 skipped (finished before)`."""
    states = [outcome.state for outcome in outcomes]
    words = {RAN: "ran", FAILED: "failed", SKIPPED: "skipped (finished before)"}
    return ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states) or "no run"


def label(run: Run) -> str:
    """A run in a line: its notebook, and its folder's name without the hash."""
    return f"{run.notebook.stem} {run.folder.name.rpartition('__')[0].replace('__', ' ')}"


def short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
