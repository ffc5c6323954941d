"""Examples; from a checkout, `python -m examples.level_agent.verification` runs one."""
