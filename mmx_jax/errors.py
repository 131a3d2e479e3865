"""Errors for people: what is wrong, with which argument, and what to do about it."""

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "MmxError", "UnknownNameError", "nearest"]


class MmxError(Exception):
    """Base of every error that the package raises on purpose.

    The command line prints its message as one line and exits with status 2.
    """


class InputError(MmxError, ValueError):
    """An argument that can't be used.

    Args:
      argument: the argument, as the caller wrote it, for example ``inputs['image']``.
      problem: what is wrong with it, with the offending value.
      remedy: what to do instead.

    >>> print(InputError("chunk", "is 0", "pass a positive number of examples"))
    chunk is 0: pass a positive number of examples
    """

    def __init__(self, argument: str, problem: str, remedy: str):
        self.argument, self.problem, self.remedy = argument, problem, remedy
        super().__init__(f"{argument} {problem}: {remedy}")


class UnknownNameError(InputError):
    """A name that is not one of those offered; the message gives the nearest ones.

    >>> print(UnknownNameError("task", "digit", ["digits", "xor"]))
    task 'digit' is not known: did you mean 'digits'? Known are digits, xor
    """

    def __init__(self, argument: str, name: str, known: Iterable[str]):
        known = sorted(known)
        close = nearest(str(name), known)
        hint = " or ".join(repr(c) for c in close)
        listed = f"Known are {', '.join(known)}" if known else "None is known"
        super().__init__(
            f"{argument} {name!r}",
            "is not known",
            f"did you mean {hint}? {listed}" if close else listed,
        )


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The up to three known names most like ``name``, best first."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
