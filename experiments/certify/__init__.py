"""Experiments on certified bounds: tightness."""
