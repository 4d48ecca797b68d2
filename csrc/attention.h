// Attention of one query a sequence over keys and values that lie in blocks of a pool.
//
// The query heads of a key head go over the keys together, so a key is read once. A sequence is cut into spans at fixed
// positions, which run on different threads and are joined by their largest scores (online softmax, Milakov and
// Gimelshein 2018, arXiv:1805.02867); the cuts do not depend on the threads or the batch, so neither do the results.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace malmoi {
namespace LEVEL {

constexpr int64_t kSpan = 256;  // positions of a task

template <class T>
struct PagedDecode {
    const Attention& a;
    const int64_t groups = a.heads / a.kv_heads;
    const int64_t partial = a.value_dim + 2;  // of a head in a span: its largest score, the weights' sum, the weighted sum
    const int64_t max_spans = (a.max_blocks * a.block_size + kSpan - 1) / kSpan;

    int64_t first_seen(int64_t sequence) const {
        const int64_t length = a.lengths[sequence];
        return a.window < 0 || a.window > length ? 0 : length - a.window;
    }

    // Where the keys and values of one head lie, counted in heads, for the positions from `first` on.
    void find(int64_t sequence, int64_t kv_head, int64_t first, int64_t count, int64_t* rows) const {
        const int32_t* blocks = a.blocks + sequence * a.max_blocks;
        for (int64_t i = 0, block = first / a.block_size, in_block = first % a.block_size; i < count; ++i) {
            rows[i] = (blocks[block] * a.block_size + in_block) * a.kv_heads + kv_head;
            if (++in_block == a.block_size) ++block, in_block = 0;
        }
    }

    // Ask for what comes some positions later: heads of other tokens lie between, too far for the processor to guess.
    static void fetch(const T* pool, int64_t width, const int64_t* rows, int64_t i, int64_t count) {
        constexpr int64_t ahead = 16;
        const T* next = pool + rows[smaller(i + ahead, count - 1)] * width;
        for (int64_t h = 0; h < width; h += 64 / sizeof(T)) __builtin_prefetch(next + h);
    }

    // Scores of up to four queries at a time over some positions, (groups, kSpan).
    void score(int64_t sequence, int64_t kv_head, const int64_t* rows, int64_t count, float* scores) const {
        const T* q = static_cast<const T*>(a.q) + (sequence * a.heads + kv_head * groups) * a.head_dim;
        const T* pool = static_cast<const T*>(a.k_pool);
        for (int64_t g = 0; g < groups; g += 4) {
            with_constant<4>(smaller(4, groups - g), [&](auto queries) {
                constexpr int kQueries = decltype(queries)::value;
                for (int64_t i = 0; i < count; ++i) {
                    fetch(pool, a.head_dim, rows, i, count);
                    const T* k = pool + rows[i] * a.head_dim;
                    Floats dots[4] = {zeros(), zeros(), zeros(), zeros()};
                    for (int64_t h = 0; h < a.head_dim; h += kLanes) {
                        const Floats part = load(k + h);
                        for (int n = 0; n < kQueries; ++n) dots[n] = fma(load(q + (g + n) * a.head_dim + h), part, dots[n]);
                    }
                    float sums[4];
                    sum_each(dots, sums);
                    for (int n = 0; n < kQueries; ++n) scores[(g + n) * kSpan + i] = sums[n] * a.scale;
                }
            });
        }
    }

    void span(int64_t sequence, int64_t kv_head, int64_t first, int64_t count, float* out) const {
        thread_local Scratch<float> scratch;
        float* scores = scratch.of(groups * kSpan);
        int64_t rows[kSpan];
        find(sequence, kv_head, first, count, rows);
        score(sequence, kv_head, rows, count, scores);
        for (int64_t g = 0; g < groups; ++g) {
            float *row = scores + g * kSpan, *to = out + g * partial;
            const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
            for (int64_t i = count; i < padded; ++i) row[i] = row[count - 1];
            if (a.soft_cap > 0)
                for (int64_t i = 0; i < padded; i += kLanes) store(row + i, bent(load(row + i), a.soft_cap));
            Floats largest = load(row);
            for (int64_t i = kLanes; i < padded; i += kLanes) largest = max(largest, load(row + i));
            to[0] = max(largest);
            for (int64_t i = 0; i < padded; i += kLanes) store(row + i, exp(add(load(row + i), all(-to[0]))));
            Floats total = zeros();
            for (int64_t i = count; i < padded; ++i) row[i] = 0;
            for (int64_t i = 0; i < padded; i += kLanes) total = add(total, load(row + i));
            to[1] = sum(total);
        }
        for (int64_t g = 0; g < groups; g += 4)
            for (int64_t h = 0; h < a.value_dim; h += 4 * kLanes)
                weigh(rows, count, scores + g * kSpan, smaller(4, groups - g), h, out + g * partial + 2);
    }

    // The weighted sum of values, for up to four queries and 64 dimensions from `h` on, in registers.
    void weigh(const int64_t* rows, int64_t count, const float* weights, int64_t queries, int64_t h, float* out) const {
        const T* pool = static_cast<const T*>(a.v_pool);
        const int64_t parts = smaller(4, (a.value_dim - h) / kLanes);
        auto run = [&](auto fixed_queries, auto fixed_parts) {
            constexpr int kQueries = decltype(fixed_queries)::value, kParts = decltype(fixed_parts)::value;
            Floats sums[kQueries][kParts];
            for (auto& row : sums)
                for (Floats& x : row) x = zeros();
            for (int64_t i = 0; i < count; ++i) {
                if (h == 0) fetch(pool, a.value_dim, rows, i, count);
                const T* v = pool + rows[i] * a.value_dim + h;
                Floats values[kParts];
                for (int p = 0; p < kParts; ++p) values[p] = load(v + p * kLanes);
                for (int g = 0; g < kQueries; ++g) {
                    const Floats weight = all(weights[g * kSpan + i]);
                    for (int p = 0; p < kParts; ++p) sums[g][p] = fma(weight, values[p], sums[g][p]);
                }
            }
            for (int g = 0; g < kQueries; ++g)
                for (int p = 0; p < kParts; ++p) store(out + g * partial + h + p * kLanes, sums[g][p]);
        };
        with_constant<4>(queries, [&](auto q) { with_constant<4>(parts, [&](auto p) { run(q, p); }); });
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
        parallel(a.sequences * max_spans * a.kv_heads, threads, [&](int64_t task) {
            const int64_t kv_head = task % a.kv_heads, s = task / a.kv_heads % max_spans;
            const int64_t sequence = task / a.kv_heads / max_spans, seen = first_seen(sequence);
            const int64_t begin = s * kSpan > seen ? s * kSpan : seen, end = smaller((s + 1) * kSpan, a.lengths[sequence]);
            if (begin < end) span(sequence, kv_head, begin, end - begin, of(sequence, kv_head) + s * groups * partial);
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
    if (a.is_bf16)
        PagedDecode<uint16_t>{a}.run(threads);
    else
        PagedDecode<float>{a}.run(threads);
}

}  // namespace LEVEL
}  // namespace malmoi
