"""HD-XOR: the generator and the three fusion networks of the InterSHAP paper (arXiv 2412.15828).

The generator follows the released code, which differs from the paper's appendix; the networks too.
Their first layers are written as encoders of a ``SplitModel``, so coalitions and pairs of examples
cost one encoding per modality and a cheap fusion each. The released code keeps the encoders of the
intermediate and the late network in a plain list, where the optimiser does not find them:
``frozen=True`` does the same.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from mmx_jax import SplitModel
from mmx_jax.errors import UnknownNameError
from mmx_jax.model import IDENTITY, SOFTMAX
from mmx_jax.numerics import derive_key

__all__ = [
    "PUBLISHED_SEEDS",
    "SETTINGS",
    "Data",
    "Scale",
    "f1",
    "make_data",
    "network",
    "train",
]

SETTINGS = ("uniqueness", "synergy", "redundancy", "random")
PUBLISHED_SEEDS = (1, 42, 113)
WIDTHS = (200, 100, 150)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large a run is; the defaults are the published ones. ``epochs`` is a multiple of 4."""

    examples: int = 20000
    epochs: int = 200
    learning_rate: float = 1e-4
    batch: int = 400
    draws: int = 1000

    @classmethod
    def quick(cls) -> "Scale":
        """Small enough for a check that everything runs."""
        return cls(examples=1000, epochs=16, learning_rate=1e-3, batch=100, draws=10)


@dataclasses.dataclass(frozen=True)
class Data:
    """Inputs by modality name and labels of the three splits."""

    train: tuple[dict[str, np.ndarray], np.ndarray]
    valid: tuple[dict[str, np.ndarray], np.ndarray]
    test: tuple[dict[str, np.ndarray], np.ndarray]


def make_data(setting: str, seed: int, examples: int, modalities: int = 2) -> Data:
    """One draw of a setting, split 70 / 15 / 15 with equal shares of labels."""
    from sklearn.model_selection import train_test_split

    rng = np.random.default_rng(seed)
    latent, half = 200, 100
    count = modalities if setting == "synergy" else 2
    bits = _balanced(rng, examples, count) if count > 2 else rng.integers(0, 2, (examples, count))
    y = (bits.sum(1) == 1).astype(int)
    sign = 2.0 * bits - 1

    def halves(strength: float) -> np.ndarray:
        means = np.repeat(strength * sign, half, axis=1)
        return rng.normal(means, 1.0)

    if setting == "synergy":
        z = [rng.normal(0.35 * sign[:, [m]], 2.0, (examples, latent)) for m in range(modalities)]
    elif setting == "uniqueness":
        z = [halves(0.35), rng.normal(size=(examples, latent))]
    elif setting == "redundancy":
        z = [halves(0.25)] * modalities
    elif setting == "random":
        z, y = [rng.normal(0.5, 1.0, (examples, latent))] * modalities, rng.integers(0, 2, examples)
    else:
        raise UnknownNameError("setting", setting, SETTINGS)
    maps = [rng.uniform(-0.5, 0.5, (latent, WIDTHS[m])) for m in range(modalities)]
    x = {f"m{m}": (z[m] @ maps[m]).astype(np.float32) for m in range(modalities)}
    rows, rest = train_test_split(np.arange(examples), test_size=0.3, stratify=y, random_state=seed)
    valid, test = train_test_split(rest, test_size=0.5, stratify=y[rest], random_state=seed)
    return Data(*(({n: v[i] for n, v in x.items()}, y[i]) for i in (rows, valid, test)))


def _balanced(rng: np.random.Generator, examples: int, count: int) -> np.ndarray:
    """Bits with both labels equally often, as the released rejection does for three modalities."""
    bits = rng.integers(0, 2, (examples * count, count))
    one = bits.sum(1) == 1
    wanted = examples // 2
    kept = np.concatenate([bits[one][:wanted], bits[~one][: examples - wanted]])
    return rng.permutation(kept)


def _linear(layer: dict[str, Any], x: Any) -> Any:
    return x @ layer["w"] + layer["b"]


def _encode_late(layers: list[Any], x: Any) -> Any:
    return jax.nn.relu(_linear(layers[1], jax.nn.relu(_linear(layers[0], x))))


def _fuse_early(layers: list[Any], codes: dict[str, Any]) -> Any:
    hidden = jax.nn.relu(sum(codes.values()))  # encoders share the rows of the first layer
    return _linear(layers[1], jax.nn.relu(_linear(layers[0], hidden)))


def _fuse_intermediate(layers: list[Any], codes: dict[str, Any]) -> Any:
    joined = jnp.concatenate([codes[n] for n in sorted(codes)])
    return _linear(layers[1], jax.nn.relu(_linear(layers[0], joined)))


def _fuse_late(layers: list[Any], codes: dict[str, Any]) -> Any:
    return _linear(layers[0], jnp.concatenate([codes[n] for n in sorted(codes)]))


def _layer(key: Any, inputs: int, outputs: int, fan: int | None = None) -> dict[str, Any]:
    """Uniform on +-1/sqrt(fan-in), weights and biases, as the published networks start."""
    weights, bias = jax.random.split(key)
    bound = (inputs if fan is None else fan) ** -0.5
    return {
        "w": jax.random.uniform(weights, (inputs, outputs), jnp.float32, -bound, bound),
        "b": jax.random.uniform(bias, (outputs,), jnp.float32, -bound, bound),
    }


