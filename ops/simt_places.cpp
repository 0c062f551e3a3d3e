// Without instrumentation in ThreadSanitizer's mode, as simt_fiber.cpp. CUDA threads come by here: nothing allocates,
// and the lock is none that ThreadSanitizer takes for order between them.
#include "simt_places.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "thimble/error.h"

namespace thimble::simt {

std::atomic<bool> places_matter = false;

namespace {

// A file of each translation unit has an address of its own, so a place of a header has several slots.
struct Slot {
  const char* file;
  int line;
};

struct Books {
  std::atomic_flag busy;
  bool records = false;
  std::array<Slot, 4096> slots{};
  std::string file;  // of the barrier left out
  int line = 0;      // 0: none is
};
Books& books() {
  static Books all;
  return all;
}

class Locked {
 public:
  explicit Locked(Books& of) : of_(of) {
    while (of_.busy.test_and_set(std::memory_order_acquire)) {
    }
  }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  ~Locked() { of_.busy.clear(std::memory_order_release); }

 private:
  Books& of_;
};

void note(Books& all, const char* file, int line) {
  const auto hash = reinterpret_cast<std::uintptr_t>(file) * 31 + static_cast<std::uintptr_t>(line);
  for (std::size_t i = 0; i < all.slots.size(); ++i) {
    Slot& slot = all.slots[(hash + i) % all.slots.size()];
    if (slot.file == nullptr) slot = {file, line};
    if (slot.file == file && slot.line == line) return;
  }
  throw Error("simt: more places than there is room for");
}

// "embedding.cu" and "ops/embedding.cu" are ".../ops/embedding.cu".
bool is_end_of(std::string_view file, std::string_view path) {
  if (!path.ends_with(file)) return false;
  return path.size() == file.size() || path[path.size() - file.size() - 1] == '/';
}

void set_left_out(std::string_view place) {
  Books& all = books();
  const std::size_t colon = std::min(place.rfind(':'), place.size());
  int line = 0;
  if (!place.empty()) {
    const char* end = place.data() + place.size();
    const char* digits = std::min(place.data() + colon + 1, end);
    const auto [stop, error] = std::from_chars(digits, end, line);
    if (colon == 0 || error != std::errc() || stop != end || line < 1)
      throw InvalidArgument("SIMT_WITHOUT='" + std::string(place) + "' is no <file>:<line>");
  }
  const Locked lock(all);
  all.file = place.substr(0, colon);
  all.line = line;
  places_matter = all.records || all.line != 0;
}

}  // namespace

void read_left_out() {
  [[maybe_unused]] static const bool is_read = [] {
    if (const char* place = std::getenv("SIMT_WITHOUT")) set_left_out(place);
    return true;
  }();
}

void leave_out(const std::string& place) {
  read_left_out();
  set_left_out(place);
}

void record_places(bool on) {
  Books& all = books();
  const Locked lock(all);
  all.slots = {};
  all.records = on;
  places_matter = all.records || all.line != 0;
}

std::vector<std::string> passed_places() {
  Books& all = books();
  const Locked lock(all);
  std::vector<std::string> passed;
  for (const Slot& slot : all.slots)
    if (slot.file != nullptr) passed.push_back(std::string(slot.file) + ":" + std::to_string(slot.line));
  return passed;
}

bool passes_barrier(const Place& where) {
  Books& all = books();
  const Locked lock(all);
  if (all.records) note(all, where.file, where.line);
  return all.line == where.line && is_end_of(all.file, where.file);
}

}  // namespace thimble::simt
