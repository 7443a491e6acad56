"""All that a plugin imports beside the tools of `pruning`, `training` and `images`.

Components to subclass, the values they exchange, the hooks to register them with, and the errors to raise.
"""

from pruningbench.base.files import default_cache_folder, expanded, write_whole
from pruningbench.base.identity import content_hash, derive_seed, tensors_digest
from pruningbench.base.randomness import generator_for, isolated_randomness
from pruningbench.base.reading import (
    check_regular,
    one_line,
    open_file,
    parse_json,
    printable,
    read_file,
    read_json,
    read_text,
)
from pruningbench.contract.component import (
    KINDS,
    Component,
    ComponentRef,
    DatasetRef,
    Kind,
    ModelRef,
    Refers,
    Use,
    param,
)
from pruningbench.contract.context import Context, TensorCache
from pruningbench.contract.cost import Cost, Outline
from pruningbench.contract.dataset import DataCard, Dataset
from pruningbench.contract.encoded import EncodedSamples
from pruningbench.contract.human import (
    NO_ANSWER,
    NOT_SHOWN,
    HumanDecisions,
    HumanLabelCounts,
    HumanMaps,
    HumanOddOneOut,
    HumanResponses,
    HumanSimilarity,
    HumanTwoAlternatives,
)
from pruningbench.contract.labels import class_title, class_titles, imagenet_classes
from pruningbench.contract.model import Model
from pruningbench.contract.moving import Motion, MovingPruner
from pruningbench.contract.outputs import (
    Attributions,
    Boxes,
    Concepts,
    Costs,
    Curve,
    Exhibit,
    Explainer,
    Features,
    GroupedPredictions,
    Outputs,
    Predictions,
    Responses,
)
from pruningbench.contract.preprocessing import Preprocessing
from pruningbench.contract.pruner import Batches, Pruner, PruningContext, ScorePruner, check_scores, check_weights
from pruningbench.contract.recipe import Recipe, RecipeJob
from pruningbench.contract.sample import Sample
from pruningbench.contract.samples import ArraySamples, Samples
from pruningbench.contract.task import Metric, Task
from pruningbench.contract.vision import Augmentation, Batch, Facet, Grid, VisionModel, collate
from pruningbench.errors import (
    CollapseWarning,
    DataError,
    FetchError,
    FieldError,
    MaskError,
    MissingDataError,
    PluginError,
    PruningBenchError,
    RefusedError,
    ScoreError,
    UsageError,
    ViewUnavailableError,
    did_you_mean,
)
from pruningbench.hookspecs import Register, hookimpl

__all__ = [
    "KINDS",
    "NOT_SHOWN",
    "NO_ANSWER",
    "ArraySamples",
    "Attributions",
    "Augmentation",
    "Batch",
    "Batches",
    "Boxes",
    "CollapseWarning",
    "Component",
    "ComponentRef",
    "Concepts",
    "Context",
    "Cost",
    "Costs",
    "Curve",
    "DataCard",
    "DataError",
    "Dataset",
    "DatasetRef",
    "EncodedSamples",
    "Exhibit",
    "Explainer",
    "Facet",
    "Features",
    "FetchError",
    "FieldError",
    "Grid",
    "GroupedPredictions",
    "HumanDecisions",
    "HumanLabelCounts",
    "HumanMaps",
    "HumanOddOneOut",
    "HumanResponses",
    "HumanSimilarity",
    "HumanTwoAlternatives",
    "Kind",
    "MaskError",
    "Metric",
    "MissingDataError",
    "Model",
    "ModelRef",
    "Motion",
    "MovingPruner",
    "Outline",
    "Outputs",
    "PluginError",
    "Predictions",
    "Preprocessing",
    "Pruner",
    "PruningBenchError",
    "PruningContext",
    "Recipe",
    "RecipeJob",
    "Refers",
    "RefusedError",
    "Register",
    "Responses",
    "Sample",
    "Samples",
    "ScoreError",
    "ScorePruner",
    "Task",
    "TensorCache",
    "UsageError",
    "Use",
    "ViewUnavailableError",
    "VisionModel",
    "check_regular",
    "check_scores",
    "check_weights",
    "class_title",
    "class_titles",
    "collate",
    "content_hash",
    "default_cache_folder",
    "derive_seed",
    "did_you_mean",
    "expanded",
    "generator_for",
    "hookimpl",
    "imagenet_classes",
    "isolated_randomness",
    "one_line",
    "open_file",
    "param",
    "parse_json",
    "printable",
    "read_file",
    "read_json",
    "read_text",
    "tensors_digest",
    "write_whole",
]
