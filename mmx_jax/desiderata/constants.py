"""The constants of the three desiderata: fixed in advance, shown in every report."""

import dataclasses
import inspect
import re

__all__ = ["DEFAULTS", "Constants", "meanings"]


@dataclasses.dataclass(frozen=True)
class Constants:
    """Every default constant of the desiderata; ``dataclasses.asdict`` prints them.

    R is the range of v over the calibration split. A constant "of R" multiplies it.

    Attributes:
      alpha: slope demanded of ``dE >= alpha df - beta`` (eq. 2 and text of the paper).
      beta: slack of the same condition, of R.
      active: a modality is active where its effect exceeds this, of R.
      inactive: a modality is inactive where no set of its units reaches this, of R.
      violations: largest share of active inputs that may violate the Granger condition.
      overclaim: largest over-claim on inactive inputs, of the mean active effect.
      unit_overclaim: largest over-claim on units that don't interact, of the same mean.
      own_share: the own set of an explanation is the smallest that holds this share of it.
      sufficiency: largest error of keeping the own set, of R.
      necessity: smallest share of the largest removal effect that the own set must reach.
      counted: necessity counts where the largest removal effect is at least this, of R.
      holds: share of inputs on which a faithfulness condition must hold.
      own_factor: the own set may be this many times the smallest set that meets both.
      delta: the share of inputs that ``eps_keep`` and ``eps_remove`` may leave out.
      confidence: of every interval and tolerance bound.
      stability_factor: largest ratio of the explanation's constants to the model's own.
      quantile: of local constants over inputs.
      kept: a semantic move keeps the output if the value moves at most this, of R.
      radius: of the ball that stability searches, of the mean norm of the modality's data.
      exhaustive: modalities of up to this many units have all their sets enumerated.
    """

    alpha: float = 0.5
    beta: float = 0.02
    active: float = 0.05
    inactive: float = 0.02
    violations: float = 0.05
    overclaim: float = 0.10
    unit_overclaim: float = 0.20
    own_share: float = 0.9
    sufficiency: float = 0.10
    necessity: float = 0.80
    counted: float = 0.02
    holds: float = 0.95
    own_factor: float = 2.0
    delta: float = 0.10
    confidence: float = 0.95
    stability_factor: float = 3.0
    quantile: float = 0.95
    kept: float = 0.02
    radius: float = 0.10
    exhaustive: int = 8


DEFAULTS = Constants()


def meanings() -> dict[str, str]:
    """What each constant means, in the words of :class:`Constants`.

    >>> meanings()["exhaustive"]
    'modalities of up to this many units have all their sets enumerated.'
    """
    _, _, listed = (inspect.getdoc(Constants) or "").partition("Attributes:\n")
    entries = re.findall(r"^ *(\w+): (.*(?:\n {4,}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
