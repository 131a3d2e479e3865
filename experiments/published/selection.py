"""Data of instance-wise feature selection: what is the best that any selector could reach?

    python -m experiments.published.selection

The generators of L2X (Chen et al., ICML 2018) and INVASE (Yoon et al., ICLR 2019), and the rows of
their tables that need no learned selector: the AUC of the Bayes-optimal prediction, that of a
network which sees only the globally relevant features (at least the published one less .02; ours
is a little better, no network beats Bayes), and the median rank of the true features if they come
first. Rows of learned selectors are made by experiments.learn.

In L2X's *additive* data the first feature alone predicts almost everything. The released *switch*
generator swaps two blocks of columns through views, which copies one onto the other: in that half
its truth can't be told from the data. The generator here is the mended one; the last claims show
the copies of the other. About 3 minutes on one core, ``--quick`` a few seconds.
"""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from experiments.common import Outcome, Run, at_least, at_most, main
from experiments.published.common import near, with_versions

__all__ = ["INVASE", "L2X", "invase", "l2x", "median_rank", "switch"]

Logits = Callable[[np.ndarray], np.ndarray]
"""The logarithm of l, where P(y = 0) = l / (1 + l); columns count from 0."""


def _product(x: np.ndarray) -> np.ndarray:
    return x[:, 0] * x[:, 1]


def _squares(x: np.ndarray, first: int, last: int) -> np.ndarray:
    return np.sum(x[:, first:last] ** 2, axis=1) - 4


def _additive(x: np.ndarray, start: int, scale: float) -> np.ndarray:
    """Of four columns; the published scales are 100 (L2X) and 10 (INVASE)."""
    a, b, c, d = x[:, start : start + 4].T
    return -scale * np.sin(0.2 * a) + np.abs(b) + c + np.exp(-d) - 2.4


def _switched(first: Logits, second: Logits) -> Logits:
    return lambda x: np.where(x[:, 10] < 0, first(x), second(x))


L2X: dict[str, tuple[Logits, tuple[int, ...]]] = {
    "XOR": (_product, (0, 1)),
    "orange": (lambda x: _squares(x, 0, 4), (0, 1, 2, 3)),
    "additive": (lambda x: _additive(x, 0, 100.0), (0, 1, 2, 3)),
}
"""Logits and the true columns, of 10."""

SYN2: Logits = lambda x: _squares(x, 2, 6)  # noqa: E731
SYN3: Logits = lambda x: _additive(x, 6, 10.0)  # noqa: E731
INVASE: dict[str, tuple[Logits, tuple[int, ...], float, float]] = {
    "syn1": (_product, (0, 1), 0.699, 0.686),
    "syn2": (SYN2, (2, 3, 4, 5), 0.899, 0.873),
    "syn3": (SYN3, (6, 7, 8, 9), 0.906, 0.900),
    "syn4": (_switched(_product, SYN2), (0, 1, 2, 3, 4, 5, 10), 0.821, 0.774),
    "syn5": (_switched(_product, SYN3), (0, 1, 6, 7, 8, 9, 10), 0.823, 0.784),
}
"""Logits, the columns that are relevant somewhere (of 11), AUC of Bayes, published AUC of them."""


def _probability_of_one(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip(logits, -500, 500)))


def l2x(name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``[count, 10]`` and soft labels, the probability of 1."""
    x = np.random.default_rng(seed).normal(size=(count, 10))
    return x, _probability_of_one(L2X[name][0](x))


def invase(name: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs ``[count, 11]``, hard labels, and the probability of 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 11))
    p = _probability_of_one(INVASE[name][0](x))
    return x, (rng.random(count) < p).astype(int), p


def switch(count: int, seed: int, aliased: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """L2X's switch data, mended: inputs ``[count, 10]`` and the probability of 1.

    Where column 9 is from N(3, 1) columns 0 to 3 decide as in orange, where from N(-3, 1) columns
    4 to 7 as in additive. With ``aliased`` the rows of the second half are swapped through views.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 10))
    high = rng.random(count) < 0.5
    x[:, 9] += np.where(high, 3.0, -3.0)
    p = _probability_of_one(np.where(high, _squares(x, 0, 4), _additive(x, 4, 100.0)))
    if aliased:
        half = x[: count // 2]
        half[:, :4], half[:, 4:8] = (
            half[:, 4:8],
            half[:, :4],
        )  # the second reads what is overwritten
    return x, p


def median_rank(scores: np.ndarray, true: tuple[int, ...]) -> float:
    """The mean over rows of the median rank of the true columns, 1 for the largest score."""
    ranks = np.argsort(np.argsort(-np.abs(scores), axis=1, kind="stable"), axis=1) + 1
    return float(np.mean(np.median(ranks[:, list(true)], axis=1)))


def experiment(run: Run) -> Outcome:
    """Compares oracles with the published tables."""
    seeds = run.seeds(1 if run.quick else 5)
    count = 1500 if run.quick else 10_000
    claims, rows, ranks = [], [], []
    for name, (_, columns, bayes, published) in INVASE.items():
        oracle, known = {}, {}
        for seed in seeds:
            x, y, _ = invase(name, count, seed)
            test, labels, p = invase(name, count, seed + 10_000)
            oracle[seed] = float(roc_auc_score(labels, p))
            net = MLPClassifier((100, 100), early_stopping=True, random_state=seed)
            net.fit(x[:, columns], y)
            predicted = np.asarray(net.predict_proba(test[:, columns]))[:, 1]
            known[seed] = float(roc_auc_score(labels, predicted))
        claims.append(near(f"{name}: AUC of Bayes", oracle, bayes, 0.005))
        claims.append(at_least(f"{name}: AUC of the true features", known, published - 0.02))
        rows.append(
            {"data": name, "Bayes before": bayes, "Bayes": float(np.mean(list(oracle.values())))}
            | {"global truth published": published}
            | {"global truth": float(np.mean(list(known.values())))}
            | {"spread": float(np.std(list(known.values())))}
        )
    for name, (_, true) in L2X.items():
        best = {
            s: median_rank(np.isin(np.arange(10), true) * np.ones((50, 1)), true) for s in seeds
        }
        claims.append(near(f"{name}: best median rank", best, (len(true) + 1) / 2, 0.0))
        alone = {}
        for seed in seeds:
            x, p = l2x(name, count, seed)
            labels = np.random.default_rng(seed + 1).random(count) < p
            alone[seed] = float(roc_auc_score(labels, x[:, 0]))
        ranks.append(
            {"data": name, "best median rank": (len(true) + 1) / 2}
            | {"AUC of the first feature alone": float(np.mean(list(alone.values())))}
        )
        if name == "additive":
            claims.append(near("additive: AUC of the first feature alone", alone, 0.993, 0.003))
    copies = {}
    for mended, kind in ((True, "mended"), (False, "released")):
        same = {s: _copies(switch(count, s, aliased=not mended)[0]) for s in seeds}
        copies[kind] = same
    claims.append(at_most("switch, mended: rows whose two blocks are equal", copies["mended"], 0.0))
    claims.append(at_least("switch, released: the same", copies["released"], 0.5))
    tables = {"AUC on INVASE's data": rows, "L2X's data": ranks}
    return with_versions(Outcome(claims, tables), "selection", run)


def _copies(x: np.ndarray) -> float:
    return float(np.mean(np.all(x[:, :4] == x[:, 4:8], axis=1)))


if __name__ == "__main__":
    main("published.selection", __doc__, experiment)
