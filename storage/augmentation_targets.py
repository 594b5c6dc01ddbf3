"""The targets of augmented copies: what hid the face, where the crop went, and the draw itself."""

from storage.codes import Utf8
from storage.schema import Target

DRAW_BYTES = 4096
"""Room for a draw as JSON; eight occluders take 2.2 kB."""


def augmentation_targets(size: int) -> tuple[Target, ...]:
    """Beside the targets of a crop of `size` × `size`; copy 0 has nothing occluded and the identity."""
    return (
        Target(
            name="occluded",
            dtype="bool",
            sample_shape=(size, size),
            axes=("row", "column"),
            description="the pixels that a synthetic occluder covers, wholly or in part; self-occlusion is not in it",
            compression="lz4_bitshuffle",
        ),
        Target(
            name="augmented_from_crop",
            dtype="float64",
            sample_shape=(3, 3),
            description="the similarity from pixels of the unaugmented crop; crop_from_image contains it",
        ),
        Target(
            name="augmentation",
            dtype="str",
            description="everything that was drawn for this copy, as JSON",
            code=Utf8(max_bytes=DRAW_BYTES),
            compression="lz4_shuffle",
        ),
    )
