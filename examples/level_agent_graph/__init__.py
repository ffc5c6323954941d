"""The level agent of the demo as a LangGraph: the three extractors fanned out and merged, in three ways.

Run it with `python -m examples.level_agent_graph`. It needs no key: the LM server answers from a recording.
"""

from __future__ import annotations
