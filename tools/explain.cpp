#include "explain.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "plan_report.h"
#include "thimble/planner.h"
#include "thimble/training_plan.h"
#include "thimble/translation_plan.h"

namespace thimble {
namespace {

struct Again {
  std::string name;
  Bytes bought;  // at the peak step
  Bytes size;
  int times = 0;
  double milliseconds = 0;
};

// Of one op, over all parts of the cut.
double milliseconds_of(const Program& program, OpId op, const OpRegistry& registry, const DeviceDescription& device,
                       const CalibrationTable* calibration) {
  double seconds = 0;
  for (std::int64_t part : program.microbatches)
    seconds += op_seconds(program.graph.ops[op].kind, shape_of(program.graph, op, part, device), registry, calibration);
  return 1e3 * seconds;
}

// What keeping a value would add at the peak: its bytes, if it is made before and read after, and not there in between.
std::vector<Again> made_again(const Plan& plan, const Program& program, const OpRegistry& registry,
                              const CalibrationTable* calibration) {
  const Schedule& schedule = program.schedule;
  IdVector<TensorId, std::pair<std::int32_t, std::int32_t>> span(program.graph.tensors.size(), {INT32_MAX, -1});
  IdVector<TensorId, char> is_there(program.graph.tensors.size(), 0);
  IdVector<TensorId, Bytes> size(program.graph.tensors.size());
  for (const Instance& instance : schedule.instances) {
    const Storage& storage = schedule.storages[instance.storage];
    auto& [first, last] = span[instance.tensor];
    first = std::min(first, index(storage.lifetime.begin));
    last = std::max(last, index(storage.lifetime.end));
    size[instance.tensor] = storage.size;
    if (storage.lifetime.begin <= program.peak_step && program.peak_step < storage.lifetime.end)
      is_there[instance.tensor] = 1;
  }
  std::map<OpId, Again> by_op;
  for (const ScheduledStep& step : schedule.steps) {
    if (!step.is_recomputation) continue;
    Again& again = by_op[step.op];
    ++again.times;
    again.milliseconds += milliseconds_of(program, step.op, registry, plan.device, calibration);
    if (again.times > 1) continue;
    again.name = program.graph.ops[step.op].name;
    for (TensorId t : program.graph.ops[step.op].outputs) {
      again.size += size[t];
      const bool covers = span[t].first <= index(program.peak_step) && index(program.peak_step) < span[t].second;
      if (covers && is_there[t] == 0) again.bought += size[t];
    }
  }
  std::vector<Again> all;
  all.reserve(by_op.size());
  for (auto& [op, again] : by_op) all.push_back(std::move(again));
  std::stable_sort(all.begin(), all.end(), [](const Again& a, const Again& b) { return a.bought > b.bought; });
  return all;
}

std::string line(const char* format, auto... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

double megabytes(Bytes bytes) { return static_cast<double>(bytes.value) / 1e6; }

// What was planned, nothing made again, and in one piece unless `cut`.
PlanRequest plain_request(const Plan& plan, const OpRegistry& registry, bool cut) {
  if (is_translation(plan)) {
    TranslationChoices choices = translation_choices_of(plan);
    if (!cut) choices.chunk = 0;
    return request_translation(choices, registry);
  }
  TrainingChoices choices = choices_of(plan);
  if (!cut) choices.microbatches.clear();
  return request_training(choices, registry);
}

// What the statistics of the whole batch would take instead: every op goes through all samples before the next one
// does, which parts the loop over samples at every normalisation, both ways.
std::string whole_batch_statistics(const Plan& plan, const OpRegistry& registry, const CalibrationTable* calibration) {
  TrainingChoices choices = choices_of(plan);
  choices.microbatches.clear();
  std::vector<PlanRequest> variants;
  for (const bool fuses : {false, true}) {
    if (fuses && !choices.model.fuse) continue;
    choices.fuse_convolutions = fuses;
    variants.push_back(request_training(choices, registry));
    variants.back().calibration = {std::shared_ptr<const CalibrationTable>(), calibration};
  }
  const PlanOrNo answer = Frontier(std::move(variants), registry).within(*plan.budget);
  const Plan& whole = plan_or_smallest(answer);
  return line("statistics of the whole batch (--microbatch %lld) %s %.1f MB, %.0f ms a step\n",
              static_cast<long long>(plan.batch),
              std::holds_alternative<Plan>(answer) ? "fit too:" : "would take at least", megabytes(whole.arena),
              program_cost(whole.programs.front(), registry, plan.device, calibration).milliseconds);
}

}  // namespace

std::string explain(const Plan& plan, const OpRegistry& registry, const CalibrationTable* calibration) {
  const Program& train = plan.programs.front();
  const Plan uncut = make_plan(plain_request(plan, registry, /*cut=*/false), registry);
  std::string text = line("nothing cut, nothing made again: %.1f MB, %.0f ms a step\n", megabytes(uncut.arena),
                          program_cost(uncut.programs.front(), registry, plan.device, calibration).milliseconds);
  if (train.microbatches.size() > 1) {
    const Plan cut = make_plan(plain_request(plan, registry, /*cut=*/true), registry);
    const std::string statistics = statistics_text(plan);
    text +=
        line("cut into %zu microbatches of at most %lld samples: %.1f MB, %.0f ms%s%s\n", train.microbatches.size(),
             static_cast<long long>(*std::max_element(train.microbatches.begin(), train.microbatches.end())),
             megabytes(cut.arena), program_cost(cut.programs.front(), registry, plan.device, calibration).milliseconds,
             statistics.empty() ? "" : "; statistics are ", statistics.c_str());
  }
  if (train.microbatches.size() > 1 && plan.budget && plan.options.count("norm") != 0 &&
      plan.options.at("norm") == "batch")
    text += whole_batch_statistics(plan, registry, calibration);
  if (const std::int64_t loops = count_loops(train); loops > 1)
    text += line("block by block, in %lld loops over the microbatches: a block's gradients live as long as its loop\n",
                 static_cast<long long>(loops));
  const std::vector<Again> again = made_again(plan, train, registry, calibration);
  Bytes bought;
  double milliseconds = 0;
  for (const Again& one : again) {
    bought += one.bought;
    milliseconds += one.milliseconds;
  }
  if (!again.empty())
    text += line("%zu values of '%s' are dropped and made again: %.1f MB less at its peak, %.1f ms more:\n",
                 again.size(), train.name.c_str(), megabytes(bought), milliseconds);
  for (const Again& one : again)
    text += line("  %-24s %8.2f MB, made %d more time(s): %8.2f MB less at the peak, %6.2f ms\n", one.name.c_str(),
                 megabytes(one.size), one.times, megabytes(one.bought), one.milliseconds);
  text += line("altogether: %.1f MB, %.0f ms a step\n", megabytes(plan.arena),
               program_cost(train, registry, plan.device, calibration).milliseconds);
  return text;
}

}  // namespace thimble
