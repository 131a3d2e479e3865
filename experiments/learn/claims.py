"""What is expected of a learned explainer on each world: the columns, and their thresholds."""

__all__ = ["CERTIFIED", "CLAIMS", "TRANSFORMER", "Claims"]

Claims = tuple[tuple[str, str, str, float], ...]
"""(what, where it stands in a row, ``>=`` or ``<=``, threshold)."""

MIXED: Claims = (
    ("alpha*", "granger_known_reference.alpha", ">=", 0.85),
    ("5 % quantile of alpha", "granger_known_reference.a05", ">=", 0.92),
    ("over-claim", "granger_known_reference.over", "<=", 0.03),
    ("cross alpha*", "granger_known_reference.cross_alpha", ">=", 0.75),
    ("cross over-claim", "granger_known_reference.cross_over", "<=", 0.05),
    ("alpha*, unseen reference", "granger_unseen_reference.alpha", ">=", 0.85),
    ("over-claim, unseen reference", "granger_unseen_reference.over", "<=", 0.03),
    ("sufficiency error at true k", "sufficiency_error", "<=", 0.01),
    ("necessity share at true k", "necessity_share", ">=", 0.95),
    ("TPR", "tpr", ">=", 0.98),
    ("TPR, not redundant", "tpr_other", ">=", 0.99),
    ("FDR", "fdr", "<=", 0.02),
    ("local (p95) and path maximum, over the model's", "stability.ratio", "<=", 1.25),
    ("local (p95) and path maximum", "stability.together", "<=", 1.6),
)
GATED: Claims = (
    ("TPR", "tpr", ">=", 0.98),
    ("FDR", "fdr", "<=", 0.02),
    ("alpha*", "granger_known_reference.alpha", ">=", 0.82),
)
CERTIFIED: Claims = (
    ("global certificate, calibrated", "certificate", "<=", 3.0),
    ("alpha*", "granger_known_reference.alpha", ">=", 0.80),
    ("TPR", "tpr", ">=", 0.98),
)
TARGETS: Claims = (
    ("alpha*, all targets", "granger_known_reference.alpha", ">=", 0.85),
    ("5 % quantile of alpha", "granger_known_reference.a05", ">=", 0.92),
    ("over-claim", "granger_known_reference.over", "<=", 0.03),
    ("TPR, all targets", "tpr", ">=", 0.98),
    ("FDR where something matters", "fdr", "<=", 0.02),
)
TRANSFORMER: Claims = (
    ("alpha*", "granger_known_reference.alpha", ">=", 0.82),
    ("5 % quantile of alpha", "granger_known_reference.a05", ">=", 0.92),
    ("over-claim", "granger_known_reference.over", "<=", 0.03),
    ("TPR, redundant", "tpr_redundant", ">=", 0.90),
    ("finite-radius slope (p95)", "stability.searched_p95", "<=", 0.30),
    ("the same over that of Shapley + rescale", "over_shapley", "<=", 1.0),
)
UNUSED: Claims = (
    *MIXED,
    ("largest claim on the unused modality, of R", "unused.most", "<=", 0.05),
    ("examples that name a unit of it", "unused.named", "<=", 0.0),
)
CLAIMS = {
    "mixed": MIXED,
    "mixed3": MIXED,
    "unused": UNUSED,
    "gated": GATED,
    "targets": TARGETS,
}
