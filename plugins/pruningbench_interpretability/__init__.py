"""Saliency maps of a network and their quality: how sparse, well placed and faithful they are.

Registers the tasks ``interpretability`` and ``concepts`` and their metrics. ``__all__`` lists plain functions
that work without the harness, among them `road_impute`, `gini`, `relevance_mass` and `attention_rollout`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pruningbench.contract import Register, RegisterFunction, hookimpl

if TYPE_CHECKING:
    from pruningbench_interpretability.attention import attention_rollout
    from pruningbench_interpretability.coherence import concept_coherence, concept_purity, match_concepts
    from pruningbench_interpretability.complexity import entropy, gini
    from pruningbench_interpretability.factorisation import nmf
    from pruningbench_interpretability.localisation import pointing_game, relevance_mass, relevance_rank
    from pruningbench_interpretability.nonnegative import nnls
    from pruningbench_interpretability.perturbation import (
        area_under_curve,
        deletion_curve,
        insertion_curve,
        perturbation_curve,
        region_perturbation_curve,
    )
    from pruningbench_interpretability.removal import road_curves
    from pruningbench_interpretability.road import road_impute
    from pruningbench_interpretability.similarity import rank_correlation, structural_similarity
    from pruningbench_interpretability.sobol import jansen_total, replicated_design, sobol_total

__all__ = [
    "area_under_curve",
    "attention_rollout",
    "concept_coherence",
    "concept_purity",
    "deletion_curve",
    "entropy",
    "gini",
    "insertion_curve",
    "jansen_total",
    "match_concepts",
    "nmf",
    "nnls",
    "perturbation_curve",
    "pointing_game",
    "rank_correlation",
    "region_perturbation_curve",
    "relevance_mass",
    "relevance_rank",
    "replicated_design",
    "road_curves",
    "road_impute",
    "sobol_total",
    "structural_similarity",
]

_HOMES = {
    "area_under_curve": "pruningbench_interpretability.perturbation",
    "attention_rollout": "pruningbench_interpretability.attention",
    "concept_coherence": "pruningbench_interpretability.coherence",
    "concept_purity": "pruningbench_interpretability.coherence",
    "deletion_curve": "pruningbench_interpretability.perturbation",
    "entropy": "pruningbench_interpretability.complexity",
    "gini": "pruningbench_interpretability.complexity",
    "insertion_curve": "pruningbench_interpretability.perturbation",
    "jansen_total": "pruningbench_interpretability.sobol",
    "match_concepts": "pruningbench_interpretability.coherence",
    "nmf": "pruningbench_interpretability.factorisation",
    "nnls": "pruningbench_interpretability.nonnegative",
    "perturbation_curve": "pruningbench_interpretability.perturbation",
    "pointing_game": "pruningbench_interpretability.localisation",
    "rank_correlation": "pruningbench_interpretability.similarity",
    "region_perturbation_curve": "pruningbench_interpretability.perturbation",
    "relevance_mass": "pruningbench_interpretability.localisation",
    "relevance_rank": "pruningbench_interpretability.localisation",
    "replicated_design": "pruningbench_interpretability.sobol",
    "road_curves": "pruningbench_interpretability.removal",
    "road_impute": "pruningbench_interpretability.road",
    "sobol_total": "pruningbench_interpretability.sobol",
    "structural_similarity": "pruningbench_interpretability.similarity",
}


pruningbench_contract = "1.0"


@hookimpl
def pruningbench_register_tasks(register: Register) -> None:
    """Register the tasks."""
    register("interpretability", "pruningbench_interpretability.task:Interpretability")
    register("concepts", "pruningbench_interpretability.concepts:ConceptExtraction")


@hookimpl
def pruningbench_register_metrics(register: Register) -> None:
    """Register the metrics."""
    register("gini", "pruningbench_interpretability.metrics:Gini")
    register("relevance-mass", "pruningbench_interpretability.metrics:RelevanceMass")
    register("relevance-rank", "pruningbench_interpretability.metrics:RelevanceRank")
    register("entropy", "pruningbench_interpretability.metrics:Entropy")
    register("pointing-game", "pruningbench_interpretability.metrics:PointingGame")
    register("deletion", "pruningbench_interpretability.faithfulness:Deletion")
    register("insertion", "pruningbench_interpretability.faithfulness:Insertion")
    register("pixel-flipping", "pruningbench_interpretability.faithfulness:PixelFlipping")
    register("aopc", "pruningbench_interpretability.faithfulness:Aopc")
    register("road-morf", "pruningbench_interpretability.faithfulness:RoadMorf")
    register("road-lerf", "pruningbench_interpretability.faithfulness:RoadLerf")
    register("road-aopc", "pruningbench_interpretability.faithfulness:RoadAopc")
    register("max-sensitivity", "pruningbench_interpretability.sanity:MaxSensitivity")
    register("infidelity", "pruningbench_interpretability.sanity:Infidelity")
    register("model-randomisation", "pruningbench_interpretability.sanity:ModelRandomisation")
    register("random-logit", "pruningbench_interpretability.sanity:RandomLogit")
    register("map-rank-correlation", "pruningbench_interpretability.sanity:MapRankCorrelation")
    register("map-ssim", "pruningbench_interpretability.sanity:MapSsim")
    register("concept-coherence", "pruningbench_interpretability.concept_metrics:ConceptCoherence")
    register("concept-purity", "pruningbench_interpretability.concept_metrics:ConceptPurity")
    register("concept-drift", "pruningbench_interpretability.concept_metrics:ConceptDrift")
    register("concept-concentration", "pruningbench_interpretability.concept_metrics:ConceptConcentration")


@hookimpl
def pruningbench_register_statements(register: RegisterFunction) -> None:
    """Register the claim on the sharpness of maps."""
    register("sharper-maps", "pruningbench_interpretability.statements:sharper_maps")


@hookimpl
def pruningbench_register_attribution_methods(register: Register) -> None:
    """Register the attribution methods."""
    register("saliency", "pruningbench_interpretability.attribution:Saliency")
    register("vanilla-gradients", "pruningbench_interpretability.attribution:VanillaGradients")
    register("integrated-gradients", "pruningbench_interpretability.attribution:IntegratedGradients")
    register("smoothgrad", "pruningbench_interpretability.attribution:SmoothGrad")
    register("smooth-integrated-gradients", "pruningbench_interpretability.attribution:SmoothIntegratedGradients")
    register("grad-cam", "pruningbench_interpretability.attribution:GradCam")
    register("guided-grad-cam", "pruningbench_interpretability.attribution:GuidedGradCam")
    register("gradient-shap", "pruningbench_interpretability.attribution:GradientShap")
    register("deeplift", "pruningbench_interpretability.attribution:DeepLift")
    register("occlusion", "pruningbench_interpretability.attribution:Occlusion")
    register("rise", "pruningbench_interpretability.attribution:Rise")
    register("attention-rollout", "pruningbench_interpretability.attribution:AttentionRollout")
    register("last-attention", "pruningbench_interpretability.attribution:LastAttention")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
