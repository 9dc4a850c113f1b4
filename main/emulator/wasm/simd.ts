import { simd, type Expression, type I32, type Type, type V128 } from './expression.ts';

/**
 * The fixed-width SIMD instructions by their names, in the order of the WebAssembly core specification 2.0,
 * section 5.4.8. Lane numbers and shuffle indices are ordinary numbers; shift counts are taken modulo the
 * lane's width.
 */

const unary =
  (opcode: number) =>
  (a: V128): V128 =>
    simd('v128', opcode, [a]);
const binary =
  (opcode: number) =>
  (a: V128, b: V128): V128 =>
    simd('v128', opcode, [a, b]);
const test =
  (opcode: number) =>
  (a: V128): I32 =>
    simd('i32', opcode, [a]);
const shift =
  (opcode: number) =>
  (a: V128, count: I32): V128 =>
    simd('v128', opcode, [a, count]);
const splat =
  <T extends Type>(opcode: number) =>
  (value: Expression<T>): V128 =>
    simd('v128', opcode, [value]);
const extract =
  <T extends Type>(type: T, opcode: number) =>
  (a: V128, lane: number): Expression<T> =>
    simd(type, opcode, [a], [lane]);
const replace =
  <T extends Type>(opcode: number) =>
  (a: V128, lane: number, value: Expression<T>): V128 =>
    simd('v128', opcode, [a, value], [lane]);

export const bits128 = {
  not: unary(77),
  and: binary(78),
  /** a and not b. */
  andnot: binary(79),
  or: binary(80),
  xor: binary(81),
  /** Bits of `a` where `mask` has ones, else of `b`. */
  select: (a: V128, b: V128, mask: V128): V128 => simd('v128', 82, [a, b, mask]),
  any_true: test(83),
};

export const i8x16 = {
  /** Bytes of a (0-15) and b (16-31). */
  shuffle: (a: V128, b: V128, lanes: readonly number[]): V128 => simd('v128', 13, [a, b], lanes),
  /** Bytes of a by number; numbers over 15 give 0. */
  swizzle: binary(14),
  splat: splat<'i32'>(15),
  extract_lane_s: extract('i32', 21),
  extract_lane_u: extract('i32', 22),
  replace_lane: replace<'i32'>(23),
  eq: binary(35),
  ne: binary(36),
  lt_s: binary(37),
  lt_u: binary(38),
  gt_s: binary(39),
  gt_u: binary(40),
  le_s: binary(41),
  le_u: binary(42),
  ge_s: binary(43),
  ge_u: binary(44),
  abs: unary(96),
  neg: unary(97),
  popcnt: unary(98),
  all_true: test(99),
  bitmask: test(100),
  narrow_i16x8_s: binary(101),
  narrow_i16x8_u: binary(102),
  shl: shift(107),
  shr_s: shift(108),
  shr_u: shift(109),
  add: binary(110),
  add_sat_s: binary(111),
  add_sat_u: binary(112),
  sub: binary(113),
  sub_sat_s: binary(114),
  sub_sat_u: binary(115),
  min_s: binary(118),
  min_u: binary(119),
  max_s: binary(120),
  max_u: binary(121),
  avgr_u: binary(123),
};

export const i16x8 = {
  splat: splat<'i32'>(16),
  extract_lane_s: extract('i32', 24),
  extract_lane_u: extract('i32', 25),
  replace_lane: replace<'i32'>(26),
  eq: binary(45),
  ne: binary(46),
  lt_s: binary(47),
  lt_u: binary(48),
  gt_s: binary(49),
  gt_u: binary(50),
  le_s: binary(51),
  le_u: binary(52),
  ge_s: binary(53),
  ge_u: binary(54),
  extadd_pairwise_i8x16_s: unary(124),
  extadd_pairwise_i8x16_u: unary(125),
  abs: unary(128),
  neg: unary(129),
  /** (a * b + 0x4000) >> 15, and -32768 * -32768 gives 32767. */
  q15mulr_sat_s: binary(130),
  all_true: test(131),
  bitmask: test(132),
  narrow_i32x4_s: binary(133),
  narrow_i32x4_u: binary(134),
  extend_low_i8x16_s: unary(135),
  extend_high_i8x16_s: unary(136),
  extend_low_i8x16_u: unary(137),
  extend_high_i8x16_u: unary(138),
  shl: shift(139),
  shr_s: shift(140),
  shr_u: shift(141),
  add: binary(142),
  add_sat_s: binary(143),
  add_sat_u: binary(144),
  sub: binary(145),
  sub_sat_s: binary(146),
  sub_sat_u: binary(147),
  mul: binary(149),
  min_s: binary(150),
  min_u: binary(151),
  max_s: binary(152),
  max_u: binary(153),
  avgr_u: binary(155),
  extmul_low_i8x16_s: binary(156),
  extmul_high_i8x16_s: binary(157),
  extmul_low_i8x16_u: binary(158),
  extmul_high_i8x16_u: binary(159),
};

