"""Composition root: settings, command line, node, logs."""
