#include "advice.h"

#include <algorithm>
#include <future>
#include <vector>

namespace thimble {
namespace {

constexpr int kEvaluations = 1000;  // a twelfth of a plan's: several are made, to say what would do, not what is best

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

struct Outcome {
  Bytes arena;
  double milliseconds;
  bool fits;
};

Outcome outcome_of(const ModelOptions& options) {
  const auto [answer, calibration] = plan_training(options, training_requests(options), "", kEvaluations);
  const Plan& plan = plan_or_smallest(answer);
  return {plan.arena, program_cost(plan.programs.front(), registry(), plan.device, calibration.get()).milliseconds,
          std::holds_alternative<Plan>(answer)};
}

}  // namespace

nlohmann::ordered_json advise(const ModelOptions& options, Bytes smallest) {
  const std::vector<Allowance> allowed = allowances(options);
  std::vector<std::future<Outcome>> outcomes;
  outcomes.reserve(allowed.size());
  for (const Allowance& allowance : allowed)
    outcomes.push_back(std::async(std::launch::async, [&] { return outcome_of(allowance.allowed); }));
  std::vector<nlohmann::ordered_json> all;
  all.reserve(allowed.size());
  for (std::size_t i = 0; i < allowed.size(); ++i) {
    const Outcome outcome = outcomes[i].get();
    if (outcome.arena >= smallest) continue;
    all.push_back({{"option", allowed[i].option},
                   {"arena_bytes", outcome.arena.value},
                   {"predicted_ms", outcome.milliseconds},
                   {"fits", outcome.fits}});
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    if (a.at("fits") != b.at("fits")) return a.at("fits").template get<bool>();
    const char* key = a.at("fits").template get<bool>() ? "predicted_ms" : "arena_bytes";
    return a.at(key) < b.at(key);
  });
  return all;
}

}  // namespace thimble
