// Matrix products with weights in panels of 32 outputs, for one row as for hundreds.
//
// A panel is read from memory once and multiplied by a tile of rows whose sums stay in registers. A sum over the inputs
// is never cut, so a row gets the same bits alone, in any batch and on any number of threads. With int8 and int4
// weights the inputs are rounded to 8 bits too, group by group, so that a group's sum is exact in integers.
#pragma once

#include <utility>

#include "kernels.h"
#include "simd.h"

namespace malmoi {
namespace LEVEL {

constexpr int64_t kRunBytes = 1 << 20;  // about as much as the second cache of a core

// A tile of rows, ready to be multiplied: four bytes of each row, or two bf16 numbers, side by side.
struct Tile {
    const int32_t* x;       // (depth / 4 or / 2, rows)
    const float* scales;    // (groups, rows)
    const int32_t* starts;  // (groups, rows): minus the weights' offset times the sum of the bytes
};

template <int rows>
struct Sums { Floats at[rows][2]; };

template <int rows>
inline Sums<rows> no_sums() {
    Sums<rows> sums;
    for (auto& row : sums.at) row[0] = row[1] = zeros();
    return sums;
}

template <int rows>
inline Sums<rows> dense_panel(const uint8_t* weights, const Tile& tile, int64_t depth) {
    auto sums = no_sums<rows>();
    const int32_t* x = tile.x;
    for (int64_t pair = 0; pair < depth / 2; ++pair, weights += 4 * kPanel, x += rows) {
        fetch_ahead(weights);
        const Ints first = load_bytes(weights), second = load_bytes(weights + 64);
        for (int r = 0; r < rows; ++r) {
            const Ints both = all(x[r]);
            sums.at[r][0] = dot_pairs(sums.at[r][0], first, both);
            sums.at[r][1] = dot_pairs(sums.at[r][1], second, both);
        }
    }
    return sums;
}

// One row against two panels: two streams of memory at once, and no waiting for one sum. Each sum is `dense_panel`'s.
inline void dense_pair(const uint8_t* weights, const int32_t* x, int64_t depth, Sums<1> (&sums)[2]) {
    const uint8_t* const panels[] = {weights, weights + 2 * depth * kPanel};
    sums[0] = sums[1] = no_sums<1>();
    for (int64_t pair = 0; pair < depth / 2; ++pair) {
        const Ints both = all(x[pair]);
        for (int p = 0; p < 2; ++p)
            for (int half = 0; half < 2; ++half)
                sums[p].at[0][half] =
                    dot_pairs(sums[p].at[0][half], load_bytes(panels[p] + 4 * kPanel * pair + 64 * half), both);
    }
}

template <int rows, bool is_int4>
inline Sums<rows> grouped_panel(
    const uint8_t* weights, const uint16_t* scales, const Tile& tile, int64_t num_groups, int64_t group) {
    auto sums = no_sums<rows>();
    const int32_t* x = tile.x;
    for (int64_t g = 0; g < num_groups; ++g, scales += kPanel) {
        Ints dots[rows][2];
        for (int r = 0; r < rows; ++r) dots[r][0] = dots[r][1] = all(tile.starts[g * rows + r]);
#pragma GCC unroll 4
        for (int64_t done = 0; done < group; done += is_int4 ? 8 : 4, weights += 4 * kPanel) {
            fetch_ahead(weights);
            const Ints stored[] = {load_bytes(weights), load_bytes(weights + 64)};
            for (int part = 0; part < (is_int4 ? 2 : 1); ++part, x += rows) {
                Ints w[2];
                for (int half = 0; half < 2; ++half)
                    w[half] = !is_int4 ? stored[half] : part ? high_nibbles(stored[half]) : low_nibbles(stored[half]);
                for (int r = 0; r < rows; ++r) {
                    const Ints four = all(x[r]);
                    for (int half = 0; half < 2; ++half)
                        dots[r][half] = is_int4 ? dot_nibbles(dots[r][half], w[half], four)
                                                : dot_bytes(dots[r][half], w[half], four);
                }
            }
        }
        for (int half = 0; half < 2; ++half) {
            Floats scale = load(scales + kLanes * half);
            for (int r = 0; r < rows; ++r) {
                Floats both = mul(scale, all(tile.scales[g * rows + r]));
                sums.at[r][half] = fma(to_floats(dots[r][half]), both, sums.at[r][half]);
            }
        }
    }
    return sums;
}

template <class T, int rows>
inline void store_panel(const Sums<rows>& sums, const Linear& a, int64_t first_row, int64_t first_output) {
    const T* bias = static_cast<const T*>(a.bias);
    for (int half = 0; half < 2; ++half) {
        const int64_t output = first_output + kLanes * half, left = a.out - output;
        if (left <= 0) return;
        const Floats shift = bias ? load_some(bias + output, left) : zeros();
        for (int r = 0; r < rows; ++r)
            store_some(static_cast<T*>(a.y) + (first_row + r) * a.out + output, left, add(sums.at[r][half], shift));
    }
}

template <int rows>
void multiply(const Linear& a, const Tile& tile, int64_t first_row, int64_t panel) {
    const int64_t groups = a.group ? a.depth / a.group : 0;
    const uint16_t* scales = a.scales + panel * groups * kPanel;
    Sums<rows> sums;
    if (a.format == Format::bf16)
        sums = dense_panel<rows>(a.weights + panel * a.depth * kPanel * 2, tile, a.depth);
    else if (a.format == Format::int8)
        sums = grouped_panel<rows, false>(a.weights + panel * a.depth * kPanel, scales, tile, groups, a.group);
    else
        sums = grouped_panel<rows, true>(a.weights + panel * a.depth * kPanel / 2, scales, tile, groups, a.group);
    if (a.is_bf16)
        store_panel<uint16_t, rows>(sums, a, first_row, panel * kPanel);
    else
        store_panel<float, rows>(sums, a, first_row, panel * kPanel);
}

using Multiply = void (*)(const Linear&, const Tile&, int64_t, int64_t);

template <int... rows>
inline Multiply multiply_for(int64_t num_rows, std::integer_sequence<int, rows...>) {
    static constexpr Multiply table[] = {multiply<rows + 1>...};
    return table[num_rows - 1];
}

// --- rows -> tiles -----------------------------------------------------------------------------------------

// Pairs of numbers, those of all rows of a tile side by side; behind the last, zeros.
inline void copy_rows(const uint16_t* x, int64_t in, int64_t depth, int64_t rows, int32_t* out) {
    for (int64_t pair = 0; pair < in / 2; ++pair, out += rows)
        for (int64_t r = 0; r < rows; ++r) std::memcpy(out + r, x + r * in + 2 * pair, 4);
    for (int64_t pair = in / 2; pair < depth / 2; ++pair, out += rows)
        for (int64_t r = 0; r < rows; ++r) out[r] = 2 * pair < in ? x[r * in + 2 * pair] : 0;
}

// A group's largest number becomes 127. Numbers that are not finite make the group's scale NaN, and so the row's results.
// Four bytes each go to place(0), place(1), ...; those of a tile's rows that belong to one group lie side by side, so one
// row's scales and starts are `rows` apart.
template <class T, class Place>
inline void round_row(
    const T* x, const Linear& a, const Place& place, int64_t rows, int32_t offset, float* scales, int32_t* starts) {
    for (int64_t g = 0; g < a.depth / a.group; ++g) {
        const T* part = x + g * a.group;
        const int64_t left = a.in - g * a.group;  // the last group may be filled up with zeros
        Floats largest = zeros(), probe = zeros();
        for (int64_t i = 0; i < a.group; i += kLanes) {
            Floats v = i < left ? load_some(part + i, left - i) : zeros();
            largest = max(largest, max(v, mul(v, all(-1.0f))));
            probe = fma(v, zeros(), probe);
        }
        const float size = max(largest);
        // Below this the factor would overflow: such a group counts as zero.
        const Floats factor = all(size > 1e-35f ? 127.0f / size : 0.0f);
        Floats total = zeros();
        for (int64_t i = 0; i < a.group; i += kLanes) {
            Floats v = i < left ? load_some(part + i, left - i) : zeros();
            Floats code = round(mul(v, factor));
            total = add(total, code);
            int32_t quads[kLanes / 4];
            store_bytes(reinterpret_cast<int8_t*>(quads), code);
            for (int64_t q = 0; q < kLanes / 4; ++q) *place((g * a.group + i) / 4 + q) = quads[q];
        }
        const bool is_finite = sum(probe) == 0.0f;
        scales[g * rows] = is_finite ? size / 127.0f : NAN;
        if (starts) starts[g * rows] = is_finite ? -offset * static_cast<int32_t>(sum(total)) : 0;
    }
}

// --- the whole product -------------------------------------------------------------------------------------

inline bool is_small(const Linear& a) { return a.rows * a.depth * a.out < 1 << 20; }  // less than waking a thread takes

// f(panel, begin, end): a panel meets a run of tiles, as many as stay in a core's cache from panel to panel.
template <class F>
inline void each_panel_and_run(int64_t num_panels, int64_t num_tiles, int64_t tile_bytes, int threads, const F& f) {
    const int64_t most = kRunBytes / tile_bytes + 1, num_runs = (num_tiles + most - 1) / most;
    const int64_t run = (num_tiles + num_runs - 1) / num_runs;
    parallel(num_panels * num_runs, threads, [&](int64_t task) {
        const int64_t begin = task / num_panels * run;
        f(task % num_panels, begin, smaller(begin + run, num_tiles));
    });
}

inline void linear(const Linear& a, int threads) {
    if (a.rows == 0) return;
    const bool is_dense = a.format == Format::bf16;
    const int64_t tile_rows = is_dense ? kDenseRows : kGroupRows;
    const int64_t num_tiles = (a.rows + tile_rows - 1) / tile_rows;
    const int64_t row_words = is_dense ? a.depth / 2 : a.depth / 4, groups = is_dense ? 0 : a.depth / a.group;
    if (is_small(a)) threads = 1;

    thread_local Scratch<int32_t> words, starts;
    thread_local Scratch<float> scales;
    int32_t* const all_words = words.of(a.rows * row_words);
    int32_t* const all_starts = starts.of(a.rows * groups);
    float* const all_scales = scales.of(a.rows * groups);
    const int32_t offset = a.format == Format::int4 ? 8 : kByteOffset;

    auto rows_of = [&](int64_t tile) { return smaller(tile_rows, a.rows - tile * tile_rows); };
    parallel(num_tiles, a.rows < 32 ? 1 : threads, [&](int64_t tile) {
        const int64_t first = tile * tile_rows, rows = rows_of(tile);
        const auto* narrow = static_cast<const uint16_t*>(a.x) + first * a.in;
        const auto* wide = static_cast<const float*>(a.x) + first * a.in;
        int32_t* const out = all_words + first * row_words;
        if (is_dense) return copy_rows(narrow, a.in, a.depth, rows, out);
        for (int64_t r = 0; r < rows; ++r) {
            float* to_scales = all_scales + first * groups + r;
            int32_t* to_starts = all_starts + first * groups + r;
            const auto place = [=](int64_t quad) { return out + quad * rows + r; };
            if (a.is_bf16)
                round_row(narrow + r * a.in, a, place, rows, offset, to_scales, to_starts);
            else
                round_row(wide + r * a.in, a, place, rows, offset, to_scales, to_starts);
        }
    });

    const int64_t num_pairs = is_dense && a.is_bf16 && a.rows == 1 ? a.out / kPanel / 2 : 0;
    parallel(num_pairs, threads, [&](int64_t pair) {
        Sums<1> sums[2];
        dense_pair(a.weights + 4 * pair * a.depth * kPanel, all_words, a.depth, sums);
        for (int p = 0; p < 2; ++p) store_panel<uint16_t, 1>(sums[p], a, 0, (2 * pair + p) * kPanel);
    });

    const int64_t first_panel = 2 * num_pairs, num_panels = (a.out + kPanel - 1) / kPanel - first_panel;
    each_panel_and_run(num_panels, num_tiles, tile_rows * row_words * 4, threads, [&](int64_t i, int64_t begin, int64_t end) {
        for (int64_t tile = begin; tile < end; ++tile) {
            const int64_t first = tile * tile_rows, rows = rows_of(tile);
            const Tile ready{all_words + first * row_words, all_scales + first * groups, all_starts + first * groups};
            const auto multiply = is_dense ? multiply_for(rows, std::make_integer_sequence<int, kDenseRows>())
                                           : multiply_for(rows, std::make_integer_sequence<int, kGroupRows>());
            multiply(a, ready, first, first_panel + i);
        }
    });
}

}  // namespace LEVEL
}  // namespace malmoi
