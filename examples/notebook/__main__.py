"""Executes the notebook next to this file and prints what its cells print.

    python -m examples.notebook

It needs `pip install nbclient ipykernel`. Without them, open parallel.ipynb in Jupyter or an editor.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("parallel.ipynb")


def main() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stdout":
                print(output.text, end="")
            elif "text/html" in output.get("data", {}):
                print(f"({len(output.data['text/html']):,} characters of HTML)")


if __name__ == "__main__":
    main()
