// Attention of many queries of one sequence over its keys: flash attention (Dao et al. 2022, arXiv:2205.14135, section 3.1).
//
// Rows are the queries of a key head, those of each of its query heads; up to 48 of them lie in lanes side by side, so a
// key, once read, meets all of them, and the softmax never looks across lanes. Scores and sums are fp32. Keys go by in blocks
// that begin at fixed positions, and a hidden one adds exactly 0: what a query gets depends neither on the queries beside it
// nor on the threads. Read next: `nn/kernels/prefill.py`.
#pragma once

#include "kernels.h"
#include "simd.h"
#include "tiled_prefill.h"

namespace malmoi {
namespace LEVEL {

// What a product takes at a time: one number in fp32, or two in bf16 where the processor multiplies pairs of them.
struct Single {
    using Unit = float;
    using Number = float;
    static constexpr int kNumbers = 1;
    static constexpr bool kIsTiled = false;
    static Floats wide(const Unit* p) { return load(p); }
    static void store_unit(Unit* p, const Floats (&x)[kNumbers]) { store(p, x[0]); }
    static Floats multiply_add(Floats x, Floats y, Floats to) { return fma(x, y, to); }
};

#if defined(__AVX512BF16__)
struct Pair {
    using Unit = int32_t;
    using Number = uint16_t;
    static constexpr int kNumbers = 2;
    static constexpr bool kIsTiled = kHasTiles;
    static Ints wide(const Unit* p) { return load_bytes(reinterpret_cast<const uint8_t*>(p)); }
    static void store_unit(Unit* p, const Floats (&x)[kNumbers]) { store_pairs(p, x[0], x[1]); }
    static Floats multiply_add(Ints x, Ints y, Floats to) { return dot_pairs(to, x, y); }
};
using Bf16Form = Pair;
#else
using Bf16Form = Single;
#endif

// sums[c][v] += lanes[v] * x(unit, c), over all units, in registers.
template <class Form, int columns, int vectors, class X>
inline __attribute__((always_inline)) void multiply_add(
    const typename Form::Unit* lanes, int64_t stride, int64_t units, const X& x, Floats (&sums)[columns][vectors]) {
    for (int64_t unit = 0; unit < units; ++unit, lanes += stride) {
        decltype(Form::wide(lanes)) wide[vectors];
        for (int v = 0; v < vectors; ++v) wide[v] = Form::wide(lanes + v * kLanes);
        for (int c = 0; c < columns; ++c) {
            const auto same = all(x(unit, c));
            for (int v = 0; v < vectors; ++v) sums[c][v] = Form::multiply_add(wide[v], same, sums[c][v]);
        }
    }
}

template <class T, class Form>
struct PrefillAttention {
    using Unit = typename Form::Unit;
    using Number = typename Form::Number;
    static constexpr int kNumbers = Form::kNumbers;
    static constexpr int64_t kBlock = 128;                // keys whose scores exist at a time
    static constexpr int kVectors = 3;                    // of rows in a panel
    // Keys whose scores with three vectors fit into the registers; or as many as fill tiles.
    static constexpr int kTileKeys = Form::kIsTiled ? 32 : kDenseRows * 2 / 3;
    static constexpr int kTileRows = kDenseRows / 2;      // whose sums of four vectors do
    static constexpr float kHidden = -1e30f;              // a score

    const Prefill& a;
    const int64_t groups = a.heads / a.kv_heads, rows = a.queries * groups;
    const int64_t panels = (rows + kVectors * kLanes - 1) / (kVectors * kLanes);
    const int64_t ahead = a.keys - a.queries;  // a query's own key lies so many places further
    const int64_t first = seen_from(0) / kBlock * kBlock;
    const int64_t padded = round_up(a.keys - first, kTileKeys);
    const int64_t key_units = round_up(a.head_dim / kNumbers, Form::kIsTiled ? kLanes : 1);  // behind the last, zeros
    const int64_t units = padded * key_units + padded / kNumbers * a.value_dim;

    static int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }
    int64_t within(int64_t position) const { return position < 0 ? 0 : smaller(position, a.keys); }
    int64_t seen_from(int64_t query) const { return a.window < 0 ? 0 : within(ahead + query - a.window + 1); }
    int64_t seen_to(int64_t query) const {
        if (a.is_causal) return within(ahead + query + 1);
        return a.window < 0 ? a.keys : within(ahead + query + a.window);
    }

