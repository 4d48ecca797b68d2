// Weights -> panels: laid out anew, and rounded to 8 or 4 bits on the way. nn/kernels/packing.py says what comes out.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace malmoi {
namespace LEVEL {

constexpr int64_t kMaxGroup = 128;

struct Codes {
    float scale;                // as it is stored
    int8_t at[kMaxGroup];
};

// A group of an output's weights, rounded; `left` of them are there, the others are filled up.
template <class T>
inline Codes round_group(const T* weights, int64_t left, int64_t group, bool is_int4) {
    Floats values[kMaxGroup / kLanes];
    Floats top = all(-INFINITY), bottom = top, probe = zeros();
    const int64_t parts = group / kLanes;
    for (int64_t i = 0; i < parts; ++i) {
        const int64_t here = left - i * kLanes;
        values[i] = here > 0 ? load_some(weights + i * kLanes, here) : zeros();
        top = max(top, values[i]);
        bottom = max(bottom, mul(values[i], all(-1.0f)));
        probe = fma(values[i], zeros(), probe);  // NaN, if any of them is not finite
    }
    const float highest = max(top), lowest = -max(bottom), largest = highest >= -lowest ? highest : lowest;
    const auto code = [&](int64_t i, float scale) {
        if (scale == 0) return zeros();
        const Floats low = all(is_int4 ? -8.0f : -127.0f), high = all(is_int4 ? 7.0f : 127.0f);
        return max(low, min(high, round(div(values[i], all(scale)))));
    };
    float scale = is_int4 ? largest / -8 : std::fabs(largest) / 127;
    if (is_int4) {
        Floats products = zeros(), squares = zeros();
        for (int64_t i = 0; i < parts; ++i) {
            const Floats q = code(i, scale);
            products = fma(q, values[i], products);
            squares = fma(q, q, squares);
        }
        if (sum(squares) > 0) scale = sum(products) / sum(squares);
    }
    Codes codes;
    codes.scale = sum(probe) == 0 ? from_bf16(to_bf16(scale)) : NAN;
    for (int64_t i = 0; i < parts; ++i) store_bytes(codes.at + i * kLanes, code(i, codes.scale));
    return codes;
}

template <class T>
inline void round_panel(const Packing& a, int64_t panel) {
    const bool is_int4 = a.format == Format::int4;
    const int64_t groups = a.depth / a.group, word = 4 * kPanel;
    uint8_t* out = static_cast<uint8_t*>(a.packed) + panel * a.depth * kPanel / (is_int4 ? 2 : 1);
    uint16_t* scales = a.scales + panel * groups * kPanel;
    for (int64_t o = 0; o < kPanel; ++o) {
        const int64_t row = panel * kPanel + o;
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t first = g * a.group;
            const T* weights = static_cast<const T*>(a.weights) + row * a.in + first;
            const Codes codes = round_group(weights, row < a.out ? a.in - first : 0, a.group, is_int4);
            scales[g * kPanel + o] = to_bf16(codes.scale);
            for (int64_t i = 0; i < a.group; i += is_int4 ? 8 : 4) {
                uint8_t* to = out + (first + i) / (is_int4 ? 8 : 4) * word + 4 * o;
                for (int64_t k = 0; k < 4; ++k)
                    to[k] = is_int4 ? (codes.at[i + k] + 8) | (codes.at[i + 4 + k] + 8) << 4 : codes.at[i + k] + 128;
            }
        }
    }
}

inline void copy_panel(const Packing& a, int64_t panel) {
    auto* out = static_cast<uint16_t*>(a.packed) + panel * a.depth * kPanel;
    const auto* weights = static_cast<const uint16_t*>(a.weights);
    for (int64_t pair = 0; pair < a.depth / 2; ++pair)
        for (int64_t o = 0; o < kPanel; ++o)
            for (int64_t k = 0; k < 2; ++k) {
                const int64_t row = panel * kPanel + o, input = 2 * pair + k;
                *out++ = row < a.out && input < a.in ? weights[row * a.in + input] : 0;
            }
}

inline void pack(const Packing& a, int threads) {
    parallel((a.out + kPanel - 1) / kPanel, threads, [&](int64_t panel) {
        if (a.format == Format::bf16)
            copy_panel(a, panel);
        else if (a.is_bf16)
            round_panel<uint16_t>(a, panel);
        else
            round_panel<float>(a, panel);
    });
}

}  // namespace LEVEL
}  // namespace malmoi
