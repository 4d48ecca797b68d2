// One instruction set's kernels. CMake compiles this file once for each, with LEVEL and the flags that belong to it.
#include "attention.h"
#include "kernels.h"
#include "linear.h"
#include "prefill.h"
#include "rounding.h"
#include "rowwise.h"
#if defined(__AMX_TILE__)
#include "tiled_linear.h"
#endif

namespace malmoi {
namespace LEVEL {

#define NAME_OF(level) #level
#define NAME(level) NAME_OF(level)

extern bool runs_here();
extern const Kernels kernels;

bool runs_here() {
#if defined(__AVX512BF16__)
    if (!__builtin_cpu_supports("avx512bf16")) return false;
#endif
#if defined(__AMX_TILE__)
    if (!may_use_tiles()) return false;
#endif
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return true;
#endif
}

#if defined(__AMX_TILE__)
constexpr auto product = tiled_linear;
#else
constexpr auto product = linear;
#endif

const Kernels kernels{NAME(LEVEL), runs_here, product, pack, look_up, paged_decode, prefill_attention, rms_norm, rotate,
                      gated, add};

}  // namespace LEVEL
}  // namespace malmoi
