"""The compiled loops of the z-buffer for sixteen pictures at once; :mod:`render.zbuffer_lanes` drives them.

Sixteen meshes of one topology stand in the lanes of SIMD registers: what is worked out for a triangle (its box, its edge
functions, which of 2 × 2 pixels it covers) is worked out for all pictures by the same instructions, on contiguous
numbers. Faces have triangles of about a pixel, so few of these tests hit; the hits are collected in one list for each
picture and drawn from there picture by picture, while that picture's buffers lie in a near cache, sixteen hits at a time.

The vector parts are written with :class:`Lanes`, whose operators append LLVM instructions while numba compiles. A loop
over sixteen numbers would be vectorised too, but behind tests that its arrays do not overlap, which cost as much as
sixteen lanes save, and with sums of int32 that numba makes 64 bits wide. Integers of 32 bits are exact here, because
triangles that are not small take another way (`draw_triangles`, in 64 bits); floats are neither fused nor reordered.
Memory is flat and indices are unsigned, or each would be tested for a negative wrap; nothing compiled is called from
another file, whose changes numba's cache would miss.
"""

import typing
from collections.abc import Iterable

import numpy as np
from llvmlite import ir
from numba import int32, njit, types, uint64
from numba.extending import intrinsic

from render.zbuffer_grid import SUBPIXEL_BITS, SUBPIXELS

LANES = 16
QUEUE_LENGTH = 64
"""How many quads with hits wait before the hits are dealt out."""
LARGEST_SIDE = 1 << 15
"""Rows and columns that a hit's 15 and 16 bits can name."""
SMALL = 16 * SUBPIXELS - 1
"""The largest width and height, in 1/256 px, of triangles tested in the lanes; products of two stay below 2^25."""
_OWN_SHIFT = 12  # 2^12 > SMALL
HITS_TO_SPARE = 4 * QUEUE_LENGTH + 16 * 16 + LANES
"""More hits than a queue and one small triangle can add to a list, and what fills it up to a multiple of sixteen."""
WEIGHED_LENGTH = 6 * LANES
"""Numbers that :func:`weigh_hits` writes."""
_EVERY_PIXEL = uint64(0x0001_0001_0001_0001)
# How far ahead memory is asked for, in triangles and hits: meshes are seldom in an order that a processor can guess.
_TRIANGLES_AHEAD, _HITS_AHEAD = uint64(12), uint64(32)

_BIT, _INT, _LONG, _FLOAT = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()