    // A token's key or value, of T or in 8 bits. Behind the last one comes the last one again: it is hidden from everyone.
    template <class K>
    struct Stored {
        const K* numbers;
        float scale;

        Floats part(int64_t h) const {
            if constexpr (sizeof(K) == 1) return mul(load(numbers + h), all(scale));
            return load(numbers + h);
        }
    };
    template <class K>
    Stored<K> find(const void* tokens, const float* scales, int64_t position, int64_t kv_head, int64_t width) const {
        int64_t token = smaller(position, a.keys - 1);
        if (a.blocks) token = a.blocks[token / a.block_size] * a.block_size + token % a.block_size;
        const int64_t head = token * a.kv_heads + kv_head;
        return {static_cast<const K*>(tokens) + head * width, scales ? scales[head] : 1.0f};
    }

    // Some keys of one head, widened, each in units of its own numbers; then their values, in units of one number of each
    // of two, or for tiles number by number: (keys / 32, value_dim, 32).
    template <class K>
    void lay_out(int64_t kv_head, int64_t begin, int64_t end, Unit* out) const {
        Unit* keys = out + (begin - first) * key_units;
        Unit* values = out + padded * key_units + (begin - first) / kNumbers * a.value_dim;
        for (int64_t i = begin; i < end; ++i, keys += key_units) {
            const Stored<K> k = find<K>(a.k, a.k_scales, i, kv_head, a.head_dim);
            std::memset(keys + a.head_dim / kNumbers, 0, (key_units - a.head_dim / kNumbers) * sizeof(Unit));
            if constexpr (kNumbers * sizeof(K) == sizeof(Unit))
                std::memcpy(keys, k.numbers, a.head_dim * sizeof(K));
            else
                for (int64_t h = 0; h < a.head_dim; h += kLanes) store(reinterpret_cast<Number*>(keys) + h, k.part(h));
        }
        if constexpr (Form::kIsTiled) {
            for (int64_t i = begin; i < end; ++i)
                lay_out_value(find<K>(a.v, a.v_scales, i, kv_head, a.value_dim), a.value_dim, i - begin, values);
            return;
        }
        for (int64_t i = begin; i < end; i += kNumbers, values += a.value_dim) {
            Stored<K> v[kNumbers];
            for (int n = 0; n < kNumbers; ++n) v[n] = find<K>(a.v, a.v_scales, i + n, kv_head, a.value_dim);
            for (int64_t h = 0; h < a.value_dim; h += kLanes) {
                Floats x[kNumbers];
                for (int n = 0; n < kNumbers; ++n) x[n] = v[n].part(h);
                Form::store_unit(values + h, x);
            }
        }
    }

    // One panel of rows: its numbers, unit by unit, and what its softmax has seen so far.
    template <int vectors>
    struct Panel {
        static constexpr int width = vectors * kLanes;
        int64_t num_rows;
        float from[width], to[width];  // the keys that a row sees, counted from the panel's first
        float largest[width], totals[width], factors[width];
        Unit* queries;  // (key_units, width)
        float* scores;  // (kBlock, width)
        Unit* weights;  // (kBlock / kNumbers, width)
        float* sums;    // (width, value_dim); in tiles (value_dim, width)
    };

