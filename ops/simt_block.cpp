// Without instrumentation in ThreadSanitizer's mode, as simt_fiber.cpp.
#include "simt_block.h"

#include <bit>
#include <string_view>
#include <utility>

#include "thimble/error.h"

// The worker's, not the fiber's: a fiber never changes its worker.
constinit thread_local uint3 threadIdx{0, 0, 0};
constinit thread_local uint3 blockIdx{0, 0, 0};
constinit thread_local dim3 blockDim;
constinit thread_local dim3 gridDim;

namespace thimble::simt {
namespace {

std::string text(uint3 index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

// splitmix64
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15U);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

char launch_token;  // addresses in ThreadSanitizer's books: before the launch, after it
char end_token;

}  // namespace

bool same_place(const Place& a, const Place& b) {
  return a.line == b.line && (a.file == b.file || std::string_view(a.file) == b.file);
}

void BlockRunner::end_launch() { acquire_order(&end_token); }

BlockRunner& BlockRunner::mine() {
  thread_local BlockRunner runner;
  return runner;
}

void BlockRunner::run(const Launch& launch, std::uint64_t block, std::uint64_t number, const Schedule& schedule) {
  launch_ = &launch;
  order_ = schedule.order;
  random_ = schedule.seed * 0x9e3779b97f4a7c15U + block;
  struct Leave {
    const Launch*& launch;
    ~Leave() { launch = nullptr; }
  } leave{launch_};

  begin(block, number);
  release_order(&launch_token);
  unsigned first = 0;
  if (choose(first)) leave_for(fibers_.host(), first);
  if (failure_) {
    fibers_.abandon(&end_token);
    end_launch();
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
  const std::string damage = shared_.damage();
  if (!damage.empty()) throw Error(prefix(false) + damage);
}

void BlockRunner::begin(std::uint64_t block, std::uint64_t number) {
  const dim3 grid = launch_->grid;
  const dim3 extent = launch_->block;
  gridDim = grid;
  blockDim = extent;
  blockIdx = {static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
              static_cast<unsigned>(block / grid.x / grid.y)};
  const unsigned count = extent.x * extent.y * extent.z;
  if (extent.x != numbered_.x || extent.y != numbered_.y || extent.z != numbered_.z) {
    threads_.resize(count);
    for (unsigned i = 0; i < count; ++i)
      threads_[i].index = {i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y};
    numbered_ = extent;
  }
  for (Thread& thread : threads_) {
    thread.state = State::not_started;
    thread.fiber = nullptr;
  }
  warps_ = {};
  runnable_warps_ = 0;
  for (unsigned first = 0; first < count; first += kLanes) {
    Warp& warp = warps_[first / kLanes];
    warp.present = warp.runnable = count - first < kLanes ? (1U << (count - first)) - 1 : 0xffffffffU;
    runnable_warps_ |= 1U << first / kLanes;
  }
  live_ = count;
  at_barrier_ = predicates_ = barriers_ = 0;
  current_ = 0;
  // Otherwise the same fiber would run the same thread of all blocks, and no race between those would be seen.
  if (kRaceDetection) {
    fibers_.at(count + kLanes / 4);
    rotation_ = static_cast<std::size_t>(number);
  }
  shared_.begin_block(launch_->shared_bytes);
}

// Lowest, highest or any: the order of lanes, and with choose() of warps.
unsigned BlockRunner::choose_bit(unsigned bits) {
  switch (order_) {
    case Order::forward:
      return static_cast<unsigned>(std::countr_zero(bits));
    case Order::reverse:
      return static_cast<unsigned>(31 - std::countl_zero(bits));
    case Order::random:
      break;
  }
  auto skip = static_cast<unsigned>(next_random(random_) % static_cast<unsigned>(std::popcount(bits)));
  for (; skip > 0; --skip) bits &= bits - 1;
  return static_cast<unsigned>(std::countr_zero(bits));
}

bool BlockRunner::choose(unsigned& next) {
  if (runnable_warps_ == 0) return false;
  unsigned warp = current_ / kLanes;
  // At random a warp mostly keeps its turn, so that some warps get far ahead of others.
  const bool stays = order_ == Order::random && warps_[warp].runnable != 0 && next_random(random_) % 8 != 0;
  if (!stays) warp = choose_bit(runnable_warps_);
  next = warp * kLanes + choose_bit(warps_[warp].runnable);
  return true;
}

void BlockRunner::set_runnable(unsigned thread) {
  warps_[thread / kLanes].runnable |= 1U << thread % kLanes;
  runnable_warps_ |= 1U << thread / kLanes;
}

void BlockRunner::become(unsigned thread) {
  Warp& warp = warps_[thread / kLanes];
  warp.runnable &= ~(1U << thread % kLanes);
  if (warp.runnable == 0) runnable_warps_ &= ~(1U << thread / kLanes);
  current_ = thread;
  threads_[thread].state = State::runs;
  threadIdx = threads_[thread].index;
}

Fiber& BlockRunner::fiber_of(unsigned thread) {
  Fiber*& fiber = threads_[thread].fiber;
  if (fiber == nullptr)
    fiber = kRaceDetection ? &fibers_.at((thread + rotation_) % (threads_.size() + kLanes / 4)) : &fibers_.take();
  return *fiber;
}

void BlockRunner::leave_for(Fiber& from, unsigned next) {
  Fiber& to = fiber_of(next);
  become(next);
  ++switches_;
  switch_fiber(from, to, fiber_main);
}

// One after the other on this stack, until the next one has a stack of its own.
void BlockRunner::fiber_main() { mine().run_threads(); }

void BlockRunner::run_threads() {
  for (;;) {
    Fiber& fiber = *threads_[current_].fiber;
    run_thread();
    unsigned next = 0;
    if (failure_ || live_ == 0) {
      if (!failure_ && !kRaceDetection) fibers_.give_back(fiber);
      ++switches_;
      switch_fiber(fiber, fibers_.host(), nullptr);
    } else if (!choose(next)) {
      failure_ = std::make_exception_ptr(Error(prefix(false) + "deadlock: " + waiting()));
      switch_fiber(fiber, fibers_.host(), nullptr);
    } else if (!kRaceDetection && threads_[next].state == State::not_started) {
      threads_[next].fiber = &fiber;
      become(next);
    } else {
      if (!kRaceDetection) fibers_.give_back(fiber);
      leave_for(fiber, next);
    }
  }
}

void BlockRunner::run_thread() {
  try {
    acquire_order(&launch_token);
    launch_->thread(launch_->body);
    thread_returned();
  } catch (const Error& error) {
    failure_ = std::make_exception_ptr(Error(prefix(true) + error.what()));
  } catch (...) {
    failure_ = std::current_exception();
  }
  release_order(&end_token);
}

void BlockRunner::yield() {
  const unsigned self = current_;
  unsigned next = 0;
  if (!choose(next)) throw Error("deadlock: " + waiting());
  if (next == self)
    become(self);
  else
    leave_for(*threads_[self].fiber, next);
}

void BlockRunner::thread_returned() {
  Thread& self = threads_[current_];
  self.state = State::returned;
  --live_;
  Warp& warp = warps_[current_ / kLanes];
  warp.returned |= 1U << current_ % kLanes;
  if (at_barrier_ > 0) throw Error("returns while others wait for the whole block: " + waiting());
  for (unsigned rest = warp.waiting; rest != 0; rest &= rest - 1) {
    const Thread& other = threads_[current_ / kLanes * kLanes + static_cast<unsigned>(std::countr_zero(rest))];
    if ((other.call.mask >> current_ % kLanes & 1) != 0)
      throw Error("returns while its warp waits for it: " + waiting());
  }
}

void BlockRunner::check_barrier(const Place& where) const {
  if (live_ == threads_.size() && (at_barrier_ == 0 || same_place(barrier_place_, where))) return;
  for (unsigned i = 0; i < threads_.size(); ++i)
    if (threads_[i].state == State::returned || threads_[i].state == State::waits_for_block)
      throw Error("barrier at " + where.text() + ": " + describe(i));
}

int BlockRunner::barrier(bool predicate, const Place& where, bool orders) {
  check_barrier(where);
  if (at_barrier_ == 0) barrier_place_ = where;
  Thread& self = threads_[current_];
  self.where = where;
  self.state = State::waits_for_block;
  warps_[current_ / kLanes].at_block |= 1U << current_ % kLanes;
  void* token = shared_.block_token(barriers_ % 2);
  if (orders) release_order(token);
  predicates_ += predicate ? 1 : 0;
  if (++at_barrier_ == threads_.size()) {
    barrier_result_ = static_cast<int>(predicates_);
    at_barrier_ = predicates_ = 0;
    ++barriers_;
    for (Thread& thread : threads_) thread.state = State::can_go_on;
    for (unsigned first = 0; first < threads_.size(); first += kLanes) {
      Warp& warp = warps_[first / kLanes];
      warp.at_block = 0;
      warp.runnable = warp.present;
      runnable_warps_ |= 1U << first / kLanes;
    }
  }
  yield();
  if (orders) acquire_order(token);
  return barrier_result_;
}

std::string BlockRunner::describe(unsigned thread) const {
  const Thread& t = threads_[thread];
  std::string who = "thread " + text(t.index);
  switch (t.state) {
    case State::not_started:
      return who + " has not started";
    case State::runs:
      return who + " runs";
    case State::can_go_on:
      return who + " goes on after " + t.where.text();
    case State::waits_for_block:
      return who + " waits at the barrier " + t.where.text();
    case State::waits_for_warp:
      return who + " waits at the warp operation " + t.where.text();
    case State::returned:
      break;
  }
  return who + " has returned";
}

// Every place once, with the first thread there.
std::string BlockRunner::waiting() const {
  std::string list;
  std::vector<bool> told(threads_.size());
  for (unsigned i = 0; i < threads_.size(); ++i) {
    const Thread& t = threads_[i];
    if (told[i] || (t.state != State::waits_for_block && t.state != State::waits_for_warp)) continue;
    unsigned others = 0;
    for (unsigned k = i + 1; k < threads_.size(); ++k)
      if (threads_[k].state == t.state && same_place(threads_[k].where, t.where)) {
        told[k] = true;
        ++others;
      }
    if (!list.empty()) list += "; ";
    list += describe(i);
    if (others > 0) list += " (and " + std::to_string(others) + " more)";
  }
  return list;
}

std::string BlockRunner::prefix(bool with_thread) const {
  std::string who = std::string("simt: launch at ") + launch_->file + ":" + std::to_string(launch_->line) + ": block " +
                    text(blockIdx);
  if (with_thread) who += ", thread " + text(threads_[current_].index);
  return who + ": ";
}

}  // namespace thimble::simt
