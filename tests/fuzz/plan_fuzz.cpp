// libFuzzer entry: whatever the bytes are, reading refuses them with an Error or gives a plan that can be checked, and
// a plan without findings replays without problems. Bytes alone would seldom get past the parser, so most inputs are
// sound plans in which a few values of the document were changed.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <string_view>

#include "../scheduler/tiny_ops.h"
#include "thimble/error.h"
#include "thimble/plan.h"
#include "thimble/replay.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace {

using Json = nlohmann::json;

const thimble::OpRegistry& registry() {
  static const thimble::OpRegistry tiny = thimble::testing::tiny_registry();
  return tiny;
}

std::vector<Json*> leaves_of(Json& document) {
  std::vector<Json*> leaves, open{&document};
  while (!open.empty()) {
    Json* value = open.back();
    open.pop_back();
    if (!value->is_structured()) leaves.push_back(value);
    if (value->is_array() && !value->empty()) leaves.push_back(value);  // may lose an entry
    for (Json& child : *value)
      if (value->is_structured()) open.push_back(&child);
  }
  return leaves;
}

void change(Json& value, const std::vector<Json*>& others, std::mt19937& random) {
  constexpr std::int64_t kNumbers[] = {-1, 0, 1, 2, 8, 64, 1 << 20, INT32_MAX, std::int64_t{1} << 46, INT64_MAX};
  if (value.is_array()) {
    value.erase(random() % value.size());
  } else if (value.is_boolean()) {
    value = !value.get<bool>();
  } else if (const Json other = *others[random() % others.size()]; other.type() == value.type() && random() % 2 == 0) {
    value = other;
  } else if (value.is_number_integer()) {
    value = random() % 2 == 0 ? value.get<std::int64_t>() + static_cast<std::int64_t>(random() % 3) - 1
                              : kNumbers[random() % std::size(kNumbers)];
  }
}

// With the hash that the changed section has: else every change to a graph would end at the hash.
std::string with_true_hash(const std::string& text) {
  try {
    thimble::Plan plan = thimble::read_plan(text, "mutated.json");
    plan.arithmetic_hash = thimble::arithmetic_hash(plan);
    return thimble::write_plan(plan);
  } catch (const thimble::Error&) {
    return text;
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  using thimble::testing::Cut;
  std::mt19937 random(seed);
  if (random() % 8 == 0) return LLVMFuzzerMutate(data, size, most);
  Json document = Json::parse(data, data + size, nullptr, false);
  if (document.is_discarded() || !document.is_object() || random() % 16 == 0) {
    const Cut cuts[] = {{8}, {4, 4}, {3, 5}};
    document = Json::parse(thimble::write_plan(thimble::testing::two_programs(registry(), cuts[random() % 3])));
  }
  for (unsigned changes = 1 + random() % 3; changes > 0; --changes) {
    const std::vector<Json*> leaves = leaves_of(document);
    if (!leaves.empty()) change(*leaves[random() % leaves.size()], leaves, random);
  }
  std::string text = document.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (random() % 4 != 0) text = with_true_hash(text);
  if (text.size() > most) return LLVMFuzzerMutate(data, size, most);
  std::memcpy(data, text.data(), text.size());
  return text.size();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  thimble::Plan plan;
  try {
    plan = thimble::read_plan({reinterpret_cast<const char*>(data), size}, "fuzz.json");
  } catch (const thimble::Error&) {
    return 0;
  }
  if (!thimble::check_plan(plan, registry()).empty()) return 0;
  const thimble::ReplayReport report = thimble::replay(plan, registry());
  if (!report.problems.empty()) {
    std::fprintf(stderr, "%s\n", report.problems.front().c_str());
    std::abort();
  }
  if (thimble::read_plan(thimble::write_plan(plan), "written.json") != plan) std::abort();
  return 0;
}
