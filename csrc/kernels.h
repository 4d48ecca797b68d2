// What the levels have in common: the arguments of each kernel, the table of a level's kernels, and the threads.
//
// Read next: simd.h, then linear.h.
#pragma once

#include <atomic>
#include <cstdint>

namespace malmoi {

constexpr int kPanel = 32;  // outputs whose weights lie side by side

// How a panel's weights lie: the inputs two, four or eight at a time, and those of each of its outputs together.
enum class Format { bf16, int8, int4 };

// y (rows, out) = x (rows, in) times the weights (out, in), plus bias. x, bias and y are bf16 or fp32.
struct Linear {
    Format format;
    bool is_bf16;
    int64_t rows, in, out;
    int64_t depth;  // `in`, rounded up to whole groups
    int64_t group;  // inputs that share a scale; not of bf16
    const void* x;
    const uint8_t* weights;
    const uint16_t* scales;
    const void* bias;  // or null
    void* y;
};

// Weights (out, in), bf16 or fp32, laid out and rounded as `format` has them; bf16 ones are only laid out.
struct Packing {
    Format format;
    bool is_bf16;
    int64_t out, in, depth, group;
    const void* weights;
    void* packed;
    uint16_t* scales;
};

// out (count, in): the weights of the outputs `ids`, as numbers, in bf16 or fp32.
struct Rows {
    Format format;
    bool is_bf16;
    int64_t count, in, out_size, depth, group;
    const int64_t* ids;
    const uint8_t* weights;
    const uint16_t* scales;
    void* out;
};

// One query a sequence over keys and values in blocks of a pool; all of one precision, or those in 8 bits.
struct Attention {
    bool is_bf16;
    int64_t sequences, heads, kv_heads, head_dim, value_dim;
    const void* q;
    const void* k_pool;
    const void* v_pool;
    const float* k_scales;  // (slots, kv_heads), of keys in 8 bits; or null
    const float* v_scales;
    const int32_t* blocks;  // (sequences, max_blocks)
    int64_t max_blocks, block_size;
    const int32_t* lengths;
    int64_t window;  // positions that a query sees, itself included; -1 for all
    float scale, soft_cap;  // a cap of 0 bends nothing
    void* out;
};

// The last queries of one sequence over all its keys; all of one precision, or keys and values in 8 bits.
struct Prefill {
    bool is_bf16;
    int64_t queries, keys, heads, kv_heads, head_dim, value_dim;
    const void* q;  // (queries, heads, head_dim)
    const void* k;  // (tokens, kv_heads, head_dim)
    const void* v;
    const float* k_scales;  // (tokens, kv_heads), of keys in 8 bits; or null
    const float* v_scales;
    const int32_t* blocks;  // where in k and v the keys lie; or null: they are the first ones
    int64_t block_size;
    bool is_causal;
    int64_t window;  // as Attention has it, to both sides if not causal
    float scale, soft_cap;
    void* out;
};

// out = x / rms(x) * weight, for each head of each token; a token's heads lie side by side, tokens `stride` apart.
// Weight and out are of one precision, x of that one or of a wider one.
struct RmsNorm {
    bool x_is_bf16, is_bf16;
    int64_t tokens, heads, size, stride;
    const void* x;
    const void* weight;
    float eps;
    void* out;
};

// Turns the two halves of each head by the angle of its token; cos and sin are (tokens, head_dim / 2) in fp32. A token's
// heads lie side by side, tokens `stride` apart.
struct Rotate {
    bool is_bf16;
    int64_t tokens, heads, head_dim, stride;
    const void* x;
    const float* cos;
    const float* sin;
    void* out;
};

// out = a(gate) * up with a(x) = x * sigmoid(linear x + cubic x^3): SiLU, and GELU's two approximations.
struct Gated {
    bool is_bf16;
    int64_t rows, size, gate_stride, up_stride;
    const void* gate;
    const void* up;
    float linear, cubic;
    void* out;
};

// out = x + y. x and out are of one precision, y of that one or of a narrower one.
struct Addition {
    bool is_bf16, y_is_bf16;
    int64_t size;
    const void* x;
    const void* y;
    void* out;
};

struct Kernels {
    const char* level;
    bool (*runs_here)();
    void (*linear)(const Linear&, int threads);
    void (*pack)(const Packing&, int threads);
    void (*look_up)(const Rows&, int threads);
    void (*paged_decode)(const Attention&, int threads);
    void (*prefill_attention)(const Prefill&, int threads);
    void (*rms_norm)(const RmsNorm&, int threads);
    void (*rotate)(const Rotate&, int threads);
    void (*gated)(const Gated&, int threads);
    void (*add)(const Addition&, int threads);
};

// --- threads -----------------------------------------------------------------------------------------------

// GCC's entry into OpenMP, which every OpenMP runtime has. It is PyTorch's own one, looked up when the module is
// loaded: a second pool of threads would fight with PyTorch's for the cores. Null: everything runs on the caller.
using Fork = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
extern Fork fork_threads;

// `count` pieces of work. Whoever comes takes one of `parts` parts of what is left.
struct Job {
    void (*run)(const void* task, int64_t begin, int64_t end);
    const void* task;
    int64_t count, parts;
};

// A job that several threads work on: each takes what nobody has taken.
class Share {
public:
    void begin(const Job& next);
    // Work until nothing is left to take; false if nothing was.
    bool take_part();
    void wait() const;  // until all that was taken is done

private:
    Job job{};
    // The number of the job, and the first piece that is left. In one: whoever looks at the one job cannot take from the next.
    alignas(64) std::atomic<uint64_t> ticket{0};
    std::atomic<int64_t> count{0}, parts{1};
    alignas(64) std::atomic<int64_t> num_done{0};
};

// What the threads that stay together over many kernels work on, if this one leads them, or null (see tape.h).
extern __thread Share* team;
extern __thread int64_t num_shared;  // how many jobs this thread has shared with others

// Run task(0) ... task(count - 1), each once, on at most `threads` threads: whoever is free takes the next ones.
template <class Task>
void parallel(int64_t count, int threads, const Task& task) {
    if (threads > count) threads = static_cast<int>(count);
    if (threads <= 1 || !fork_threads) {
        for (int64_t i = 0; i < count; ++i) task(i);
        return;
    }
    const auto run = [](const void* all, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) (*static_cast<const Task*>(all))(i);
    };
    // Neighbours go together: a thread then reads memory in long runs, which is what the hardware fetches ahead. Shorter
    // ones at the end, or all would wait for whoever began a long one last.
    const Job job{run, &task, count, 2 * threads};
    ++num_shared;
    Share alone;
    Share& share = team ? *team : alone;
    share.begin(job);
    if (team)
        share.take_part();
    else
        fork_threads([](void* pointer) { static_cast<Share*>(pointer)->take_part(); }, &share, static_cast<unsigned>(threads), 0);
    share.wait();
}

}  // namespace malmoi
