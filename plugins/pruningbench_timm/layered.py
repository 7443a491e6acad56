"""Views of any network, given the names of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pruningbench.contract import (
    Facet,
    Grid,
    Preprocessing,
    UsageError,
    ViewUnavailableError,
    VisionModel,
    did_you_mean,
)
from pruningbench_timm.tokens import watched


class LayeredVisionModel(VisionModel):
    """A network whose views are read from two of its modules.

    Args:
        network: any module that maps (B, C, H, W) to (B, classes).
        preprocessing: how its inputs are prepared.
        features: name of the module whose output is the last stage: (B, D, h, w), or (B, N, D) tokens.
        last: name of the classifier; its input is the embedding, and its parameters are the head.
        prefix: number of tokens before the patches, if the last stage outputs tokens.
        classes, fresh: as in `VisionModel`.

    Raises:
        UsageError: if the network has no module with that name.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        *,
        features: str = "",
        last: str = "",
        prefix: int = 0,
        classes: Sequence[str] = (),
        fingerprint: str = "",
        fresh: Callable[[], nn.Module] | None = None,
        norm_init: Literal["own", "one"] = "own",
    ) -> None:
        modules = dict(network.named_modules())
        for what, name in (("features", features), ("head", last)):
            if name and name not in modules:
                hint = did_you_mean(name, modules) or f"; it has {', '.join(list(modules)[1:8])}"
                raise UsageError(f"{what}: {type(network).__name__} has no module {name!r}{hint}")
        inside = {id(p) for p in modules[last].parameters()} if last else set()
        head = [name for name, p in network.named_parameters() if id(p) in inside]
        super().__init__(
            network, preprocessing, classes=classes, head=head, fingerprint=fingerprint, fresh=fresh,
            norm_init=norm_init,
        )  # fmt: skip
        self._features, self._last, self._prefix = features, last, prefix

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches, as declared."""
        return self._prefix

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images -> (B, D): the input of the head.

        Raises:
            ViewUnavailableError: without a declared head, or if it is not called with one vector per image.
        """
        if not self._last:
            raise self._undeclared("embedding", "head")
        with watched(self._module(self._last), lambda inputs, _output: inputs[0]) as caught:
            self.network(images)
        if len(caught) != 1 or len(caught[0]) != len(images):
            raise ViewUnavailableError(
                f"{self._last!r} is called {len(caught)} times, so its input is not an embedding"
            )
        return caught[0].flatten(1)

    def patch_features(self, images: Tensor, facet: Facet = "keys") -> Tensor:
        """(B, C, H, W) normalised images -> (B, D, h, w): the output of the last stage, as keys or tokens.

        Raises:
            ViewUnavailableError: without a declared last stage, for queries and values, and for an output
                that is not a grid.
        """
        if facet in ("queries", "values"):
            raise ViewUnavailableError(f"{type(self.network).__name__}: it gives only its last stage, not its {facet}")
        return self._grid(self._stage(images), images)

    def activation_module(self) -> tuple[nn.Module, Grid]:
        """Return the declared last stage and its grid."""
        if not self._features:
            raise self._undeclared("activation", "features")
        return self._module(self._features), self._grid

    def head_split(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return images -> activations >= 0 of the last stage, and those activations -> logits.

        The second function runs the whole network on blank images and replaces the last stage's output by the
        activations, so it costs as much as the network. It is correct if the logits depend on the images only
        through that stage, which the first call checks.

        Raises:
            ViewUnavailableError: immediately without a declared last stage; when called, if the stage has
                negative values or the logits depend on more than the stage.
        """
        if not self._features:
            raise self._undeclared("head-split", "features")
        side = self.preprocessing.size or 0
        seen: list[tuple[int, ...]] = [(len(self.preprocessing.mean), side, side)] if side else []
        name = f"{type(self.network).__name__} has no split into activations >= 0 and head"

        def activations(images: Tensor) -> Tensor:
            stage = self._stage(images)
            if bool((stage < 0).any()):
                raise ViewUnavailableError(f"{name}: {self._features!r} has negative values")
            unchecked, seen[:] = not checked, [tuple(images.shape[1:])]
            if unchecked:
                with torch.no_grad():
                    checked.append(torch.allclose(logits(stage), self.network(images), rtol=1e-3, atol=1e-4))
            if not checked[0]:
                raise ViewUnavailableError(f"{name}: its logits depend on more than {self._features!r}")
            return stage

        def logits(stage: Tensor) -> Tensor:
            if not seen:
                raise ViewUnavailableError(f"{name} yet: the size of its images is not known before the first")
            handle = self._module(self._features).register_forward_hook(lambda _module, _inputs, _output: stage)
            try:
                classified: Tensor = self.network(stage.new_zeros(len(stage), *seen[0]))
            finally:
                handle.remove()
            return classified

        checked: list[bool] = []
        return activations, logits

    def _stage(self, images: Tensor) -> Tensor:
        if not self._features:
            raise self._undeclared("patch-feature", "features")
        with watched(self._module(self._features), lambda _inputs, output: output) as caught:
            self.network(images)
        if len(caught) != 1 or not isinstance(caught[0], Tensor):
            raise ViewUnavailableError(f"{self._features!r} does not give one tensor per batch of images")
        return caught[0]

    def _grid(self, stage: Tensor, images: Tensor) -> Tensor:
        if stage.ndim == 4:
            return stage
        if stage.ndim == 3:
            patches, height, width = stage[:, self._prefix :], images.shape[-2], images.shape[-1]
            rows = round(math.sqrt(patches.shape[1] * height / width))
            if rows and patches.shape[1] % rows == 0:
                return patches.transpose(1, 2).reshape(len(stage), -1, rows, patches.shape[1] // rows)
        raise ViewUnavailableError(
            f"{self._features!r} gives {tuple(stage.shape)}, neither (B, D, h, w) nor tokens of a grid after "
            f"{self._prefix} others (`prefix_tokens`)"
        )

    def _module(self, name: str) -> nn.Module:
        return self.network.get_submodule(name)

    def _undeclared(self, view: str, field: str) -> ViewUnavailableError:
        names: Any = [name for name, _ in self.network.named_children()]
        return ViewUnavailableError(
            f"{type(self.network).__name__} has no {view} view: name a module of it as `{field}` ({', '.join(names)})"
        )
