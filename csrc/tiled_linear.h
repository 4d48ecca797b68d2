// Products with packed weights in tiles (AMX): linear.h's, 16 rows by 16 outputs at a time.
//
// In bf16 all rows go this way, few ones too, so that a row gets the same bits alone and in any batch. Sums of whole
// numbers are exact, so with int8 and int4 weights few rows go linear.h's way: they get the same bits there.
#pragma once

#include "linear.h"
#include "tiles.h"

namespace malmoi {
namespace LEVEL {

constexpr int64_t kByteStep = 32;  // inputs of a tile of bytes: the smallest group

// Some rows' products with a panel, before they are stored.
struct alignas(64) Block { float at[2 * kTile][kPanel]; };

inline void store_block(const Block& block, int64_t num_rows, const Linear& a, int64_t first_row, int64_t panel) {
    for (int64_t r = 0; r < num_rows; ++r) {
        Sums<1> sums;
        for (int half = 0; half < 2; ++half) sums.at[0][half] = load(block.at[r] + half * kLanes);
        if (a.is_bf16)
            store_panel<uint16_t, 1>(sums, a, first_row + r, panel * kPanel);
        else
            store_panel<float, 1>(sums, a, first_row + r, panel * kPanel);
    }
}

// --- bf16 --------------------------------------------------------------------------------------------------

// A tile of rows: (steps, tile_rows, 32). What is missing of the last rows and inputs is 0.
inline void copy_tile(
    const uint16_t* x, int64_t num_rows, int64_t tile_rows, int64_t in, int64_t steps, uint16_t* out) {
    for (int64_t step = 0; step < steps; ++step)
        for (int64_t r = 0; r < tile_rows; ++r, out += kTileNumbers) {
            const int64_t left = r < num_rows ? smaller(in - step * kTileNumbers, kTileNumbers) : 0;
            std::memcpy(out, x + r * in + step * kTileNumbers, left * 2);
            std::memset(out + left, 0, (kTileNumbers - left) * 2);
        }
}

// One or two tiles of rows, a tile of 16 outputs beside another.
template <int row_tiles>
inline void dense_block(const uint8_t* weights, const uint16_t* x, int64_t tile_rows, int64_t depth, Block& out) {
    constexpr int64_t line = 4 * kPanel;  // two inputs of a panel's outputs
    const int64_t steps = (depth + kTileNumbers - 1) / kTileNumbers;
    alignas(64) uint8_t last[kTileNumbers / 2 * line];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t step = 0; step < steps; ++step, weights += sizeof last, x += tile_rows * kTileNumbers) {
        const uint8_t* w = weights;
        if (const int64_t left = depth - step * kTileNumbers; left < kTileNumbers) {
            std::memcpy(last, weights, left / 2 * line);
            std::memset(last + left / 2 * line, 0, sizeof last - left / 2 * line);
            written(w = last);
        }
        if constexpr (row_tiles == 1)
            for (size_t i = 0; i < sizeof last; i += 2 * kTileBytes) fetch_ahead(w + i);
        _tile_loadd(6, w, line);
        _tile_loadd(7, w + kTileBytes, line);
        _tile_loadd(4, x, kTileBytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (row_tiles == 2) {
            _tile_loadd(5, x + steps * tile_rows * kTileNumbers, kTileBytes);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, out.at[0], sizeof out.at[0]);
    _tile_stored(1, out.at[0] + kLanes, sizeof out.at[0]);
    if constexpr (row_tiles == 2) {
        _tile_stored(2, out.at[kTile], sizeof out.at[0]);
        _tile_stored(3, out.at[kTile] + kLanes, sizeof out.at[0]);
    }
}

inline void dense_linear(const Linear& a, int threads) {
    const int64_t steps = (a.depth + kTileNumbers - 1) / kTileNumbers, num_tiles = (a.rows + kTile - 1) / kTile;
    const int64_t tile_rows = smaller(a.rows, kTile), tile_size = steps * tile_rows * kTileNumbers;
    thread_local Scratch<uint16_t> scratch;
    uint16_t* const tiles = scratch.of(num_tiles * tile_size);
    parallel(num_tiles, a.rows < 32 ? 1 : threads, [&](int64_t tile) {
        const int64_t first = tile * kTile;
        const auto* x = static_cast<const uint16_t*>(a.x) + first * a.in;
        copy_tile(x, a.rows - first, tile_rows, a.in, steps, tiles + tile * tile_size);
    });
    const int64_t num_panels = (a.out + kPanel - 1) / kPanel, num_pairs = (num_tiles + 1) / 2;
    each_panel_and_run(num_panels, num_pairs, tile_size * 4, threads, [&](int64_t panel, int64_t begin, int64_t end) {
        const Tiles shapes(kTileBytes, kTile, tile_rows);
        const uint8_t* weights = a.weights + panel * a.depth * kPanel * 2;
        Block block;
        for (int64_t pair = begin; pair < end; ++pair) {
            const uint16_t* x = tiles + 2 * pair * tile_size;
            if (2 * pair + 1 < num_tiles)
                dense_block<2>(weights, x, tile_rows, a.depth, block);
            else
                dense_block<1>(weights, x, tile_rows, a.depth, block);
            const int64_t first = 2 * pair * kTile;
            store_block(block, smaller(2 * kTile, a.rows - first), a, first, panel);
        }
    });
}

// --- int8 and int4 -----------------------------------------------------------------------------------------

// A panel's weights as signed bytes: (depth / 32, 2 halves, 8, 16 outputs, 4 inputs).
inline void sign_panel(const Linear& a, int64_t panel, int8_t* out) {
    const bool is_int4 = a.format == Format::int4;
    const uint8_t* weights = a.weights + panel * a.depth * kPanel / (is_int4 ? 2 : 1);
    const auto put = [out](int64_t quad, int half, __m512i codes) {
        _mm512_store_si512(out + (((quad / 8 * 2 + half) * 8) + quad % 8) * kTileBytes, codes);
    };
    for (int64_t quad = 0; quad < a.depth / 4; quad += is_int4 ? 2 : 1)
        for (int half = 0; half < 2; ++half, weights += kTileBytes) {
            const Ints stored = load_bytes(weights);
            if (is_int4) {
                put(quad, half, _mm512_sub_epi8(low_nibbles(stored), _mm512_set1_epi8(8)));
                put(quad + 1, half, _mm512_sub_epi8(high_nibbles(stored), _mm512_set1_epi8(8)));
            } else {
                put(quad, half, _mm512_xor_si512(stored, _mm512_set1_epi8(-128)));
            }
        }
}

// 16 rows and the 16 outputs of one half of a panel. While one group's sums are scaled, the next one's are taken.
inline void grouped_block(
    const int8_t* weights, const uint16_t* scales, const int8_t* x, const float* x_scales, const Linear& a, float* out) {
    constexpr int64_t step_bytes = kTile * kByteStep;
    alignas(64) int32_t dots[2][kTile][kLanes];
    const int64_t num_groups = a.depth / a.group, group_steps = a.group / kByteStep;
    // A tile is cleared long before it is needed again: an instruction that has just been given a cleared one waits. Twice
    // the same, since the compiler wants the registers' numbers as they stand.
    const auto multiply_even = [&] {
        for (int64_t step = 0; step < group_steps; ++step, x += step_bytes, weights += 2 * step_bytes) {
            _tile_loadd(4, x, kByteStep);
            _tile_loadd(6, weights, kTileBytes);
            _tile_dpbssd(0, 4, 6);
        }
        _tile_stored(0, dots[0], kTileBytes);
        _tile_zero(0);
    };
    const auto multiply_odd = [&] {
        for (int64_t step = 0; step < group_steps; ++step, x += step_bytes, weights += 2 * step_bytes) {
            _tile_loadd(5, x, kByteStep);
            _tile_loadd(7, weights, kTileBytes);
            _tile_dpbssd(1, 5, 7);
        }
        _tile_stored(1, dots[1], kTileBytes);
        _tile_zero(1);
    };
    _tile_zero(0);
    _tile_zero(1);
    Floats sums[kTile];
    for (Floats& sum : sums) sum = zeros();
    multiply_even();
    for (int64_t g = 0; g < num_groups; ++g, scales += kPanel, x_scales += kTile) {
        if (g + 1 < num_groups) g % 2 ? multiply_even() : multiply_odd();
        const Floats scale = load(scales);
        for (int r = 0; r < kTile; ++r)
            sums[r] = fma(to_floats(_mm512_load_si512(dots[g % 2][r])), mul(scale, all(x_scales[r])), sums[r]);
    }
    for (int r = 0; r < kTile; ++r) store(out + r * kPanel, sums[r]);
}

inline void grouped_linear(const Linear& a, int threads) {
    const int64_t num_tiles = (a.rows + kTile - 1) / kTile, groups = a.depth / a.group;
    const int64_t tile_size = kTile * a.depth, tile_groups = kTile * groups;
    thread_local Scratch<int8_t> bytes;
    thread_local Scratch<float> scratch_scales;
    int8_t* const tiles = bytes.of(num_tiles * tile_size);
    float* const all_scales = scratch_scales.of(num_tiles * tile_groups);
    parallel(num_tiles, threads, [&](int64_t tile) {
        auto* const to = reinterpret_cast<int32_t*>(tiles + tile * tile_size);
        for (int64_t r = 0; r < kTile; ++r) {
            const int64_t row = smaller(tile * kTile + r, a.rows - 1);  // of what is missing: something
            const auto place = [&](int64_t quad) { return to + (quad / 8 * kTile + r) * 8 + quad % 8; };
            float* const to_scales = all_scales + tile * tile_groups + r;
            if (a.is_bf16)
                round_row(static_cast<const uint16_t*>(a.x) + row * a.in, a, place, kTile, 0, to_scales, nullptr);
            else
                round_row(static_cast<const float*>(a.x) + row * a.in, a, place, kTile, 0, to_scales, nullptr);
        }
    });
    const int64_t num_panels = (a.out + kPanel - 1) / kPanel;
    each_panel_and_run(num_panels, num_tiles, tile_size, threads, [&](int64_t panel, int64_t begin, int64_t end) {
        const Tiles shapes(kByteStep, kByteStep / 4);
        thread_local Scratch<int8_t> scratch_weights;
        int8_t* const weights = scratch_weights.of(a.depth * kPanel);
        sign_panel(a, panel, weights);
        written(weights);
        Block block;
        for (int64_t tile = begin; tile < end; ++tile) {
            for (int half = 0; half < 2; ++half)
                grouped_block(
                    weights + half * kByteStep / 4 * kTileBytes, a.scales + panel * groups * kPanel + half * kLanes,
                    tiles + tile * tile_size, all_scales + tile * tile_groups, a, block.at[0] + half * kLanes);
            store_block(block, smaller(kTile, a.rows - tile * kTile), a, tile * kTile, panel);
        }
    });
}

inline void tiled_linear(const Linear& a, int threads) {
    if (a.rows == 0) return;
    if (is_small(a)) threads = 1;
    if (a.format == Format::bf16)
        dense_linear(a, threads);
    else if (a.rows > kGroupRows)
        grouped_linear(a, threads);
    else
        linear(a, threads);
}

}  // namespace LEVEL
}  // namespace malmoi
