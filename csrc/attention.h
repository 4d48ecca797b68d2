// Attention of one query a sequence over keys and values that lie in blocks of a pool.
//
// The query heads of a key head go over the keys together, so a key is read once; the heads of a token, which lie side by
// side, take turns tile by tile, so memory is read in long runs. A sequence is cut into spans at fixed positions, which
// run on different threads and are joined by their largest scores (online softmax, Milakov and Gimelshein 2018,
// arXiv:1805.02867); the cuts do not depend on the threads or the batch, so neither do the results.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace malmoi {
namespace LEVEL {

constexpr int64_t kSpan = 256;  // positions of a task

// Queries of T over keys and values of K: the same, or 8 bits.
template <class T, class K>
struct PagedDecode {
    static constexpr int64_t kTile = 16 / sizeof(K);  // positions that one head after the other goes over
    static constexpr int64_t kFetched = 16;           // positions that memory is asked for before they are read

    const Attention& a;
    const int64_t groups = a.heads / a.kv_heads;
    const int64_t partial = a.value_dim + 2;  // of a head in a span: its largest score, the weights' sum, the weighted sum
    const int64_t max_spans = most_spans();

    // Of the longest sequence: its table may have room for many more.
    int64_t most_spans() const {
        int64_t longest = 0;
        for (int64_t b = 0; b < a.sequences; ++b) longest = a.lengths[b] > longest ? a.lengths[b] : longest;
        return (longest + kSpan - 1) / kSpan;
    }

    int64_t first_seen(int64_t sequence) const {
        const int64_t length = a.lengths[sequence];
        return a.window < 0 || a.window > length ? 0 : length - a.window;
    }

    // Where the keys and values of a span's first head lie, counted in heads; behind the last position, it again.
    void find(int64_t sequence, int64_t first_head, int64_t first, int64_t count, int64_t* rows) const {
        const int32_t* blocks = a.blocks + sequence * a.max_blocks;
        for (int64_t i = 0, block = first / a.block_size, in_block = first % a.block_size; i < count; ++i) {
            rows[i] = (blocks[block] * a.block_size + in_block) * a.kv_heads + first_head;
            if (++in_block == a.block_size) ++block, in_block = 0;
        }
        for (int64_t i = count; i < count + kFetched + kTile; ++i) rows[i] = rows[count - 1];
    }

    // Ask for numbers before they are read: the blocks lie anywhere, which the processor cannot guess.
    static void fetch(const K* head, int64_t width) {
        for (int64_t h = 0; h < width; h += 64 / sizeof(K)) __builtin_prefetch(head + h);
    }

    // Products of a key head's queries with a tile of its keys, (groups, kSpan); of few queries with several keys at a time.
    void multiply(const float* q, const K* keys, const int64_t* rows, int64_t count, float* products) const {
        for (int64_t g = 0; g < groups; g += 4)
            with_constant<4>(smaller(4, groups - g), [&](auto fixed_queries) {
                constexpr int kQueries = decltype(fixed_queries)::value, kKeys = 4 / kQueries;
                for (int64_t i = 0; i < count; i += kKeys) {
                    const K* k[kKeys];
                    for (int n = 0; n < kKeys; ++n) {
                        if (g == 0) fetch(keys + rows[i + n + kFetched] * a.head_dim, a.head_dim);
                        k[n] = keys + rows[i + n] * a.head_dim;
                    }
                    Floats dots[4] = {zeros(), zeros(), zeros(), zeros()};
                    for (int64_t h = 0; h < a.head_dim; h += kLanes) {
                        Floats parts[kKeys];
                        for (int n = 0; n < kKeys; ++n) parts[n] = load(k[n] + h);
                        for (int m = 0; m < kQueries; ++m) {
                            const Floats query = load(q + (g + m) * a.head_dim + h);
                            for (int n = 0; n < kKeys; ++n) dots[m * kKeys + n] = fma(query, parts[n], dots[m * kKeys + n]);
                        }
                    }
                    float sums[4];
                    sum_each(dots, sums);
                    for (int m = 0; m < kQueries; ++m)
                        for (int n = 0; n < kKeys; ++n) products[(g + m) * kSpan + i + n] = sums[m * kKeys + n];
                }
            });
    }

