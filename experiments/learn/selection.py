"""The data of L2X and INVASE: is what decides each example found, and does it predict as well?

L2X's data (the exact probability is the model): the mean over examples of the median rank of the
true features, for an explainer trained on the desiderata and for L2X's own objective in the same
trainer. INVASE's data (hard labels): share of true features found, share of false ones among those
selected, and the AUC of a prediction from what was selected, for INVASE's objective (its predictor
sees the selected values, as published) and for an explainer trained on the desiderata of sixteen
networks that were trained on the labels (its own set is the selection; sixteen fresh networks
predict from the selected values and from which they are). Five seeds, the final weights and those
that were best on validation data. The published objectives lack their releases' batch
normalisation and penalty on weights; L2X has relu units throughout; INVASE has selu units
throughout, predictors as wide as its selector, and 3,000 steps at 1e-3 where the release takes
10,000 at 1e-4.

Run:      python -m experiments.learn.selection
          python -m experiments.learn.selection --only syn1,syn2
Expected: experiments/learn/README.md. About 50 minutes on one core.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from sklearn.metrics import roc_auc_score

import mmx_jax as mmx
from experiments.common import Outcome, Run, at_least, at_most, main
from experiments.learn.common import made_with
from experiments.learn.labels import Exact, Gaussian, predictor
from experiments.published.selection import INVASE, L2X, invase, l2x, median_rank
from experiments.resumable import WorkDirectory
from mmx_jax.gates import own_set
from mmx_jax.learn import Balance, Recipe, Settings, fit, train_explainer
from mmx_jax.learn import selectors as published
from mmx_jax.learn.selectors import SelectingNetwork
from mmx_jax.models import Resample

AUC = {"syn1": 0.690, "syn2": 0.877, "syn3": 0.902, "syn4": 0.787, "syn5": 0.784}
"""Published, of INVASE (Yoon et al. 2019)."""
ROWS = 10_000


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Which data, how long."""

    only: Annotated[str | None, tyro.conf.arg(metavar="A,B,...")] = None
    """Data by name; all by default."""
    steps: int = 1500
    """Of training on the desiderata."""
    l2x_steps: int = 1000
    """Of training on L2X's objective: a million examples, once, as published."""
    invase_steps: int = 3000
    """Of training on INVASE's objective."""
    count: int = 5
    """Seeds."""
    rows: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Keeps the row of each data set and seed there; a run that was stopped goes on."""


def scores_of(explainer: Any, x: np.ndarray) -> np.ndarray:
    """Scores of all rows; the explainers here call no model."""
    explain = jax.jit(jax.vmap(lambda row: explainer(None, {"x": row}, 1, None)["x"]))
    return np.asarray(explain(jnp.asarray(x, jnp.float32)))


def ranks(name: str, options: Options, seed: int) -> dict[str, float]:
    """Median ranks of both explainers on one of L2X's data, final and best validation."""
    true = L2X[name][1]
    modalities, model = {"x": mmx.Modality.columns(10)}, mmx.as_model(Exact(name))
    valid, _ = l2x(name, 512, seed + 1000)
    test, _ = l2x(name, 1000 if options.quick else ROWS, seed + 2000)
    held = {"x": jnp.asarray(valid, jnp.float32)}
    steps = 100 if options.quick else options.steps
    ours = fit(
        model,
        modalities,
        Gaussian(),
        held,
        np.ones(512, np.int32),
        Recipe(settings=Settings(steps=steps, target="fixed", seed=seed)),
    )
    objective = published.L2X(mmx.FeatureGates(modalities), model, len(true))
    network = SelectingNetwork(
        modalities, 2, predictor_dim=200, activation="relu", rngs=nnx.Rngs(seed)
    )
    keys, zeros = jax.random.split(jax.random.key(seed), 512), jnp.zeros(512, jnp.int32)
    measure = jax.jit(lambda net: objective(net, held, zeros, zeros, keys)["l2x"])
    theirs = train_explainer(
        network,
        objective,
        Gaussian(),
        Balance((("l2x", 1.0),)),
        _settings(options.quick, options.l2x_steps, seed),
        evaluate=lambda explainer: {"quality": -float(measure(explainer.network()))},
    )
    out = {}
    for method, trained in (("desiderata", ours), ("L2X objective", theirs)):
        for which, explainer in (("final", trained.last), ("best", trained.best)):
            out[f"{method}, {which}"] = median_rank(scores_of(explainer, test), true)
    return out


def _settings(quick: bool, steps: int, seed: int) -> Settings:
    steps = 100 if quick else steps
    return Settings(steps=steps, batch=1000, chunk=500, learning_rate=1e-3, seed=seed)


def relevant(name: str, x: np.ndarray) -> np.ndarray:
    """Which features decide each row of INVASE's data."""
    columns = {"1": (0, 1), "2": (2, 3, 4, 5), "3": (6, 7, 8, 9)}
    out = np.zeros((len(x), 11), bool)
    if name in ("syn1", "syn2", "syn3"):
        out[:, columns[name[-1]]] = True
        return out
    low = x[:, 10] < 0
    for rows, kind in ((low, "1"), (~low, "2" if name == "syn4" else "3")):
        out[np.ix_(rows, columns[kind])] = True
    out[:, 10] = True
    return out


