// AMX's instructions in plain C++, so that csrc/tiles.h can be used where no processor has them.
//
// Written from the operations in Intel's Software Developer's Manual, volume 2; included before everything else.
#pragma once

#include <immintrin.h>

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_dpbssd

#define _tile_loadconfig emulated_tiles::configure
#define _tile_release emulated_tiles::release
#define _tile_loadd emulated_tiles::load
#define _tile_stored emulated_tiles::store
#define _tile_zero emulated_tiles::zero
#define _tile_dpbf16ps emulated_tiles::add_bf16_products
#define _tile_dpbssd emulated_tiles::add_byte_products

namespace {
namespace emulated_tiles {

struct Register {
    int num_rows, row_bytes;
    alignas(64) uint8_t at[16][64];
    template <class T>
    T number(int row, int i) const {
        T out;
        std::memcpy(&out, at[row] + i * sizeof(T), sizeof(T));
        return out;
    }
    template <class T>
    void put(int row, int i, T x) {
        std::memcpy(at[row] + i * sizeof(T), &x, sizeof(T));
    }
};
thread_local Register registers[8];

inline void configure(const void* shapes) {
    const auto* bytes = static_cast<const uint8_t*>(shapes);
    for (int i = 0; i < 8; ++i) {
        uint16_t row_bytes;
        std::memcpy(&row_bytes, bytes + 16 + 2 * i, 2);
        registers[i] = {bytes[48 + i], row_bytes, {}};
    }
}
inline void release() {
    for (Register& r : registers) r = {0, 0, {}};
}
inline void zero(int i) { std::memset(registers[i].at, 0, sizeof registers[i].at); }
inline void load(int i, const void* from, int64_t stride) {
    zero(i);
    for (int row = 0; row < registers[i].num_rows; ++row)
        std::memcpy(registers[i].at[row], static_cast<const char*>(from) + row * stride, registers[i].row_bytes);
}
inline void store(int i, void* to, int64_t stride) {
    for (int row = 0; row < registers[i].num_rows; ++row)
        std::memcpy(static_cast<char*>(to) + row * stride, registers[i].at[row], registers[i].row_bytes);
}

inline float without_subnormals(float x) { return std::fabs(x) < FLT_MIN ? 0.0f : x; }
inline float bf16(const Register& r, int row, int i) {
    const uint32_t bits = static_cast<uint32_t>(r.number<uint16_t>(row, i)) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return without_subnormals(out);
}
// Even and odd inputs have a sum each, and both are added to what was there.
inline void add_bf16_products(int to, int x, int w) {
    Register &sums = registers[to], &rows = registers[x], &columns = registers[w];
    const int num_columns = sums.row_bytes / 4, num_pairs = rows.row_bytes / 4;
    float weights[2][16][16];
    for (int i = 0; i < 2; ++i)
        for (int k = 0; k < num_pairs; ++k)
            for (int n = 0; n < num_columns; ++n) weights[i][k][n] = bf16(columns, k, 2 * n + i);
    for (int m = 0; m < sums.num_rows; ++m) {
        float parts[2][16] = {};
        for (int i = 0; i < 2; ++i)
            for (int k = 0; k < num_pairs; ++k) {
                const float number = bf16(rows, m, 2 * k + i);
                for (int n = 0; n < num_columns; ++n)
                    parts[i][n] = without_subnormals(std::fma(number, weights[i][k][n], parts[i][n]));
            }
        for (int n = 0; n < num_columns; ++n) {
            const float sum = without_subnormals(parts[0][n] + parts[1][n]);
            sums.put(m, n, without_subnormals(without_subnormals(sums.number<float>(m, n)) + sum));
        }
    }
}
inline void add_byte_products(int to, int x, int w) {
    Register &sums = registers[to], &rows = registers[x], &columns = registers[w];
    for (int m = 0; m < sums.num_rows; ++m)
        for (int n = 0; n < sums.row_bytes / 4; ++n) {
            int32_t sum = sums.number<int32_t>(m, n);
            for (int k = 0; k < rows.row_bytes; ++k)
                sum += rows.number<int8_t>(m, k) * columns.number<int8_t>(k / 4, 4 * n + k % 4);
            sums.put(m, n, sum);
        }
}

}  // namespace emulated_tiles
}  // namespace
