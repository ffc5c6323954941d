"""Executes the notebooks next to this file and prints what their cells print.

    python -m examples.notebook [NAME]

It needs `pip install nbclient ipykernel`. Without them, open a notebook in Jupyter or an editor.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))


def main(*names: str) -> None:
    for file in NOTEBOOKS:
        if names and file.stem not in names:
            continue
        notebook = nbformat.read(file, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            # Not by TCP: others may take the ports that Jupyter has found free before its kernel listens on them.
            sockets = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"})
            config = Config() if sys.platform == "win32" else sockets
            NotebookClient(notebook, timeout=250, kernel_name="python3", config=config).execute()
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                if output.output_type == "stream" and output.name == "stdout":
                    print(output.text, end="")
                elif "text/html" in output.get("data", {}):
                    print(f"({len(output.data['text/html']):,} characters of HTML)")


if __name__ == "__main__":
    main(*sys.argv[1:])