class Lanes:
    """Sixteen numbers in the making: integers of 32 bits, floats of 32 bits, or bits (the outcome of a comparison)."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def _operand(self, other: "Lanes | float") -> "Lanes":
        """`other`, or that number in every lane."""
        if isinstance(other, Lanes):
            return other
        return Lanes(self.builder, ir.Constant(self.value.type, [other] * LANES))

    def _with(self, instruction: str, other: "Lanes | float", *more: str) -> "Lanes":
        append = getattr(self.builder, instruction)
        return Lanes(self.builder, append(*more, self.value, self._operand(other).value))

    @property
    def _is_float(self) -> bool:
        return isinstance(self.value.type.element, ir.FloatType)

    def __add__(self, other: "Lanes | float") -> "Lanes":
        return self._with("fadd" if self._is_float else "add", other)

    def __sub__(self, other: "Lanes | float") -> "Lanes":
        return self._with("fsub" if self._is_float else "sub", other)

    def __mul__(self, other: "Lanes | float") -> "Lanes":
        return self._with("fmul" if self._is_float else "mul", other)

    def __lshift__(self, bits: int) -> "Lanes":
        return self._with("shl", bits)

    def __rshift__(self, bits: int) -> "Lanes":
        return self._with("ashr", bits)

    def __and__(self, other: "Lanes | int") -> "Lanes":
        return self._with("and_", other)

    def __or__(self, other: "Lanes | int") -> "Lanes":
        return self._with("or_", other)

    def __invert__(self) -> "Lanes":
        return self._with("xor", -1 if self.value.type.element.width > 1 else 1)

    def __lt__(self, other: "Lanes | int") -> "Lanes":
        return self._with("icmp_signed", other, "<")

    def __le__(self, other: "Lanes | int") -> "Lanes":
        return self._with("icmp_signed", other, "<=")

    def __gt__(self, other: "Lanes | int") -> "Lanes":
        return self._with("icmp_signed", other, ">")

    def __ge__(self, other: "Lanes | int") -> "Lanes":
        return self._with("icmp_signed", other, ">=")

    def where(self, true: "Lanes", false: "Lanes | int") -> "Lanes":
        """These are bits: `true` where they are set, else `false`."""
        return Lanes(self.builder, self.builder.select(self.value, true.value, true._operand(false).value))

    def least(self, other: "Lanes | int") -> "Lanes":
        """The smaller number of each lane's two."""
        return (self < other).where(self, other)

    def greatest(self, other: "Lanes | int") -> "Lanes":
        """The larger number of each lane's two."""
        return (self > other).where(self, other)

    def to_float(self) -> "Lanes":
        """These are integers: the nearest floats."""
        return Lanes(self.builder, self.builder.sitofp(self.value, ir.VectorType(_FLOAT, LANES)))

    def as_float(self) -> "Lanes":
        """The same bits, read as floats."""
        return Lanes(self.builder, self.builder.bitcast(self.value, ir.VectorType(_FLOAT, LANES)))

    def reciprocal(self) -> "Lanes":
        """These are floats: one over each, correctly rounded."""
        return Lanes(self.builder, self.builder.fdiv(self._operand(1.0).value, self.value))

    def as_bits(self) -> ir.Value:
        """These are bits: the lanes that are set, lane 0 the lowest, in an integer of 64 bits."""
        return self.builder.zext(self.builder.bitcast(self.value, ir.IntType(LANES)), _LONG)

    def highest(self) -> ir.Value:
        """The greatest of the sixteen integers, none of them negative, in an integer of 64 bits."""
        name, kind = f"llvm.vector.reduce.smax.v{LANES}i32", ir.FunctionType(_INT, [self.value.type])
        function = self.builder.module.globals.get(name) or ir.Function(self.builder.module, kind, name)
        return self.builder.zext(self.builder.call(function, [self.value]), _LONG)


class Memory:
    """An array that Lanes are read from and written to."""

    __slots__ = ("builder", "data")

    def __init__(self, context: typing.Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value) -> None:
        self.builder, self.data = builder, context.make_array(kind)(context, builder, array).data

    def _address(self, place: ir.Value, element: ir.Type) -> ir.Value:
        address = self.builder.gep(self.data, [place])
        return self.builder.bitcast(address, ir.VectorType(element, LANES).as_pointer())

    def load(self, place: ir.Value) -> Lanes:
        """Sixteen integers of 32 bits from `place` on."""
        return Lanes(self.builder, self.builder.load(self._address(place, _INT), align=4))

    def load_halves(self, place: ir.Value) -> tuple[Lanes, Lanes]:
        """Sixteen integers of 64 bits from `place` on: their lower halves, and their upper ones."""
        wide = self.builder.load(self._address(place, _LONG), align=8)
        upper = self.builder.lshr(wide, ir.Constant(wide.type, [32] * LANES))
        kind = ir.VectorType(_INT, LANES)
        return Lanes(self.builder, self.builder.trunc(wide, kind)), Lanes(self.builder, self.builder.trunc(upper, kind))

    def store(self, place: ir.Value, lanes: Lanes) -> None:
        """Write sixteen numbers from `place` on."""
        self.builder.store(lanes.value, self._address(place, lanes.value.type.element), align=4)

    def gather(self, index: Lanes) -> Lanes:
        """The integers of 32 bits at sixteen places."""
        builder, kind = self.builder, ir.VectorType(_INT, LANES)
        wide = builder.sext(index.value, ir.VectorType(_LONG, LANES))
        start = _splat(builder, builder.ptrtoint(self.data, _LONG))
        address = builder.inttoptr((start + (Lanes(builder, wide) << 2)).value, ir.VectorType(self.data.type, LANES))
        every = ir.Constant(ir.VectorType(_BIT, LANES), [1] * LANES)
        name = f"llvm.masked.gather.v{LANES}i32.v{LANES}p0"
        function_kind = ir.FunctionType(kind, [address.type, _INT, every.type, kind])
        function = builder.module.globals.get(name) or ir.Function(builder.module, function_kind, name)
        arguments = [address, ir.Constant(_INT, 4), every, ir.Constant(kind, ir.Undefined)]
        return Lanes(builder, builder.call(function, arguments))


