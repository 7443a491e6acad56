"""The model `ridge-headed`: any backbone with a closed-form head for a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruningbench.contract import Context, DatasetRef, Model, ModelRef, PruningBenchError, VisionModel, param

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class RidgeHeaded(Model):
    """A backbone whose classifier is a ridge head fitted on a data set: class-balanced, with bias, one-hot targets.

    It allows networks without a classifier (DINO, MoCo) to be scored by a loss, pruned and fine-tuned on a task.
    Networks with a classifier get the task's classes instead of their own. Keep the head dense with
    ``scope: {head: false}`` and unchanged with the recipe's ``freeze_head``. Source: the protocol of arXiv 2509.24066.
    """

    model: ModelRef = param(doc="the backbone; its own classifier is not used", shown=True)
    data: DatasetRef = param(doc="labelled data of the task, for fitting the head")
    alpha: float = param(1.0, doc="strength of the ridge penalty, > 0")

    def problem(self) -> str | None:
        """Refuse an alpha out of range."""
        return None if self.alpha > 0 else f"alpha must be positive, got {self.alpha}"

    def zero_norms_remedy(self) -> str:
        """Return the field of the backbone that starts norms at one."""
        return "`norm_init: one` in its `model`"

    def skeleton_around(self, inner: nn.Module) -> nn.Module | None:
        """Return the backbone with a head for one class: how many the data set has is known only with its images."""
        from pruningbench_transfer.headed import headed_skeleton

        return headed_skeleton(inner)

    def load(self, context: Context) -> VisionModel:
        """Return the backbone with its new head on ``context.device``, in eval mode."""
        import torch

        from pruningbench_transfer.headed import with_linear_head
        from pruningbench_transfer.labels import labels_in
        from pruningbench_transfer.ridge import ridge_head

        backbone, samples = context.open_model(self.model), context.open_dataset(self.data)
        labels = labels_in(samples.classes, samples, whose="the data set")
        if labels.bincount(minlength=len(samples.classes)).min() == 0:
            raise PruningBenchError("ridge-headed needs images of every class of its data set")
        with torch.inference_mode():
            batches = backbone.batches(samples, context.batch_size)
            features = torch.cat([backbone.embed(batch.images).float().cpu() for batch in batches])
        head = ridge_head(features, labels, self.alpha, classes=len(samples.classes))
        return with_linear_head(backbone, samples.classes, head.weight, head.bias)
