"""What happens to colours, in NumPy and OpenCV: each function one operation on an RGB picture of bytes.

Colour by channel is a table of 256 entries, which the warp looks up on its way. Every other operation averages, or
mixes whole numbers: where two devices round one value differently, the difference stays one level.
"""

import cv2
import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from render.augmentation_draws import PhotometricDraw
from render.hashed_noise import gaussian_noise
from render.warp import IDENTITY_LUT

Picture = UInt8[np.ndarray, "h w 3"]

LUMA = (77, 150, 29)
"""Shares of red, green and blue in grey, of 256 (ITU-R BT.601)."""
SATURATION_STEPS = 1 << 10


def channel_table(draw: PhotometricDraw) -> UInt8[np.ndarray, "3 256"]:
    """What each level of each channel becomes: scale, shift, contrast, brightness and gamma, rounded once."""
    scales, shifts = draw.channel_scale, draw.channel_shift
    rest = (draw.contrast, draw.brightness, draw.gamma)
    if rest == (1.0, 0.0, 1.0) and set(scales) == {1.0} and set(shifts) == {0.0}:
        return IDENTITY_LUT
    value = np.arange(256) / 255 * np.array(scales)[:, None] + np.array(shifts)[:, None]
    value = np.clip((value - 0.5) * draw.contrast + 0.5 + draw.brightness, 0, 1)
    if draw.gamma != 1:
        value **= draw.gamma
    return np.floor(value * 255 + 0.5).astype(np.uint8)


def saturated(picture: Picture, saturation: float) -> Picture:
    """Colours at `saturation` times their distance from grey; whole numbers throughout."""
    weight = saturation_weight(saturation)
    red, green, blue = (picture[..., k].astype(np.int32) for k in range(3))
    grey = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue + 128) >> 8
    if weight == 0:
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    mixed = np.empty_like(picture)
    for k, channel in enumerate((red, green, blue)):
        moved = (grey * (SATURATION_STEPS - weight) + channel * weight + SATURATION_STEPS // 2) // SATURATION_STEPS
        mixed[..., k] = np.clip(moved, 0, 255)
    return mixed


def saturation_weight(saturation: float) -> int:
    """The share of the colour, of :data:`SATURATION_STEPS`."""
    return round(saturation * SATURATION_STEPS)


def blur_kernel(draw: PhotometricDraw) -> Float32[np.ndarray, "k k"] | None:
    """The point spread of lens and motion together, its sum 1, k odd; None where there is neither."""
    if draw.blur_px <= 0 and draw.motion_px <= 0:
        return None
    kernel: np.ndarray = np.ones((1, 1))
    if draw.blur_px > 0:
        reach = max(1, int(np.ceil(3 * draw.blur_px)))
        bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / draw.blur_px) ** 2)
        kernel = np.outer(bell, bell) / bell.sum() ** 2
    if draw.motion_px > 0:
        streak = _streak(draw.motion_px, draw.motion_angle)
        reach = len(streak) // 2
        kernel = cv2.filter2D(np.pad(kernel, reach), -1, streak, borderType=cv2.BORDER_CONSTANT)
    return (kernel / kernel.sum()).astype(np.float32)


def _streak(length: float, angle: float) -> np.ndarray:
    """A line through the middle: sixteen points a pixel, each shared among its four neighbours."""
    reach = int(np.ceil(length / 2)) + 1
    along = (np.arange(max(int(16 * length), 1)) + 0.5) / max(int(16 * length), 1) - 0.5
    x, y = along * length * np.cos(angle) + reach, along * length * np.sin(angle) + reach
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    streak = np.zeros((2 * reach + 1, 2 * reach + 1))
    for dy, wy in ((0, top + 1 - y), (1, y - top)):
        for dx, wx in ((0, left + 1 - x), (1, x - left)):
            np.add.at(streak, (top + dy, left + dx), wx * wy)
    return streak / streak.sum()


def blurred(picture: Picture, kernel: Float32[np.ndarray, "k k"]) -> Picture:
    """The picture through a point spread; beyond the border its outermost pixels go on."""
    spread = cv2.filter2D(picture.astype(np.float32), -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return to_bytes(spread)


def small_side(side: int, downscale: float) -> int:
    """Pixels along a side of the smaller picture."""
    return max(1, round(side * downscale))


def downscaled(picture: Picture, downscale: float) -> Picture:
    """The picture as a smaller sensor had it: averaged over its larger pixels, then enlarged again, bilinear."""
    height, width = picture.shape[:2]
    small_hw = small_side(height, downscale), small_side(width, downscale)
    if small_hw == (height, width):
        return picture
    small = cv2.resize(picture.astype(np.float32), small_hw[::-1], interpolation=cv2.INTER_AREA)
    return to_bytes(cv2.resize(np.floor(small + 0.5), (width, height), interpolation=cv2.INTER_LINEAR))


def noisy(picture: Picture, stddev_levels: float, seed: int) -> Picture:
    """The picture with Gaussian noise, each channel by itself; the grain is :mod:`render.hashed_noise`'s."""
    height, width = picture.shape[:2]
    grain = gaussian_noise(seed, (3, height, width)) * np.float32(stddev_levels)
    return to_bytes(picture + np.moveaxis(grain, 0, -1))


def recompressed(picture: Picture, quality: int) -> Picture:
    """The picture after it was a JPEG file of that quality, colours at half resolution as OpenCV has it."""
    bgr = np.ascontiguousarray(picture[..., ::-1])
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:  # what there is then decodes to a picture that ends in grey
        raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape} as JPEG")
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(decoded[..., ::-1], dtype=np.uint8)


def to_bytes(values: Float32[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    """The nearest level, half a level up (the twin in torch rounds alike)."""
    return np.clip(np.floor(values + np.float32(0.5)), 0, 255).astype(np.uint8)


def after_the_lens(picture: Picture, draw: PhotometricDraw) -> Picture:
    """All that follows geometry, light and occluders, in the order in which a camera does it."""
    if draw.saturation != 1:
        picture = saturated(picture, draw.saturation)
    if (kernel := blur_kernel(draw)) is not None:
        picture = blurred(picture, kernel)
    if draw.downscale < 1:
        picture = downscaled(picture, draw.downscale)
    if draw.noise_levels > 0:
        picture = noisy(picture, draw.noise_levels, draw.noise_seed)
    if draw.jpeg_quality is not None:
        picture = recompressed(picture, draw.jpeg_quality)
    return picture


def check_picture(picture: Shaped[np.ndarray, "..."]) -> None:
    """Raise ValueError for what is not an RGB picture of bytes, with what to do about it."""
    if picture.dtype != np.uint8:
        what = "values in [0, 1] or 0…255" if picture.dtype.kind == "f" else "another type's range"
        raise ValueError(
            f"a picture to be augmented holds bytes (uint8), not {picture.dtype}: {what} cannot be told apart; "
            "bring it to 0…255 and astype(np.uint8), and to float after augmenting"
        )
    if picture.ndim == 2 or picture.shape[-1] == 1:
        raise ValueError(
            f"a picture to be augmented has three channels, this one is grey, {picture.shape}: "
            "repeat its channel three times (np.repeat(picture.reshape(h, w, 1), 3, axis=-1)), and drop two afterwards"
        )
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(f"a picture to be augmented is (rows, columns, 3), red green blue, not {picture.shape}")
