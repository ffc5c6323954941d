"""Executes the notebooks next to this file and prints what their cells print.

    python -m examples.notebook [NAME]

It needs `pip install nbclient ipykernel`. Without them, open a notebook in Jupyter or an editor.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))


def main(*names: str) -> None:
    for file in NOTEBOOKS:
        if names and file.stem not in names:
            continue
        notebook = nbformat.read(file, as_version=4)
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                if output.output_type == "stream" and output.name == "stdout":
                    print(output.text, end="")
                elif "text/html" in output.get("data", {}):
                    print(f"({len(output.data['text/html']):,} characters of HTML)")


if __name__ == "__main__":
    main(*sys.argv[1:])
