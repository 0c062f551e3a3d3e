// Three buffers get their offsets before anything runs; then they live in exactly those bytes (placement.h, arena.h).
#include <cstdio>

#include "thimble/arena.h"
#include "thimble/error.h"
#include "thimble/placement.h"

using namespace thimble;
using namespace thimble::literals;

int main() {
  PlacementProblem problem;
  problem.alignment = kAlignment;
  problem.buffers = {{"a", {Step{0}, Step{2}}, 4_KiB},
                     {"b", {Step{1}, Step{3}}, 8_KiB},
                     {"c", {Step{2}, Step{4}}, 4_KiB}};  // begins where `a` ends: may have its bytes
  const Placement placement = place_buffers(problem);
  if (!check_placement(problem, placement.offsets).empty()) return 1;
  std::printf("arena of %s; nothing below %s would do\n", to_string(placement.peak).c_str(),
              to_string(placement.lower_bound).c_str());

  HostMemory memory;
  Arena arena(memory, placement.peak, {.poison = true, .canaries = true});
  for (std::int32_t step = 0; step < 4; ++step) {
    for (std::size_t i = 0; i < problem.buffers.size(); ++i)  // what ends makes room for what begins
      if (problem.buffers[i].lifetime.end == Step{step}) arena.release(placement.offsets[i]);
    for (std::size_t i = 0; i < problem.buffers.size(); ++i) {
      const Buffer& buffer = problem.buffers[i];
      if (buffer.lifetime.begin != Step{step}) continue;
      std::byte* data = arena.grant(buffer.name, placement.offsets[i], buffer.size);
      data[0] = std::byte{1};  // yours until it is released
      std::printf("step %d: '%s' at offset %lld\n", step, buffer.name.c_str(),
                  static_cast<long long>(placement.offsets[i].value));
    }
  }

  bool is_refused = false;
  try {
    arena.grant("intruder", placement.offsets[2], 64_B);
  } catch (const InvalidArgument& error) {
    is_refused = true;
    std::printf("refused: %s\n", error.what());
  }
  std::printf("high water %s\n", to_string(arena.high_water()).c_str());
  return is_refused && arena.high_water() == placement.peak ? 0 : 1;
}
