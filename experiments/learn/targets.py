"""A world whose four outputs read different units: relevance depends on the target."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import mmx_jax as mmx
from mmx_jax.modality import Modality
from mmx_jax.model import FunctionModel
from mmx_jax.tasks import Batch, Task
from mmx_jax.tasks.algebra import Bit, Mode, Place, Term, WorldModel, carried
from mmx_jax.tasks.world import world
from mmx_jax.typing import Inputs

__all__ = ["targets"]

TERMS: tuple[tuple[Term, ...], ...] = (
    (Term("sum", (Bit("image", 0, 0.6), Bit("text", 0, 0.6))),),
    (Term("product", (Bit("image", 1), Bit("text", 1))),),
    (Term("either", (Bit("image", 2), Bit("text", 2))),),
    (Term("gate", (Bit("text", 3), Bit("image", 3))),),
)
"""What each output reads."""

IMAGE, TEXT = (Place("image", 0), Place("image", 0)), (Place("text", 0), Place("text", 0))
PRODUCT = (Place("image", 1, "a"), Place("text", 1, "b"))
REDUNDANT, TWINS = (Place("image", 2, "c"), Place("text", 2, "c")), (Place("image", 2, "c"),) * 2
GATE = (Place("image", 3, "d"), Place("text", 3, "+"))
LOUD = (Place("text", 7, "w", relevant=False),)
MODES = (
    Mode("unique image and product", 0.2, (*IMAGE, *PRODUCT, *LOUD)),
    Mode("unique text and redundant", 0.2, (*TEXT, *REDUNDANT, *LOUD)),
    Mode("product and duplicated", 0.2, (*PRODUCT, *TWINS, *LOUD)),
    Mode("unique image and gate", 0.2, (*IMAGE, *GATE, *LOUD)),
    Mode("redundant and gate", 0.2, (*REDUNDANT, *GATE, *LOUD)),
)


@mmx.record
class Outputs:
    """``sigmoid(3 s_k)`` of the terms of each output k."""

    readers: tuple[WorldModel, ...]

    def __call__(self, inputs: Inputs) -> Float[Array, "outputs"]:
        """The outputs of one example."""
        return jax.nn.sigmoid(jnp.stack([2 * reader(inputs)[1] for reader in self.readers]))


@mmx.record
class Sampler:
    """The examples of a world with relevance per output, ``{m: bool [n, outputs, units]}``."""

    sample: Any
    markers: dict[str, Array]

    def __call__(self, key: Any, n: int) -> Batch:
        """A batch of ``n`` examples."""
        batch = self.sample(key, n)
        rows = dict(self.sample.rows)

        def by_output(name: str, data: Array, relevant: Array) -> Array:
            loud = jnp.abs(carried(rows[name], data, self.markers[name])) > 0.8  # [units, channels]
            read = [
                sorted({b.channel for t in terms for b in t.bits if b.modality == name})
                for terms in TERMS
            ]
            hit = [jnp.any(loud[:, jnp.array(channels)], -1) for channels in read]
            return jnp.stack(hit) & relevant

        relevant = {
            name: jax.vmap(lambda x, r, name=name: by_output(name, x, r))(batch.inputs[name], r)
            for name, r in batch.truth["relevant"].items()
        }
        return batch._replace(truth=batch.truth | {"relevant": relevant})


def targets(seed: int = 0) -> Task:
    """Four outputs, two of which have something to read in every example."""
    modalities = {"image": Modality.patches((8, 8), 2), "text": Modality.tokens(8, 8)}
    every = [term for terms in TERMS for term in terms]
    task = world("targets", seed, modalities, every, MODES, "Each output reads its own units.")
    known: Any = task.reference
    whole: WorldModel = known.world
    readers = tuple(
        WorldModel(whole.markers, whole.strengths[k : k + 1], terms, whole.rows)
        for k, terms in enumerate(TERMS)
    )
    sampler = Sampler(task.sample, whole.markers)
    return Task(
        modalities,
        sampler,
        sampler,
        FunctionModel(Outputs(readers)),
        task.reference,
        name="targets",
        outputs=len(TERMS),
        target=None,
        target_names=("sum", "product", "either", "gate"),
        modes=task.modes,
        description=task.description,
        declared=task.declared,
    )
