"""One draw of an augmentation: plain numbers, made on the CPU, applied by whoever has the picture.

A draw depends on (seed, source id, copy) and on the configuration, and on nothing else: any sample can be redrawn alone,
on any machine. Every operation draws from a stream of its own, so a preset with one operation more gives the others what
they had before.
"""

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from geometry.frames import Similarity2D
from render.augmentation_config import AugmentationConfig, AugmentationMixture, OccluderKind, OcclusionConfig
from render.crop import sample_seed
from render.spreads import Sometimes, Spread


class Stream(IntEnum):
    """What a stream of random numbers is for. Numbers are for ever: a new one goes to the end."""

    MIXTURE = 0
    ROTATION = 1
    SCALE = 2
    TRANSLATION = 3
    FLIP = 4
    CHANNEL_SCALE = 5
    CHANNEL_SHIFT = 6
    CONTRAST = 7
    BRIGHTNESS = 8
    GAMMA = 9
    OCCLUSION = 10
    SATURATION = 11
    GREY = 12
    BLUR = 13
    MOTION_BLUR = 14
    DOWNSCALE = 15
    NOISE = 16
    JPEG = 17


@dataclass(frozen=True, slots=True)
class GeometricDraw:
    """Where the picture goes. `shift` is over the side; mirroring comes first, about the column (S − 1)/2."""

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    flip: bool = False

    def augmented_from_crop(self, size_px: int) -> Similarity2D:
        """The one similarity that image and labels move by: about the centre (S − 1)/2 of a picture of S × S."""
        c, s = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        across = -1.0 if self.flip else 1.0
        linear = np.array([[c * across, -s], [s * across, c]])
        middle = np.full(2, (size_px - 1) / 2)  # stays where it is, but for the shift
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = linear, middle + np.multiply(self.shift, size_px) - linear @ middle
        return Similarity2D(matrix)


@dataclass(frozen=True, slots=True)
class PhotometricDraw:
    """What happens to the colours, and to the picture on its way to a file; the defaults do nothing.

    Value v of [0, 1] of channel c becomes ``clip(((v · channel_scale[c] + channel_shift[c]) − ½) · contrast + ½
    + brightness)`` to the power of gamma. `motion_angle` is radians from x toward y; `noise_seed` is 32 bits.
    """

    channel_scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    contrast: float = 1.0
    brightness: float = 0.0
    gamma: float = 1.0
    saturation: float = 1.0
    blur_px: float = 0.0
    motion_px: float = 0.0
    motion_angle: float = 0.0
    downscale: float = 1.0
    noise_levels: float = 0.0
    noise_seed: int = 0
    jpeg_quality: int | None = None


@dataclass(frozen=True, slots=True)
class OccluderDraw:
    """One thing that hides a part of the face: where and how large (over the side), turned by `angle` (radians).

    `seed` (63 bits) draws what it looks like. `donor` of [0, 1) is a place in the list of the pictures that patches are
    cut from.
    """

    kind: OccluderKind
    place: tuple[float, float]
    size: float
    angle: float
    donor: float
    seed: int


