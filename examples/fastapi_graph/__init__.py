"""A FastAPI service that answers with a parallelised graph, and the same under load.

`python -m examples.fastapi_graph` starts the LM server and the service, sends requests to both variants of the graph,
lets some clients hang up, and prints what became of it. It needs no key.
"""

from __future__ import annotations
