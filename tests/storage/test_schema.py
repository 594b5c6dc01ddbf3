"""Codes and targets: what comes back is what was given, within the stated precision, or it was refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from storage.bad_sample import BadSample
from storage.codes import FILL_CODE, FixedPoint, Utf8
from storage.face_targets import position_map_schema
from storage.field_targets import UNIT_CODE
from storage.schema import DerivedTarget, Schema, Target

PIXELS = FixedPoint()
IN_RANGE = st.floats(PIXELS.lowest, PIXELS.highest, width=32)
CODES = [
    PIXELS,
    FixedPoint(steps_per_unit=1, offset=0),
    FixedPoint(steps_per_unit=4096, offset=3),
    FixedPoint(steps_per_unit=32768, offset=0),
]


@given(values=hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=IN_RANGE))
def test_fixed_point_is_off_by_at_most_half_a_step(values):
    back = PIXELS.decode(PIXELS.encode(values))
    assert back.dtype == np.float32
    assert np.abs(back.astype(np.float64) - values).max() <= 1 / 128


@pytest.mark.parametrize("code", CODES)
def test_every_code_decodes_to_a_value_that_encodes_to_it(code):
    codes = np.arange(FILL_CODE, dtype=np.uint16)
    values = code.decode(codes)
    np.testing.assert_array_equal(code.encode(values), codes)
    np.testing.assert_array_equal(values, codes / code.steps_per_unit - code.offset)


@given(pair=st.tuples(IN_RANGE, IN_RANGE))
def test_fixed_point_keeps_order(pair):
    low, high = PIXELS.encode(np.array(sorted(pair), dtype=np.float32))
    assert low <= high


@given(
    value=st.floats(width=32).filter(lambda v: not -256 - 1 / 128 <= v <= PIXELS.highest + 1 / 128),
    place=st.integers(0, 40_000),
)
def test_fixed_point_refuses_what_does_not_fit_wherever_it_stands(value, place):
    values = np.zeros(40_001, dtype=np.float32)
    values[place] = value
    with pytest.raises(BadSample) as refusal:
        PIXELS.encode(values)
    assert refusal.value.code == ("target.range" if np.isfinite(value) else "target.nonfinite")


def test_the_ends_of_the_fixed_point_range_can_be_stored_and_the_fill_code_cannot():
    ends = np.array([PIXELS.lowest, PIXELS.highest], dtype=np.float32)
    np.testing.assert_array_equal(PIXELS.decode(PIXELS.encode(ends)), ends)
    with pytest.raises(
        BadSample, match=r"from -256\.02 to 767\.97 do not fit .* from -256 to 767\.97, .* never clipped"
    ):
        PIXELS.encode(np.array([-256.02, 767.97], dtype=np.float32))
    with pytest.raises(BadSample):
        PIXELS.encode(np.array([PIXELS.highest + 1 / 64], dtype=np.float32))


def test_fixed_point_steps_are_powers_of_two():
    with pytest.raises(ValidationError, match="not a power of two"):
        FixedPoint(steps_per_unit=80)


@given(texts=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)))
def test_texts_come_back(texts):
    code = Utf8(max_bytes=40)
    stored = np.array([code.encode(np.asarray(text)) for text in texts], dtype=np.uint8).reshape(-1, 40)
    # NumPy's fixed-width strings cannot end in NUL, and nothing else is lost.
    assert code.decode(stored).tolist() == texts


@pytest.mark.parametrize("text", ["ä" * 21, "a\0b", "\ud800"])
def test_texts_that_do_not_fit_are_refused(text):
    with pytest.raises(BadSample) as refusal:
        Utf8(max_bytes=40).encode(np.asarray(text))
    assert refusal.value.code == "target.text"


@given(data=st.data(), dtype=st.sampled_from(["bool", "uint8", "uint16", "int32", "int64", "float32", "float64"]))
def test_plain_targets_come_back_exactly(data, dtype):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
    elements = st.floats(width=32, allow_nan=False, allow_infinity=False) if dtype.startswith("float") else None
    values = data.draw(hnp.arrays(dtype, shape, elements=elements))
    target = Target(
        name="x",
        dtype=dtype,
        sample_shape=shape,
        description="",
        channels_first=len(shape) == 3 and data.draw(st.booleans()),
    )
    stored = target.encode(values)
    assert stored.shape == target.chunk.shape
    back = target.decode(stored[None])
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back[0], values)


def test_a_channels_first_target_is_a_view_with_the_channels_last():
    target = Target(name="x", dtype="uint8", sample_shape=(4, 5, 3), description="", channels_first=True)
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    stored = target.encode(picture)
    np.testing.assert_array_equal(stored[1], picture[..., 1])
    assert np.shares_memory(target.decode(stored[None]), stored)


def test_wrong_shape_or_dtype_is_the_programs_fault_and_says_so():
    target = Target(name="landmarks_px", dtype="float32", sample_shape=(68, 3), description="")
    with pytest.raises(
        ValueError, match=r"landmarks_px holds float32 of shape \(68, 3\), and was given float64 of shape \(3, 68\)"
    ):
        target.encode(np.zeros((3, 68)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_makes_a_sample_bad(bad):
    target = Target(name="x", dtype="float64", sample_shape=(2,), description="")
    with pytest.raises(BadSample, match="x: a value is NaN or infinite") as refusal:
        target.encode(np.array([0, bad]))
    assert refusal.value.code == "target.nonfinite"


def test_nan_may_mean_not_known_where_the_schema_says_so():
    target = Target(name="x", dtype="float64", sample_shape=(2,), description="", allow_nan=True, limits=(0, 1))
    np.testing.assert_array_equal(target.encode(np.array([np.nan, 1])), [np.nan, 1])


@pytest.mark.parametrize("bad", [-0.01, 1.01])
def test_values_outside_the_limits_make_a_sample_bad(bad):
    target = Target(name="x", dtype="float64", sample_shape=(2,), unit="px", description="", limits=(0, 1))
    with pytest.raises(BadSample, match="px leave the limits 0 to 1") as refusal:
        target.encode(np.array([0.5, bad]))
    assert refusal.value.code == "target.limits"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "Image"}, "String should match pattern"),
        ({"dtype": "float16"}, "Input should be"),
        ({"sample_shape": (3, 3), "channels_first": True}, "only .rows, columns, channels. can be channels first"),
        ({"dtype": "str"}, "dtype str and the utf8 code go together"),
        ({"code": Utf8()}, "dtype str and the utf8 code go together"),
        ({"dtype": "float64", "code": FixedPoint()}, "fixed point holds float32 values, not float64"),
        ({"dtype": "float32", "code": FixedPoint(), "allow_nan": True}, "no code for NaN"),
        ({"sample_shape": (2, 3), "axes": ("row",)}, "1 axis names"),
        ({"lossy": True}, "Extra inputs"),
    ],
)
def test_a_target_that_cannot_be_stored_is_refused(fields, sentence):
    with pytest.raises(ValidationError, match=sentence):
        Target(**{"name": "x", "dtype": "uint8", "description": "", **fields})


def _target(name, **fields):
    return Target(**{"name": name, "dtype": "uint8", "description": "", **fields})


def test_a_schema_has_no_two_targets_of_one_name():
    derived = DerivedTarget(name="a", dtype="bool", sample_shape=(), description="", decoder="d")
    for names in ({"targets": (_target("a"), _target("a"))}, {"targets": (_target("a"),), "derived": (derived,)}):
        with pytest.raises(ValidationError, match="the name a is taken"):
            Schema(**names)
    with pytest.raises(ValidationError, match="the name tables is taken"):
        Schema(targets=(_target("tables"),))


def test_axes_of_one_name_have_one_length():
    with pytest.raises(ValidationError, match="axis row has length 3 in b and 2 before"):
        Schema(targets=(_target("a", sample_shape=(2,), axes=("row",)), _target("b", sample_shape=(3,), axes=("row",))))


def test_a_sample_has_exactly_the_schemas_targets(sample, plan):
    schema = plan().sample_schema
    with pytest.raises(ValueError, match=r"missing: \['image', 'seed'\], unknown: \['colour'\]"):
        schema.encode({**{k: v for k, v in sample(0).items() if k not in ("image", "seed")}, "colour": 1})


@pytest.mark.parametrize(
    ("image_size", "lowest", "highest", "precision"),
    [(16, -256, 767, 1 / 128), (256, -256, 767, 1 / 128), (257, -512, 1535, 1 / 64), (512, -512, 1535, 1 / 64),
     (1024, -1024, 3071, 1 / 32)],
)  # fmt: skip
def test_larger_crops_have_maps_of_a_larger_range(image_size, lowest, highest, precision):
    schema = position_map_schema(
        image_size=image_size, map_size=image_size, n_identity=3, n_expression=2, maps="materialized"
    )
    target = schema["position_map"]
    assert (target.code.lowest, int(target.code.highest), target.code.precision) == (lowest, highest, precision)
    assert target.attributes["precision"] == precision
    values = np.full((image_size, image_size, 3), 1.5 * image_size - 1, np.float32)
    values[0, 0] = -0.53 * image_size  # -271.00 to 775.93 were met in crops of 512 px
    assert np.abs(target.decode(target.encode(values)[None])[0] - values).max() <= precision


def test_a_schema_survives_json_and_finds_its_targets():
    for maps, compat in itertools.product(("parametric", "materialized"), (199, 40)):
        schema = position_map_schema(image_size=256, map_size=128, n_identity=compat, n_expression=29, maps=maps)
        assert Schema.model_validate_json(schema.model_dump_json()) == schema
        assert schema["position_map"].sample_shape == (128, 128, 3)
        assert ("position_map" in {target.name for target in schema.targets}) == (maps == "materialized")
        with pytest.raises(KeyError, match="no target 'uv' in this data set; it has image"):
            schema["uv"]


def test_what_is_worked_out_on_request_alone_is_no_part_of_everything():
    plain = DerivedTarget(name="a", dtype="bool", sample_shape=(), description="", decoder="d")
    heavy = DerivedTarget(name="b", dtype="bool", sample_shape=(), description="", decoder="d", on_request=True)
    schema = Schema(targets=(), derived=(plain, heavy))
    assert schema.names == ("a",)
    assert schema["b"] == heavy
    assert Schema.model_validate(schema.model_dump(mode="json")) == schema


def test_a_derived_target_is_written_as_it_always_was():
    """The schema is in every fingerprint: one field more would make another version of every data set there is."""
    plain = DerivedTarget(name="a", dtype="bool", sample_shape=(), description="", decoder="d")
    assert set(plain.model_dump(mode="json")) == {
        "name", "dtype", "sample_shape", "unit", "description", "decoder", "channels_first",
    }  # fmt: skip


def test_places_in_the_unit_square_are_stored_to_a_thousandth_of_a_bin_and_their_ends_exactly():
    u = np.linspace(0, 1, 100_001, dtype=np.float32)
    back = UNIT_CODE.decode(UNIT_CODE.encode(u))
    assert np.abs(back.astype(np.float64) - u).max() <= 2.0**-16 + 1e-8
    assert (back[0], back[-1]) == (0, 1)
    with pytest.raises(BadSample):
        UNIT_CODE.encode(np.array([2.0], np.float32))