@dataclass(frozen=True, slots=True)
class AugmentationDraw:
    """Everything that was drawn for one sample."""

    seed: int
    geometric: GeometricDraw = GeometricDraw()
    photometric: PhotometricDraw = PhotometricDraw()
    occluders: tuple[OccluderDraw, ...] = ()

    def to_json(self) -> str:
        """The draw as a line of JSON, exactly."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "AugmentationDraw":
        """The draw that :meth:`to_json` wrote."""
        fields = json.loads(text)
        return cls(
            fields["seed"],
            GeometricDraw(**_tuples(fields["geometric"])),
            PhotometricDraw(**_tuples(fields["photometric"])),
            tuple(OccluderDraw(**_tuples(occluder)) for occluder in fields["occluders"]),
        )


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


NOTHING = AugmentationDraw(seed=0)
"""The draw that leaves a sample as it is."""


def draw_augmentation(
    augmentation: AugmentationMixture, *, seed: int, source_id: str, copy_index: int
) -> AugmentationDraw:
    """The draw of one copy of one sample. Copy 0 is the sample itself: nothing happens to it.

    Raises ValueError for a negative copy.
    """
    if copy_index < 0:
        raise ValueError(f"copy {copy_index} of {source_id} does not exist; copies count from zero, the sample itself")
    own = sample_seed(seed, source_id, copy_index)
    if copy_index == 0:
        return AugmentationDraw(own)
    config = augmentation.draw(_rng(own, Stream.MIXTURE))
    return AugmentationDraw(own, _geometric(config, own), _photometric(config, own), _occluders(config.occlusion, own))


def _rng(seed: int, stream: Stream) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def _geometric(config: AugmentationConfig, seed: int) -> GeometricDraw:
    scale = _amount(config.scale, seed, Stream.SCALE, 1.0)
    return GeometricDraw(
        angle=_amount(config.rotation, seed, Stream.ROTATION, 0.0),
        scale=scale,
        shift=_shift(config, seed, scale),
        flip=config.flip > 0 and bool(_rng(seed, Stream.FLIP).random() < config.flip),
    )


def _shift(config: AugmentationConfig, seed: int, scale: float) -> tuple[float, float]:
    if config.translation is None and config.window == "centred":
        return 0.0, 0.0
    rng, shift = _rng(seed, Stream.TRANSLATION), np.zeros(2)
    if config.translation is not None:
        shift += [config.translation.draw(rng), config.translation.draw(rng)]
    if config.window == "anywhere":
        shift += rng.uniform(-1, 1, 2) * abs(scale - 1) / 2
    return float(shift[0]), float(shift[1])


def _photometric(config: AugmentationConfig, seed: int) -> PhotometricDraw:
    motion, motion_angle = _motion(config.motion_blur, seed)
    noise = _amount(config.noise, seed, Stream.NOISE, 0.0)
    jpeg = _amount(config.jpeg, seed, Stream.JPEG, None)
    grey = config.grey > 0 and _rng(seed, Stream.GREY).random() < config.grey
    return PhotometricDraw(
        channel_scale=_of_channels(config.channel_scale, seed, Stream.CHANNEL_SCALE, 1.0),
        channel_shift=_of_channels(config.channel_shift, seed, Stream.CHANNEL_SHIFT, 0.0),
        contrast=_amount(config.contrast, seed, Stream.CONTRAST, 1.0),
        brightness=_amount(config.brightness, seed, Stream.BRIGHTNESS, 0.0),
        gamma=_amount(config.gamma, seed, Stream.GAMMA, 1.0),
        saturation=0.0 if grey else _amount(config.saturation, seed, Stream.SATURATION, 1.0),
        blur_px=_amount(config.blur, seed, Stream.BLUR, 0.0),
        motion_px=motion,
        motion_angle=motion_angle,
        downscale=_amount(config.downscale, seed, Stream.DOWNSCALE, 1.0),
        noise_levels=noise,
        noise_seed=(seed ^ (seed >> 32)) & 0xFFFF_FFFF if noise > 0 else 0,
        jpeg_quality=None if jpeg is None else round(jpeg),
    )


def _amount(operation: Sometimes | Spread | None, seed: int, stream: Stream, nothing: Any) -> Any:
    if operation is None:
        return nothing
    amount = operation.draw(_rng(seed, stream))
    return nothing if amount is None else amount


def _of_channels(operation: Sometimes | None, seed: int, stream: Stream, nothing: float) -> tuple[float, float, float]:
    if operation is None:
        return (nothing,) * 3
    rng = _rng(seed, stream)
    if rng.random() >= operation.probability:
        return (nothing,) * 3
    return operation.amount.draw(rng), operation.amount.draw(rng), operation.amount.draw(rng)


def _motion(operation: Sometimes | None, seed: int) -> tuple[float, float]:
    if operation is None:
        return 0.0, 0.0
    rng = _rng(seed, Stream.MOTION_BLUR)
    length = operation.draw(rng)
    return (0.0, 0.0) if length is None else (length, float(rng.uniform(0, np.pi)))


def _occluders(config: OcclusionConfig | None, seed: int) -> tuple[OccluderDraw, ...]:
    if config is None:
        return ()
    rng = _rng(seed, Stream.OCCLUSION)
    if rng.random() >= config.probability:
        return ()
    return tuple(_occluder(config, rng) for _ in range(int(rng.integers(1, config.most + 1))))


def _occluder(config: OcclusionConfig, rng: np.random.Generator) -> OccluderDraw:
    return OccluderDraw(
        kind=config.kinds[int(rng.integers(len(config.kinds)))],
        place=(float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.1, 0.9))),
        size=config.size.draw(rng),
        angle=float(rng.uniform(-np.pi, np.pi)),
        donor=float(rng.random()),
        seed=int(rng.integers(2**63)),
    )
