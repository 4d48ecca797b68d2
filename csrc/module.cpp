// The Python module `malmoi.nn.kernels._native`: picks a level, and hands addresses on.
//
// Tensors come as addresses, which take a tenth of the time of DLPack; `nn/kernels/native.py` is their only caller and checks
// their shapes, precisions and memory first. The interpreter's lock is released while a kernel runs.
#include <dlfcn.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstring>
#include <string>
#include <vector>

#include "kernels.h"
#include "tape.h"

namespace nb = nanobind;

namespace malmoi {

#define LEVEL(name) namespace name { extern const Kernels kernels; }
#include "levels.inc"
#undef LEVEL

static std::vector<const Kernels*> runnable() {
    std::vector<const Kernels*> out;
#define LEVEL(name) if (name::kernels.runs_here()) out.push_back(&name::kernels);
#include "levels.inc"
#undef LEVEL
    return out;
}

static const Kernels* chosen = nullptr;

template <class T>
static const T* at(uintptr_t address) { return reinterpret_cast<const T*>(address); }
static void* to(uintptr_t address) { return reinterpret_cast<void*>(address); }

// Run a kernel, and write it down if this thread records.
template <class Call>
static bool run(const Call& call) {
    const int64_t before = num_shared;
    const bool is_done = call();
    if (recording && is_done) recording->add(call, num_shared != before);
    return is_done;
}

}  // namespace malmoi

