"""Augmented samples: labels follow pixels, left and right follow the mirror, occluders say what they hid."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry.camera import ScaledOrthographicCamera, apply_affine
from geometry.frames import Similarity2D, texel_from_uv
from geometry.landmarks import MIRROR
from geometry.morphable_model import Coefficients
from geometry.rotation import rotation_from_euler
from geometry.uv import UVAtlas
from render.atlas_raster import AtlasRaster
from render.augmentation import augment_picture, augment_sample
from render.augmentation_draws import AugmentationDraw, GeometricDraw, OccluderDraw, PhotometricDraw
from render.correspondence import FACE, FieldTemplate, correspondence_field
from render.face_buffers import draw_faces
from render.mirrored_atlas import MirroredAtlas, mirrored_part_codes
from render.moved_labels import Move, moved_labels
from render.occlusion import occlusion_layer, occlusion_mask, put_over
from render.parts import DENSEREG_PARTS, FINE_PARTS, densereg_parts, part_map
from render.position_map import crop_from_model, decode_position_maps, with_depth_offset
from render.surface_occluders import FaceSurface, carry_by_field, carry_by_position_map, occluded_texels, paint_atlas
from render.visibility import visible_texels
from render.warp import warp_exactly
from render.zbuffer import interpolate, rasterize

SIZE = 128
WAYS = {
    "turn": GeometricDraw(angle=0.5),
    "turn far": GeometricDraw(angle=-2.4),
    "shift": GeometricDraw(shift=(0.083, -0.047)),
    "larger": GeometricDraw(scale=1.2),
    "smaller": GeometricDraw(scale=0.85),
    "flip": GeometricDraw(flip=True),
    "all": GeometricDraw(angle=-0.4, scale=1.13, shift=(-0.04, 0.06), flip=True),
}
PICTURE_KINDS = ("noise", "shape", "hand", "glasses", "patch")
SURFACE_KINDS = ("surface_glasses", "surface_mask", "surface_patch")


class Person:
    """One lopsided person in a crop of SIZE px, seen by one camera."""

    def __init__(self, model, raster, *, yaw=0.35, pitch=-0.15, roll=0.2):
        rng = np.random.default_rng(4)
        self.model = model
        self.coefficients = Coefficients(model.draw_identity(rng), model.draw_expression(rng))
        self.vertices = model.vertices(self.coefficients)
        camera = ScaledOrthographicCamera(0.5, rotation_from_euler(pitch, yaw, roll), np.array([66.0, 70.0, 12.0]))
        self.affine, self.z_offset = with_depth_offset(crop_from_model(camera, Similarity2D.of()), self.vertices)
        self.map = raster.apply(self.vertices, self.affine)
        self.landmarks = apply_affine(self.affine, self.vertices[model.landmark_vertices].astype(np.float64))

    def sample(self):
        return {
            "image": self.rendered(self.affine),
            "position_map": self.map,
            "landmarks_px": self.landmarks.astype(np.float32),
            "crop_from_model": self.affine,
            "crop_from_image": np.eye(3),
            "z_offset_px": np.float64(self.z_offset),
            "mirrored": np.bool_(False),
            "identity": self.coefficients.identity,
            "source_id": "a",
        }

    def rendered(self, affine):
        """The person with a smooth colour that sticks to the surface, before grey; the mean of 3 × 3 places a pixel."""
        n, triangles = 3, np.concatenate([self.model.triangles, self.model.closing_triangles])
        if np.linalg.det(affine[:, :3]) > 0:  # mirrored: the triangles turn round
            triangles = triangles[:, ::-1]
        triangles = np.ascontiguousarray(triangles)
        finer = Similarity2D.of(scale=float(n), translation_px=((n - 1) / 2, (n - 1) / 2)).affine3d
        fine = apply_affine(finer, apply_affine(affine, self.vertices.astype(np.float64)))
        buffers = rasterize(fine, triangles, size_hw=(n * SIZE, n * SIZE))
        waves = [(0.10, 0.03, 0.02), (-0.03, 0.09, 0.03), (0.06, -0.07, 0.04)]
        colours = np.stack([128 + 90 * np.sin(self.vertices @ np.array(wave)) for wave in waves], axis=1)
        picture = interpolate(buffers, colours.astype(np.float32), triangles)
        picture[~buffers.covered] = 128
        return np.floor(picture.reshape(SIZE, n, SIZE, n, 3).mean(axis=(1, 3)) + 0.5).astype(np.uint8)


@pytest.fixture(scope="module")
def raster(own_atlas):
    return AtlasRaster(own_atlas, 96)


@pytest.fixture(scope="module")
def mirrored_atlas(own_atlas, raster, built_in):
    return MirroredAtlas.of(own_atlas, raster, built_in.mirror)


@pytest.fixture(scope="module")
def landmark_texels(built_in, raster):
    return texel_from_uv(built_in.uv[built_in.landmark_vertices].astype(np.float64), raster.size)


@pytest.fixture(scope="module")
def person(built_in, raster):
    return Person(built_in, raster)


@pytest.fixture(scope="module")
def turned_person(built_in, raster):
    return Person(built_in, raster, yaw=-0.6, pitch=0.1, roll=-0.1)


def only(geometric):
    return AugmentationDraw(0, geometric)


def eroded(mask):
    return cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def occluding(kind, seed=3, *, place=(0.45, 0.55), size=0.4):
    return OccluderDraw(kind, place, size, 0.4, 0.5, seed)


# ------------------------------------------------------------------------------------------------- labels follow pixels


def offset_px(picture, other, mask):
    """How far `other` lies from `picture`, (x, y) to first order (Lucas and Kanade 1981)."""
    mean, difference = (picture.astype(np.float64) + other) / 2, other.astype(np.float64) - picture
    dy, dx = np.gradient(mean, axis=(0, 1))
    gradients = np.stack([dx[mask].ravel(), dy[mask].ravel()], axis=1)
    return -np.linalg.lstsq(gradients, difference[mask].ravel(), rcond=None)[0]


def places_to_compare(person, draw):
    """Four overlapping parts of the face's middle, away from silhouettes, in the augmented picture."""
    points = draw.augmented_from_crop(SIZE).apply(person.landmarks[:, :2])
    middle, reach = points[17:].mean(axis=0), 0.3 * np.ptp(points[17:], axis=0).max()
    y, x = np.mgrid[:SIZE, :SIZE]
    for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)):
        near = (np.abs(x - middle[0] - dx * reach) < reach) & (np.abs(y - middle[1] - dy * reach) < reach)
        yield near & (x > 1) & (y > 1) & (x < SIZE - 2) & (y < SIZE - 2)


