// Sixteen lanes at a time, in one vocabulary for every instruction set: what the kernels are written in.
//
// Compiled once for each level (see CMakeLists.txt), each time with other flags and LEVEL naming the namespace. The
// kernels (linear.h, attention.h, prefill.h, rowwise.h) only see the functions below; what is for tiles (tiled_*.h)
// exists at one level alone, and names its instructions. Read next: linear.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace malmoi {
namespace LEVEL {

constexpr int kLanes = 16;
constexpr int kAhead = 8192;  // bytes

inline float from_bf16(uint16_t x) {
    uint32_t bits = static_cast<uint32_t>(x) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

inline float to_float(float x) { return x; }
inline float to_float(uint16_t x) { return from_bf16(x); }

// To the nearest, ties to even, as PyTorch rounds; NaN stays NaN.
inline uint16_t to_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#if defined(__AVX512F__)

using Floats = __m512;
using Ints = __m512i;
constexpr int kByteOffset = 128;  // bytes are multiplied as they are stored, 128 too high
constexpr int kDenseRows = 12;    // rows of a tile whose sums fit into the registers
constexpr int kGroupRows = 6;

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats all(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline Floats load(const uint16_t* p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline Floats load(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
inline void store(uint16_t* p, Floats x) {
#if defined(__AVX512BF16__)
    // Subnormals become zero here, and only here.
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
#else
    alignas(64) float lanes[kLanes];
    _mm512_store_ps(lanes, x);
    for (int i = 0; i < kLanes; ++i) p[i] = to_bf16(lanes[i]);
#endif
}
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
// a <= b ? yes : no, lane by lane.
inline Floats choose(Floats a, Floats b, Floats yes, Floats no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LE_OQ), no, yes);
}
inline Floats round(Floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline void store_bytes(int8_t* p, Floats x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}
inline Floats times_power_of_two(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }
inline float sum(Floats x) { return _mm512_reduce_add_ps(x); }
inline float max(Floats x) { return _mm512_reduce_max_ps(x); }
// The sums of four vectors' lanes: together that takes half the steps.
inline void sum_each(const Floats (&x)[4], float* sums) {
    auto halves = [](Floats a, Floats b) { return add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); };
    __m512d first = _mm512_castps_pd(halves(x[0], x[1])), second = _mm512_castps_pd(halves(x[2], x[3]));
    Floats mixed = add(_mm512_castpd_ps(_mm512_unpacklo_pd(first, second)), _mm512_castpd_ps(_mm512_unpackhi_pd(first, second)));
    // Now each 128 bits have a part of all four.
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(mixed), _mm512_extractf32x8_ps(mixed, 1));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)));
}

inline Ints all(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Ints low_nibbles(Ints x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline Ints high_nibbles(Ints x) { return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15)); }
inline Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
inline Ints dot_bytes(Ints to, Ints w, Ints x) { return _mm512_dpbusd_epi32(to, w, x); }
inline Ints dot_nibbles(Ints to, Ints w, Ints x) { return dot_bytes(to, w, x); }
inline Floats dot_pairs(Floats to, Ints w, Ints x) {
#if defined(__AVX512BF16__)
    return _mm512_dpbf16_ps(to, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(x));
#else
    Ints high = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000));
    auto even = [](Ints v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)); };
    auto odd = [high](Ints v) { return _mm512_castsi512_ps(_mm512_and_si512(v, high)); };
    return fma(odd(w), odd(x), fma(even(w), even(x), to));
#endif
}

#if defined(__AVX512BF16__)
// Each lane of the one and of the other side by side, in bf16.
inline void store_pairs(int32_t* p, Floats even, Floats odd) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i places = _mm512_or_si512(lane, _mm512_slli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(16)), 16));
    _mm512_storeu_si512(p, _mm512_permutexvar_epi16(places, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even))));
}
#endif

#elif defined(__AVX2__)