def _splat(builder: ir.IRBuilder, number: ir.Value) -> Lanes:
    kind = ir.VectorType(number.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(_INT, 0))
    zeros = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
    return Lanes(builder, builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros))


def _corner(lanes: Memory, place: ir.Value) -> tuple[Lanes, Lanes]:
    return lanes.load(place), lanes.load(lanes.builder.add(place, ir.Constant(_LONG, LANES)))


def _edge_function(step: tuple[Lanes, Lanes], start: tuple[Lanes, Lanes], x: Lanes, y: Lanes) -> Lanes:
    """The edge function at (x, y) of the edge from `start` along `step`: positive inside."""
    return step[0] * (y - start[1]) - step[1] * (x - start[0])


def _with_top_left_rule(edge: Lanes, step: tuple[Lanes, Lanes]) -> Lanes:
    """The edge function, less 1 unless zero belongs to this edge: it goes up, or is horizontal and goes to the right."""
    return edge + ~(((step[1] << _OWN_SHIFT) - step[0]) >> 31)


@intrinsic
@typing.no_type_check
def lowest_bit(typing_context, word):  # numba's compiler calls this with types; what runs is one instruction
    """The place of the lowest bit that is set in an unsigned 64-bit number, which must not be 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(_BIT, 1))

    return types.uint64(types.uint64), generate


@intrinsic
@typing.no_type_check
def prefetch(typing_context, array, index):
    """Ask for the cache line of array[index], which will be read soon."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, _INT, _INT, _INT])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        read, keep, data_cache = (ir.Constant(_INT, value) for value in (0, 3, 1))
        builder.call(function, [address, read, keep, data_cache])
        return context.get_dummy_value()

    return types.void(array, index), generate


@intrinsic
@typing.no_type_check
def bound_triangle(typing_context, lanes, at_a, at_b, at_c, last_column, last_row, boxes):
    """Which pixels a triangle may cover, in sixteen pictures.

    The corners stand at lanes[at_a…], x and then y, in the winding that gives a seen triangle positive area;
    last_column and last_row end the pictures. Returns, from the lowest bits up, 16 bits each: the lanes that have
    pixels to be tested; those whose triangle must be drawn in another way (too large, or across the right or lower
    border); the largest width to be tested, less one; and the largest height, less one. boxes[lane] becomes y·2^16 + x
    of the first pixel, boxes[16 + lane] the doubled area.
    """

    def generate(context, builder, signature, arguments):
        memory = Memory(context, builder, signature.args[0], arguments[0])
        (ax, ay), (bx, by), (cx, cy) = (_corner(memory, place) for place in arguments[1:4])
        last_x, last_y = _splat(builder, arguments[4]), _splat(builder, arguments[5])
        low_x, high_x = ax.least(bx).least(cx), ax.greatest(bx).greatest(cx)
        low_y, high_y = ay.least(by).least(cy), ay.greatest(by).greatest(cy)
        first_x = ((low_x + (SUBPIXELS - 1)) >> SUBPIXEL_BITS).greatest(0)
        first_y = ((low_y + (SUBPIXELS - 1)) >> SUBPIXEL_BITS).greatest(0)
        end_x, end_y = high_x >> SUBPIXEL_BITS, high_y >> SUBPIXEL_BITS
        area = _edge_function((bx - ax, by - ay), (ax, ay), cx, cy)
        in_picture = (first_x <= end_x.least(last_x)) & (first_y <= end_y.least(last_y))
        small = (high_x - low_x <= SMALL) & (high_y - low_y <= SMALL) & (end_x <= last_x) & (end_y <= last_y)
        live = in_picture & small & (area > 0)
        boxes = Memory(context, builder, signature.args[6], arguments[6])
        boxes.store(ir.Constant(_LONG, 0), (first_y << 16) | first_x)
        boxes.store(ir.Constant(_LONG, LANES), area)
        fields = (
            live.as_bits(), (in_picture & ~small).as_bits(),
            live.where(end_x - first_x, 0).highest(), live.where(end_y - first_y, 0).highest(),
        )  # fmt: skip
        return _packed(builder, fields)

    place = types.uint64
    return types.uint64(lanes, place, place, place, types.int32, types.int32, boxes), generate


