"""Cross-modal measures: interaction indices, shares, information, and explanations of pairs.

A table of game values ``[..., 2**M]`` is enough for the indices (bit m of the last index: player m
is present); :func:`modality_games` makes such tables of models. The link is the model's unless
another is given (``as_model(model, "log-odds")`` puts one in its place where there is no such
argument), the mask distribution the intervention's, and every function states its cost in model
evaluations.
"""

from mmx_jax.games import inverse_moebius, moebius, shapley_values
from mmx_jax.interactions.dime import DIME, InteractionPart, UnimodalPart, disentangle
from mmx_jax.interactions.emap import all_pairs, emap
from mmx_jax.interactions.evaluate import (
    accuracy,
    coalition_outputs,
    macro_f1,
    modality_games,
    unit_game,
    unit_games,
)
from mmx_jax.interactions.fsyn import SynergisticFaithfulness, fsyn
from mmx_jax.interactions.indices import (
    Interactions,
    banzhaf_interactions,
    harsanyi,
    harsanyi_share,
    shapley_interactions,
    subsets,
)
from mmx_jax.interactions.intershap import InterShap, intershap
from mmx_jax.interactions.intervals import bootstrap
from mmx_jax.interactions.m2lens import ModalityRelation, contributions, modality_relation
from mmx_jax.interactions.mmshap import mm_shap
from mmx_jax.interactions.pair_tests import (
    PairFaithfulness,
    PairRecovery,
    pair_faithfulness,
    pair_recovery,
    top_pairs,
)
from mmx_jax.interactions.pairs import (
    PairExplainer,
    PairScores,
    ProductPairs,
    SampledPairs,
    ShapleyPairs,
)
from mmx_jax.interactions.perceptual import Perceptual, perceptual_scores
from mmx_jax.interactions.pid import PID, joint_distribution, pid, pid_continuous
from mmx_jax.interactions.second_order import SecondOrderGradients
from mmx_jax.interactions.shape import Shape, performance_game, shape

__all__ = [
    "DIME",
    "PID",
    "InterShap",
    "InteractionPart",
    "Interactions",
    "ModalityRelation",
    "PairExplainer",
    "PairFaithfulness",
    "PairRecovery",
    "PairScores",
    "Perceptual",
    "ProductPairs",
    "SampledPairs",
    "SecondOrderGradients",
    "Shape",
    "ShapleyPairs",
    "SynergisticFaithfulness",
    "UnimodalPart",
    "accuracy",
    "all_pairs",
    "banzhaf_interactions",
    "bootstrap",
    "coalition_outputs",
    "contributions",
    "disentangle",
    "emap",
    "fsyn",
    "harsanyi",
    "harsanyi_share",
    "intershap",
    "inverse_moebius",
    "joint_distribution",
    "macro_f1",
    "mm_shap",
    "modality_games",
    "modality_relation",
    "moebius",
    "pair_faithfulness",
    "pair_recovery",
    "perceptual_scores",
    "performance_game",
    "pid",
    "pid_continuous",
    "shape",
    "shapley_interactions",
    "shapley_values",
    "subsets",
    "top_pairs",
    "unit_game",
    "unit_games",
]
