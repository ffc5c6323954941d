"""Imported by its relative name."""