def selected(name: str, options: Options, seed: int) -> dict[str, float]:
    """TPR, FDR and AUC of both explainers on one of INVASE's data, final and best validation."""
    rows = 1000 if options.quick else ROWS
    x, y, _ = invase(name, rows, seed)
    test, labels, _ = invase(name, rows, seed + 10_000)
    cut = rows // 10
    inputs = {"x": jnp.asarray(x, jnp.float32)}
    first, held = (
        (jax.tree.map(lambda a, part=part: a[part], inputs), jnp.asarray(y[part], jnp.int32))
        for part in (slice(cut, None), slice(None, cut))
    )
    sample, modalities = Resample(*first), {"x": mmx.Modality.columns(11)}
    out: dict[str, float] = {}

    def judge(method: str, chosen: np.ndarray, predicted: np.ndarray) -> None:
        true = relevant(name, test)
        out[f"{method}: TPR"] = float(np.mean((chosen & true).sum(1) / true.sum(1)))
        false = (chosen & ~true).sum(1) / np.maximum(chosen.sum(1), 1)
        out[f"{method}: FDR"] = float(np.mean(false))
        out[f"{method}: AUC"] = float(roc_auc_score(labels, predicted))

    gates = mmx.FeatureGates(modalities)
    network = SelectingNetwork(modalities, 2, rngs=nnx.Rngs(seed))

    @jax.jit
    def prediction(explainer: Any, x: Any) -> Any:
        net = explainer.network()

        def one(row: Any) -> Any:
            chosen = net({"x": row}, 0)["x"] > 0.5
            return chosen, jax.nn.softmax(net.predict(gates.blend({"x": row}, {"x": chosen})))[1]

        return jax.vmap(one)(x)

    def validated(explainer: Any) -> dict[str, float]:
        _, p = prediction(explainer, held[0]["x"])
        return {"quality": float(roc_auc_score(held[1], np.asarray(p)))}

    theirs = train_explainer(
        network,
        published.INVASE(gates),
        sample,
        Balance((("predictor", 1.0), ("baseline", 1.0), ("selector", 1.0), ("size", 0.1))),
        _settings(options.quick, options.invase_steps, seed),
        evaluate=validated,
    )
    for which, explainer in (("final", theirs.last), ("best", theirs.best)):
        chosen, p = prediction(explainer, jnp.asarray(test, jnp.float32))
        judge(f"INVASE objective, {which}", np.asarray(chosen), np.asarray(p))

    ours = fit(
        predictor(x, y, seed, options.quick),
        modalities,
        sample,
        jax.tree.map(lambda a: a[:512], held[0]),
        np.ones(min(512, cut), np.int32),
        Recipe(
            settings=Settings(
                steps=100 if options.quick else options.steps, target="fixed", seed=seed
            )
        ),
    )
    own = jax.jit(jax.vmap(own_set))
    for which, explainer in (("final", ours.last), ("best", ours.best)):
        chosen, tested = (np.asarray(own(scores_of(explainer, z))) for z in (x, test))
        rows_of = [np.concatenate([z * c, c], 1) for z, c in ((x, chosen), (test, tested))]
        net = predictor(rows_of[0], y, seed + 1, options.quick)
        p = jax.jit(jax.vmap(net))({"x": jnp.asarray(rows_of[1], jnp.float32)})
        judge(f"desiderata, {which}", tested, np.asarray(p)[:, 1])
    return out


def experiment(options: Options) -> Outcome:
    """Trains both kinds of explainers on all data and seeds."""
    names = [*L2X, *INVASE] if options.only is None else options.only.split(",")
    seeds = options.seeds(1 if options.quick else options.count)
    fixed = ("quick", "steps", "l2x_steps", "invase_steps")
    kept = (
        None
        if options.rows is None
        else WorkDirectory(options.rows, {n: getattr(options, n) for n in fixed})
    )
    claims, table = [], []
    for name in names:
        found: dict[int, dict[str, float]] = {}
        for seed in seeds:
            file = f"{name}-{seed}.json"
            if kept is not None and kept.has(file):
                found[seed] = kept.read(file)
                continue
            found[seed] = (ranks if name in L2X else selected)(name, options, seed)
            if kept is not None:
                kept.write(file, found[seed])
        for column in next(iter(found.values())):
            values = {seed: row[column] for seed, row in found.items()}
            numbers = list(values.values())
            table.append(
                {"data": name, "what": column, "mean": float(np.mean(numbers))}
                | {"spread": float(np.std(numbers)), "worst of": len(numbers)}
                | {"least": min(numbers), "most": max(numbers)}
            )
            if name in L2X:
                best = (len(L2X[name][1]) + 1) / 2
                claims.append(at_most(f"{name}, {column}: median rank", values, best + 0.3))
            elif column.endswith("AUC"):
                claims.append(at_least(f"{name}, {column}", values, AUC[name] - 0.01))
    return Outcome(claims, {"selection": table}, details=[made_with("selection", options)])


if __name__ == "__main__":
    main("learn.selection", __doc__, experiment, Options, quickly=False)