    // Adds a tile's values, weighted, for up to four queries and 64 dimensions from `h` on in registers.
    void weigh(const K* values, const int64_t* rows, int64_t count, const float* weights, float* out) const {
        for (int64_t g = 0; g < groups; g += 4)
            for (int64_t h = 0; h < a.value_dim; h += 4 * kLanes)
                with_constant<4>(smaller(4, groups - g), [&](auto fixed_queries) {
                    with_constant<4>(smaller(4, (a.value_dim - h) / kLanes), [&](auto fixed_parts) {
                        constexpr int kQueries = decltype(fixed_queries)::value, kParts = decltype(fixed_parts)::value;
                        Floats sums[kQueries][kParts];
                        float* to = out + g * partial + h;
                        for (int m = 0; m < kQueries; ++m)
                            for (int p = 0; p < kParts; ++p) sums[m][p] = load(to + m * partial + p * kLanes);
                        for (int64_t i = 0; i < count; ++i) {
                            if (g == 0 && h == 0) fetch(values + rows[i + kFetched] * a.value_dim, a.value_dim);
                            const K* v = values + rows[i] * a.value_dim + h;
                            Floats parts[kParts];
                            for (int p = 0; p < kParts; ++p) parts[p] = load(v + p * kLanes);
                            for (int m = 0; m < kQueries; ++m) {
                                const Floats weight = all(weights[(g + m) * kSpan + i]);
                                for (int p = 0; p < kParts; ++p) sums[m][p] = fma(weight, parts[p], sums[m][p]);
                            }
                        }
                        for (int m = 0; m < kQueries; ++m)
                            for (int p = 0; p < kParts; ++p) store(to + m * partial + p * kLanes, sums[m][p]);
                    });
                });
    }

    // What a step of a head's numbers is worth, position by position.
    static void gather(const float* scales, const int64_t* rows, int64_t count, float* out) {
        for (int64_t i = 0; i < count; ++i) out[i] = scales[rows[i]];
    }

    // The products of a key head's queries become weights, relative to the largest score. Where keys and values are steps
    // of 8 bits, a score takes the scale of its key and a weight that of its value: two factors for all numbers of a head.
    void soften(float* row, int64_t count, const int64_t* rows, int64_t head, float* out) const {
        const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
        alignas(64) float k_scales[kSpan] = {}, v_scales[kSpan] = {};
        if (a.k_scales) gather(a.k_scales + head, rows, count, k_scales), gather(a.v_scales + head, rows, count, v_scales);
        for (int64_t g = 0; g < groups; ++g, row += kSpan, out += partial) {
            if (a.k_scales)
                for (int64_t i = 0; i < padded; i += kLanes) store(row + i, mul(load(row + i), load(k_scales + i)));
            for (int64_t i = 0; i < padded; i += kLanes) store(row + i, mul(load(row + i), all(a.scale)));
            if (a.soft_cap > 0)
                for (int64_t i = 0; i < padded; i += kLanes) store(row + i, bent(load(row + i), a.soft_cap));
            for (int64_t i = count; i < padded; ++i) row[i] = row[count - 1];
            Floats largest = load(row);
            for (int64_t i = kLanes; i < padded; i += kLanes) largest = max(largest, load(row + i));
            out[0] = max(largest);
            for (int64_t i = 0; i < padded; i += kLanes) store(row + i, exp(add(load(row + i), all(-out[0]))));
            for (int64_t i = count; i < padded; ++i) row[i] = 0;
            Floats total = zeros();
            for (int64_t i = 0; i < padded; i += kLanes) total = add(total, load(row + i));
            out[1] = sum(total);
            if (a.v_scales)
                for (int64_t i = 0; i < padded; i += kLanes) store(row + i, mul(load(row + i), load(v_scales + i)));
            std::memset(out + 2, 0, a.value_dim * sizeof(float));
        }
    }

