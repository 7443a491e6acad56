"""The model `clip`: an image encoder with a classifier built from sentences about the classes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from pruningbench.contract import Context, NewWeights, VisionModel, param

REMEDY = "model 'clip' needs open_clip: pip install 'pruningbench[clip]'"


@dataclass(frozen=True)
class Clip(NewWeights):
    """Zero-shot classification by CLIP: the image encoder of open_clip, with text embeddings as its head.

    The embedding of a class is the normalised mean of the normalised embeddings of all templates filled with its
    name (for a WordNet id, its first synonym). The network consists only of the image encoder and that head.
    A. Radford et al., Learning transferable visual models from natural language supervision, ICML 2021.
    Needs the extra ``[clip]``.
    """

    name: str = param("ViT-B-32", doc="an architecture of open_clip.list_models()")
    weights: str | None = param(
        "laion2b_s34b_b79k", doc="tag of open_clip.list_pretrained(), or a local file; null for random weights"
    )
    classes: tuple[str, ...] | Literal["imagenet"] = param(
        "imagenet", doc="class names, or imagenet for its 1000 WordNet ids"
    )
    templates: tuple[str, ...] = param(("a photo of a {}.",), doc="sentences with {} in place of the class name")
    seed: int = param(0, doc="seed of random weights, >= 0")

    def problem(self) -> str | None:
        """Check the classes and templates."""
        if not self.classes:
            return "classes is empty; name at least one"
        if self.classes != "imagenet" and len(set(self.classes)) < len(self.classes):
            return "classes must not repeat"
        if not self.templates:
            return "templates is empty; give at least one sentence with {}"
        wrong = next((t for t in self.templates if t.count("{}") != 1 or t.count("{") != 1 or t.count("}") != 1), None)
        if wrong is not None:
            return f"template {wrong!r} must hold {{}} once"
        return None if self.seed >= 0 else f"seed is {self.seed}, but must be at least 0"

    def load(self, context: Context) -> VisionModel:
        """Return the image encoder with its zero-shot head on ``context.device``, in eval mode.

        Raises:
            MissingDataError: without the extra, or if the weights are unavailable.
            UsageError: for an architecture or a tag that open_clip does not know.
        """
        from pruningbench.contract import MissingDataError, class_title, imagenet_classes

        if find_spec("open_clip") is None:
            raise MissingDataError(REMEDY)
        from pruningbench_timm.zeroshot import load_zero_shot

        classes = imagenet_classes() if self.classes == "imagenet" else self.classes
        titles = [class_title(name, longest=0) for name in classes]
        model = load_zero_shot(self.name, self.weights, classes, titles, self.templates, self.seed, context.device)
        model.norm_init = self.norm_init
        return model.start_norms() if self.weights is None else model

    def load_fetches(self) -> bool:
        """Return whether `load` may fetch weights: with the extra, unless the user has switched the hub off."""
        from pruningbench_timm.hub import offline

        return find_spec("open_clip") is not None and not offline()

    def missing(self) -> str | None:
        """Return which extra to install, or which weights have to be fetched and how, or None."""
        if find_spec("open_clip") is None:
            return REMEDY
        if self.weights is None:
            return None
        from pruningbench_timm.zeroshot import missing_weights

        return missing_weights(self.name, self.weights)
