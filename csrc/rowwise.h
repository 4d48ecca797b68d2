// What stands between the products: norm, rotation, gate and sum, each in one pass instead of PyTorch's several.
// Tokens may lie apart, as the parts of a joined product do.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace malmoi {
namespace LEVEL {

constexpr int64_t kWorthAThread = 1 << 16;  // numbers

template <class X, class T>
inline void rms_norm_row(const X* x, const T* weight, int64_t size, float eps, T* out) {
    Floats squares = zeros();
    for (int64_t i = 0; i < size; i += kLanes) {
        Floats v = load_some(x + i, size - i);
        squares = fma(v, v, squares);
    }
    const Floats factor = all(1.0f / std::sqrt(sum(squares) / static_cast<float>(size) + eps));
    for (int64_t i = 0; i < size; i += kLanes) {
        Floats normed = rounded<T>(mul(load_some(x + i, size - i), factor));
        store_some(out + i, size - i, mul(normed, load_some(weight + i, size - i)));
    }
}

template <class X, class T>
inline void rms_norm_of(const RmsNorm& a, int threads) {
    if (a.tokens * a.heads * a.size < kWorthAThread) threads = 1;
    parallel(a.tokens, threads, [&](int64_t token) {
        for (int64_t head = 0; head < a.heads; ++head)
            rms_norm_row(static_cast<const X*>(a.x) + token * a.stride + head * a.size, static_cast<const T*>(a.weight),
                         a.size, a.eps, static_cast<T*>(a.out) + (token * a.heads + head) * a.size);
    });
}

template <class T>
inline void rotate_of(const Rotate& a, int threads) {
    const int64_t half = a.head_dim / 2;
    if (a.tokens * a.heads * a.head_dim < kWorthAThread) threads = 1;
    parallel(a.tokens, threads, [&](int64_t token) {
        const float *cos = a.cos + token * half, *sin = a.sin + token * half;
        for (int64_t head = 0; head < a.heads; ++head) {
            const T* x = static_cast<const T*>(a.x) + token * a.stride + head * a.head_dim;
            T* out = static_cast<T*>(a.out) + (token * a.heads + head) * a.head_dim;
            for (int64_t i = 0; i < half; i += kLanes) {
                const int64_t left = half - i;
                Floats first = load_some(x + i, left), second = load_some(x + half + i, left);
                Floats c = load_some(cos + i, left), s = load_some(sin + i, left);
                store_some(out + i, left, fma(first, c, mul(mul(second, s), all(-1.0f))));
                store_some(out + half + i, left, fma(second, c, mul(first, s)));
            }
        }
    });
}

template <class T>
inline void gated_of(const Gated& a, int threads) {
    if (a.rows * a.size < kWorthAThread) threads = 1;
    parallel(a.rows, threads, [&](int64_t row) {
        const T* gate = static_cast<const T*>(a.gate) + row * a.gate_stride;
        const T* up = static_cast<const T*>(a.up) + row * a.up_stride;
        T* out = static_cast<T*>(a.out) + row * a.size;
        for (int64_t i = 0; i < a.size; i += kLanes) {
            const int64_t left = a.size - i;
            const Floats x = load_some(gate + i, left);
            const Floats slope = fma(mul(x, x), all(-a.cubic), all(-a.linear));
            const Floats activated = div(x, add(all(1.0f), exp(mul(x, slope))));
            store_some(out + i, left, mul(activated, load_some(up + i, left)));
        }
    });
}

template <class T, class Y>
inline void add_of(const Addition& a, int threads) {
    constexpr int64_t piece = 1024;
    if (a.size < kWorthAThread) threads = 1;
    parallel((a.size + piece - 1) / piece, threads, [&](int64_t task) {
        for (int64_t i = task * piece; i < smaller((task + 1) * piece, a.size); i += kLanes) {
            const Floats x = load_some(static_cast<const T*>(a.x) + i, a.size - i);
            const Floats y = load_some(static_cast<const Y*>(a.y) + i, a.size - i);
            store_some(static_cast<T*>(a.out) + i, a.size - i, add(x, y));
        }
    });
}

inline void rms_norm(const RmsNorm& a, int threads) {
    a.x_is_bf16 ? rms_norm_of<uint16_t, uint16_t>(a, threads)
    : a.is_bf16 ? rms_norm_of<float, uint16_t>(a, threads)
                : rms_norm_of<float, float>(a, threads);
}
inline void rotate(const Rotate& a, int threads) {
    a.is_bf16 ? rotate_of<uint16_t>(a, threads) : rotate_of<float>(a, threads);
}
inline void gated(const Gated& a, int threads) {
    a.is_bf16 ? gated_of<uint16_t>(a, threads) : gated_of<float>(a, threads);
}
inline void add(const Addition& a, int threads) {
    a.is_bf16     ? add_of<uint16_t, uint16_t>(a, threads)
    : a.y_is_bf16 ? add_of<float, uint16_t>(a, threads)
                  : add_of<float, float>(a, threads);
}

}  // namespace LEVEL
}  // namespace malmoi