@intrinsic
@typing.no_type_check
def cover_quad(typing_context, lanes, at_a, at_b, at_c, step, boxes, places, slot):
    """Which of 2 × 2 pixels a triangle covers, in sixteen pictures: bit 16·p + l for pixel p = 0…3, row by row, in lane l.

    The quad lies `step` = row·2^16 + column from the triangle's first pixel, in each picture from its own; its place is
    left in places[slot + lane]. Nonsense in lanes that :func:`bound_triangle` has not called live.
    """

    def generate(context, builder, signature, arguments):
        memory = Memory(context, builder, signature.args[0], arguments[0])
        a, b, c = (_corner(memory, place) for place in arguments[1:4])
        boxes = Memory(context, builder, signature.args[5], arguments[5])
        place = boxes.load(ir.Constant(_LONG, 0)) + _splat(builder, arguments[4])
        Memory(context, builder, signature.args[6], arguments[6]).store(arguments[7], place)
        x, y = (place & 0xFFFF) << SUBPIXEL_BITS, (place >> 16) << SUBPIXEL_BITS
        ab, bc, ca = ((end[0] - start[0], end[1] - start[1]) for start, end in ((a, b), (b, c), (c, a)))
        edge_a, edge_b = _edge_function(bc, b, x, y), _edge_function(ca, c, x, y)
        edge_c = boxes.load(ir.Constant(_LONG, LANES)) - edge_a - edge_b  # they add up to the area
        edges = [_with_top_left_rule(edge, step) for edge, step in ((edge_a, bc), (edge_b, ca), (edge_c, ab))]
        right = [edge - (step[1] << SUBPIXEL_BITS) for edge, step in zip(edges, (bc, ca, ab), strict=True)]
        down = [step[0] << SUBPIXEL_BITS for step in (bc, ca, ab)]
        lower = [edge + move for edge, move in zip(edges, down, strict=True)]
        corner = [edge + move for edge, move in zip(right, down, strict=True)]
        return _packed(builder, [((i | j | k) >= 0).as_bits() for i, j, k in (edges, right, lower, corner)])

    place = types.uint64
    return types.uint64(lanes, place, place, place, types.int32, boxes, places, place), generate


def _packed(builder: ir.IRBuilder, fields: Iterable[ir.Value]) -> ir.Value:
    """Four numbers of 16 bits in one of 64, the first the lowest."""
    packed = ir.Constant(_LONG, 0)
    for i, field in enumerate(fields):
        packed = builder.or_(packed, builder.shl(field, ir.Constant(_LONG, 16 * i)))
    return packed


