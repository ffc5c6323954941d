"""One level of a natural-language-to-Cypher agent: three extractors, three LM calls, one query.

The extractors are ordinary synchronous DSPy modules. Nothing in this package is written for dspy_parallel, except
the few lines of `agent.py` that await the extractors instead of calling them.
"""
