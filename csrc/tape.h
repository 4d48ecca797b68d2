// Kernels that were run, in order, with their addresses: to be run again in one call, by threads that stay together.
//
// What a step of decoding does on the way from kernel to kernel, in Python and waking threads, takes longer than many of
// its kernels. Read next: module.cpp, which writes on the tape.
#pragma once

#include <functional>
#include <vector>

#include "kernels.h"

namespace malmoi {

class Tape {
public:
    // A call says whether it could do what was asked.
    using Call = std::function<bool()>;

    void add(Call call, bool is_shared) {
        calls.push_back(std::move(call));
        num_shared_calls += is_shared;
    }
    bool is_empty() const { return calls.empty(); }

    // All of them once more; stops at the first that cannot, and says so.
    bool play(int threads) const;

private:
    bool play_alone() const;
    std::vector<Call> calls;
    int64_t num_shared_calls = 0;  // that threads share
};

// What kernels of this thread are written on, or null.
extern __thread Tape* recording;

}  // namespace malmoi
