"""The filter pass: scores of coded rows against coded columns, and the pairs it leaves open."""

import triton
import triton.language as tl

# Covers the float32 roundings of a threshold and of what enters it, 16 units of roundoff.
SLACK = tl.constexpr(2.0**-20)

# Below every score and every threshold; finite, so that no difference of infinities makes a NaN.
NOTHING = tl.constexpr(-3e38)
LOWEST = tl.constexpr(-1e38)


@triton.jit
def threshold(reach, norm2, residual, error):
    """Scores below the result belong to pairs farther apart than `reach`."""
    t = (reach + residual) * (1 + SLACK)
    return tl.maximum(0.5 * (norm2 - t * t) - error - SLACK * (norm2 + t * t), LOWEST)


@triton.jit
def widened(score, norm2, residual, error, underflow):
    """A reach beyond which nothing can come before, or tie with, a pair of that score."""
    squared = norm2 - 2 * score + 2 * error + SLACK * (norm2 + 2 * tl.abs(score))
    upper = tl.sqrt(tl.maximum(squared, 0.0)) * (1 + SLACK) + residual
    return upper * (1 + SLACK) + underflow


# Program (i, j) takes row tile i through the j-th of `splits` equal parts of the columns
# [begin, end), from the tile's own first column on. A score is s = X~.Y~ - ||Y~||^2 / 2, larger
# where rows are nearer.
#
#   grid      (ceil(m / BM), splits)
#   memory    tiles of codes through shared memory, `num_stages` deep; sums in registers
#   syncs     programs meet in an atomic counter of pairs and, with TIGHTEN, an atomic minimum of
#             each row's reach (>= 0, so its bits are ordered): any order gives a valid answer
#   valid     width a multiple of BK, codes zero-padded to it; m * (end - begin) < 2^31; with TMA
#             (compute capability 9 and on) codes start at a multiple of 16 bytes;
#             pairs beyond `capacity` are counted and not written: the caller must look
@triton.jit(do_not_specialize=["m", "begin", "end", "capacity"])
def filter_pairs(
    row_codes, row_norm2, row_norm, row_residual,  # coded rows, by index[slot]
    index, skip, reach,  # of each slot: its coded row, the column to skip, its reach
    first,  # of each tile: the columns before it do not count
    codes, norm2, norm, residual,  # coded columns
    slots, columns, scores, counter,  # the pairs left open
    m, begin, end, width, capacity, gamma, underflow,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    INDEXED: tl.constexpr, SAME: tl.constexpr, TIGHTEN: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    slot = tile * BM + tl.arange(0, BM)
    valid = slot < m
    place = tl.where(valid, slot, 0).to(tl.int64)  # slots past the end read row 0 and are left out
    if INDEXED:
        place = tl.load(index + slot, mask=valid, other=0)
    x_norm2 = tl.load(row_norm2 + place, mask=valid, other=0.0)
    x_norm = tl.load(row_norm + place, mask=valid, other=0.0)
    x_residual = tl.load(row_residual + place, mask=valid, other=0.0)
    bits = tl.load(reach + slot, mask=valid, other=0)
    limit = bits.to(tl.float32, bitcast=True)
    part = tl.cdiv(end - begin, tl.num_programs(1) * BN) * BN
    low = begin + tl.program_id(1) * part
    high = tl.minimum(low + part, end)
    low = tl.maximum(low, tl.load(first + tile))
    depth = tl.arange(0, BK)
    if TMA:
        column_tiles = tl.make_tensor_descriptor(codes, [end, width], [width, 1], [BN, BK])
        if not INDEXED:
            row_tiles = tl.make_tensor_descriptor(row_codes, [m, width], [width, 1], [BM, BK])
    x = row_codes + place[:, None] * width + depth[None, :]
    for start in range(low, high, BN):
        c = start + tl.arange(0, BN)
        within = c < high
        y = codes + c.to(tl.int64)[None, :] * width + depth[:, None]
        sums = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, width, BK):
            a = row_tiles.load([tile * BM, k]) if TMA and not INDEXED else tl.load(x + k)
            if TMA:  # reads 0 from column `end` on, columns between `high` and it as they are
                b = column_tiles.load([start, k]).T
            else:
                b = tl.load(y + k, mask=within[None, :], other=0.0)
            sums = tl.dot(a, b, sums, input_precision="ieee")
        y_norm = tl.load(norm + c, mask=within, other=0.0)
        y_residual = tl.load(residual + c, mask=within, other=0.0)
        # Columns without a code (infinite residual) pass at any score, and nothing more is
        # concluded from them; places past the end score -inf.
        coded = y_residual < float("inf")
        half = tl.load(norm2 + c, mask=within, other=float("inf")) * 0.5
        half = tl.where(coded, half, float("-inf"))
        most_norm = tl.max(y_norm, axis=0)
        both = x_residual + tl.max(tl.where(coded, y_residual, 0.0), axis=0)
        error = gamma * (x_norm * most_norm + 0.5 * most_norm * most_norm)
        passing = tl.where(valid, threshold(limit, x_norm2, both, error), -NOTHING)
        score = sums - half[None, :]
        # Reduced to a scalar at once: Triton 3.7 fails on the two-step reduction for sm_100.
        if tl.max(score - passing[:, None]) >= 0:  # rare, once reaches are small
            counts = valid[:, None] & within[None, :]
            if SAME:
                itself = tl.load(skip + slot, mask=valid, other=-1)
                counts = counts & (c[None, :] != itself[:, None])
            left = tl.where(counts, score, NOTHING)
            if TIGHTEN:
                best = tl.max(tl.where(coded[None, :], left, NOTHING), axis=1)
                found = widened(best, x_norm2, both, error, underflow)
                limit = tl.minimum(limit, found)
                passing = tl.where(valid, threshold(limit, x_norm2, both, error), -NOTHING)
            # One pair of each row at a time, so that registers hold the scores once.
            while tl.max(left - passing[:, None]) >= 0:
                top = tl.max(left, axis=1)
                column = tl.min(tl.where(left == top[:, None], c[None, :], 2**31 - 1), axis=1)
                hit = top >= passing
                hits = hit.to(tl.int32)
                at = tl.atomic_add(counter, tl.sum(hits), sem="relaxed")
                at += tl.cumsum(hits) - hits
                hit = hit & (at < capacity)
                tl.store(slots + at, slot, mask=hit)
                tl.store(columns + at, column, mask=hit)
                tl.store(scores + at, top, mask=hit)
                left = tl.where(c[None, :] == column[:, None], NOTHING, left)
    if TIGHTEN:
        tl.atomic_min(reach + slot, limit.to(tl.int32, bitcast=True), mask=valid, sem="relaxed")