@pytest.mark.parametrize("way", WAYS)
def test_rendering_the_moved_mesh_is_moving_the_rendered_picture(person, way):
    draw = WAYS[way]
    sample = {name: value for name, value in person.sample().items() if name != "position_map"}
    augmented = augment_sample(sample, only(draw))
    again = person.rendered(augmented["crop_from_model"])
    for mask in places_to_compare(person, draw):
        assert np.linalg.norm(offset_px(augmented["image"], again, mask)) < 0.05


def about_wrong_centre(draw):
    """The move about w/2 for (w − 1)/2, mirrored by x' = w − x."""
    middle, shift = SIZE / 2, np.array(draw.shift) * SIZE
    way = (
        Similarity2D.of(translation_px=(middle + shift[0], middle + shift[1]))
        @ Similarity2D.of(scale=draw.scale, angle=draw.angle)
        @ Similarity2D.of(translation_px=(-middle, -middle))
    )
    return way @ Similarity2D.mirror(SIZE + 1) if draw.flip else way


@pytest.mark.parametrize("way", WAYS)
def test_labels_half_a_pixel_or_a_pixel_beside_would_be_seen(person, way):
    """The measure above must be able to fail."""
    draw = WAYS[way]
    wrong_way = about_wrong_centre(draw)
    wrong = person.rendered(_moved_affine(person, wrong_way))
    right = augment_picture(person.rendered(person.affine), only(draw), size_px=SIZE).image
    off = max(np.linalg.norm(offset_px(right, wrong, mask)) for mask in places_to_compare(person, draw))
    distance = np.abs((draw.augmented_from_crop(SIZE).matrix - wrong_way.matrix)[:2, 2]).max()
    if distance > 0.06:  # a shift alone has no centre
        assert off > 0.05
    else:
        assert way == "shift"


