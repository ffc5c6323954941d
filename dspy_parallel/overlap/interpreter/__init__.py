"""What Python's syntax means to the scout."""