struct Floats { __m256 a, b; };
struct Ints { __m256i a, b; };
constexpr int kByteOffset = 0;  // bytes are centred first: unsigned ones would overflow the sum of two products
constexpr int kDenseRows = 3;
constexpr int kGroupRows = 2;

inline Floats zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Floats all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline Floats load(const uint16_t* p) {
    auto half = [](const uint16_t* q) {
        __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    };
    return {half(p), half(p + 8)};
}
inline Floats load(const int8_t* p) {
    auto half = [](const int8_t* q) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q))));
    };
    return {half(p), half(p + 8)};
}
inline void store(float* p, Floats x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
inline void store(uint16_t* p, Floats x) {
    float lanes[kLanes];
    store(lanes, x);
    for (int i = 0; i < kLanes; ++i) p[i] = to_bf16(lanes[i]);
}
inline Floats add(Floats x, Floats y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Floats sub(Floats x, Floats y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Floats mul(Floats x, Floats y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Floats div(Floats x, Floats y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Floats fma(Floats x, Floats y, Floats z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Floats max(Floats x, Floats y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Floats min(Floats x, Floats y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Floats choose(Floats x, Floats y, Floats yes, Floats no) {
    return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ)),
            _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ))};
}
inline Floats round(Floats x) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.a, nearest), _mm256_round_ps(x.b, nearest)};
}
inline void store_bytes(int8_t* p, Floats x) {
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
    words = _mm256_permute4x64_epi64(words, 0xd8);  // packing interleaves the halves
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
inline Floats times_power_of_two(Floats x, Floats n) {
    auto half = [](__m256 v, __m256 power) {
        __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127));
        return _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)));
    };
    return {half(x.a, n.a), half(x.b, n.b)};
}
inline float sum(Floats x) {
    __m256 eight = _mm256_add_ps(x.a, x.b);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float max(Floats x) {
    __m256 eight = _mm256_max_ps(x.a, x.b);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline Ints all(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Ints load_bytes(const uint8_t* p) {
    auto q = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
inline Ints low_nibbles(Ints x) {
    __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
inline Ints high_nibbles(Ints x) { return low_nibbles({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)}); }
inline Floats to_floats(Ints x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline __m256i dot_unsigned(__m256i to, __m256i w, __m256i x) {
    return _mm256_add_epi32(to, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
inline Ints dot_nibbles(Ints to, Ints w, Ints x) { return {dot_unsigned(to.a, w.a, x.a), dot_unsigned(to.b, w.b, x.b)}; }
inline Ints dot_bytes(Ints to, Ints w, Ints x) {
    auto half = [](__m256i sum, __m256i stored, __m256i four) {
        __m256i centred = _mm256_xor_si256(stored, _mm256_set1_epi8(-128));
        return dot_unsigned(sum, _mm256_abs_epi8(centred), _mm256_sign_epi8(four, centred));
    };
    return {half(to.a, w.a, x.a), half(to.b, w.b, x.b)};
}
inline Floats dot_pairs(Floats to, Ints w, Ints x) {
    __m256i high = _mm256_set1_epi32(static_cast<int32_t>(0xffff0000));
    auto even = [](__m256i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); };
    auto odd = [high](__m256i v) { return _mm256_castsi256_ps(_mm256_and_si256(v, high)); };
    auto half = [&](__m256 sum, __m256i v, __m256i y) {
        return _mm256_fmadd_ps(odd(v), odd(y), _mm256_fmadd_ps(even(v), even(y), sum));
    };
    return {half(to.a, w.a, x.a), half(to.b, w.b, x.b)};
}

#else

struct Floats { float lane[kLanes]; };
struct Ints { int32_t lane[kLanes]; };
constexpr int kByteOffset = 128;
constexpr int kDenseRows = 2;
constexpr int kGroupRows = 2;

// Loops that a compiler turns into whatever vectors it knows of.
template <class F> inline Floats each(F f) {
    Floats out;
    for (int i = 0; i < kLanes; ++i) out.lane[i] = f(i);
    return out;
}
template <class F> inline Ints each_int(F f) {
    Ints out;
    for (int i = 0; i < kLanes; ++i) out.lane[i] = f(i);
    return out;
}
inline Floats zeros() { return each([](int) { return 0.0f; }); }
inline Floats all(float x) { return each([x](int) { return x; }); }
inline Floats load(const float* p) { return each([p](int i) { return p[i]; }); }
inline Floats load(const uint16_t* p) { return each([p](int i) { return from_bf16(p[i]); }); }
inline Floats load(const int8_t* p) { return each([p](int i) { return static_cast<float>(p[i]); }); }
inline void store(float* p, Floats x) { std::memcpy(p, x.lane, sizeof x.lane); }
inline void store(uint16_t* p, Floats x) {
    for (int i = 0; i < kLanes; ++i) p[i] = to_bf16(x.lane[i]);
}
inline Floats add(Floats a, Floats b) { return each([&](int i) { return a.lane[i] + b.lane[i]; }); }
inline Floats sub(Floats a, Floats b) { return each([&](int i) { return a.lane[i] - b.lane[i]; }); }
inline Floats mul(Floats a, Floats b) { return each([&](int i) { return a.lane[i] * b.lane[i]; }); }
inline Floats div(Floats a, Floats b) { return each([&](int i) { return a.lane[i] / b.lane[i]; }); }
inline Floats fma(Floats a, Floats b, Floats c) {
#if defined(__FP_FAST_FMAF)
    return each([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
#else
    return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
#endif
}
inline Floats max(Floats a, Floats b) { return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; }); }
inline Floats min(Floats a, Floats b) { return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; }); }
inline Floats choose(Floats a, Floats b, Floats yes, Floats no) {
    return each([&](int i) { return a.lane[i] <= b.lane[i] ? yes.lane[i] : no.lane[i]; });
}
inline Floats round(Floats x) { return each([&](int i) { return std::nearbyintf(x.lane[i]); }); }
inline void store_bytes(int8_t* p, Floats x) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(static_cast<int32_t>(x.lane[i]));
}
inline Floats times_power_of_two(Floats x, Floats n) {
    return each([&](int i) { return std::ldexp(x.lane[i], static_cast<int>(n.lane[i])); });
}
inline float sum(Floats x) {
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) x.lane[i] += x.lane[i + half];
    return x.lane[0];
}
inline float max(Floats x) {
    float out = x.lane[0];
    for (float lane : x.lane) out = lane > out ? lane : out;
    return out;
}

inline Ints all(int32_t x) { return each_int([x](int) { return x; }); }
inline Ints load_bytes(const uint8_t* p) {
    Ints out;
    std::memcpy(out.lane, p, sizeof out.lane);
    return out;
}
inline Ints low_nibbles(Ints x) { return each_int([&](int i) { return x.lane[i] & 0x0f0f0f0f; }); }
inline Ints high_nibbles(Ints x) {
    return each_int([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(x.lane[i]) >> 4) & 0x0f0f0f0f; });
}
inline Floats to_floats(Ints x) { return each([&](int i) { return static_cast<float>(x.lane[i]); }); }
// The byte or the bf16 number `part` of a lane.
inline int32_t byte_of(uint32_t lane, int part) { return lane >> (8 * part) & 0xff; }
inline float bf16_of(uint32_t lane, int part) { return from_bf16(static_cast<uint16_t>(lane >> (16 * part))); }
inline Ints dot_bytes(Ints to, Ints w, Ints x) {
    return each_int([&](int i) {
        int32_t out = to.lane[i];
        for (int k = 0; k < 4; ++k) out += byte_of(w.lane[i], k) * static_cast<int8_t>(byte_of(x.lane[i], k));
        return out;
    });
}
inline Ints dot_nibbles(Ints to, Ints w, Ints x) { return dot_bytes(to, w, x); }
inline Floats dot_pairs(Floats to, Ints w, Ints x) {
    return each([&](int i) {
        float out = to.lane[i];
        for (int k = 0; k < 2; ++k) out += bf16_of(w.lane[i], k) * bf16_of(x.lane[i], k);
        return out;
    });
}

#endif

// Ask for what is read in a moment: with several rows to a line of weights, few lines fit into the processor's view.
inline void fetch_ahead(const uint8_t* p) {
    __builtin_prefetch(p + kAhead);
    __builtin_prefetch(p + kAhead + 64);
}

// The first n lanes alone, where fewer are left; the others are 0.
template <class T>
inline Floats load_some(const T* p, int64_t n) {
    if (n >= kLanes) return load(p);
    T lanes[kLanes] = {};
    std::memcpy(lanes, p, n * sizeof(T));
    return load(lanes);
}
template <class T>
inline void store_some(T* p, int64_t n, Floats x) {
    if (n >= kLanes) return store(p, x);
    T lanes[kLanes];
    store(lanes, x);
    std::memcpy(p, lanes, n * sizeof(T));
}

// As it would be read again after it was stored.
template <class T>
inline Floats rounded(Floats x) {
    T lanes[kLanes];
    store(lanes, x);
    return load(lanes);
}

#if !defined(__AVX512F__)
inline void sum_each(const Floats (&x)[4], float* sums) {
    for (int i = 0; i < 4; ++i) sums[i] = sum(x[i]);
}
#endif

// e^x to a few units of the last place: 2^n for the whole part, a polynomial for the rest.
inline Floats exp(Floats x) {
    x = max(all(-87.0f), min(all(88.0f), x));  // in this order a NaN stays one
    Floats n = round(mul(x, all(1.44269504f)));
    Floats rest = fma(n, all(2.12194440e-4f), fma(n, all(-0.693359375f), x));
    Floats p = all(1.9875691500e-4f);
    constexpr float factors[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f};
    for (float factor : factors) p = fma(p, rest, all(factor));
    p = add(fma(mul(rest, rest), p, rest), all(1.0f));
    return times_power_of_two(p, n);
}

constexpr float kLog2E = 1.44269504f;

// 2^x for x of at most 0, no further off than 2e-7 of it, and 1 for 0: fitted to 2^x on -1/2 ... 1/2.
inline Floats exp2(Floats x) {
    x = max(all(-126.0f), x);  // in this order a NaN stays one
    const Floats n = round(x), rest = sub(x, n);
    Floats p = all(1.32647e-3f);
    constexpr float factors[] = {9.67151e-3f, 5.550734e-2f, 2.4022242e-1f, 6.9314698e-1f, 1.0f};
    for (float factor : factors) p = fma(p, rest, all(factor));
    return times_power_of_two(p, n);
}

// cap * tanh(x / cap), written with the exponential that there is: tanh(x) = 1 - 2 / (e^2x + 1).
inline Floats bent(Floats x, float cap) {
    const Floats grown = exp(mul(x, all(2.0f / cap)));
    return fma(div(all(-2.0f), add(grown, all(1.0f))), all(cap), all(cap));
}

template <int n>
struct Constant { static constexpr int value = n; };

// f of n, 1 to `most`, as a constant.
template <int most, class F>
inline void with_constant(int64_t n, const F& f) {
    if constexpr (most > 1)
        if (n < most) return with_constant<most - 1>(n, f);
    f(Constant<most>());
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Memory that a thread keeps from call to call. Not std::vector: its functions would be compiled once a level under
// one name, and the linker would keep any of them, such as one with instructions that this processor does not have.
template <class T>
class Scratch {
public:
    ~Scratch() { std::free(memory); }
    T* of(int64_t size) {
        if (size > capacity) {
            std::free(memory);
            // From a line's beginning, or each vector would be two lines' worth.
            memory = static_cast<T*>(std::aligned_alloc(64, (size * sizeof(T) + 63) / 64 * 64));
            if (!memory) std::abort();
            capacity = size;
        }
        return memory;
    }

private:
    T* memory = nullptr;
    int64_t capacity = 0;
};

}  // namespace LEVEL
}  // namespace malmoi
