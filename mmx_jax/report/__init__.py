"""Tables, pictures and one self-contained page out of the results of an audit."""

from mmx_jax.report.page import render, schema

__all__ = ["render", "schema"]