NB_MODULE(_native, m) {
    using namespace malmoi;
    using Address = uintptr_t;
    fork_threads = reinterpret_cast<Fork>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    chosen = runnable().front();
    const nb::call_guard<nb::gil_scoped_release> unlocked;

    m.def("levels", [] {
        std::vector<std::string> names;
        for (const Kernels* level : runnable()) names.emplace_back(level->level);
        return names;
    }, "The levels that this processor runs, the best first.");
    m.def("level", [] { return std::string(chosen->level); }, "The level in use.");
    m.def("use", [](const std::string& name) {
        for (const Kernels* level : runnable())
            if (name == level->level) return chosen = level, true;
        return false;
    }, "Use another level; False if this processor does not run it.");
    m.def("use_large_pages", [](Address begin, int64_t bytes) {
#if defined(__linux__)
        constexpr Address page = 2 << 20;
        const Address first = (begin + page - 1) / page * page, last = (begin + bytes) / page * page;
        if (first >= last) return;
        madvise(to(first), last - first, MADV_HUGEPAGE);
        constexpr int collapse = 25;  // since Linux 6.1: at once, also where there are small pages already
        madvise(to(first), last - first, collapse);
#endif
    }, "Let the system map the whole pages of 2 MB in some memory as such, if it can.");
    m.def("has_threads", [] { return fork_threads != nullptr; }, "Whether PyTorch's threads were found.");

    nb::class_<Tape>(m, "Tape", "Kernels that were run, in order.")
        .def(nb::init<>())
        .def("is_empty", &Tape::is_empty)
        .def("play", &Tape::play, unlocked, "Run them again; False if one of them could not do what was asked.");
    m.def("record", [](Tape* tape) { recording = tape; }, nb::arg("tape").none(),
          "Write this thread's kernels on a tape, which the caller keeps; None: no longer.");

    m.def("linear", [](int format, bool is_bf16, int64_t rows, int64_t in, int64_t out, int64_t depth, int64_t group,
                       Address x, Address weights, Address scales, Address bias, Address y, int threads) {
        const Linear task{static_cast<Format>(format), is_bf16, rows, in, out, depth, group, to(x), at<uint8_t>(weights),
                          at<uint16_t>(scales), to(bias), to(y)};
        run([=] { return chosen->linear(task, threads), true; });
    }, unlocked);
    m.def("pack", [](int format, bool is_bf16, int64_t out, int64_t in, int64_t depth, int64_t group, Address weights,
                     Address packed, Address scales, int threads) {
        const Packing task{static_cast<Format>(format), is_bf16, out, in, depth, group, to(weights), to(packed),
                           reinterpret_cast<uint16_t*>(scales)};
        run([=] { return chosen->pack(task, threads), true; });
    }, unlocked);
    m.def("look_up", [](int format, bool is_bf16, int64_t count, int64_t in, int64_t out_size, int64_t depth, int64_t group,
                        Address ids, Address weights, Address scales, Address out, int threads) {
        const Rows task{static_cast<Format>(format), is_bf16, count, in, out_size, depth, group, at<int64_t>(ids),
                        at<uint8_t>(weights), at<uint16_t>(scales), to(out)};
        return run([=] {
            for (int64_t i = 0; i < count; ++i)
                if (task.ids[i] < 0 || task.ids[i] >= out_size) return false;
            return chosen->look_up(task, threads), true;
        });
    }, unlocked, "False, and nothing done, if an id is not in the table.");
    m.def("paged_decode", [](bool is_bf16, int64_t sequences, int64_t heads, int64_t kv_heads, int64_t head_dim,
                             int64_t value_dim, Address q, Address k_pool, Address v_pool, Address k_scales,
                             Address v_scales, Address blocks, int64_t max_blocks, int64_t block_size, Address lengths,
                             int64_t window, float scale, float soft_cap, Address out, int threads) {
        const Attention task{is_bf16, sequences, heads, kv_heads, head_dim, value_dim, to(q), to(k_pool), to(v_pool),
                             at<float>(k_scales), at<float>(v_scales), at<int32_t>(blocks), max_blocks, block_size,
                             at<int32_t>(lengths), window, scale, soft_cap, to(out)};
        return run([=] {
            for (int64_t i = 0; i < sequences; ++i)
                if (task.lengths[i] < 1 || task.lengths[i] > max_blocks * block_size) return false;
            return chosen->paged_decode(task, threads), true;
        });
    }, unlocked, "False, and nothing done, if a length does not fit the blocks.");
    m.def("prefill_attention", [](bool is_bf16, int64_t queries, int64_t keys, int64_t heads, int64_t kv_heads,
                                  int64_t head_dim, int64_t value_dim, Address q, Address k, Address v,
                                  Address k_scales, Address v_scales, Address blocks, int64_t block_size, bool is_causal,
                                  int64_t window, float scale, float soft_cap, Address out, int threads) {
        const Prefill task{is_bf16, queries, keys, heads, kv_heads, head_dim, value_dim, to(q), to(k), to(v),
                           at<float>(k_scales), at<float>(v_scales), at<int32_t>(blocks), block_size, is_causal, window,
                           scale, soft_cap, to(out)};
        run([=] { return chosen->prefill_attention(task, threads), true; });
    }, unlocked);
    m.def("rms_norm", [](bool x_is_bf16, bool is_bf16, int64_t tokens, int64_t heads, int64_t size, int64_t stride,
                         Address x, Address weight, float eps, Address out, int threads) {
        const RmsNorm task{x_is_bf16, is_bf16, tokens, heads, size, stride, to(x), to(weight), eps, to(out)};
        run([=] { return chosen->rms_norm(task, threads), true; });
    }, unlocked);
    m.def("rotate", [](bool is_bf16, int64_t tokens, int64_t heads, int64_t head_dim, int64_t stride, Address x,
                       Address cos, Address sin, Address out, int threads) {
        const Rotate task{is_bf16, tokens, heads, head_dim, stride, to(x), at<float>(cos), at<float>(sin), to(out)};
        run([=] { return chosen->rotate(task, threads), true; });
    }, unlocked);
    m.def("gated", [](bool is_bf16, int64_t rows, int64_t size, int64_t gate_stride, int64_t up_stride, Address gate,
                      Address up, float linear, float cubic, Address out, int threads) {
        const Gated task{is_bf16, rows, size, gate_stride, up_stride, to(gate), to(up), linear, cubic, to(out)};
        run([=] { return chosen->gated(task, threads), true; });
    }, unlocked);
    m.def("add", [](bool is_bf16, bool y_is_bf16, int64_t size, Address x, Address y, Address out, int threads) {
        const Addition task{is_bf16, y_is_bf16, size, to(x), to(y), to(out)};
        run([=] { return chosen->add(task, threads), true; });
    }, unlocked);
    m.def("store", [](int64_t rows, int64_t k_bytes, int64_t v_bytes, int64_t k_stride, int64_t v_stride,
                      int64_t num_slots, Address slots, Address k, Address v, Address k_pool, Address v_pool) {
        return run([=] {
            const auto* each = at<int64_t>(slots);
            for (int64_t i = 0; i < rows; ++i)
                if (each[i] < 0 || each[i] >= num_slots) return false;
            const auto *from_k = at<char>(k), *from_v = at<char>(v);
            auto *to_k = static_cast<char*>(to(k_pool)), *to_v = static_cast<char*>(to(v_pool));
            for (int64_t i = 0; i < rows; ++i) {
                std::memcpy(to_k + each[i] * k_bytes, from_k + i * k_stride, k_bytes);
                std::memcpy(to_v + each[i] * v_bytes, from_v + i * v_stride, v_bytes);
            }
            return true;
        });
    }, unlocked, "False, and nothing done, if a slot is not in the pools.");
}
