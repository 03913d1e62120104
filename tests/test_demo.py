"""`make demo PROFILE=smoke` in a fresh clone with an empty home, the environment apart, which is made once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def fresh_clone(folder: Path) -> None:
    """What git would hand out: no ignored file, no cache, no result of an earlier run."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)


def test_make_demo_in_a_fresh_clone(tmp_path):
    clone, home = tmp_path / "fresh clone", tmp_path / "home"
    home.mkdir()
    fresh_clone(clone)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REIDKIT", "PYTEST"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(clone)}  # the clone's own package, not the one installed
    made = subprocess.run(
        # NOTEBOOKS: the others run in test_notebooks.py; -o: the environment is there
        ["make", "-o", ".venv/ready", "demo", "PROFILE=smoke", "NOTEBOOKS=00"],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    (page,) = (clone / "runs").glob("*.html")
    assert page.name in made.stdout
    assert "00 · The problem" in page.read_text(encoding="utf-8")
