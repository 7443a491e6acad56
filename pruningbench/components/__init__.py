"""What plugin authors subclass and exchange: components and the values between them."""

from pruningbench.components.base import (
    KINDS,
    Component,
    ComponentRef,
    DatasetRef,
    Kind,
    Refers,
    Use,
    param,
)
from pruningbench.components.context import Context, TensorCache
from pruningbench.components.dataset import ArraySamples, Dataset, Sample, Samples
from pruningbench.components.model import Augmentation, Batch, Model, Preprocessing, VisionModel, collate
from pruningbench.components.outputs import Attributions, Boxes, Exhibit, Outputs, Predictions
from pruningbench.components.pruner import Batches, Pruner, PruningContext, ScorePruner, check_scores
from pruningbench.components.recipe import Recipe, RecipeJob
from pruningbench.components.task import Metric, Task

__all__ = [
    "KINDS",
    "ArraySamples",
    "Attributions",
    "Augmentation",
    "Batch",
    "Batches",
    "Boxes",
    "Component",
    "ComponentRef",
    "Context",
    "Dataset",
    "DatasetRef",
    "Exhibit",
    "Kind",
    "Metric",
    "Model",
    "Outputs",
    "Predictions",
    "Preprocessing",
    "Pruner",
    "PruningContext",
    "Recipe",
    "RecipeJob",
    "Refers",
    "Sample",
    "Samples",
    "ScorePruner",
    "Task",
    "TensorCache",
    "Use",
    "VisionModel",
    "check_scores",
    "collate",
    "param",
]
