"""The five papers' augmentations by name, and mixtures of them.

A number that stands in a paper is cited; what a paper leaves out is marked *ours*. `docs/augmentation.md` has them as
tables. Where only a range is stated, all of it is alike.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from render.augmentation_config import AugmentationConfig, AugmentationMixture, OcclusionConfig, Portion
from render.paper_crops import DAN_MARGIN, DAN_ROTATION, DAN_SCALE, DAN_TRANSLATION, DENSEREG_SCALES
from render.spreads import Normal, OneOf, Sometimes, Uniform


def prnet() -> AugmentationConfig:
    """PRNet (Feng et al. 2018, sec. 3.3): turned, shifted, scaled; channels scaled; noise texture for occlusions."""
    return AugmentationConfig(
        rotation=_degrees(45.0),  # "from -45 to 45° angles"
        translation=Uniform(low=-0.1, high=0.1),  # "random from 10% of input size"
        scale=Uniform(low=0.9, high=1.2),  # "from 0.9 to 1.2"
        channel_scale=Sometimes(amount=Uniform(low=0.6, high=1.4)),  # "with scale range from 0.6 to 1.4"
        # "adding noise texture into raw images": how many, how large and how often is ours
        occlusion=OcclusionConfig(probability=0.5, kinds=("noise",), most=2, size=Uniform(low=0.1, high=0.4)),
    )


def densereg() -> AugmentationConfig:
    """DenseReg (Güler et al. 2017, sec. 4.1): "randomly scaled with one of the ratios … and cropped", nothing else."""
    return AugmentationConfig(scale=OneOf(values=DENSEREG_SCALES), window="anywhere")


def dan() -> AugmentationConfig:
    """DAN (Kowalski et al. 2017, sec. 4, Implementation): mirrored; shifted, turned and scaled, all normal.

    The paper gives no sizes; its released code has σ 0.2 of the face's box, 20°, 0.25, and grey pictures. In DAN's own crop
    the box leaves :data:`~render.paper_crops.DAN_MARGIN` of the side free all round, so 0.2 of it is 0.1 of the side.
    """
    return AugmentationConfig(
        rotation=Normal(stddev=float(DAN_ROTATION)),
        translation=Normal(stddev=DAN_TRANSLATION * (1 - 2 * DAN_MARGIN)),
        scale=Normal(mean=1.0, stddev=DAN_SCALE),
        flip=0.5,  # "mirroring around the Y axis": every second is ours
        grey=1.0,
    )


def fan3d() -> AugmentationConfig:
    """3DFAW (Bulat and Tzimiropoulos 2016, sec. 2.3): flipped, turned, scaled, colours jittered."""
    return AugmentationConfig(
        rotation=_degrees(35.0),  # "between −35° and 35°"
        scale=Uniform(low=0.85, high=1.15),  # "between 0.85 and 1.15"
        flip=0.5,  # "flipping": every second is ours
        # "colour jittering": in what way and how far is ours
        channel_scale=Sometimes(amount=Uniform(low=0.8, high=1.2)),
        contrast=Sometimes(amount=Uniform(low=0.8, high=1.2)),
        brightness=Sometimes(amount=Uniform(low=-0.1, high=0.1)),
        saturation=Sometimes(amount=Uniform(low=0.7, high=1.3)),
    )


def mesh_gcn() -> AugmentationConfig:
    """CNN and GCN (Meng et al. 2022, sec. IV-B): PRNet's geometry; no colours and no occlusions are mentioned."""
    return AugmentationConfig(
        rotation=_degrees(45.0),  # "from -45 to 45 degree"
        translation=Uniform(low=-0.1, high=0.1),  # "random from 10% of the input image size"
        scale=Uniform(low=0.9, high=1.2),  # "from 0.9 to 1.2"
    )


def slight() -> AugmentationConfig:
    """*Ours*: for trainings of minutes, which are too short to learn rotations of 45° and shifts."""
    return AugmentationConfig(
        rotation=_degrees(5.0),
        flip=0.5,
        channel_scale=Sometimes(amount=Uniform(low=0.8, high=1.2)),
    )


def everything() -> AugmentationConfig:
    """*Ours*: every operation there is, in moderation, with things before and on the face."""
    return AugmentationConfig(
        rotation=_degrees(45.0),
        translation=Uniform(low=-0.1, high=0.1),
        scale=Uniform(low=0.9, high=1.2),
        flip=0.5,
        channel_scale=Sometimes(amount=Uniform(low=0.7, high=1.3)),
        channel_shift=Sometimes(probability=0.5, amount=Uniform(low=-0.05, high=0.05)),
        contrast=Sometimes(amount=Uniform(low=0.7, high=1.3)),
        brightness=Sometimes(amount=Uniform(low=-0.12, high=0.12)),
        gamma=Sometimes(probability=0.5, amount=Uniform(low=0.7, high=1.5)),
        occlusion=OcclusionConfig(
            probability=0.5,
            kinds=("noise", "shape", "hand", "glasses", "patch", "surface_glasses", "surface_mask", "surface_patch"),
            most=2,
            size=Uniform(low=0.15, high=0.45),
        ),
        saturation=Sometimes(amount=Uniform(low=0.5, high=1.4)),
        grey=0.1,
        blur=Sometimes(probability=0.25, amount=Uniform(low=0.4, high=2.0)),
        motion_blur=Sometimes(probability=0.15, amount=Uniform(low=2, high=9)),
        downscale=Sometimes(probability=0.2, amount=Uniform(low=0.25, high=0.8)),
        noise=Sometimes(probability=0.4, amount=Uniform(low=1, high=12)),
        jpeg=Sometimes(probability=0.3, amount=Uniform(low=30, high=95)),
    )


PRESETS: Mapping[str, Callable[[], AugmentationConfig]] = MappingProxyType(
    {preset.__name__: preset for preset in (prnet, densereg, dan, fan3d, mesh_gcn, slight, everything)}
)


def augmentation_from_text(text: str) -> AugmentationMixture:
    """A preset, or a mixture of some with weights: ``prnet``, ``prnet+dan``, ``prnet:2+fan3d:0.5``.

    Raises ValueError, with the list of names, for an unknown preset or a weight that is no positive number.
    """
    portions = []
    for part in text.split("+"):
        name, _, weight = part.strip().partition(":")
        if name not in PRESETS:
            raise ValueError(
                f"there is no augmentation {name!r}; there are {', '.join(PRESETS)}, and mixtures: prnet:2+dan"
            )
        try:
            portions.append(Portion(weight=float(weight or 1), config=PRESETS[name]()))
        except ValueError:
            raise ValueError(f"the weight of {name} in a mixture is a positive number, not {weight!r}") from None
    return AugmentationMixture(portions=tuple(portions))


def as_mixture(augmentation: AugmentationMixture | AugmentationConfig | str) -> AugmentationMixture:
    """Any of the ways in which an augmentation can be named."""
    if isinstance(augmentation, str):
        return augmentation_from_text(augmentation)
    if isinstance(augmentation, AugmentationConfig):
        return AugmentationMixture(portions=(Portion(weight=1.0, config=augmentation),))
    return augmentation


def _degrees(reach: float) -> Uniform:
    return Uniform(low=-float(np.deg2rad(reach)), high=float(np.deg2rad(reach)))