export const i32x4 = {
  splat: splat<'i32'>(17),
  extract_lane: extract('i32', 27),
  replace_lane: replace<'i32'>(28),
  eq: binary(55),
  ne: binary(56),
  lt_s: binary(57),
  lt_u: binary(58),
  gt_s: binary(59),
  gt_u: binary(60),
  le_s: binary(61),
  le_u: binary(62),
  ge_s: binary(63),
  ge_u: binary(64),
  extadd_pairwise_i16x8_s: unary(126),
  extadd_pairwise_i16x8_u: unary(127),
  abs: unary(160),
  neg: unary(161),
  all_true: test(163),
  bitmask: test(164),
  extend_low_i16x8_s: unary(167),
  extend_high_i16x8_s: unary(168),
  extend_low_i16x8_u: unary(169),
  extend_high_i16x8_u: unary(170),
  shl: shift(171),
  shr_s: shift(172),
  shr_u: shift(173),
  add: binary(174),
  sub: binary(177),
  mul: binary(181),
  min_s: binary(182),
  min_u: binary(183),
  max_s: binary(184),
  max_u: binary(185),
  dot_i16x8_s: binary(186),
  extmul_low_i16x8_s: binary(188),
  extmul_high_i16x8_s: binary(189),
  extmul_low_i16x8_u: binary(190),
  extmul_high_i16x8_u: binary(191),
  /** Saturating; NaN gives 0. */
  trunc_sat_f32x4_s: unary(248),
  trunc_sat_f32x4_u: unary(249),
  /** The upper two lanes become 0. */
  trunc_sat_f64x2_s_zero: unary(252),
  trunc_sat_f64x2_u_zero: unary(253),
};

export const i64x2 = {
  splat: splat<'i64'>(18),
  extract_lane: extract('i64', 29),
  replace_lane: replace<'i64'>(30),
  abs: unary(192),
  neg: unary(193),
  all_true: test(195),
  bitmask: test(196),
  extend_low_i32x4_s: unary(199),
  extend_high_i32x4_s: unary(200),
  extend_low_i32x4_u: unary(201),
  extend_high_i32x4_u: unary(202),
  shl: shift(203),
  shr_s: shift(204),
  shr_u: shift(205),
  add: binary(206),
  sub: binary(209),
  mul: binary(213),
  eq: binary(214),
  ne: binary(215),
  lt_s: binary(216),
  gt_s: binary(217),
  le_s: binary(218),
  ge_s: binary(219),
  extmul_low_i32x4_s: binary(220),
  extmul_high_i32x4_s: binary(221),
  extmul_low_i32x4_u: binary(222),
  extmul_high_i32x4_u: binary(223),
};

export const f32x4 = {
  splat: splat<'f32'>(19),
  extract_lane: extract('f32', 31),
  replace_lane: replace<'f32'>(32),
  eq: binary(65),
  ne: binary(66),
  lt: binary(67),
  gt: binary(68),
  le: binary(69),
  ge: binary(70),
  /** The upper two lanes become 0. */
  demote_f64x2_zero: unary(94),
  ceil: unary(103),
  floor: unary(104),
  trunc: unary(105),
  nearest: unary(106),
  abs: unary(224),
  neg: unary(225),
  sqrt: unary(227),
  add: binary(228),
  sub: binary(229),
  mul: binary(230),
  div: binary(231),
  min: binary(232),
  max: binary(233),
  /** b < a ? b : a. */
  pmin: binary(234),
  /** a < b ? b : a. */
  pmax: binary(235),
  convert_i32x4_s: unary(250),
  convert_i32x4_u: unary(251),
};

export const f64x2 = {
  splat: splat<'f64'>(20),
  extract_lane: extract('f64', 33),
  replace_lane: replace<'f64'>(34),
  eq: binary(71),
  ne: binary(72),
  lt: binary(73),
  gt: binary(74),
  le: binary(75),
  ge: binary(76),
  promote_low_f32x4: unary(95),
  ceil: unary(116),
  floor: unary(117),
  trunc: unary(122),
  nearest: unary(148),
  abs: unary(236),
  neg: unary(237),
  sqrt: unary(239),
  add: binary(240),
  sub: binary(241),
  mul: binary(242),
  div: binary(243),
  min: binary(244),
  max: binary(245),
  /** b < a ? b : a. */
  pmin: binary(246),
  /** a < b ? b : a. */
  pmax: binary(247),
  convert_low_i32x4_s: unary(254),
  convert_low_i32x4_u: unary(255),
};