    template <int vectors>
    void attend(int64_t kv_head, int64_t first_row, int64_t num_rows, const Unit* keys) const {
        constexpr int width = vectors * kLanes;
        [[maybe_unused]] const Tiles shapes;
        thread_local Scratch<Unit> unit_scratch;
        thread_local Scratch<float> float_scratch;
        Panel<vectors> p;
        p.num_rows = num_rows;
        p.queries = unit_scratch.of((key_units + kBlock / kNumbers) * width);
        p.weights = p.queries + key_units * width;
        p.scores = float_scratch.of((kBlock + a.value_dim) * width);
        p.sums = p.scores + kBlock * width;
        const int64_t first_query = first_row / groups, last_query = (first_row + num_rows - 1) / groups;
        const int64_t begin = seen_from(first_query) / kTileKeys * kTileKeys, end = seen_to(last_query);
        for (int r = 0; r < width; ++r) {
            const int64_t row = first_row + smaller(r, num_rows - 1), query = row / groups;
            const T* q = static_cast<const T*>(a.q) + (query * a.heads + kv_head * groups + row % groups) * a.head_dim;
            for (int64_t unit = a.head_dim / kNumbers; unit < key_units; ++unit) p.queries[unit * width + r] = 0;
            for (int64_t unit = 0; unit < a.head_dim / kNumbers; ++unit)
                if constexpr (kNumbers == 2)
                    std::memcpy(p.queries + unit * width + r, q + 2 * unit, sizeof(Unit));
                else
                    p.queries[unit * width + r] = to_float(q[unit]);
            p.from[r] = static_cast<float>(seen_from(query) - begin);
            p.to[r] = static_cast<float>(seen_to(query) - begin);
            p.largest[r] = kHidden, p.totals[r] = 0;
        }
        std::memset(p.sums, 0, width * a.value_dim * sizeof(float));
        for (int64_t i = begin, next; i < end; i = next) {
            next = smaller(i / kBlock * kBlock + kBlock, end);
            const int64_t count = round_up(next - i, kTileKeys);
            const Unit* k = keys + (i - first) * key_units;
            const Unit* v = keys + padded * key_units + (i - first) / kNumbers * a.value_dim;
            if (i >= seen_from(last_query) && i + count <= seen_to(first_query))
                score<false>(p, k, count, 0);
            else
                score<true>(p, k, count, i - begin);
            weigh(p, v, count);
        }
        T* out = static_cast<T*>(a.out);
        for (int64_t r = 0; r < num_rows; ++r) {
            const int64_t row = first_row + r;
            T* to = out + (row / groups * a.heads + kv_head * groups + row % groups) * a.value_dim;
            const Floats share = all(1.0f / p.totals[r]);
            for (int64_t h = 0; h < a.value_dim; h += kLanes) store(to + h, mul(sums_of(p, r, h), share));
        }
    }

    template <int vectors>
    Floats sums_of(const Panel<vectors>& p, int64_t row, int64_t h) const {
        if constexpr (!Form::kIsTiled) return load(p.sums + row * a.value_dim + h);
        float lanes[kLanes];
        for (int n = 0; n < kLanes; ++n) lanes[n] = p.sums[(h + n) * p.width + row];
        return load(lanes);
    }

    // The weights of a block of keys, relative to the largest score so far, and what the sums must shrink by for that.
    template <bool is_masked, int vectors>
    void score(Panel<vectors>& p, const Unit* keys, int64_t count, int64_t position) const {
        constexpr int width = vectors * kLanes;
        const Floats scale = all(a.scale * kLog2E);  // powers of 2 are nearer than those of e
        Floats largest[vectors];
        for (int n = 0; n < vectors; ++n) largest[n] = load(p.largest + n * kLanes);
        for (int64_t i = 0; i < count; i += kTileKeys) {
            const Unit* tile = keys + i * key_units;
            Floats sums[Form::kIsTiled ? 1 : kTileKeys][vectors];
            if constexpr (Form::kIsTiled) {
                multiply_keys<vectors>(tile, key_units, p.queries, p.scores + i * width);
            } else {
                for (auto& key : sums)
                    for (Floats& x : key) x = zeros();
                const int64_t stride = key_units;
                multiply_add<Form>(
                    p.queries, width, key_units, [=](int64_t unit, int c) { return tile[c * stride + unit]; }, sums);
            }
            for (int c = 0; c < kTileKeys; ++c)
                for (int n = 0; n < vectors; ++n) {
                    const Floats product = Form::kIsTiled ? load(p.scores + (i + c) * width + n * kLanes) : sums[c][n];
                    Floats x = a.soft_cap > 0 ? mul(bent(mul(product, all(a.scale)), a.soft_cap), all(kLog2E))
                                              : mul(product, scale);
                    if (is_masked) {
                        const Floats at = all(static_cast<float>(position + i + c));
                        x = choose(load(p.from + n * kLanes), at, x, all(kHidden));
                        x = choose(load(p.to + n * kLanes), at, all(kHidden), x);
                    }
                    store(p.scores + (i + c) * width + n * kLanes, x);
                    largest[n] = max(largest[n], x);
                }
        }
        for (int n = 0; n < vectors; ++n) {
            const Floats factor = exp2(sub(load(p.largest + n * kLanes), largest[n]));
            Floats total = mul(load(p.totals + n * kLanes), factor);
            for (int64_t i = 0; i < count; i += kNumbers) {
                Floats weights[kNumbers];
                for (int number = 0; number < kNumbers; ++number) {
                    const Floats x = load(p.scores + (i + number) * width + n * kLanes);
                    weights[number] = exp2(sub(x, largest[n]));
                    if (is_masked) weights[number] = choose(x, all(kHidden), zeros(), weights[number]);
                    total = add(total, weights[number]);
                }
                Form::store_unit(p.weights + i / kNumbers * width + n * kLanes, weights);
            }
            store(p.factors + n * kLanes, factor);
            store(p.totals + n * kLanes, total);
            store(p.largest + n * kLanes, largest[n]);
        }
    }

