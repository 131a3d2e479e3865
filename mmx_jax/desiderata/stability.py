"""III. Unified stability: how much explanations of n change per change of m (eqs. 6 and 7).

Three quantities are told apart and reported together, because each alone can be gamed: the
constant at the point, the largest found in a ball (never below the point), and the largest along
straight paths between inputs. All are raw here; c multiplies them where they are aggregated.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from mmx_jax.desiderata.jacobian import point
from mmx_jax.desiderata.perturb import (
    PROBE,
    Perturbations,
    Probe,
    Quotients,
    moving,
    perturbations,
    quotients,
)
from mmx_jax.desiderata.search import Search, ascend, begin, improve, propose
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import map_stacked
from mmx_jax.numerics import combine, derive_key, partition, safe_divide, safe_norm
from mmx_jax.typing import Explainer, Inputs, Model, PRNGKey, Scores, Target, record

__all__ = ["ModelStability", "Stability", "found", "model_stability", "stability"]


@record
class Stability:
    """Constants of one example's explanation; raw, before calibration.

    Attributes:
      point: per pair "n<-m", the norm of the Jacobian block dE_n/dx_m; empty where the explainer
        is not differentiable.
      searched: per pair, the largest quotient or Jacobian norm found in the ball.
      path: per pair, the largest quotient along the straight path to another input.
      moves: see :class:`Quotients`.
    """

    point: dict[str, Array]
    searched: dict[str, Array]
    path: dict[str, Array]
    moves: dict[str, dict[str, dict[str, Array]]]


def found(
    quotient: Quotients, search: Search | None = None, at_point: dict[str, Array] | None = None
) -> Stability:
    """Joins the parts; ``searched`` is the largest of all that was found in the ball."""
    searched = dict(quotient.ball)
    # inputs that are no modality have a Jacobian too, and are left out
    at_point = {name: v for name, v in (at_point or {}).items() if name in searched}
    for part in (search.largest if search else {}, at_point):
        for name, value in part.items():
            searched[name] = jnp.maximum(searched[name], value)
    return Stability(at_point, searched, quotient.path, quotient.moves)


def stability(
    intervention: FeatureGates,
    model: Model,
    explainer: Explainer,
    inputs: Inputs,
    target: Target,
    key: PRNGKey,
    *,
    other: Inputs,
    radius: dict[str, Any],
    probe: Probe = PROBE,
    rounds: int = 8,
    differentiate: bool = True,
    ascent: int = 0,
    chunk: int | None = None,
) -> Stability:
    """All of stability for one example in one program.

    Args:
      intervention: its modalities say which moves keep the meaning.
      model: the model.
      explainer: the explainer; x and every x' share the key and the target.
      inputs: of one example.
      target: chosen on x.
      key: of the explainer, and of the search (independent).
      other: the inputs of another example, where the path leads.
      radius: per modality, of the ball.
      probe: how many perturbations.
      rounds: of hill climbing by explainer calls, one per pair and round.
      differentiate: whether the explainer has a Jacobian (see :func:`not_differentiable`).
      ascent: rounds of gradient ascent in the ball; needs a Jacobian.
      chunk: explanations computed at once.
    """

    def explain(x: Inputs) -> Scores:
        return explainer(model, x, target, key)

    seed = derive_key(key, "stability")
    perturbed = perturbations(intervention.modalities, inputs, other, seed, radius, probe)
    intact = explain(inputs)
    rows = map_stacked(explain, perturbed.inputs, chunk=chunk)
    search = begin(inputs, perturbed, intact, rows)

    def climb(i: Array, search: Search) -> Search:
        proposed = propose(search, inputs, jax.random.fold_in(seed, i), radius, probe.order)
        scores = map_stacked(explain, proposed, chunk=chunk)
        return improve(search, inputs, proposed, intact, scores, probe.order)

    search = jax.lax.fori_loop(0, rounds, climb, search)
    if ascent:
        search = ascend(explain, search, inputs, intact, radius, probe.order, ascent)
    norms = point(explain, inputs, seed, order=probe.order) if differentiate else None
    return found(quotients(perturbed, intact, rows), search, norms)


@record
class ModelStability:
    """The same three quantities of the model itself, to which verdicts compare.

    Attributes:
      point: per modality m, the norm of dv/dx_m.
      searched: per m, the largest quotient of v or norm of its gradient found in the ball.
      path: per m, the largest quotient of v along the straight path.
      kept: per move and modality "move m", ``[repeats]``, the change ``|v(x') - v(x)|``, inf where
        the largest output is another one.
    """

    point: dict[str, Array]
    searched: dict[str, Array]
    path: dict[str, Array]
    kept: dict[str, Array]


def model_stability(
    model: Model,
    inputs: Inputs,
    target: Target,
    perturbed: Perturbations,
    *,
    slopes: bool = True,
    chunk: int | None = None,
) -> ModelStability:
    """Stability of v over the perturbations of one example, and which moves keep the output.

    Without ``slopes`` (a model that can't be differentiated) gradients count as 0, and difference
    quotients alone are left.
    """
    blocks = {m for kind, m, *_ in perturbed.layout if kind == "ball"}
    names = [m for m in moving(inputs) if m in blocks]
    dual = 2 if perturbed.order == 2 else 1

    def slope_of(x: Inputs) -> tuple[Array, Array, dict[str, Array]]:
        real, rest = partition(x)

        def value(moved: PyTree) -> tuple[Array, Array]:
            outputs = model(combine(moved, rest))
            return outputs[target], jnp.argmax(outputs)

        if not slopes:
            v, top = value(real)
            return v, top, {m: jnp.zeros(()) for m in names}
        (v, top), grad = jax.value_and_grad(value, has_aux=True)(real)
        return v, top, {m: safe_norm(grad[m], dual) for m in names}

    rows = jax.tree.map(
        lambda x, xs: jnp.concatenate([jnp.asarray(x)[None], xs]), inputs, perturbed.inputs
    )
    v, top, slope = map_stacked(slope_of, rows, chunk=chunk)
    at_point = {m: slope[m][0] for m in names}
    searched, path, kept = dict(at_point), {}, {}
    for kind, m, first, last in perturbed.layout:
        after = v[1 + first : 1 + last]
        length = perturbed.length[first:last]
        before = jnp.concatenate([v[:1], after[:-1]]) if kind == "path" else v[0]
        change = jnp.abs(after - before)
        if kind not in ("ball", "path"):
            same = top[1 + first : 1 + last] == top[0]
            kept[f"{kind} {m}"] = jnp.where(same, change, jnp.inf)
            continue
        steepest = jnp.max(safe_divide(change, length, 0.0))
        if kind == "path":
            path[m] = steepest
        else:
            inside = jnp.max(slope[m][1 + first : 1 + last])
            searched[m] = jnp.maximum(searched[m], jnp.maximum(steepest, inside))
    return ModelStability(at_point, searched, path, kept)
