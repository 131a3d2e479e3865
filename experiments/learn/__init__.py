"""Explainers learned on the desiderata, against every mandatory baseline and cheat."""
