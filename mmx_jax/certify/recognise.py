"""Recognises softmax, log-softmax, logsumexp and the variance of layer norms by their meaning.

Libraries transpose, vmap and cast around these, so they are found from the operation that ends
them: ``exp z`` over a sum of the same exponentials, laid out again beside its terms.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from mmx_jax.certify.graph import bind
from mmx_jax.certify.templates import Matcher, literal

__all__ = ["match_log_softmax", "match_logsumexp", "match_softmax", "match_variance"]

LAYOUT = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose")


def _maker(atom: Any, matcher: Matcher) -> Any:
    return None if isinstance(atom, core.Literal) else matcher.producers.get(atom)


def _through_layout(atom: Any, matcher: Matcher) -> tuple[Any, list[Any]]:
    """What an atom is a broadcast or reshape of, and the moves from there."""
    moves = []
    while (eqn := _maker(atom, matcher)) is not None and eqn.primitive.name in LAYOUT:
        moves.append(eqn)
        atom = eqn.invars[0]
    return atom, moves[::-1]


def _shifted(atom: Any, axes: tuple[int, ...], matcher: Matcher) -> Any:
    """x where an atom is ``x - shift`` with a shift that is the same along the axes.

    Softmax and log-softmax don't change under any such shift.
    """
    eqn = _maker(atom, matcher)
    if eqn is None or eqn.primitive.name != "sub" or isinstance(eqn.invars[0], core.Literal):
        return atom
    x, shift = eqn.invars
    if x.aval.shape != atom.aval.shape:
        return atom
    made = _maker(shift, matcher)
    if shift.aval.ndim == 0 or all(shift.aval.shape[a] == 1 for a in axes):
        return x
    if made is not None and made.primitive.name == "broadcast_in_dim":
        source, places = made.invars[0].aval.shape, made.params["broadcast_dimensions"]
        sizes = dict(zip(places, source, strict=True))
        if all(sizes.get(a, 1) == 1 for a in axes):
            return x
    return atom


def _sum_of_exp(atom: Any, matcher: Matcher) -> tuple[Any, tuple[int, ...], list[Any]] | None:
    """``(exp's result, axes, moves)`` where an atom is laid out from a sum of exponentials."""
    source, moves = _through_layout(atom, matcher)
    total = _maker(source, matcher)
    if total is None or total.primitive.name != "reduce_sum":
        return None
    made = _maker(total.invars[0], matcher)
    if made is None or made.primitive.name != "exp":
        return None
    return total.invars[0], tuple(int(a) for a in total.params["axes"]), moves


def _laid_out(shape: tuple[int, ...], axes: tuple[int, ...], moves: list[Any]) -> bool:
    """Whether moves put a sum over ``axes`` back beside the entries it was summed from."""
    reduced = tuple(s for i, s in enumerate(shape) if i not in axes)
    marks = np.arange(int(np.prod(reduced)), dtype=np.float32).reshape(reduced)
    got = _moved(marks, moves)
    wanted = np.broadcast_to(np.expand_dims(marks, axes), shape)
    return np.ndim(got) == len(shape) and np.array_equal(np.broadcast_to(got, shape), wanted)


def _moved(marks: np.ndarray, moves: list[Any]) -> np.ndarray:
    """Where moves of layout put the entries of an array; evaluated while tracing."""
    got: Any = jnp.asarray(marks)
    for eqn in moves:
        got = bind(eqn, [got])[0]
    return np.asarray(got)


def match_softmax(eqn: Any, matcher: Matcher) -> tuple[Any, tuple[int, ...]] | None:
    """``(z, axes)`` where a division gives the softmax of z."""
    found = _sum_of_exp(eqn.invars[1], matcher)
    if found is None or eqn.invars[0] is not found[0]:
        return None
    exponential, axes, moves = found
    with jax.ensure_compile_time_eval():
        if not _laid_out(tuple(exponential.aval.shape), axes, moves):
            return None
    z = _maker(exponential, matcher).invars[0]
    return _shifted(z, axes, matcher), axes


def match_log_softmax(eqn: Any, matcher: Matcher) -> tuple[Any, tuple[int, ...]] | None:
    """``(z, axes)`` where a difference gives the log-softmax of z."""
    source, outer = _through_layout(eqn.invars[1], matcher)
    log = _maker(source, matcher)
    if log is None or log.primitive.name != "log":
        return None
    found = _sum_of_exp(log.invars[0], matcher)
    if found is None:
        return None
    exponential, axes, moves = found
    z = _maker(exponential, matcher).invars[0]
    if z is not eqn.invars[0]:
        return None
    with jax.ensure_compile_time_eval():
        if not _laid_out(tuple(exponential.aval.shape), axes, [*moves, *outer]):
            return None
    return _shifted(z, axes, matcher), axes


def match_logsumexp(eqn: Any, matcher: Matcher) -> tuple[Any, tuple[int, ...], bool] | None:
    """``log |sum exp(x - m)| + m``, as ``jax.scipy.special.logsumexp`` writes it."""
    log = _maker(eqn.invars[0], matcher)
    if log is None or log.primitive.name != "log":
        return None
    inside = log.invars[0]
    size = _maker(inside, matcher)
    if size is not None and size.primitive.name == "abs":
        inside = size.invars[0]
    found = _sum_of_exp(inside, matcher)
    if found is None:
        return None
    exponential, axes, moves = found
    z = _maker(exponential, matcher).invars[0]
    x = _shifted(z, axes, matcher)
    if x is z:
        return None
    keep = len(eqn.outvars[0].aval.shape) == len(exponential.aval.shape)
    shape = tuple(exponential.aval.shape)
    with jax.ensure_compile_time_eval():
        back = _added_back(_maker(z, matcher).invars[1], eqn.invars[1], shape, axes, keep, matcher)
        laid = not moves or (keep and _laid_out(shape, axes, moves))
    return (x, axes, keep) if back and laid else None


def _added_back(
    taken: Any, added: Any, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, matcher: Any
) -> bool:
    """Whether the shift that is added is the one that was taken away, at the same places."""
    source, there = _through_layout(taken, matcher)
    other, back = _through_layout(added, matcher)
    if other is not source:
        return False
    marks = np.arange(int(np.prod(source.aval.shape)), dtype=np.float32)
    marks = marks.reshape(source.aval.shape)
    first, last = _moved(marks, there), _moved(marks, back)
    last = last if keep or last.ndim == 0 else np.expand_dims(last, axes)
    return np.array_equal(np.broadcast_to(first, shape), np.broadcast_to(last, shape))


def match_variance(eqn: Any, matcher: Matcher) -> tuple[Any, tuple[int, ...]] | None:
    """``max(0, mean(x^2) - mean(x)^2)``, the fast variance of layer norms."""
    zero, atom = eqn.invars
    if literal(zero, matcher.producers) is None:
        zero, atom = atom, zero
    if literal(zero, matcher.producers) != 0.0:
        return None
    difference = _maker(atom, matcher)
    if difference is None or difference.primitive.name != "sub":
        return None
    second = _mean(difference.invars[0], matcher)
    squared = _squared(difference.invars[1], matcher)
    first = None if squared is None else _mean(squared, matcher)
    if first is None or second is None or first[1] != second[1]:
        return None
    return first if _squared(second[0], matcher) is first[0] else None


def _mean(atom: Any, matcher: Matcher) -> tuple[Any, tuple[int, ...]] | None:
    division = _maker(atom, matcher)
    if division is None or division.primitive.name != "div":
        return None
    total = _maker(division.invars[0], matcher)
    if total is None or total.primitive.name != "reduce_sum":
        return None
    axes, source = tuple(int(a) for a in total.params["axes"]), total.invars[0]
    count = float(np.prod([source.aval.shape[a] for a in axes]))
    return (source, axes) if literal(division.invars[1], matcher.producers) == count else None


def _squared(atom: Any, matcher: Matcher) -> Any:
    eqn = _maker(atom, matcher)
    if eqn is None:
        return None
    if eqn.primitive.name == "square" or (
        eqn.primitive.name == "integer_pow" and eqn.params["y"] == 2
    ):
        return eqn.invars[0]
    if eqn.primitive.name == "mul" and eqn.invars[0] is eqn.invars[1]:
        return eqn.invars[0]
    return None
