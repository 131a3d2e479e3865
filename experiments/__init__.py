"""Experiments: scripts to run, read and fork. ``python -m experiments.<name> --help``."""
