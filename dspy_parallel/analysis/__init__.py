"""Reads code: functions as syntax trees, what they read and write, which types and functions have no effect.

Serves `engine="auto"`, overlap and doctor. Knows no fibers and starts nothing; may import what `seams` may, and
`seams`. `source` finds a function's syntax tree, `def_use` its syntactic facts, `trusted_types` the types whose
operators run no user code, `effect_free` the functions known to have no effect; `thread_needs` decides for `auto`,
`call_graph` lists for doctor each call that a program makes, `blockers` which of those block.
"""
