#include "advice.h"

#include <algorithm>
#include <vector>

#include "plan_report.h"

namespace thimble {
namespace {

constexpr int kEvaluations = 2000;  // a quarter of a plan's: several are made, to say what would do, not what is best

struct Allowance {
  std::string option;
  ModelOptions allowed;
};

// Two more halves of a chunk.
std::int64_t smaller_chunk(const ModelOptions& options) { return std::max<std::int64_t>(1, options.least_chunk / 4); }

// One at a time, then all of them; of two ways to smaller microbatches the one that keeps statistics good.
std::vector<Allowance> allowances(const ModelOptions& options) {
  std::vector<Allowance> all;
  ModelOptions everything = options;
  std::string every_option;
  const auto allow_alone = [&](const std::string& option, auto change) {
    Allowance one{option, options};
    one.allowed.calibrate = everything.calibrate = false;  // measured already
    change(one.allowed);
    all.push_back(std::move(one));
  };
  const auto allow = [&](const std::string& option, auto change) {
    allow_alone(option, change);
    change(everything);
    every_option += (every_option.empty() ? "" : " ") + option;
  };
  if (options.remat == "off") allow("--remat auto", [](ModelOptions& o) { o.remat = "auto"; });
  const bool is_text = is_translation(options);
  if (is_text && options.chunk != "auto") allow("--chunk auto", [](ModelOptions& o) { o.chunk = "auto"; });
  if (is_text && options.chunk == "auto" && options.least_chunk > 1)
    allow("--min-chunk " + std::to_string(smaller_chunk(options)),
          [](ModelOptions& o) { o.least_chunk = smaller_chunk(o); });
  if (!is_text && options.fuse == "off") allow("--fuse auto", [](ModelOptions& o) { o.fuse = "auto"; });
  if (options.loops != "auto") allow("--loops auto", [](ModelOptions& o) { o.loops = "auto"; });
  if (!is_text && options.microbatch != "auto")
    allow("--microbatch auto", [](ModelOptions& o) { o.microbatch = "auto"; });
  const bool is_held_up = !is_text && options.microbatch == "auto" && least_microbatch(options) > 1;
  const auto one_sample = [](ModelOptions& o) { o.least_microbatch = 1; };
  if (is_held_up && options.norm == "group") allow("--min-microbatch 1", one_sample);
  if (is_held_up && options.norm == "batch") {
    allow_alone("--min-microbatch 1", one_sample);
    allow(options.least_microbatch ? "--norm group --min-microbatch 1" : "--norm group", [](ModelOptions& o) {
      o.norm = "group";
      if (o.least_microbatch) o.least_microbatch = 1;
    });
  }
  if (!is_text && options.accumulate != "momentum")
    allow(options.optimizer == "momentum" ? "--accumulate momentum" : "--optimizer momentum --accumulate momentum",
          [](ModelOptions& o) { o.optimizer = o.accumulate = "momentum"; });
  const auto is_one = [&](const Allowance& one) { return one.option == every_option; };
  if (!every_option.empty() && std::none_of(all.begin(), all.end(), is_one)) all.push_back({every_option, everything});
  return all;
}

nlohmann::ordered_json report_of(const ModelOptions& options) {
  const auto [answer, calibration] = plan_training(options, training_requests(options), "", kEvaluations);
  return plan_report(answer, registry(), calibration.get());
}

}  // namespace

nlohmann::ordered_json advise(const ModelOptions& options, Bytes smallest) {
  std::vector<nlohmann::ordered_json> all;
  for (const Allowance& allowance : allowances(options)) {
    const auto report = report_of(allowance.allowed);
    if (report.at("arena_bytes").get<std::int64_t>() >= smallest.value) continue;
    all.push_back({{"option", allowance.option},
                   {"arena_bytes", report.at("arena_bytes")},
                   {"predicted_ms", report.at("predicted_ms")},
                   {"fits", report.at("fits")}});
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    if (a.at("fits") != b.at("fits")) return a.at("fits").template get<bool>();
    const char* key = a.at("fits").template get<bool>() ? "predicted_ms" : "arena_bytes";
    return a.at(key) < b.at(key);
  });
  return all;
}

}  // namespace thimble
