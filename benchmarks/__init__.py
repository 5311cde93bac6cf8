"""Measurements, each a command that prints its table and writes it beside the README."""
