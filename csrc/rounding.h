// Weights -> panels: laid out anew, and rounded to 8 or 4 bits on the way; and rows of them back. nn/kernels/packing.py
// says what comes out.
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

// What a group's largest number becomes, its sign changed. All are tried, and of equal ones the first is kept.
constexpr int kNumTops = 9;
constexpr float kTops8[kNumTops] = {128, 127, 126, 125, 124, 123, 122, 121, 120};
constexpr float kTops4[kNumTops] = {8, 7, 7.25, 7.5, 7.75, 8.25, 8.5, 8.75, 9};

inline float as_stored(float scale) { return from_bf16(to_bf16(scale)); }

// A group of an output's weights, rounded; `left` of them are there, the others are filled up. The twin in packing.py
// adds in the same order, so that both keep the same scale.
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
    const Floats low = all(is_int4 ? -8.0f : -128.0f), high = all(is_int4 ? 7.0f : 127.0f);
    const auto code = [&](int64_t i, float scale) {
        return scale == 0 ? zeros() : max(low, min(high, round(div(values[i], all(scale)))));
    };
    const auto error = [&](float scale) {
        Floats squares = zeros();
        for (int64_t i = 0; i < parts; ++i) {
            const Floats off = sub(values[i], mul(all(scale), code(i, scale)));
            squares = add(squares, mul(off, off));
        }
        return sum(squares);
    };
    const auto& tops = is_int4 ? kTops4 : kTops8;
    float scale = as_stored(largest / -tops[0]), least = error(scale);
    for (int k = 1; k < kNumTops; ++k) {
        const float tried = as_stored(largest / -tops[k]), its_error = error(tried);
        if (its_error < least) scale = tried, least = its_error;
    }
    Codes codes;
    codes.scale = sum(probe) == 0 ? scale : NAN;
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

// --- panels -> rows ----------------------------------------------------------------------------------------

template <class T>
inline void look_up_row(const Rows& a, int64_t id, T* out) {
    const int64_t panel = id / kPanel, column = id % kPanel;
    const int64_t inputs = a.format == Format::bf16 ? 2 : a.format == Format::int8 ? 4 : 8;  // of a word
    const uint8_t* word = a.weights + (panel * a.depth / inputs * kPanel + column) * 4;
    const uint16_t* scales = a.group ? a.scales + panel * (a.depth / a.group) * kPanel + column : nullptr;
    for (int64_t first = 0; first < a.in; first += inputs, word += 4 * kPanel)
        for (int64_t i = 0; i < smaller(inputs, a.in - first); ++i) {
            float x;
            if (a.format == Format::bf16) {
                uint16_t number;
                std::memcpy(&number, word + 2 * i, 2);
                x = from_bf16(number);
            } else {
                const int code = a.format == Format::int8 ? word[i] - 128 : (word[i % 4] >> i / 4 * 4 & 15) - 8;
                x = from_bf16(scales[first / a.group * kPanel]) * static_cast<float>(code);
            }
            if constexpr (sizeof(T) == 2)
                out[first + i] = to_bf16(x);
            else
                out[first + i] = x;
        }
}

inline void look_up(const Rows& a, int threads) {
    if (a.count * a.in < 1 << 14) threads = 1;
    parallel(a.count, threads, [&](int64_t i) {
        if (a.is_bf16)
            look_up_row(a, a.ids[i], static_cast<uint16_t*>(a.out) + i * a.in);
        else
            look_up_row(a, a.ids[i], static_cast<float*>(a.out) + i * a.in);
    });
}

}  // namespace LEVEL
}  // namespace malmoi
