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
    """A reach beyond which nothing can come before, or tie with, a pair of that score; infinite
    for an infinite score, which is that of a column without a code."""
    squared = norm2 - 2 * score + 2 * error + SLACK * (norm2 + 2 * tl.abs(score))
    upper = tl.sqrt(tl.maximum(squared, 0.0)) * (1 + SLACK) + residual
    return tl.where(score < float("inf"), upper * (1 + SLACK) + underflow, float("inf"))


# Program (i, j) takes row tile i through every `splits`-th tile of the columns [begin, end), from
# the (j + 1)-th last on down, while they are not all before the row tile's own first column. It
# leaves once the reach of all of its rows is below `stop`. A score is s = X~.Y~ - ||Y~||^2 / 2,
# larger where rows are nearer.
#
# What is left open is written as items: a row, a tile of columns, the row's best score in it and
# the bits of the columns that pass. `expand` of kernels/cuda makes pairs of them, without the
# columns to skip.
#
#   grid      (ceil(m / BM), splits)
#   memory    tiles of codes through shared memory, `num_stages` deep; sums in registers
#   syncs     programs meet in an atomic counter of items, an atomic maximum of `scanned` and, with
#             TIGHTEN, an atomic minimum of each row's reach (>= 0, so its bits are ordered), which
#             other programs read again for each tile: any order gives a valid answer
#   valid     width a multiple of BK, codes zero-padded to it; BN a power of two from 16 on;
#             m * ceil((end - begin) / BN) < 2^31; with TMA (compute capability 9 and on) codes
#             start at a multiple of 16 bytes; items beyond `capacity` are counted and not
#             written: the caller must look
@triton.jit(do_not_specialize=["m", "begin", "end", "capacity"])
def filter_pairs(
    row_codes, row_norm2, row_norm, row_residual,  # coded rows, by index[slot]
    index, skip, reach,  # of each slot: its coded row, the column to skip, its reach
    first,  # of each tile of rows: the columns before it do not count
    scanned,  # of each tile of rows: the columns from it on are done; `begin` at the start
    codes,  # coded columns
    half, tile_norm, tile_residual,  # of each place and tile: what begin_pass wrote
    slots, starts, bests, words, counter,  # the items
    m, begin, end, width, capacity, gamma, underflow, stop,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    INDEXED: tl.constexpr, SAME: tl.constexpr, TIGHTEN: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    # A word has the bits of columns that tensor cores leave in one thread's registers: bit
    # 2 j + b of word 4 h + q is column 128 h + 8 j + 2 q + b of the tile.
    BITS: tl.constexpr = min(32, BN // 4)
    WORDS: tl.constexpr = BN // BITS
    tl.assume(width > 0)
    tile = tl.program_id(0)
    slot = tile * BM + tl.arange(0, BM)
    valid = slot < m
    place = tl.where(valid, slot, 0).to(tl.int64)  # slots past the end read row 0 and are left out
    if INDEXED:
        place = tl.load(index + slot, mask=valid, other=0)
    x_norm2 = tl.load(row_norm2 + place, mask=valid, other=0.0)
    x_norm = tl.load(row_norm + place, mask=valid, other=0.0)
    x_residual = tl.load(row_residual + place, mask=valid, other=0.0)
    limit = tl.load(reach + slot, mask=valid, other=0).to(tl.float32, bitcast=True)
    depth = tl.arange(0, BK)
    if TMA:
        column_tiles = tl.make_tensor_descriptor(codes, [end, width], [width, 1], [BN, BK])
        if not INDEXED:
            row_tiles = tl.make_tensor_descriptor(row_codes, [m, width], [width, 1], [BM, BK])
    x = row_codes + place[:, None] * width + depth[None, :]
    bit = (1 << tl.arange(0, BITS)).reshape(1, 1, BITS // 2, 1, 2)
    # The newest columns first: they are the nearest, and the older ones may then not be needed.
    at = tl.cdiv(end - begin, BN) - 1 - tl.program_id(1)
    oldest = tl.load(first + tile)
    lowest = tl.where(oldest < end, (tl.maximum(begin, oldest) - begin) // BN, at + 1)
    searching = True
    while searching & (at >= lowest):
        start = begin + at * BN
        c = start + tl.arange(0, BN)
        y_half = tl.load(half + at * BN + tl.arange(0, BN))
        most_norm = tl.load(tile_norm + at)
        both = x_residual + tl.load(tile_residual + at)
        if TIGHTEN:
            known = tl.load(reach + slot, mask=valid, other=0, cache_modifier=".cg")
        y = codes + c.to(tl.int64)[None, :] * width + depth[:, None]
        sums = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, width, BK):
            a = row_tiles.load([tile * BM, k]) if TMA and not INDEXED else tl.load(x + k)
            if TMA:  # reads 0 from column `end` on
                b = column_tiles.load([start, k]).T
            else:
                b = tl.load(y + k, mask=(c < end)[None, :], other=0.0)
            sums = tl.dot(a, b, sums, input_precision="ieee")
        # Columns without a code score inf and pass everywhere, places past the end -inf.
        score = sums - y_half[None, :]
        best = tl.max(score, axis=1)
        error = gamma * (x_norm * most_norm + 0.5 * most_norm * most_norm)
        if TIGHTEN:
            limit = tl.minimum(limit, known.to(tl.float32, bitcast=True))
        hit = valid & (best >= threshold(limit, x_norm2, both, error))
        if tl.max(hit.to(tl.int32)) > 0:
            if TIGHTEN:
                nearer = widened(best, x_norm2, both, error, underflow)
                if SAME:  # the best may be the column to skip
                    itself = tl.load(skip + slot, mask=valid, other=-1)
                    inside = (itself >= start) & (itself < start + BN)
                    nearer = tl.where(inside, float("inf"), nearer)
                limit = tl.minimum(limit, nearer)
                searching = tl.max(tl.where(valid, limit, 0.0)) >= stop
            passing = threshold(limit, x_norm2, both, error)
            hit = valid & (best >= passing)
            if TIGHTEN:
                bits = limit.to(tl.int32, bitcast=True)
                tl.atomic_min(reach + slot, bits, mask=hit, sem="relaxed")
            open_ = (score >= passing[:, None]).reshape(BM, WORDS // 4, BITS // 2, 4, 2)
            word = tl.sum(tl.sum(tl.where(open_, bit, 0), axis=4), axis=2).reshape(BM, WORDS)
            item = tl.atomic_add(counter + tl.zeros_like(slot), 1, mask=hit, sem="relaxed")
            hit = hit & (item < capacity)
            tl.store(slots + item, slot, mask=hit)
            tl.store(starts + item, tl.zeros_like(slot) + start, mask=hit)
            tl.store(bests + item, best, mask=hit)
            to = words + item.to(tl.int64)[:, None] * WORDS + tl.arange(0, WORDS)[None, :]
            tl.store(to, word, mask=hit[:, None])
        at -= tl.num_programs(1)
    if at >= lowest:  # left early: the newest tile that was not looked at
        tl.atomic_max(scanned + tile, begin + (at + 1) * BN, sem="relaxed")