@intrinsic
@typing.no_type_check
def weigh_hits(typing_context, hits, first, corners, triangles, width, weighed):
    """What sixteen hits of one picture, from `first` on, would draw.

    weighed, int32, holds sixteen of each: the pixel's index, the triangle, and, as the bits of floats, the depth and
    the weights of the triangle's corners in their own order.
    """

    def generate(context, builder, signature, arguments):
        hits, _, corners, triangles, _, weighed = (
            Memory(context, builder, kind, value) if isinstance(kind, types.Array) else None
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        place, t = hits.load_halves(arguments[1])
        back = place < 0
        column, row = place & 0xFFFF, (place >> 16) & 0x7FFF
        x, y = column << SUBPIXEL_BITS, row << SUBPIXEL_BITS
        a, second, third = (triangles.gather(t * 3 + k) * 3 for k in range(3))
        b, c = back.where(second, third), back.where(third, second)
        at_a, at_c = ((corners.gather(at), corners.gather(at + 1)) for at in (a, c))
        ab = corners.gather(b) - at_a[0], corners.gather(b + 1) - at_a[1]
        ca = at_a[0] - at_c[0], at_a[1] - at_c[1]
        area = ca[0] * ab[1] - ab[0] * ca[1]
        edge_b, edge_c = _edge_function(ca, at_c, x, y), _edge_function(ab, at_a, x, y)
        reciprocal = area.to_float().reciprocal()
        weight_a = (area - edge_b - edge_c).to_float() * reciprocal
        weight_b, weight_c = edge_b.to_float() * reciprocal, edge_c.to_float() * reciprocal
        za, zb, zc = (corners.gather(at + 2).as_float() for at in (a, b, c))
        depth = za + weight_b * (zb - za) + weight_c * (zc - za)
        pixel = row * _splat(builder, arguments[4]) + column
        in_own_order = weight_a, back.where(weight_b, weight_c), back.where(weight_c, weight_b)
        for i, values in enumerate((pixel, t, depth, *in_own_order)):
            weighed.store(ir.Constant(_LONG, i * LANES), values)
        return context.get_dummy_value()

    return types.void(hits, types.uint64, corners, triangles, types.int32, weighed), generate


@njit(cache=True, nogil=True)
@typing.no_type_check
def deal_to_lanes(corners, first, n_vertices, lanes):
    """x and y of at most sixteen snapped meshes (n V 3) with the lanes innermost: lanes[(2 v + k)·16 + l] = mesh l's.

    Of the vertices from `first` on, `n_vertices` at most.
    """
    for v in range(uint64(first), min(uint64(first + n_vertices), uint64(corners.shape[1]))):
        for k in range(uint64(2)):
            place = (uint64(2) * v + k) * uint64(LANES)
            for lane in range(uint64(corners.shape[0])):
                lanes[place + lane] = corners[lane, v, k]


@njit(cache=True, nogil=True)
@typing.no_type_check
def deal_hits(length, queue, queue_triangle, places, hits, n_hits):
    """Deal the hits of `length` queued quads to the lists of their pictures; returns the longest list's length."""
    longest = uint64(0)
    for slot in range(length):
        word, triangle = queue[slot], queue_triangle[slot]
        while word != uint64(0):
            k = lowest_bit(word)
            word &= word - uint64(1)
            lane = k & uint64(LANES - 1)
            right, down = (k >> uint64(4)) & uint64(1), k >> uint64(5)
            n = n_hits[lane]
            hits[lane, n] = triangle | (uint64(places[slot * uint64(LANES) + lane]) + (down << uint64(16)) + right)
            n_hits[lane] = n + uint64(1)
            longest = max(longest, n + uint64(1))
    return longest


@njit(cache=True, nogil=True)
@typing.no_type_check
def collect_hits(
    first, lanes, triangles, cull, height, width, queue, queue_triangle, boxes, places, hits, n_hits, large, n_large
):  # fmt: skip
    """Find the pixels that triangles cover, from triangle `first` on, until a list is full; returns the next triangle.

    hits[l, i]: triangle·2^32 + back face·2^31 + y·2^16 + x, i below n_hits[l]; large[l, i]: a triangle to be drawn whole,
    i below n_large[l]. Only front faces have hits when `cull` is set: a back face is one that has positive area when its
    corners are taken in their own order, and then it is tried that way too. queue uint64, queue_triangle uint64 and
    places int32 (16 times as long) are scratch: hits are dealt out a queue at a time, since reading what was just
    written by a wider store would stall. boxes int32 (32,) is scratch too.
    """
    n_triangles, capacity, large_capacity = uint64(triangles.shape[0]), uint64(hits.shape[1]), uint64(large.shape[1])
    last_column, last_row = int32(width - 1), int32(height - 1)
    n_hits[:] = uint64(0)
    n_large[:] = uint64(0)
    length = uint64(0)
    room = True
    t = uint64(first)
    while t < n_triangles and room:
        ahead = min(t + _TRIANGLES_AHEAD, n_triangles - uint64(1))
        for k in range(uint64(3)):
            place = uint64(triangles[ahead, k]) * uint64(2 * LANES)
            prefetch(lanes, place)
            prefetch(lanes, place + uint64(LANES))
        for winding in range(uint64(1 if cull else 2)):
            at_a = uint64(triangles[t, uint64(0)]) * uint64(2 * LANES)
            at_b = uint64(triangles[t, uint64(2) - winding]) * uint64(2 * LANES)
            at_c = uint64(triangles[t, uint64(1) + winding]) * uint64(2 * LANES)
            triangle = (t << uint64(32)) | (winding << uint64(31))
            bounds = bound_triangle(lanes, at_a, at_b, at_c, last_column, last_row, boxes)
            live = (bounds & uint64(0xFFFF)) * _EVERY_PIXEL
            too_large = (bounds >> uint64(16)) & uint64(0xFFFF)
            columns, rows = (bounds >> uint64(32)) & uint64(0xFFFF), bounds >> uint64(48)
            row = column = uint64(0)
            while live != uint64(0) and row <= rows:
                step = int32((row << uint64(16)) | column)
                word = live & cover_quad(lanes, at_a, at_b, at_c, step, boxes, places, length * uint64(LANES))
                queue[length], queue_triangle[length] = word, triangle
                length += uint64(word != uint64(0))
                if length == uint64(QUEUE_LENGTH):
                    longest = deal_hits(length, queue, queue_triangle, places, hits, n_hits)
                    room = room and longest + uint64(HITS_TO_SPARE) <= capacity
                    length = uint64(0)
                column += uint64(2)
                if column > columns:
                    column, row = uint64(0), row + uint64(2)
            while winding == uint64(0) and too_large != uint64(0):
                lane = lowest_bit(too_large)
                too_large &= too_large - uint64(1)
                large[lane, n_large[lane]] = int32(t)
                n_large[lane] += uint64(1)
                room = room and n_large[lane] < large_capacity
        t += uint64(1)
    deal_hits(length, queue, queue_triangle, places, hits, n_hits)
    return t


@njit(cache=True, nogil=True)
@typing.no_type_check
def draw_hits(hits, n_hits, corners, triangles, width, weighed, triangle_id, barycentric, depth):
    """Draw one picture's first `n_hits` collected hits into its buffers; the list is longer by fifteen at least.

    All flat: corners int32 (3 V) as `snap_vertices` leaves them, triangles (3 T), buffers (H W) and (H W 3).
    weighed int32 (96,) is scratch.
    """
    n_hits = uint64(n_hits)
    for i in range(uint64(LANES - 1) if n_hits > uint64(0) else uint64(0)):
        hits[n_hits + i] = hits[n_hits - uint64(1)]  # something that may be weighed
    as_float = weighed.view(np.float32)
    for start in range(uint64(0), n_hits, uint64(LANES)):
        ahead = min(start + _HITS_AHEAD, n_hits - uint64(1))
        for i in range(ahead, min(ahead + uint64(LANES), n_hits)):
            t = hits[i] >> uint64(32)
            for k in range(uint64(3)):
                prefetch(corners, uint64(3) * uint64(triangles[uint64(3) * t + k]))
        weigh_hits(hits, start, corners, triangles, int32(width), weighed)
        for i in range(min(uint64(LANES), n_hits - start)):
            pixel, t, nearness = uint64(weighed[i]), weighed[i + uint64(LANES)], as_float[i + uint64(2 * LANES)]
            if nearness > depth[pixel] or (nearness == depth[pixel] and t < triangle_id[pixel]):
                depth[pixel] = nearness
                triangle_id[pixel] = t
                for k in range(uint64(3)):
                    barycentric[uint64(3) * pixel + k] = as_float[i + (uint64(3) + k) * uint64(LANES)]
