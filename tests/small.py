"""The smallest notebooks that a sweep can run and a page can show: made here, executed in a second."""

import base64
import json
import zlib

import nbformat

PARAMETERS = """\
profile: str = "demo"
dataset: str = "plaza"
data_root: str = "../data"
gap: float = 1.0
seeds: list[int] = [0, 1, 2]
behave: str = "well"  # well, fail, or hang (once)
results_path: str = ""
"""
WORK = """\
import json, os, time
from pathlib import Path

folder, out = Path(results_path).parent, Path(results_path).parents[2]
with open(out / "started", "a") as started:
    started.write(f"{folder.name}\\n")
if behave == "fail":
    raise RuntimeError("made to fail")
if behave == "hang" and not (out / "hung").exists():
    (out / "hanging").write_text(str(os.getpid()))
    (out / "hanging").rename(out / "hung")
    time.sleep(600)
rows = [{"variant": v, "seed": s, "mAP": gap / d + s / 100} for s in seeds for v, d in (("baseline", 4), ("better", 2))]
environment = {"versions": {}, "machine": {}, "date": "2026-01-01T00:00:00+00:00"}
Path(results_path).write_text(json.dumps({"schema": 1, "rows": rows, "environment": environment}))
"""


def notebook(path, *cells, title="A small one"):
    """Cells are source text; the first is the parameters cell, one that begins with # markdown."""
    made = [nbformat.v4.new_markdown_cell(f"# {title}")]
    for number, source in enumerate(cells or (PARAMETERS, WORK)):
        if source.startswith("#"):
            made.append(nbformat.v4.new_markdown_cell(source))
        else:
            made.append(nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]} if number == 0 else {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def png() -> str:
    """One pixel, in base64."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = chunk(b"IHDR", bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\xff")) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def finished(out, notebook="02_ccsc", *, rows, profile="demo", code="c" * 16, date="2026-01-01", seeds=(), **more):
    """A finished run as `run` leaves it, with one picture, without having run anything."""
    name = f"plaza__profile={profile}__{code[:4]}{'-'.join(map(str, seeds))}{more.get('gap', '')}"
    folder = out / notebook / name
    folder.mkdir(parents=True)
    shown = nbformat.v4.new_output("display_data", {"image/png": png()})
    told = nbformat.v4.new_output("stream", name="stdout", text=f"the gain is 3 points <{date}>\n")
    cells = [
        nbformat.v4.new_markdown_cell(f"# Title of {notebook}\n\n## A section"),
        nbformat.v4.new_code_cell("plot()", outputs=[shown]),
        nbformat.v4.new_code_cell("print()", outputs=[told]),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{notebook}.ipynb")
    parameters = {"profile": profile, "dataset": "plaza", "gap": more.get("gap", 1.0), "seeds": list(seeds)}
    machine = {"system": "Linux", "processor": "P1", "threads": 1, "cores": 2, "accelerator": None}
    results = {
        "schema": 1,
        "rows": rows,
        "sections": {"A section": 1.5},
        "environment": {
            "versions": {"torch": "2.11"},
            "machine": machine | more.get("machine", {}),
            "date": f"{date}T00:00:00+00:00",
        },
        "run": {
            "notebook": notebook,
            "profile": profile,
            "dataset": "plaza",
            "dataset_fingerprint": "generated",
            "parameters": parameters,
            "notebook_hash": "n" * 16,
            "code_hash": code,
            "seconds": more.get("seconds", 12.5),
            "peak_memory_mib": 300,
            "commit": "a" * 40,
            "dirty": False,
        },
    }
    results |= {name: more[name] for name in ("paper", "verdicts") if name in more}
    (folder / "results.json").write_text(json.dumps(results))
    return folder
