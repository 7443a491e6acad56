"""ROAD: removed pixels are replaced by weighted averages of their neighbours, known and removed alike."""

from __future__ import annotations

import torch
from torch import Tensor

from pruningbench_interpretability.multigrid import hierarchy, solve, weighted_neighbours

TOLERANCE = 2e-5
"""Largest error of an imputed value, as a share of the image's range."""
CACHED, ON_DEVICE = 1 << 20, 1 << 24
"""Number of values solved together: as many as fit a processor's cache, or keep a GPU busy. Each takes about 15
floats of working memory: 60 MB on a CPU and 1 GB on a GPU in float32. A larger image is solved alone."""


@torch.no_grad()
def road_impute(images: Tensor, keep: Tensor, *, tolerance: float = TOLERANCE, together: int | None = None) -> Tensor:
    """Fill the removed pixels of images by the noiseless linear imputation of ROAD.

    The values x_i of the removed pixels solve s_i x_i = sum_j w_ij x_j over the 8 neighbours j inside the
    image, with w = 1/6 for edge and 1/12 for corner neighbours, and s_i = sum_j w_ij. Hence constants are
    reproduced and all values stay in the range of the known ones. All systems are solved by conjugate gradients with
    a multigrid preconditioner (`multigrid`), in chunks of bounded memory.

    Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022.

    Args:
        images: (B, C, H, W) float images in any units.
        keep: (B, 1, H, W) bool, True where a pixel is known.
        tolerance: largest error of a value, as a share of the range of the channel's known values.
        together: number of values solved at once; by default a number that suits the device. It changes the
            result only by rounding.

    Returns:
        (B, C, H, W) images, of the same dtype and device, with known pixels unchanged. An image without known
        pixels becomes its channel means; an image with non-finite values becomes NaN in its removed pixels.

    Raises:
        ValueError: for shapes that do not fit.
    """
    if images.ndim != 4 or keep.shape != (len(images), 1, *images.shape[2:]):
        raise ValueError(
            f"keep must be (B, 1, H, W) for images (B, C, H, W): {tuple(keep.shape)}, {tuple(images.shape)}"
        )
    if not images.numel():
        return images.clone()
    if together is None:
        together = CACHED if images.device.type == "cpu" else ON_DEVICE
    chunk = max(1, together // images[0].numel())
    parts = zip(torch.split(images, chunk), torch.split(keep.bool(), chunk), strict=True)
    return torch.cat([_impute(*part, tolerance) for part in parts])


def _impute(images: Tensor, keep: Tensor, tolerance: float) -> Tensor:
    values = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
    known_values = torch.where(keep, values, 0.0)
    count = keep.sum(dim=(2, 3), keepdim=True)
    centre = torch.where(
        count > 0, known_values.sum(dim=(2, 3), keepdim=True) / count, values.mean(dim=(2, 3), keepdim=True)
    )
    low = torch.where(keep, values, torch.inf).amin(dim=(2, 3), keepdim=True)
    high = torch.where(keep, values, -torch.inf).amax(dim=(2, 3), keepdim=True)
    nothing = count == 0
    low, high = torch.where(nothing, centre, low), torch.where(nothing, centre, high)
    missing = (~keep).to(values.dtype)
    right = weighted_neighbours(torch.where(keep, values - centre, 0.0)) * missing
    rounding = 8 * torch.finfo(values.dtype).eps * torch.maximum(high.abs(), low.abs())
    solution = solve(hierarchy(missing), right, tolerance=tolerance * (high - low) + rounding)
    # the exact solution lies between the known values, so clamping removes only error of the iteration
    imputed = (solution + centre).clamp(low, high)
    return torch.where(keep, images, imputed.to(images.dtype))