def _moved_affine(person, way):
    return moved_labels({"crop_from_model": person.affine}, Move(way, SIZE))["crop_from_model"]


@pytest.mark.parametrize("way", WAYS)
def test_maps_landmarks_and_parameters_agree_after_every_move(person, raster, mirrored_atlas, built_in, way):
    augmented = augment_sample(person.sample(), only(WAYS[way]), atlas=mirrored_atlas)
    flip = WAYS[way].flip
    assert bool(augmented["mirrored"]) == flip
    decoded = decode_position_maps(
        raster, person.vertices[None], augmented["crop_from_model"][None].astype(np.float64),
        mirrored=np.array([flip]), mirror=built_in.mirror,
    )[0]  # fmt: skip
    error = np.linalg.norm(decoded - augmented["position_map"], axis=-1)[raster.covered]
    if flip:  # read between texels of a coarse atlas of 96²
        assert np.median(error) < 0.03
        assert np.quantile(error, 0.99) < 0.8
    else:
        assert error.max() < 1e-3
    assert not augmented["position_map"][~raster.covered].any()
    vertices = person.vertices[built_in.mirror] if flip else person.vertices
    landmarks = apply_affine(augmented["crop_from_model"], vertices[built_in.landmark_vertices].astype(np.float64))
    # Landmarks have new names in a mirrored picture; the model's mirror and the 68 points' agree to its own accuracy.
    np.testing.assert_allclose(augmented["landmarks_px"], landmarks, atol=1.0 if flip else 2e-3)
    own = person.landmarks[MIRROR] if flip else person.landmarks
    expected = WAYS[way].augmented_from_crop(SIZE).apply(own)
    np.testing.assert_allclose(augmented["landmarks_px"], expected, atol=2e-3)


@given(st.floats(-3.1, 3.1), st.floats(0.5, 2), st.booleans())
@settings(max_examples=30)
def test_depth_is_multiplied_by_the_scale_whatever_the_turn(angle, scale, flip):
    draw = GeometricDraw(angle, scale, (0.1, 0.0), flip)
    points = np.random.default_rng(0).normal(size=(68, 3))
    move = Move(draw.augmented_from_crop(SIZE), SIZE)
    moved = moved_labels(
        {"landmarks_px": points, "z_offset_px": np.float64(7.0), "depth_range_px": np.array([2.0, 5.0])}, move
    )
    z = points[MIRROR, 2] if flip else points[:, 2]
    np.testing.assert_allclose(moved["landmarks_px"][:, 2], scale * z, atol=1e-9)  # s·cosθ would be another number
    assert moved["z_offset_px"] == pytest.approx(7 * scale)
    np.testing.assert_allclose(moved["depth_range_px"], [2 * scale, 5 * scale])


def test_flipping_twice_is_nothing(person, mirrored_atlas):
    sample, flip = person.sample(), only(GeometricDraw(flip=True))
    once = augment_sample(sample, flip, atlas=mirrored_atlas)
    recorded = once["augmented_from_crop"]
    twice = augment_sample({name: once[name] for name in sample}, flip, atlas=mirrored_atlas)
    np.testing.assert_array_equal(twice["image"], sample["image"])
    np.testing.assert_allclose(twice["landmarks_px"], sample["landmarks_px"], atol=1e-4)
    np.testing.assert_allclose(twice["crop_from_model"], sample["crop_from_model"], atol=1e-12)
    assert not twice["mirrored"]
    error = np.linalg.norm(twice["position_map"] - sample["position_map"], axis=-1)[mirrored_atlas.covered]
    assert np.median(error) < 0.05
    np.testing.assert_allclose(recorded @ recorded, np.eye(3), atol=1e-12)


