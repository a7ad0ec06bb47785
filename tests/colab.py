"""A notebook as in Colab: a fresh environment that has torch already, no checkout, installed from this repository.

`python tests/colab.py [NOTEBOOK]` makes the environment in a temporary folder, borrows torch and all else but s6lib
from the environment that runs this, stands in for `google.colab`, runs the notebook's cells on the digits, and says how
long each took and whether pip replaced anything of torch.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
# What Colab brings: everything here is lent to the new environment, and pip may not touch it.
LENT = ("torch", "torchvision", "numpy")
CELLS = """
import json, sys, time, types
from IPython.testing.globalipapp import start_ipython
google = types.ModuleType("google"); google.colab = types.ModuleType("google.colab")
sys.modules |= {"google": google, "google.colab": google.colab}
shell = start_ipython()
import matplotlib; matplotlib.use("agg")
start = time.time()
for cell in json.loads(open(sys.argv[1]).read())["cells"]:
    if cell["cell_type"] != "code":
        continue
    source = "".join(cell["source"]).replace("https://github.com/your-name/s6lib", sys.argv[2])
    done = shell.run_cell(source)
    done.raise_error()
    if cell["id"] == "parameters":
        shell.run_cell("dataset, seeds, epochs = 'digits', 2, 2")
    if cell["id"] == "imports":
        import s6lib
        assert s6lib.__file__.startswith(sys.prefix), s6lib.__file__
    if cell["id"] in ("colab", "samples", "train", "record"):
        print(f"{cell['id']}: {time.time() - start:.1f} s", flush=True)
"""


def main(notebook: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        site = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
        (site / "lent.pth").write_text(f"{Path(metadata.distribution('torch').locate_file(''))}\n")
        before = versions(python, folder)
        (folder / "cells.py").write_text(CELLS)
        started = time.time()
        command = [python, "cells.py", notebook.absolute(), f"file://{ROOT}"]
        subprocess.run(command, cwd=folder, env=environment(folder), check=True)
        print(f"all cells: {time.time() - started:.0f} s")
        after = versions(python, folder)
        print("of torch replaced:", [name for name in LENT if before[name] != after[name]] or "nothing")
        print(
            "records:", *[path.relative_to(folder) for path in folder.rglob("record.json") if "venv" not in path.parts]
        )


def environment(folder: Path) -> dict[str, str]:
    """Nothing of this checkout is importable."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "S6_LAB", "S6_TRAIN")}
    return {**kept, "S6_QUIET": "1", "IPYTHONDIR": str(folder / "ipython"), "PATH": f"{folder}/venv/bin:{kept['PATH']}"}


def versions(python: Path, folder: Path) -> dict[str, list[str]]:
    """Version and place of what was lent."""
    code = "import json, importlib.metadata as m; print(json.dumps({n: [m.version(n), str(m.distribution(n)._path)] "
    code += f"for n in {LENT!r}}}))"
    done = subprocess.run([python, "-c", code], cwd=folder, env=environment(folder), capture_output=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "notebooks" / "regularisers" / "gbn.ipynb")
