// The products of prefill.h in tiles (AMX): of 16 keys, or 16 numbers of a value, with the rows of a panel.
//
// Rows lie in lanes, their units below each other, which is how a tile wants its columns: so keys are read as they lie,
// values number by number, and sums come out with the rows in lanes.
#pragma once

#include "tiles.h"

namespace malmoi {
namespace LEVEL {

#if defined(__AMX_TILE__)

constexpr bool kHasTiles = true;

// Values number by number: (keys / 32, value_dim, 32).
template <class Stored>
inline void lay_out_value(const Stored& value, int64_t value_dim, int64_t key, int32_t* values) {
    auto* const column =
        reinterpret_cast<uint16_t*>(values) + key / kTileNumbers * kTileNumbers * value_dim + key % kTileNumbers;
    for (int64_t h = 0; h < value_dim; h += kLanes) {
        uint16_t part[kLanes];
        store(part, value.part(h));
        for (int n = 0; n < kLanes; ++n) column[(h + n) * kTileNumbers] = part[n];
    }
}

// sums (16, width) += register 4 (16, 16 units) times rows (16 units, width); the sums are registers 0 to 2.
template <int vectors>
inline void multiply_by_rows(const int32_t* rows) {
    constexpr int64_t line = vectors * kLanes * sizeof(int32_t);
    _tile_loadd(6, rows, line);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (vectors > 1) {
        _tile_loadd(7, rows + kLanes, line);
        _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (vectors > 2) {
        _tile_loadd(6, rows + 2 * kLanes, line);
        _tile_dpbf16ps(2, 4, 6);
    }
}

template <int vectors>
inline void store_sums(float* sums) {
    constexpr int64_t line = vectors * kLanes * sizeof(float);
    _tile_stored(0, sums, line);
    if constexpr (vectors > 1) _tile_stored(1, sums + kLanes, line);
    if constexpr (vectors > 2) _tile_stored(2, sums + 2 * kLanes, line);
}

// scores (32, width) = keys (32, units) times queries (units, width).
template <int vectors>
inline void multiply_keys(const int32_t* keys, int64_t units, const int32_t* queries, float* scores) {
    constexpr int64_t width = vectors * kLanes;
    written(queries);
    for (int64_t i = 0; i < kTileNumbers; i += kTile) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        for (int64_t unit = 0; unit < units; unit += kTile) {
            _tile_loadd(4, keys + i * units + unit, units * sizeof(int32_t));
            multiply_by_rows<vectors>(queries + unit * width);
        }
        store_sums<vectors>(scores + i * width);
    }
}

// sums (value_dim, width) = sums * factors + values (value_dim, keys) times weights (keys, width).
template <int vectors>
inline void weigh_values(
    const int32_t* values, int64_t value_dim, int64_t num_keys, const int32_t* weights, const float* factors, float* sums) {
    constexpr int64_t width = vectors * kLanes, line = width * sizeof(float);
    for (int64_t h = 0; h < value_dim; h += kTile, sums += kTile * width) {
        for (int64_t i = 0; i < kTile * width; i += kLanes) store(sums + i, mul(load(sums + i), load(factors + i % width)));
        written(sums);
        _tile_loadd(0, sums, line);
        if constexpr (vectors > 1) _tile_loadd(1, sums + kLanes, line);
        if constexpr (vectors > 2) _tile_loadd(2, sums + 2 * kLanes, line);
        for (int64_t key = 0; key < num_keys; key += kTileNumbers) {
            _tile_loadd(4, values + (key * value_dim + h * kTileNumbers) / 2, kTileBytes);
            multiply_by_rows<vectors>(weights + key / 2 * width);
        }
        store_sums<vectors>(sums);
    }
}

#else

constexpr bool kHasTiles = false;
struct Tiles { Tiles() {} };

// Only named, where tiles would be used.
template <class Stored> void lay_out_value(const Stored&, int64_t, int64_t, int32_t*);
template <int> void multiply_keys(const int32_t*, int64_t, const int32_t*, float*);
template <int> void weigh_values(const int32_t*, int64_t, int64_t, const int32_t*, const float*, float*);

#endif

}  // namespace LEVEL
}  // namespace malmoi