def test_two_moves_are_one_and_the_way_back_leads_back(person, mirrored_atlas):
    sample = person.sample()
    first, second = WAYS["all"], WAYS["turn"]
    a, b = (draw.augmented_from_crop(SIZE) for draw in (first, second))
    labels = {name: value for name, value in sample.items() if name not in ("image", "position_map")}
    in_two = moved_labels(moved_labels(labels, Move(a, SIZE)), Move(b, SIZE))
    at_once = moved_labels(labels, Move(b @ a, SIZE))
    back = moved_labels(at_once, Move((b @ a).inverse, SIZE))
    for name in ("landmarks_px", "crop_from_model", "crop_from_image", "z_offset_px", "mirrored"):
        np.testing.assert_allclose(in_two[name], at_once[name], atol=1e-4)
        np.testing.assert_allclose(back[name], labels[name], atol=1e-4)
    augmented = augment_sample(sample, only(first), atlas=mirrored_atlas)
    np.testing.assert_array_equal(augmented["augmented_from_crop"], a.matrix)
    np.testing.assert_allclose(augmented["crop_from_image"], a.matrix @ sample["crop_from_image"])


def test_a_photograph_read_at_once_is_the_crop_moved_where_both_have_pixels(person):
    photograph = np.pad(person.rendered(person.affine), ((30, 20), (10, 40), (0, 0)), mode="wrap")
    crop_from_photograph = Similarity2D.of(translation_px=(-10.0, -30.0))
    draw = AugmentationDraw(3, WAYS["all"], PhotometricDraw(channel_scale=(0.7, 1.2, 1.0), gamma=1.2))
    at_once = augment_picture(photograph, draw, size_px=SIZE, crop_from_picture=crop_from_photograph)
    crop = warp_exactly(photograph, crop_from_photograph, size_hw=(SIZE, SIZE))
    in_two = augment_picture(crop, draw, size_px=SIZE)
    inside = warp_exactly(np.full_like(crop, 255), at_once.augmented_from_crop, size_hw=(SIZE, SIZE))[..., 0] == 255
    np.testing.assert_array_equal(at_once.image[inside], in_two.image[inside])
    assert at_once.image[~inside].astype(int).sum() > in_two.image[~inside].astype(int).sum()  # no black corners


def test_photometric_draws_move_no_label(person, mirrored_atlas):
    draw = AugmentationDraw(
        3, photometric=PhotometricDraw(contrast=0.5, blur_px=2.0, noise_levels=5.0, jpeg_quality=40)
    )
    sample = person.sample()
    augmented = augment_sample(sample, draw, atlas=mirrored_atlas)
    assert not np.array_equal(augmented["image"], sample["image"])
    for name in ("position_map", "landmarks_px", "crop_from_model", "mirrored"):
        np.testing.assert_allclose(augmented[name], sample[name], atol=1e-5)


# ------------------------------------------------------------------------------------------------------ left and right


@pytest.mark.parametrize("which", ["own_atlas", "tutte_atlas"])
def test_mirrored_uv_is_the_map_of_the_mirrored_vertices(which, request, built_in, person):
    atlas = request.getfixturevalue(which)
    raster = AtlasRaster(atlas, 128)
    mirrored = MirroredAtlas.of(atlas, raster, built_in.mirror)
    exact = raster.mirrored(built_in.mirror).apply(person.vertices, person.affine)
    read = mirrored.values(raster.apply(person.vertices, person.affine))
    error = np.linalg.norm(exact - read, axis=-1)[raster.covered]
    assert np.median(error) < 0.02
    assert np.quantile(error, 0.99) < 0.6
    columns_alone = np.linalg.norm(exact - raster.apply(person.vertices, person.affine)[:, ::-1], axis=-1)
    if which == "own_atlas":  # not symmetric enough for that
        assert not mirrored.is_symmetric
        assert np.median(error) < 0.2 * np.median(columns_alone[raster.covered])


