// Operations of a warp: all lanes of the mask come to the same call at the same place, then each has its result.
// Without instrumentation in ThreadSanitizer's mode, as simt_fiber.cpp.
#include <bit>

#include "simt_block.h"
#include "thimble/error.h"

namespace thimble::simt {
namespace {

const char* name_of(WarpOp op) {
  switch (op) {
    case WarpOp::sync:
      return "__syncwarp";
    case WarpOp::shuffle:
      return "__shfl_sync";
    case WarpOp::shuffle_up:
      return "__shfl_up_sync";
    case WarpOp::shuffle_down:
      return "__shfl_down_sync";
    case WarpOp::shuffle_xor:
      return "__shfl_xor_sync";
    case WarpOp::ballot:
      return "__ballot_sync";
    case WarpOp::any:
      return "__any_sync";
    case WarpOp::all:
      return "__all_sync";
    default:
      return "a reduction";
  }
}

std::string text(const WarpCall& call, const Place& where) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string mask;
  for (int shift = 28; shift >= 0; shift -= 4) mask += kDigits[call.mask >> shift & 15];
  return std::string(name_of(call.op)) + " with mask 0x" + mask + " at " + where.text();
}

std::uint64_t combine(WarpOp op, std::uint64_t a, std::uint64_t b) {
  const auto as_signed = [](std::uint64_t v) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(v)); };
  switch (op) {
    case WarpOp::add:
      return a + b;
    case WarpOp::min_signed:
      return as_signed(b) < as_signed(a) ? b : a;
    case WarpOp::max_signed:
      return as_signed(a) < as_signed(b) ? b : a;
    case WarpOp::min_unsigned:
      return b < a ? b : a;
    case WarpOp::max_unsigned:
      return a < b ? b : a;
    case WarpOp::all:
    case WarpOp::bits_and:
      return a & b;
    case WarpOp::bits_xor:
      return a ^ b;
    default:
      return a | b;  // any, bits_or; ballot brings bits
  }
}

/// The lane a shuffle reads from, by the programming guide's rules; the own lane where those leave the segment.
int source_lane(const WarpCall& call, int lane) {
  const int first = lane & ~(call.width - 1);
  const int last = first + call.width - 1;
  const auto distance = static_cast<unsigned>(call.lane);
  switch (call.op) {
    case WarpOp::shuffle:
      return first | (call.lane & (call.width - 1));
    case WarpOp::shuffle_up:
      return distance > static_cast<unsigned>(lane - first) ? lane : lane - call.lane;
    case WarpOp::shuffle_down:
      return distance > static_cast<unsigned>(last - lane) ? lane : lane + call.lane;
    default:
      break;
  }
  const int source = lane ^ (call.lane & 31);
  return source > last ? lane : source;
}

bool shuffles(WarpOp op) { return op >= WarpOp::shuffle && op <= WarpOp::shuffle_xor; }

}  // namespace

void BlockRunner::check_call(const WarpCall& call, const Place& where) const {
  const Warp& warp = warps_[current_ / kLanes];
  const unsigned lane = current_ % kLanes;
  const auto wrong = [&](const std::string& what) { throw Error(text(call, where) + ": " + what); };
  if ((call.mask >> lane & 1) == 0) wrong("lane " + std::to_string(lane) + " is not in its own mask");
  if (const unsigned absent = call.mask & ~warp.present; absent != 0)
    wrong("the mask names lane " + std::to_string(std::countr_zero(absent)) + ", which the block does not have");
  if (const unsigned gone = call.mask & warp.returned; gone != 0)
    wrong("the mask names lane " + std::to_string(std::countr_zero(gone)) + ", which has returned");
  if (shuffles(call.op) &&
      (call.width < 1 || call.width > 32 || !std::has_single_bit(static_cast<unsigned>(call.width))))
    wrong("the width is " + std::to_string(call.width) + "; it must be a power of two, 32 at most");
  const unsigned first = current_ - lane;
  if (const unsigned elsewhere = call.mask & warp.at_block; elsewhere != 0)
    wrong(describe(first + static_cast<unsigned>(std::countr_zero(elsewhere))));
  // One of those that wait, early; all of them when the last has come.
  if (const unsigned others = call.mask & warp.waiting; others != 0)
    check_same(first + static_cast<unsigned>(std::countr_zero(others)), call, where);
  if (!shuffles(call.op)) return;
  const int source = source_lane(call, static_cast<int>(lane));
  if ((call.mask >> source & 1) == 0) wrong("reads from lane " + std::to_string(source) + ", which does not take part");
}

void BlockRunner::check_same(unsigned other, const WarpCall& call, const Place& where) const {
  const Thread& t = threads_[other];
  if (!same_place(t.where, where) || t.call.op != call.op)
    throw Error(text(call, where) + ": " + describe(other) + ", another one");
  if (t.call.mask != call.mask) throw Error(text(call, where) + ": " + describe(other) + " with another mask");
}

void BlockRunner::finish_group(unsigned warp, const WarpCall& call) {
  Thread* lanes = &threads_[warp * kLanes];
  std::uint64_t whole = 0;
  bool first = true;
  for (unsigned rest = call.mask; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(rest));
    check_same(warp * kLanes + lane, call, lanes[current_ % kLanes].where);
    std::uint64_t value = lanes[lane].call.value;
    if (call.op == WarpOp::ballot) value <<= lane;
    whole = first ? value : combine(call.op, whole, value);
    first = false;
  }
  for (unsigned rest = call.mask; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(rest));
    Thread& t = lanes[lane];
    t.result = shuffles(call.op) ? lanes[source_lane(t.call, static_cast<int>(lane))].call.value : whole;
    t.state = State::can_go_on;
    set_runnable(warp * kLanes + lane);
  }
}

std::uint64_t BlockRunner::warp_operation(const WarpCall& call, const Place& where) {
  check_call(call, where);
  const unsigned warp = current_ / kLanes;
  Thread& self = threads_[current_];
  self.where = where;
  self.call = call;
  self.state = State::waits_for_warp;
  // Only __syncwarp orders memory; a shuffle does not, whatever it looks like.
  void* token = nullptr;
  unsigned& syncs = warps_[warp].syncs[static_cast<unsigned>(std::countr_zero(call.mask))];
  if (kRaceDetection && call.op == WarpOp::sync) {
    token = shared_.warp_token(warp, static_cast<unsigned>(std::countr_zero(call.mask)), syncs % 2);
    release_order(token);
  }
  unsigned& waiting = warps_[warp].waiting;
  waiting |= 1U << current_ % kLanes;
  if ((waiting & call.mask) == call.mask) {
    waiting &= ~call.mask;
    ++syncs;
    finish_group(warp, call);
  }
  yield();
  if (token != nullptr) acquire_order(token);
  return self.result;
}

}  // namespace thimble::simt
