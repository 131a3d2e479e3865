"""Explainers made of explainers: another method per modality, and masses set to effects."""

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.explainers.base import calls
from mmx_jax.intervention import FeatureGates, modality_effects, rescale
from mmx_jax.modality import Modality
from mmx_jax.numerics import derive_key
from mmx_jax.typing import Explainer, Inputs, Model, PRNGKey, Scores, Target, record

__all__ = ["Composite", "Rescaled"]


@record
class Composite:
    """Another method per modality: ``E(x) = {E_1(x), ..., E_M(x)}``.

    Equation 1 of Agarwal, *Rethinking Explainability in the Era of Multimodal AI* (2025). Each
    explainer is asked about the whole model and its own modality's scores are kept. Give it that
    modality alone (``IntegratedGradients({"image": image})``), so that it spends no call on
    others and leaves them intact.

    Args:
      explainers: modality name to explainer.

    Raises:
      InputError: no explainer; when called, one that doesn't score its modality.
    """

    explainers: dict[str, Explainer]

    def __post_init__(self) -> None:
        """Refuses to be empty."""
        if not self.explainers:
            raise InputError("explainers", "is empty", "give one per modality")

    @property
    def evaluations(self) -> int:
        """The calls of all parts."""
        return sum(explainer.evaluations for explainer in self.explainers.values())

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; every part gets a key of its own."""
        out = {}
        for name in sorted(self.explainers):
            own = None if key is None else derive_key(key, name)
            scores = self.explainers[name](model, inputs, target, own)
            if name not in scores:
                raise InputError(
                    f"explainers[{name!r}]",
                    f"scores {', '.join(sorted(scores))}",
                    f"give one that explains {name}",
                )
            out[name] = scores[name]
        return out


@record
class Rescaled:
    """An explanation whose mass in each modality is set to that modality's effect.

    ``E'_m = df_m E_m / ||E_m||_1`` with ``df_m = |v(x) - v(x_-m)|``; spread evenly where E_m is 0.
    It makes any explainer follow the diagonal Granger condition, hence a baseline that every
    claim has to beat.

    Args:
      modalities: whose effects are measured: those the explainer scores.
      explainer: what is rescaled.

    Raises:
      InputError: when called, an explainer of other modalities.
    """

    modalities: dict[str, Modality]
    explainer: Explainer

    def __post_init__(self) -> None:
        """Checks the names."""
        check_modalities(self.modalities)

    @property
    def evaluations(self) -> int:
        """Those of the explainer, and M + 1 values."""
        return self.explainer.evaluations + calls(self.modalities, len(self.modalities) + 1)

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        scores = self.explainer(model, inputs, target, key)
        if set(scores) != set(self.modalities):
            raise InputError(
                "explainer",
                f"scores {', '.join(sorted(scores))}",
                f"rescale {', '.join(sorted(self.modalities))}, the same modalities",
            )
        mass = modality_effects(FeatureGates(self.modalities), model, inputs, target)
        return rescale(scores, mass)