def test_a_symmetric_atlas_mirrors_its_columns():
    rows, columns = 7, 9
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    atlas = UVAtlas(
        np.stack([u.ravel(), v.ravel()], axis=1), np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    )
    raster = AtlasRaster(atlas, 16)
    mirrored = MirroredAtlas.of(atlas, raster, index[:, ::-1].ravel())
    maps = np.random.default_rng(1).normal(size=(16, 16, 3)).astype(np.float32)
    assert mirrored.is_symmetric
    np.testing.assert_array_equal(mirrored.values(maps), maps[:, ::-1])
    np.testing.assert_array_equal(mirrored.labels(maps[..., 0] > 0), (maps[..., 0] > 0)[:, ::-1])
    np.testing.assert_allclose(mirrored.uv(np.array([[0.1, 0.7]])), [[0.9, 0.7]], atol=1e-6)


def test_parts_change_sides():
    table = mirrored_part_codes(DENSEREG_PARTS)
    assert table.tolist() == [0, 2, 1, 4, 3, 5, 6, 7, 8]
    fine = mirrored_part_codes(FINE_PARTS)
    np.testing.assert_array_equal(fine[fine], np.arange(len(FINE_PARTS) + 1))
    with pytest.raises(ValueError, match="part 'left ear' has no counterpart 'right ear'"):
        mirrored_part_codes(("left ear", "nose"))


def test_a_mirrored_field_is_the_field_of_the_mirrored_face(built_in, tutte_atlas, person):
    atlas = tutte_atlas
    template = FieldTemplate.of(built_in, atlas, part_map(densereg_parts(built_in), atlas, 256))

    def field_of(affine, vertices):
        drawn = draw_faces(
            [apply_affine(affine, vertices.astype(np.float64)).astype(np.float32)],
            template.triangles,
            size_hw=(SIZE, SIZE),
        )
        return correspondence_field(drawn, template)

    before = field_of(person.affine, person.vertices)
    move = Move(
        WAYS["all"].augmented_from_crop(SIZE), SIZE,
        field_atlas=MirroredAtlas.of(atlas, AtlasRaster(atlas, 256), built_in.mirror),
    )  # fmt: skip
    moved = moved_labels({"uv": before.uv, "label": before.label, "part": before.part, "depth": before.depth}, move)
    after = field_of(_moved_affine(person, move.augmented_from_crop), person.vertices[built_in.mirror])
    both = (moved["label"] == FACE) & (after.label == FACE)
    assert both.sum() > 0.97 * (after.label == FACE).sum()
    error = np.abs(moved["uv"] - after.uv).max(axis=-1)[both]
    pixel = np.median(np.abs(np.diff(after.uv[..., 0], axis=1))[both[:, 1:] & both[:, :-1]])
    assert np.median(error) < pixel  # the nearest pixel's value: half a pixel off, less than one
    assert (moved["part"] == after.part)[both].mean() > 0.96
    wrong = np.abs(before.uv - after.uv)[both].mean()
    assert np.mean(error) < 0.2 * wrong


