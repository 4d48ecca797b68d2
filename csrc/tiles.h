// The registers of a processor that multiplies tiles (AMX): eight, each of 16 rows of 64 bytes.
//
// One instruction adds to 16 x 16 sums the products of 16 rows of one register with the columns of another, which lie
// as the panels of weights do: the 2 bf16 numbers or 4 bytes of a column that meet side by side. Read next: tiled_linear.h.
#pragma once

#include "simd.h"

#if defined(__AMX_TILE__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace malmoi {
namespace LEVEL {

constexpr int64_t kTile = 16;       // rows, or sums in a row
constexpr int64_t kTileBytes = 64;  // of a row
constexpr int64_t kTileNumbers = 32;  // bf16 ones of a row

// Whether the processor has tiles, and the system lets this process use them.
inline bool may_use_tiles() {
#if defined(EMULATED_TILES)
    return true;
#else
    unsigned a, b, c, d;
    constexpr unsigned bf16 = 1u << 22, tile = 1u << 24, int8 = 1u << 25, wanted = bf16 | tile | int8;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & wanted) != wanted) return false;
    constexpr int ask_for_state = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, since Linux 5.16
    return syscall(SYS_arch_prctl, ask_for_state, tile_data) == 0;
#endif
}

// To be called before tiles are read from what was just written: GCC's header does not say that they read memory.
inline void written(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

// While it lives, this thread's registers 0 to 3 hold sums, 4 and 5 rows, and 6 and 7 what they are multiplied by.
class Tiles {
public:
    Tiles(int row_bytes = kTileBytes, int column_rows = kTile, int num_rows = kTile) {
        struct alignas(64) {
            uint8_t palette = 1, first_row = 0, unused[14] = {};
            uint16_t bytes[16] = {};
            uint8_t rows[16] = {};
        } shapes;
        for (int i = 0; i < 8; ++i) {
            shapes.bytes[i] = i == 4 || i == 5 ? row_bytes : kTileBytes;
            shapes.rows[i] = i < 6 ? num_rows : column_rows;
        }
        written(&shapes);
        _tile_loadconfig(&shapes);
    }
    ~Tiles() { _tile_release(); }
};

}  // namespace LEVEL
}  // namespace malmoi
#endif