    // Shrinks the weighted sums and adds a block's values.
    template <int vectors>
    void weigh(Panel<vectors>& p, const Unit* values, int64_t count) const {
        if constexpr (Form::kIsTiled) return weigh_values<vectors>(values, a.value_dim, count, p.weights, p.factors, p.sums);
        const int64_t all_parts = a.value_dim / kLanes, tiles = (all_parts + 3) / 4;
        const int64_t parts = (all_parts + tiles - 1) / tiles;  // five vectors as three and two: one alone would wait
        for (int64_t r = 0; r < p.num_rows; r += kTileRows)
            for (int64_t part = 0; part < all_parts; part += parts)
                with_constant<kTileRows>(smaller(kTileRows, p.num_rows - r), [&](auto fixed_rows) {
                    with_constant<4>(smaller(parts, all_parts - part), [&](auto fixed_parts) {
                        weigh_tile<fixed_rows.value, fixed_parts.value>(p, values, count, r, part * kLanes);
                    });
                });
    }

    template <int num_rows, int parts, int vectors>
    void weigh_tile(Panel<vectors>& p, const Unit* values, int64_t count, int64_t row, int64_t h) const {
        constexpr int width = vectors * kLanes;
        Floats sums[num_rows][parts];
        float* to = p.sums + row * a.value_dim + h;
        for (int r = 0; r < num_rows; ++r)
            for (int n = 0; n < parts; ++n)
                sums[r][n] = mul(load(to + r * a.value_dim + n * kLanes), all(p.factors[row + r]));
        const Unit* weights = p.weights + row;
        multiply_add<Form>(
            values + h, a.value_dim, count / kNumbers,
            [=](int64_t unit, int c) { return weights[unit * width + c]; }, sums);
        for (int r = 0; r < num_rows; ++r)
            for (int n = 0; n < parts; ++n) store(to + r * a.value_dim + n * kLanes, sums[r][n]);
    }

    void run(int threads) const {
        thread_local Scratch<Unit> scratch;
        Unit* const laid_out = scratch.of(a.kv_heads * units);
        if (rows * (a.keys - first) * a.kv_heads * a.head_dim < 1 << 18) threads = 1;
        const int64_t num_blocks = (padded + kBlock - 1) / kBlock;
        parallel(a.kv_heads * num_blocks, threads, [&](int64_t task) {
            const int64_t kv_head = task / num_blocks, begin = first + task % num_blocks * kBlock;
            const int64_t end = smaller(begin + kBlock, first + padded);
            Unit* const to = laid_out + kv_head * units;
            a.k_scales ? lay_out<int8_t>(kv_head, begin, end, to) : lay_out<T>(kv_head, begin, end, to);
        });
        parallel(a.kv_heads * panels, threads, [&](int64_t task) {
            const int64_t kv_head = task / panels, panel = panels - 1 - task % panels;  // what sees most comes first
            const int64_t row = panel * kVectors * kLanes, num_rows = smaller(kVectors * kLanes, rows - row);
            with_constant<kVectors>((num_rows + kLanes - 1) / kLanes, [&](auto vectors) {
                attend<vectors.value>(kv_head, row, num_rows, laid_out + kv_head * units);
            });
        });
    }
};

inline void prefill_attention(const Prefill& a, int threads) {
    if (a.is_bf16)
        PrefillAttention<uint16_t, Bf16Form>{a}.run(threads);
    else
        PrefillAttention<float, Single>{a}.run(threads);
}

}  // namespace LEVEL
}  // namespace malmoi
