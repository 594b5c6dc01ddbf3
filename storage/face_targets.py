"""The targets of position-map data sets, each declared once.

Beside the targets lie the constant tables of the atlas raster, which the decoders read: `atlas_corners` i32 (S S 3),
`atlas_weights` f32 (S S 3) and `atlas_covered` u8 (S S).
"""

from typing import Literal

from storage.byte_codes import FileBytes, Jpeg
from storage.codes import FixedPoint, Plain, Utf8
from storage.schema import DerivedTarget, Schema, Target
from storage.zarr_format import Compression

Maps = Literal["materialized", "uncompressed", "parametric", "float"]
"""How position maps are kept: in fixed point, compressed or not, as the parameters that readers decode them from, or in
float32."""

PARAMETRIC_PRECISION_PX = 1 / 1024
"""How far a map that a reader decodes may lie from the builder's: float32 sums in another order. Measured: 0.00006."""


def position_map_schema(
    *,
    image_size: int,
    map_size: int,
    n_identity: int,
    n_expression: int,
    maps: Maps | None,
    source_id_bytes: int = 128,
    jpeg_quality: int | None = None,
    photograph_bytes: int | None = None,
    compresses_images: bool = True,
) -> Schema:
    """Image, position map or its parameters, coverage, landmarks, coefficients, pose, crop, and where it is from.

    With `maps` None there is no position map. Images are lossless (compressed, unless `compresses_images` is False), or
    JPEGs of `jpeg_quality`, or cut on reading out of the photograph's own file, the longest of which has
    `photograph_bytes`.
    """
    stored_map = () if maps in (None, "parametric") else (_stored_position_map(map_size, image_size, maps),)
    derived_map = (_derived_position_map(map_size),) if maps == "parametric" else ()
    image: Target = _stored_image(image_size, jpeg_quality, compresses=compresses_images)
    derived_image: tuple[DerivedTarget, ...] = ()
    if photograph_bytes is not None:
        image, derived_image = _photograph(photograph_bytes), (_derived_image(image_size),)
    return Schema(
        targets=(image, *stored_map, *_vectors(n_identity, n_expression, source_id_bytes)),
        derived=(*derived_image, *derived_map, *(() if maps is None else (_coverage(map_size),))),
    )


def map_code(image_size: int) -> FixedPoint:
    """The fixed-point code of crop coordinates: what lies outside a crop of twice the side lies twice as far out.

    Up to 256 px: −256 … 767.96 px in steps of 1/64 px. Up to 512: twice the range in twice the step, and so on.
    """
    doubled = max(0, (image_size - 1).bit_length() - 8)
    return FixedPoint(steps_per_unit=64 >> doubled, offset=256 << doubled)


def _stored_image(size: int, jpeg_quality: int | None, *, compresses: bool) -> Target:
    lossless: Compression = "lz4_bitshuffle" if compresses else "none"
    return Target(
        name="image",
        dtype="uint8",
        sample_shape=(size, size, 3),
        axes=("row", "column", "channel"),
        unit="sRGB",
        description="the crop of the photograph, red green blue",
        code=Plain() if jpeg_quality is None else Jpeg(quality=jpeg_quality, size_hw=(size, size)),
        compression=lossless if jpeg_quality is None else "lz4_shuffle",
        channels_first=True,
    )


def _derived_image(size: int) -> DerivedTarget:
    return DerivedTarget(
        name="image",
        dtype="uint8",
        sample_shape=(size, size, 3),
        unit="sRGB",
        description="the crop of the photograph, red green blue",
        decoder="image_from_photograph",
        channels_first=True,
    )


def _photograph(max_bytes: int) -> Target:
    return Target(
        name="photograph",
        dtype="bytes",
        description="the source's own picture file, byte for byte",
        code=FileBytes(max_bytes=max_bytes),
        compression="lz4_shuffle",
        on_request=True,
    )


def _stored_position_map(size: int, image_size: int, maps: Maps) -> Target:
    return Target(
        name="position_map",
        dtype="float32",
        sample_shape=(size, size, 3),
        axes=("texel_row", "texel_column", "xyz"),
        unit="px",
        description="where each texel lies in the crop: x right, y down, z toward the viewer; 0 where not covered",
        code=Plain() if maps == "float" else map_code(image_size),
        precision=0.0 if maps == "float" else None,
        compression="none" if maps == "uncompressed" else "lz4_shuffle",
        channels_first=True,
    )


def _derived_position_map(size: int) -> DerivedTarget:
    return DerivedTarget(
        name="position_map",
        dtype="float32",
        sample_shape=(size, size, 3),
        unit="px",
        description="where each texel lies in the crop: x right, y down, z toward the viewer; 0 where not covered",
        decoder="position_map_from_parameters",
        channels_first=True,
        precision=PARAMETRIC_PRECISION_PX,
    )


def _coverage(size: int) -> DerivedTarget:
    return DerivedTarget(
        name="covered",
        dtype="bool",
        sample_shape=(size, size),
        description="the texels that a triangle of the atlas covers; the position map means nothing elsewhere",
        decoder="coverage_of_atlas",
    )


def _vectors(n_identity: int, n_expression: int, source_id_bytes: int) -> tuple[Target, ...]:
    return (
        Target(
            name="landmarks_px",
            dtype="float32",
            sample_shape=(68, 3),
            unit="px",
            description="the 68 landmarks of the model in the crop, iBUG order",
        ),
        Target(
            name="landmark_residual_px",
            dtype="float32",
            unit="px",
            description="mean distance of the source's inner landmarks from the model's in the photograph; NaN: none",
            allow_nan=True,
        ),
        Target(
            name="identity",
            dtype="float32",
            sample_shape=(n_identity,),
            description="identity coefficients in the model file's own scaling",
        ),
        Target(
            name="expression",
            dtype="float32",
            sample_shape=(n_expression,),
            description="expression coefficients in the model file's own scaling",
        ),
        Target(
            name="pose",
            dtype="float64",
            sample_shape=(7,),
            description="the camera: pitch, yaw, roll (rad), translation x, y, z (px of the photograph), scale (px/mm)",
        ),
        Target(
            name="crop_from_image",
            dtype="float64",
            sample_shape=(3, 3),
            description="the similarity from pixels of the photograph to pixels of the crop",
        ),
        Target(
            name="crop_from_model",
            dtype="float64",
            sample_shape=(3, 4),
            description="the affine map from model millimetres to crop pixels, depth offset included",
        ),
        Target(
            name="z_offset_px",
            dtype="float64",
            unit="px",
            description="what was taken off z so that the farthest point of the skin lies at 0",
        ),
        Target(
            name="mirrored",
            dtype="bool",
            description="whether left and right changed sides: the map then holds the vertices of the other side",
        ),
        Target(
            name="source_id",
            dtype="str",
            description="which photograph of which source",
            code=Utf8(max_bytes=source_id_bytes),
        ),
        Target(
            name="copy_index",
            dtype="int32",
            description="which augmented copy of the photograph; copy 0 has no jitter",
        ),
        Target(
            name="seed",
            dtype="int64",
            description="the seed of everything that was drawn for this sample",
        ),
    )
