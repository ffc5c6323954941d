"""Fibers, the order in which they touch the heap, and the heap as it was. Knows nothing of Python's syntax."""