def test_what_cannot_be_mirrored_says_so(person, built_in, own_atlas, raster):
    flip = only(GeometricDraw(flip=True))
    with pytest.raises(ValueError, match="mirrored sample's position_map holds the other side"):
        augment_sample(person.sample(), flip)
    with pytest.raises(ValueError, match="has no left-right permutation of its vertices"):
        MirroredAtlas.of(own_atlas, raster, None)
    with pytest.raises(ValueError, match="cannot have smell: how that moves"):
        augment_sample({**person.sample(), "smell": np.zeros(3)}, only(GeometricDraw()))
    with pytest.raises(ValueError, match="painted mask's labels have no left and right"):
        moved_labels({"mask": np.zeros((SIZE, SIZE), np.uint8)}, Move(Similarity2D.mirror(SIZE), SIZE))
    with pytest.raises(ValueError, match="5 landmarks are no known scheme"):
        moved_labels({"landmarks_px": np.zeros((5, 2))}, Move(Similarity2D.mirror(SIZE), SIZE))
    with pytest.raises(ValueError, match="is square, not 8 × 9 pixels"):
        augment_sample({"image": np.zeros((8, 9, 3), np.uint8)}, only(GeometricDraw()))


def test_landmarks_that_leave_the_picture_are_not_visible():
    landmarks = np.full((68, 3), 60.0)
    landmarks[3] = (2.0, 60.0, 0.0)
    visible = np.ones(68, dtype=bool)
    visible[5] = False
    mirror = Move(Similarity2D.of(translation_px=(4.0, 0.0)) @ Similarity2D.mirror(SIZE), SIZE)
    moved = moved_labels({"landmarks_px": landmarks, "landmark_visible": visible}, mirror)["landmark_visible"]
    assert set(np.flatnonzero(~moved)) == {int(np.flatnonzero(MIRROR == 3)[0]), int(np.flatnonzero(MIRROR == 5)[0])}


# ----------------------------------------------------------------------------------------------------------- occluders


def surface_of(person, raster, landmark_texels):
    return FaceSurface(person.map, raster.covered, landmark_texels)


@pytest.mark.parametrize("kind", PICTURE_KINDS + SURFACE_KINDS)
def test_the_mask_is_true_exactly_where_pixels_changed(kind, person, raster, landmark_texels):
    surface = surface_of(person, raster, landmark_texels)
    layer = occlusion_layer(
        [occluding(kind), occluding("shape", 9, place=(0.2, 0.2), size=0.2)], size_px=SIZE, surface=surface
    )
    changed = np.zeros((SIZE, SIZE), dtype=bool)
    for level in (0, 255):  # a pixel that has an occluder's own colour does not change, but then the other one does
        image = np.full((SIZE, SIZE, 3), level, dtype=np.uint8)
        changed |= (put_over(image, layer) != image).any(axis=-1)
    np.testing.assert_array_equal(changed, occlusion_mask(layer))
    assert 0.01 < changed.mean() < 0.6
    draw = AugmentationDraw(0, occluders=(occluding(kind),))
    image = person.rendered(person.affine)
    augmented = augment_picture(image, draw, size_px=SIZE, surface=surface)
    assert not ((augmented.image != image).any(axis=-1) & ~augmented.occluded).any()


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_an_occluder_is_as_large_as_drawn_anti_aliased_and_the_same_for_its_seed(kind):
    first = occlusion_layer([occluding(kind)], size_px=SIZE)
    np.testing.assert_array_equal(first, occlusion_layer([occluding(kind)], size_px=SIZE))
    assert not np.array_equal(first, occlusion_layer([occluding(kind, 4)], size_px=SIZE))
    larger = occlusion_layer([occluding(kind, size=0.8)], size_px=SIZE)
    assert (larger[..., 3] > 0).sum() > 1.8 * (first[..., 3] > 0).sum()
    opaque = first[first[..., 3] > 250]
    assert opaque[:, :3].std() > 2  # textured
    if kind != "noise":
        assert ((first[..., 3] > 0) & (first[..., 3] < 255)).any()


def test_a_patch_shows_the_donor():
    donor = np.zeros((50, 70, 3), dtype=np.uint8)
    donor[..., 1] = 200
    places = []
    layer = occlusion_layer([occluding("patch")], size_px=SIZE, donor=lambda place: places.append(place) or donor)
    assert places == [0.5]
    assert (layer[layer[..., 3] == 255][:, :3] == (0, 200, 0)).all()