    // Some heads over a span, tile by tile: those of a token lie side by side, so memory is read in long runs.
    void span(int64_t sequence, int64_t first_head, int64_t num_heads, int64_t first, int64_t count, float* out) const {
        thread_local Scratch<float> scratch;
        float* const scores = scratch.of(num_heads * groups * (kSpan + a.head_dim));
        float* const queries = scores + num_heads * groups * kSpan;
        const T* q = static_cast<const T*>(a.q) + (sequence * a.heads + first_head * groups) * a.head_dim;
        for (int64_t i = 0; i < num_heads * groups * a.head_dim; i += kLanes) store(queries + i, load(q + i));
        const int64_t stride = max_spans * groups * partial;  // from head to head
        int64_t rows[kSpan + kFetched + kTile];
        find(sequence, first_head, first, count, rows);
        const K *k = static_cast<const K*>(a.k_pool), *v = static_cast<const K*>(a.v_pool);
        for (int64_t i = 0; i < kFetched; ++i) fetch(k + rows[i] * a.head_dim, num_heads * a.head_dim);
        for (int64_t i = 0; i < count; i += kTile)
            for (int64_t n = 0; n < num_heads; ++n)
                multiply(queries + n * groups * a.head_dim, k + n * a.head_dim, rows + i, smaller(kTile, count - i),
                         scores + n * groups * kSpan + i);
        for (int64_t i = 0; i < kFetched; ++i) fetch(v + rows[i] * a.value_dim, num_heads * a.value_dim);
        for (int64_t n = 0; n < num_heads; ++n) soften(scores + n * groups * kSpan, count, rows, n, out + n * stride);
        for (int64_t i = 0; i < count; i += kTile)
            for (int64_t n = 0; n < num_heads; ++n)
                weigh(v + n * a.value_dim, rows + i, smaller(kTile, count - i), scores + n * groups * kSpan + i,
                      out + n * stride + 2);
    }

    void join(int64_t sequence, int64_t head, const float* partials, int64_t num_spans) const {
        const int64_t stride = groups * partial;  // from span to span
        float largest = partials[0];
        for (int64_t s = 1; s < num_spans; ++s)
            if (!(partials[s * stride] <= largest)) largest = partials[s * stride];
        float total = 0;
        thread_local Scratch<float> scratch;
        float* shares = scratch.of(num_spans);
        for (int64_t s = 0; s < num_spans; ++s) {
            shares[s] = std::exp(partials[s * stride] - largest);
            total += shares[s] * partials[s * stride + 1];
        }
        T* out = static_cast<T*>(a.out) + (sequence * a.heads + head) * a.value_dim;
        for (int64_t h = 0; h < a.value_dim; h += kLanes) {
            Floats x = zeros();
            for (int64_t s = 0; s < num_spans; ++s) x = fma(all(shares[s]), load(partials + s * stride + 2 + h), x);
            store(out + h, mul(x, all(1.0f / total)));
        }
    }

    void run(int threads) const {
        thread_local Scratch<float> scratch;
        float* const partials = scratch.of(a.sequences * a.kv_heads * max_spans * groups * partial);
        auto of = [&](int64_t sequence, int64_t kv_head) {
            return partials + (sequence * a.kv_heads + kv_head) * max_spans * groups * partial;
        };
        int64_t num_positions = 0;
        for (int64_t b = 0; b < a.sequences; ++b) num_positions += a.lengths[b] - first_seen(b);
        if (num_positions * a.kv_heads * a.head_dim < 1 << 16) threads = 1;
        int64_t together = a.kv_heads;  // heads of a task: all, unless there are fewer spans than threads want
        while (together % 2 == 0 && a.sequences * max_spans * (a.kv_heads / together) < 4 * threads) together /= 2;
        const int64_t parts = a.kv_heads / together;
        parallel(a.sequences * max_spans * parts, threads, [&](int64_t task) {
            const int64_t first_head = task % parts * together, s = task / parts % max_spans;
            const int64_t sequence = task / parts / max_spans, seen = first_seen(sequence);
            const int64_t begin = s * kSpan > seen ? s * kSpan : seen, end = smaller((s + 1) * kSpan, a.lengths[sequence]);
            if (begin < end)
                span(sequence, first_head, together, begin, end - begin, of(sequence, first_head) + s * groups * partial);
        });
        parallel(a.sequences * a.heads, threads, [&](int64_t task) {
            const int64_t sequence = task / a.heads, head = task % a.heads;
            const int64_t begin = first_seen(sequence) / kSpan, end = (a.lengths[sequence] + kSpan - 1) / kSpan;
            const float* first = of(sequence, head / groups) + begin * groups * partial + head % groups * partial;
            join(sequence, head, first, end - begin);
        });
    }
};

inline void paged_decode(const Attention& a, int threads) {
    if (a.k_scales)
        a.is_bf16 ? PagedDecode<uint16_t, int8_t>{a}.run(threads) : PagedDecode<float, int8_t>{a}.run(threads);
    else if (a.is_bf16)
        PagedDecode<uint16_t, uint16_t>{a}.run(threads);
    else
        PagedDecode<float, float>{a}.run(threads);
}

}  // namespace LEVEL
}  // namespace malmoi
