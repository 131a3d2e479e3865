"""Checkpoints of training: asynchronous, last and best, verified when they are read.

Orbax writes a checkpoint beside its final name and renames it when it is whole, so a killed
process leaves the one before. A digest of all bytes tells a damaged file from a good one.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from mmx_jax.errors import InputError
from mmx_jax.numerics import is_key

__all__ = ["BEST", "LAST", "Checkpoints"]

LAST, BEST = "last", "best"

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax tells every write


def digest(tree: PyTree) -> str:
    """A fingerprint of the names, shapes, dtypes and bytes of all leaves."""
    total = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.ascontiguousarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


class Checkpoints:
    """The checkpoints under one directory; a context that waits for pending writes.

    Args:
      directory: made if absent.
      names: which to keep: ``last`` keeps the two newest, ``best`` one.
      write: False to read only, while another process may be writing: nothing is made or removed.
    """

    def __init__(
        self, directory: str | Path, names: tuple[str, ...] = (LAST, BEST), write: bool = True
    ):
        self.directory = Path(directory).absolute()
        here = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"host{here}"
        )
        for name in names:
            if here == 0 and write:
                (self.directory / name).mkdir(parents=True, exist_ok=True)
            elif not (self.directory / name).is_dir():
                raise InputError("checkpoint", f"{self.directory / name} is absent", "train first")
        self._managers = {
            name: ocp.CheckpointManager(
                self.directory / name,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=2 if name == LAST else 1,
                    # only the first host writes, and a host waits for no other
                    cleanup_tmp_directories=here == 0 and write,
                    read_only=not write,
                    create=False,
                    multiprocessing_options=alone,
                ),
            )
            for name in names
        }

    def __enter__(self) -> "Checkpoints":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until everything is on disk."""
        for manager in self._managers.values():
            manager.wait_until_finished()
            manager.close()

    def save(self, name: str, step: int, state: PyTree, about: dict[str, Any]) -> None:
        """Writes a state in the background.

        Args:
          name: ``last`` or ``best``.
          step: of training; a step that is already there is left as it is.
          state: arrays.
          about: what is to be known of it; plain JSON.
        """
        manager = self._managers[name]
        if step in manager.all_steps():
            return
        host = jax.tree.map(np.asarray, state)
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(host),  # pyright: ignore
                about=ocp.args.JsonSave(about | {"digest": digest(host)}),  # pyright: ignore
            ),
        )

    def wait(self, name: str) -> None:
        """Until what was saved under a name is on disk."""
        self._managers[name].wait_until_finished()

    def steps(self, name: str) -> list[int]:
        """The steps that can be restored, oldest first."""
        return sorted(self._managers[name].all_steps())

    def restore(self, name: str, template: PyTree) -> tuple[int, PyTree, dict[str, Any]]:
        """The newest checkpoint: its step, its state like ``template``, and what is known of it.

        Raises:
          InputError: none is there, or it is damaged or of another network.
        """
        steps = self.steps(name)
        where = self.directory / name
        if not steps:
            raise InputError("checkpoint", f"{where} holds none", "train first")
        step = steps[-1]
        place = where / str(step)
        # of the best only one is kept
        instead = "train anew" if name == BEST else "remove it to use the one before, or train anew"
        like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
        try:
            about = self._managers[name].restore(
                step,
                args=ocp.args.Composite(about=ocp.args.JsonRestore()),  # pyright: ignore
            )["about"]
            restored = self._managers[name].restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(like)),  # pyright: ignore
            )
            state = jax.tree.map(np.asarray, restored["state"])
            whole = about["digest"] == digest(state)
        except Exception as error:
            first = str(error).strip().splitlines()[:1] or [""]
            raise InputError(
                "checkpoint",
                f"{place} can't be read ({type(error).__name__}: {first[0][:200]})",
                f"it is damaged or of another network or modality set; {instead}",
            ) from error
        if not whole:
            raise InputError(
                "checkpoint",
                f"{place} is damaged: its bytes are not those that were written",
                instead,
            )
        return step, state, about
