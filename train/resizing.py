"""Pictures brought to a network's resolution, in the two ways that the systems read them."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def averaged(images: Float[Tensor, "n c s s"], size: int) -> Float[Tensor, "n c z z"]:
    """Each new pixel is the mean of those that it covers."""
    return images if images.shape[-1] == size else functional.interpolate(images, size=(size, size), mode="area")


def corner_aligned(images: Float[Tensor, "n c s s"], size: int) -> Float[Tensor, "n c z z"]:
    """Corner pixels stay corner pixels, so that places are scaled by (z − 1)/(s − 1) alone; smoothed where it shrinks."""
    if images.shape[-1] == size:
        return images
    smaller = size < images.shape[-1]
    return functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=True, antialias=smaller)
