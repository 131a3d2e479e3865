"""Bring your own model and data: a table and a text of word ids, explained and judged.

``build()`` returns any function of one example's inputs (or a flax NNX module) and a
``Modality`` per input; the data file holds one array per modality.

Run:      python -m experiments.own_model own.npz
          mmx audit --model experiments/own_model.py:build --data own.npz
Expected: the table's first two columns and the word "not" decide; the other words change nothing.
          About 1 minute on 2 cores, most of it compiling.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax import Modality

WORDS = ("-", "it", "is", "not", "cheap", "today")
COLUMNS = ("price", "quality", "age", "weight")


def build():
    """The model, from one example's inputs to two logits, and its modalities."""
    weights = jnp.array([-1.5, 2.0, 0.0, 0.0])

    def model(inputs):
        score = jnp.tanh(inputs["table"] @ weights)
        denied = jnp.any(inputs["text"] == WORDS.index("not"))
        score = jnp.where(denied, -score, score)
        return jax.nn.softmax(jnp.array([0.0, 3.0]) * score)

    modalities = {
        "table": Modality.columns(len(COLUMNS), names=COLUMNS),
        "text": Modality.token_ids(4, WORDS, mask=0),
    }
    return model, modalities


def write(path: str, examples: int = 60, seed: int = 0) -> None:
    """Examples as an npz: an array per modality with a leading axis, names as in ``build``."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(examples, len(COLUMNS))).astype(np.float32)
    text = rng.integers(1, len(WORDS), size=(examples, 4)).astype(np.int32)
    np.savez(path, table=table, text=text)


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else "own.npz")
