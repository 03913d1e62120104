"""Beside a notebook that runs: its kernel process, and the line that tells how far it is."""

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from tqdm import tqdm


class KernelWatch:
    """A kernel of this very interpreter, its memory measured, and no process of it left behind.

    manager_class    for papermill: starts the kernel, whose own messages (a crash, say) go to `log`
    peak_memory_mib  the largest resident memory of kernel and worker processes together, looked at five times a second;
                     pages that processes share count for each, so it bounds what the run needs from above

    Leaving the context ends whatever is left of the kernel's process group: processes that a cell has started too.
    Meanwhile the file `note` says which process it is, for `end_kernel` after this process was killed.
    """

    def __init__(self, log, note: Path, *, tick=lambda: None):
        watch = self

        class Kernel(AsyncKernelManager):
            kernel_spec = KernelSpec(  # this interpreter, whichever kernels are installed under the notebook's name
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                display_name="Python 3",
                language="python",
            )

            async def start_kernel(self, **options):
                await super().start_kernel(**options, stdout=log, stderr=log)
                watch._pid = self.provisioner.pid
                note.write_text(json.dumps({"pid": watch._pid, "created": psutil.Process(watch._pid).create_time()}))

        self.manager_class = Kernel
        self.peak_memory_mib = 0
        self._pid, self._note, self._tick = None, note, tick
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._done.set()
        self._thread.join()
        self._note.unlink(missing_ok=True)
        if self._pid is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            for _ in range(20):  # those that clean up after themselves get two seconds
                os.killpg(self._pid, 0)  # jupyter starts a kernel as the leader of its own session and group
                time.sleep(0.1)
            os.killpg(self._pid, signal.SIGKILL)

    def _watch(self):
        while not self._done.wait(0.2):
            self._tick()
            if self._pid is None:
                continue
            with contextlib.suppress(psutil.Error):
                kernel = psutil.Process(self._pid)
                resident = sum(process.memory_info().rss for process in [kernel, *kernel.children(recursive=True)])
                self.peak_memory_mib = max(self.peak_memory_mib, round(resident / 2**20))


def end_kernel(note: Path) -> None:
    """Kill the kernel that `note` tells of, and what it has started, if it is still that process."""
    with contextlib.suppress(OSError, ValueError, KeyError, psutil.Error):  # no note, half a note, no such process
        told = json.loads(note.read_text())
        if psutil.Process(told["pid"]).create_time() == told["created"]:
            os.killpg(told["pid"], signal.SIGKILL)


class Progress:
    """How far a notebook is, on stderr and in the log; also the file that papermill writes the notebook's prints to.

    On a terminal: a bar with the section's heading and the last line that the running cell shows, its own progress bar
    for instance. Elsewhere: a line a section.

    place  the cell that runs now, in words: its number among the cells of the notebook, from 1, and its In [n]
    shown  is called with the heading above a cell that has shown a picture, once the partial copy holds it
    """

    def __init__(self, name, notebook, log, *, show=True, shown=lambda heading: None):
        self.name, self.log, self.show, self.shown = name, log, show, shown
        self.place = "its start"
        self.headings = []  # above each cell
        for cell in notebook.cells:
            found = re.findall(r"^##?\s+(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
            self.headings.append(found[-1].strip() if found else self.headings[-1] if self.headings else "")
        self._bar = self._heading = self._cell = None
        self._code_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        self._started = self._injected = 0

    def __enter__(self):
        if self.show and sys.stderr.isatty():
            layout = "{desc} · {n_fmt}/{total_fmt} cells done · {elapsed}{postfix}"
            self._bar = tqdm(total=self._code_cells, desc=self.name, leave=False, dynamic_ncols=True, bar_format=layout)
        return self

    def __exit__(self, *exception):
        if self._bar is not None:
            self._bar.close()

    def tick(self):
        """Let the clock of the bar run while a long cell does, and show what the cell shows."""
        if self._bar is not None and self._cell is not None:
            self._bar.set_postfix_str(_last_line(self._cell.outputs)[:80])

    def cell_started(self, cell, cell_index):
        self._started += 1
        if self._cell is not None and any("image/png" in output.get("data", {}) for output in self._cell.outputs):
            self.shown(self._heading)
        self._cell = cell  # nbclient adds to its outputs while it runs
        if "injected-parameters" in cell.metadata.get("tags", []):
            self._injected = 1
            self.place = f"the injected parameters (In [{self._started}])"
        else:
            index = cell_index - self._injected
            heading = self.headings[index]
            under = f" under {heading!r}" if heading else ""
            self.place = f"cell {index + 1} of {len(self.headings)} (In [{self._started}]{under})"
            if self._bar is not None:
                self._bar.set_description_str(f"{self.name} · {heading}"[:60])
            elif self.show and heading != self._heading:
                print(f"{self.name} · {heading}", file=sys.stderr, flush=True)
            self._heading = heading
        self.log.write(f"\n== {self.place}\n")
        self.log.flush()

    def cell_finished(self, cell, cell_index, execute_reply):
        if self._bar is not None and "injected-parameters" not in cell.metadata.get("tags", []):
            self._bar.update()

    def write(self, text):
        self.log.write(text)

    def flush(self):
        self.log.flush()


def _last_line(outputs) -> str:
    """The last line that a cell shows: of a stream, or of a display; without colours, without the bar of a tqdm."""
    if not outputs:
        return ""
    text = outputs[-1].get("text") or outputs[-1].get("data", {}).get("text/plain") or ""
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\|[ \u2580-\u259f]*\|", "", lines[-1]) if lines else ""
