"""Maps that stay flat in memory: over gates, steps and samples inside jit, over examples outside.

Inside ``jit`` a sum over many model calls accumulates in a scan carry, a few calls at a time:
mapping first and averaging afterwards would hold every result. Small chunks also win on CPU
(4 to 16 calls); accelerators want more. Over examples a host loop runs one compiled, padded chunk.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from mmx_jax.errors import InputError
from mmx_jax.numerics import is_key
from mmx_jax.typing import record, static

__all__ = [
    "accumulate",
    "default_chunk",
    "example_mesh",
    "map_examples",
    "map_stacked",
    "mean_over",
]

Progress = Callable[[int, int, float], None]
"""Called with (examples done, examples in all, seconds since the start)."""


def default_chunk() -> int:
    """Model calls made at once inside ``jit``: 16 on CPU, 256 on accelerators."""
    return 16 if jax.default_backend() == "cpu" else 256


def _split(count: int, chunk: int | None) -> tuple[int, int, int]:
    """(size, steps, rest) with ``count = size * steps + rest``; no rest if a good divisor exists.

    The rest is computed by a second copy of the body, so that padding makes no model calls.
    """
    limit = default_chunk() if chunk is None else chunk
    if limit < 1:
        raise InputError("chunk", f"is {limit}", "pass a positive number of model calls")
    limit = min(limit, max(count, 1))
    for size in range(limit, limit // 2, -1):
        if count % size == 0:
            return size, count // size, 0
    return limit, count // limit, count % limit


def accumulate(fn: Callable[[Any], PyTree], count: int, chunk: int | None = None) -> PyTree:
    """The sum of ``fn(i)`` over ``i < count``, with temporary memory independent of ``count``.

    Args:
      fn: a pure function of a scalar int32 index; it makes its own gate, step or sample from it.
      count: how many terms.
      chunk: how many are computed at once; :func:`default_chunk` if None.

    Returns:
      a pytree like ``fn(0)``. Reverse-mode derivatives recompute each chunk, so they are flat too.

    >>> int(accumulate(lambda i: i, 101, chunk=4))
    5050
    """
    return _total(fn, count, chunk, 1)


def _total(fn: Callable[[Any], PyTree], count: int, chunk: int | None, divisor: int) -> PyTree:
    size, steps, rest = _split(count, chunk)

    @jax.checkpoint
    def block(indices: Any) -> PyTree:
        return jax.tree.map(
            lambda leaf: jnp.sum(leaf, axis=0, dtype=_wide(leaf.dtype)), jax.vmap(fn)(indices)
        )

    def indices(length: int) -> Any:
        return jnp.arange(length, dtype=jnp.int32)

    def body(carry: tuple[PyTree, Any], _: None) -> tuple[tuple[PyTree, Any], None]:
        total, start = carry
        return (jax.tree.map(jnp.add, total, block(start + indices(size))), start + size), None

    shape = jax.eval_shape(fn, jax.ShapeDtypeStruct((), jnp.int32))
    total = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, _wide(leaf.dtype)), shape)
    if steps == 1:
        total = block(indices(size))
    elif steps > 1:
        # the counter is carried: a list of steps would be memory that grows with them
        (total, _), _ = jax.lax.scan(body, (total, jnp.int32(0)), length=steps)
    if rest:
        total = jax.tree.map(jnp.add, total, block(steps * size + indices(rest)))
    # divided before half precision has to hold it
    total = total if divisor == 1 else jax.tree.map(lambda leaf: leaf / divisor, total)
    narrow = jax.tree.map(lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating), shape)
    return jax.tree.map(
        lambda leaf, like, real: leaf.astype(like.dtype) if real else leaf, total, shape, narrow
    )


def _wide(dtype: Any) -> Any:
    """What sums of a dtype are kept in: half precision stops growing after a few hundred terms."""
    half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.float32 if half else dtype


def mean_over(fn: Callable[[Any], PyTree], count: int, chunk: int | None = None) -> PyTree:
    """The mean of ``fn(i)`` over ``i < count``; see :func:`accumulate`."""
    if count < 1:
        raise InputError("count", f"is {count}", "average over at least one term")
    return _total(fn, count, chunk, count)


def map_stacked(fn: Callable[..., PyTree], *xs: PyTree, chunk: int | None = None) -> PyTree:
    """``vmap(fn)(*xs)`` over the leading axis, a chunk at a time.

    Only the results are held for all rows, so ``fn`` should return little: a value, not an input.

    >>> map_stacked(lambda x: x * x, jnp.arange(5), chunk=2).tolist()
    [0, 1, 4, 9, 16]
    """
    count = jax.tree.leaves(xs)[0].shape[0]
    size, steps, rest = _split(count, chunk)
    whole = size * steps
    if steps <= 1 and not rest:
        return jax.vmap(fn)(*xs)

    def body(_: None, rows: PyTree) -> tuple[None, PyTree]:
        return None, jax.vmap(fn)(*rows)

    chunked = jax.tree.map(lambda leaf: leaf[:whole].reshape(steps, size, *leaf.shape[1:]), xs)
    _, out = jax.lax.scan(body, None, chunked)
    out = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), out)
    if rest:
        last = jax.vmap(fn)(*jax.tree.map(lambda leaf: leaf[whole:], xs))
        out = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), out, last)
    return out


def example_mesh(devices: int | None = None) -> Mesh:
    """A mesh with one axis ``examples`` over the first ``devices`` devices (all by default)."""
    known = jax.devices()
    count = len(known) if devices is None else devices
    if not 1 <= count <= len(known):
        raise InputError(
            "devices", f"is {count}", f"use 1 to {len(known)}, the devices of this machine"
        )
    return Mesh(np.array(known[:count]), ("examples",), axis_types=(AxisType.Auto,))


@partial(jax.jit, static_argnums=(1, 2))
def _run(fn: Any, in_axes: tuple[Any, ...], mesh: Mesh | None, args: tuple[Any, ...]) -> PyTree:
    mapped = jax.vmap(fn, in_axes)
    args = jax.tree.map(_as_keys, args, is_leaf=lambda x: isinstance(x, _KeyData))
    if mesh is None:
        return mapped(*args)
    specs = tuple(P() if axis is None else P("examples") for axis in in_axes)
    return jax.shard_map(
        mapped, mesh=mesh, in_specs=specs, out_specs=P("examples"), check_vma=False
    )(*args)


def map_examples(
    fn: Callable[..., PyTree],
    *batches: PyTree,
    in_axes: int | None | tuple[int | None, ...] = 0,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> PyTree:
    """``vmap(fn, in_axes)(*batches)``, a chunk of examples at a time, compiled once.

    Args:
      fn: a pure function of one example; a callable pytree passes its arrays as arguments of the
        compiled program, so a second call with other weights does not compile again.
      *batches: pytrees with a leading axis of examples where ``in_axes`` is 0. Randomness enters
        as a batch of keys, one per example, so results don't depend on the chunking
        (keys of the kind ``rbg`` aside, which JAX does not promise it for).
      in_axes: 0 (mapped over the leading axis) or None (the same for all examples) per batch.
      chunk: examples per call; all of them up to 256 by default. The last chunk is padded.
      mesh: devices to spread each chunk over, from :func:`example_mesh`; None uses one device.
        With several processes every process passes the same whole batches.
      progress: called after each chunk with (done, total, seconds).

    Returns:
      the results as NumPy arrays with a leading axis of examples.

    Raises:
      InputError: no examples, or batches of different length.
    """
    axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(batches)
    if len(axes) != len(batches):
        raise InputError(
            "in_axes", f"has {len(axes)} entries for {len(batches)} batches", "give one each"
        )
    if any(axis not in (0, None) for axis in axes):
        raise InputError("in_axes", f"is {axes}", "use 0 or None for each batch")
    mapped = [b for b, axis in zip(batches, axes, strict=True) if axis == 0]
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(mapped)}
    if len(lengths) != 1 or () in lengths:
        raise InputError(
            "batches", f"have leading axes {sorted(lengths)}", "use one common number of examples"
        )
    (total,) = lengths.pop()
    if total == 0:
        raise InputError("batches", "hold zero examples", "pass at least one")
    size = min(total, 256) if chunk is None else chunk
    if size < 1:
        raise InputError("chunk", f"is {size}", "pass a positive number of examples")
    devices = 1 if mesh is None else mesh.size
    size = -(-min(size, total) // devices) * devices
    wrapped = fn if jax.tree_util.all_leaves([fn]) is False else jax.tree_util.Partial(fn)

    batches = tuple(
        b if axis is None else jax.tree.map(_on_host, b)
        for b, axis in zip(batches, axes, strict=True)
    )
    started = time.monotonic()
    done: list[PyTree] = []
    waiting: PyTree = None
    for start in range(0, total, size):
        stop = min(start + size, total)
        rows: Any = slice(start, stop)
        if stop - start < size:  # padding repeats the last example
            rows = np.minimum(np.arange(start, start + size), total - 1)
        args = tuple(
            b if axis is None else jax.tree.map(lambda leaf, rows=rows: _take(leaf, rows, mesh), b)
            for b, axis in zip(batches, axes, strict=True)
        )
        result = _run(wrapped, axes, mesh, args)
        # fetch one chunk behind, so that the device never waits for the host
        if waiting is not None:
            done.append(_fetch(*waiting))
            if progress:
                progress(start, total, time.monotonic() - started)
        waiting = (result, stop - start)
    done.append(_fetch(*waiting))
    if progress:
        progress(total, total, time.monotonic() - started)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *done)


@record
class _KeyData:
    """Typed keys by what they hold: indexing typed keys takes longer than a small network."""

    data: Any
    impl: Any = static()


def _as_keys(leaf: Any) -> Any:
    held = isinstance(leaf, _KeyData)
    return jax.random.wrap_key_data(leaf.data, impl=leaf.impl) if held else leaf


def _on_host(leaf: Any) -> Any:
    """An array in a CPU's memory as NumPy's, which compiles nothing to be cut into chunks."""
    if (
        isinstance(leaf, jax.Array)
        and leaf.is_fully_addressable
        and all(device.platform == "cpu" for device in leaf.devices())
    ):
        if is_key(leaf):
            return _KeyData(np.asarray(jax.random.key_data(leaf)), jax.random.key_impl(leaf))
        return np.asarray(leaf)
    return leaf


def _take(leaf: Any, rows: np.ndarray | slice, mesh: Mesh | None) -> Any:
    part = leaf[rows]
    if mesh is None:
        return part
    sharding = NamedSharding(mesh, P("examples"))
    if jax.process_count() == 1:
        return jax.device_put(part, sharding)
    return jax.make_array_from_callback(part.shape, sharding, lambda index: part[index])


def _fetch(result: PyTree, count: int) -> PyTree:
    if jax.process_count() > 1:
        result = multihost_utils.process_allgather(result, tiled=True)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], result)