def network(fusion: str, widths: dict[str, int], seed: int) -> SplitModel:
    """An untrained network whose outputs are probabilities."""
    keys = iter(jax.random.split(derive_key(seed, "weights"), 20))
    total = sum(widths.values())
    sizes = {n: w // 2 for n, w in widths.items()}
    quarters = {n: size // 2 for n, size in sizes.items()}
    if fusion == "early":
        first = total // 2
        encoders = {n: _layer(next(keys), w, first, total) for n, w in widths.items()}
        for n in list(encoders)[1:]:  # one bias for the whole first layer
            encoders[n]["b"] = jnp.zeros((first,))
        fused = [_layer(next(keys), first, first // 2), _layer(next(keys), first // 2, 2)]
        single = {n: Partial(_linear, e) for n, e in encoders.items()}
        return SplitModel(single, Partial(_fuse_early, fused), SOFTMAX)
    if fusion == "intermediate":
        hidden = sum(sizes.values())
        single = {n: Partial(_linear, _layer(next(keys), w, sizes[n])) for n, w in widths.items()}
        fused = [_layer(next(keys), hidden, hidden // 2), _layer(next(keys), hidden // 2, 2)]
        return SplitModel(single, Partial(_fuse_intermediate, fused), SOFTMAX)
    if fusion == "late":
        double = {
            n: Partial(
                _encode_late,
                [_layer(next(keys), w, sizes[n]), _layer(next(keys), sizes[n], quarters[n])],
            )
            for n, w in widths.items()
        }
        last = [_layer(next(keys), sum(quarters.values()), 2)]
        return SplitModel(double, Partial(_fuse_late, last), SOFTMAX)
    raise UnknownNameError("fusion", fusion, ["early", "intermediate", "late"])


def train(
    data: Data, fusion: str, seed: int, scale: Scale, frozen: bool = False
) -> dict[str, SplitModel]:
    """A network trained with Adam and weight decay 1e-4, as it was at several moments.

    Args:
      data: one draw of a setting.
      fusion: ``"early"``, ``"intermediate"`` or ``"late"``.
      seed: of weights and batches.
      scale: epochs, learning rate and batch size.
      frozen: leaves the encoders as they start, as the released code does for two of the networks.

    Returns:
      ``"last"``, after the last epoch, which is what is published; ``"25%"``, ``"50%"`` and
      ``"75%"`` of the epochs; and ``"best"``, the epoch with the highest accuracy on the validation
      split. The outputs of all are probabilities.
    """
    model = network(fusion, {n: x.shape[1] for n, x in data.train[0].items()}, seed)
    quarters = jax.random.split(derive_key(seed, "epochs"), (4, scale.epochs // 4))
    settings = (scale.learning_rate, scale.batch, frozen)
    state: Any = ((model, _optimizer(scale.learning_rate).init(model)), model, np.float32(-1))
    found = {}
    for name, keys in zip(("25%", "50%", "75%", "last"), quarters, strict=True):
        state = _fit(settings, state, data.train, data.valid, keys)
        found[name] = state[0][0]
    found["best"] = state[1]
    return found


def _optimizer(learning_rate: float) -> Any:
    return optax.chain(optax.add_decayed_weights(1e-4), optax.adam(learning_rate))


@partial(jax.jit, static_argnums=0)
def _fit(settings: Any, state: Any, train: Any, valid: Any, keys: Any) -> Any:
    """Some epochs on: ``((model, moments), best model, its accuracy)``."""
    learning_rate, batch, frozen = settings
    optimizer = _optimizer(learning_rate)
    count = train[1].shape[0]

    def loss(model: SplitModel, x: Any, y: Any) -> Any:
        if frozen:
            model = dataclasses.replace(model, encoders=jax.lax.stop_gradient(model.encoders))
        logits = jax.vmap(dataclasses.replace(model, link=IDENTITY))(x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

    def step(state: Any, rows: Any) -> Any:
        model, moments = state
        x = {n: v[rows] for n, v in train[0].items()}
        slopes = jax.grad(loss)(model, x, train[1][rows])
        updates, moments = optimizer.update(slopes, moments, model)
        moved: Any = optax.apply_updates(model, updates)
        # the weight decay would move frozen encoders too
        new = dataclasses.replace(moved, encoders=model.encoders) if frozen else moved
        return (new, moments), None

    def epoch(state: Any, key: Any) -> Any:
        current, best, score = state
        order = jax.random.permutation(key, count)[: count // batch * batch]
        current, _ = jax.lax.scan(step, current, order.reshape(-1, batch))
        hits = jnp.mean(jnp.argmax(jax.vmap(current[0])(valid[0]), -1) == valid[1])
        best = jax.tree.map(lambda a, b: jnp.where(hits > score, a, b), current[0], best)
        return (current, best, jnp.maximum(hits, score)), None

    return jax.lax.scan(epoch, state, keys)[0]


def f1(model: SplitModel, data: Data) -> float:
    """Macro F1 on the test split, in percent."""
    from mmx_jax.interactions import macro_f1

    predicted = np.argmax(jax.jit(jax.vmap(model))(data.test[0]), -1)
    return 100 * macro_f1(predicted, data.test[1])