def test_without_occluders_there_is_no_layer_and_without_a_face_nothing_sticks_to_it():
    assert occlusion_layer([], size_px=SIZE) is None
    with pytest.raises(ValueError, match="surface_mask sticks to the face, and where the face is was not given"):
        occlusion_layer([occluding("surface_mask")], size_px=SIZE)
    with pytest.raises(ValueError, match="hand is no thing on the surface"):
        paint_atlas(occluding("hand"), np.zeros((68, 2)), size=32)


@pytest.mark.parametrize("kind", SURFACE_KINDS)
def test_what_sticks_to_the_surface_hides_the_same_texels_in_every_pose(
    kind, person, turned_person, raster, landmark_texels, built_in
):
    triangles = np.ascontiguousarray(np.concatenate([built_in.triangles, built_in.closing_triangles]))
    draw = occluding(kind, seed=2, size=0.5)  # of these glasses the lenses are dark
    painted = paint_atlas(draw, landmark_texels, size=raster.size)
    solid, clear = painted[..., 3] > 200, painted[..., 3] == 0
    away = eroded(solid), eroded(clear)
    for one in (person, turned_person):
        layer = carry_by_position_map(painted, surface_of(one, raster, landmark_texels), size_px=SIZE)
        seen = visible_texels(
            raster, apply_affine(one.affine, one.vertices.astype(np.float64)), triangles, size_hw=(SIZE, SIZE)
        )
        hidden = occluded_texels(layer[..., 3] > 127, one.map, seen)
        assert (away[0] & seen).sum() > 50
        assert hidden[away[0] & seen].mean() > 0.97
        assert hidden[away[1] & seen].mean() < 0.03


def test_glasses_lie_over_the_eyes_and_a_mask_over_the_mouth_whatever_the_pose(
    person, turned_person, raster, landmark_texels
):
    for one in (person, turned_person):
        surface = surface_of(one, raster, landmark_texels)
        mask = occlusion_mask(occlusion_layer([occluding("surface_mask")], size_px=SIZE, surface=surface))
        x, y = np.rint(one.landmarks[:, :2]).astype(int).T
        assert mask[y[60:68], x[60:68]].all()
        assert not mask[y[36:48], x[36:48]].any()
        assert not mask[y[17:27], x[17:27]].any()


def test_field_and_position_map_carry_a_painting_to_the_same_pixels(built_in, own_atlas, person):
    raster = AtlasRaster(own_atlas, 192)
    texels = texel_from_uv(built_in.uv[built_in.landmark_vertices].astype(np.float64), 192)
    template = FieldTemplate.of(built_in, own_atlas, part_map(densereg_parts(built_in), own_atlas, 192))
    vertices = apply_affine(person.affine, person.vertices.astype(np.float64)).astype(np.float32)
    field = correspondence_field(draw_faces([vertices], template.triangles, size_hw=(SIZE, SIZE)), template)
    painted = paint_atlas(occluding("surface_patch", size=0.5), texels, size=192)
    by_field = carry_by_field(painted, field.uv, field.is_face)[..., 3] > 127
    surface = FaceSurface(raster.apply(person.vertices, person.affine), raster.covered, texels)
    by_map = carry_by_position_map(painted, surface, size_px=SIZE)[..., 3] > 127
    assert (by_field & by_map).sum() > 0.95 * (by_field | by_map).sum() > 0


def test_an_own_occlusion_mask_moves_along_and_is_joined(person, mirrored_atlas):
    hidden = np.zeros((SIZE, SIZE), dtype=bool)
    hidden[10:20, 5:25] = True
    draw = replace(only(GeometricDraw(flip=True)), occluders=(occluding("shape", place=(0.3, 0.7), size=0.2),))
    augmented = augment_sample({**person.sample(), "occluded": hidden}, draw, atlas=mirrored_atlas)
    assert augmented["occluded"][10:20, SIZE - 25 : SIZE - 5].all()
    assert augmented["occluded"].sum() > hidden.sum()
