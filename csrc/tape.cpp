#include "tape.h"

#include <sched.h>

namespace malmoi {

Fork fork_threads = nullptr;
__thread Share* team = nullptr;
__thread int64_t num_shared = 0;
__thread Tape* recording = nullptr;

// Look again and again, and after some time offer the core to others in between.
template <class Condition>
static void wait_for(const Condition& is_true) {
    constexpr int patience = 2000;
    for (int looks = 0; !is_true(); ++looks)
        if (looks > patience) {
            sched_yield();
        } else {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
}

// --- jobs --------------------------------------------------------------------------------------------------

constexpr uint64_t kFirst = uint64_t{1} << 32;  // a ticket's lower half is a piece, the upper one the job's number
constexpr uint64_t kNone = kFirst - 1;          // further than any piece

void Share::begin(const Job& next) {
    // Closed first: nobody may take a piece of the job before by the numbers of this one.
    const uint64_t number = ticket.load(std::memory_order_relaxed) / kFirst + 1;
    ticket.store(number * kFirst + kNone, std::memory_order_relaxed);
    count.store(next.count, std::memory_order_release);
    parts.store(next.parts, std::memory_order_release);
    job = next;
    num_done.store(0, std::memory_order_relaxed);
    ticket.store((number + 1) * kFirst, std::memory_order_release);
}

bool Share::take_part() {
    bool has_worked = false;
    for (;;) {
        uint64_t mine = ticket.load(std::memory_order_acquire);
        const int64_t begin = static_cast<int64_t>(mine % kFirst), all = count.load(std::memory_order_acquire);
        if (begin >= all) return has_worked;
        const int64_t part = (all - begin) / parts.load(std::memory_order_acquire), end = begin + (part > 1 ? part : 1);
        // If these are the numbers of another job, the ticket is another one, too.
        if (!ticket.compare_exchange_weak(mine, mine + static_cast<uint64_t>(end - begin), std::memory_order_acq_rel)) continue;
        job.run(job.task, begin, end);  // the job cannot end before this is done
        num_done.fetch_add(end - begin, std::memory_order_release);
        has_worked = true;
    }
}

void Share::wait() const {
    wait_for([this] { return num_done.load(std::memory_order_acquire) == job.count; });
}

// --- tapes -------------------------------------------------------------------------------------------------

bool Tape::play_alone() const {
    for (const Call& call : calls)
        if (!call()) return false;
    return true;
}

bool Tape::play(int threads) const {
    if (threads <= 1 || !fork_threads || num_shared_calls < 2) return play_alone();
    struct Together {
        const Tape& tape;
        const void* leader;  // that thread's own address of something
        Share share;
        std::atomic<bool> is_over{false};
        bool is_done = false;
    } together{*this, &team};
    fork_threads(
        [](void* pointer) {
            auto& all = *static_cast<Together*>(pointer);
            if (all.leader != &team) {
                while (!all.is_over.load(std::memory_order_acquire))
                    wait_for([&] { return all.share.take_part() || all.is_over.load(std::memory_order_acquire); });
                return;
            }
            team = &all.share;
            all.is_done = all.tape.play_alone();
            team = nullptr;
            all.is_over.store(true, std::memory_order_release);
        },
        &together, static_cast<unsigned>(threads), 0);
    return together.is_done;
}

}  // namespace malmoi
