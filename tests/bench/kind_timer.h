// Where a step's time goes: milliseconds, measured and predicted, GFLOP/s and GB/s by op kind.
//
//   KindTimer timer(runtime, registry, runtime.plan().program("train"));
//   timer.measure(5, [&] { trainer.step(); });
//   timer.print();
#pragma once

#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <string>

#include "thimble/calibration.h"
#include "thimble/runtime.h"

namespace thimble {

class KindTimer {
 public:
  /// All have to outlive it. Predicted is by `table` where there is one, else by the roofline of the plan's device.
  KindTimer(Runtime& runtime, const OpRegistry& registry, const Program& program,
            const CalibrationTable* table = nullptr)
      : runtime_(runtime), registry_(registry), program_(program), table_(table) {}

  /// Runs `step`, which runs the program once, `steps` times.
  void measure(int steps, const std::function<void()>& step) {
    steps_ = steps;
    runtime_.set_event_listener([this](const RuntimeEvent& event) { see(event); });
    const auto start = Clock::now();
    for (int i = 0; i < steps; ++i) {
      step();
      close();
    }
    milliseconds_ = std::chrono::duration<double, std::milli>(Clock::now() - start).count() / steps;
    runtime_.set_event_listener(nullptr);
  }

  double milliseconds() const { return milliseconds_; }  ///< of one step

  void print() const {
    std::printf("%-28s %6s %9s %9s %6s %9s %8s\n", "kind", "calls", "ms/step", "predicted", "%", "GFLOP/s", "GB/s");
    double sum = 0, predicted_sum = 0;
    for (const auto& [kind, total] : totals_) {
      const double ms = total.milliseconds / steps_;
      const double predicted = 1e3 * total.predicted / steps_;
      sum += ms;
      predicted_sum += predicted;
      std::printf("%-28s %6lld %9.2f %9.2f %6.1f %9.1f %8.1f\n", kind.c_str(),
                  static_cast<long long>(total.calls / steps_), ms, predicted, 100 * ms / milliseconds_,
                  total.flops / total.milliseconds / 1e6, total.bytes / total.milliseconds / 1e6);
    }
    std::printf("%-28s %6s %9.2f %9s %6.1f\n", "outside kernels", "", milliseconds_ - sum, "",
                100 * (milliseconds_ - sum) / milliseconds_);
    std::printf("%-28s %6s %9.2f %9.2f\n", "step", "", milliseconds_, predicted_sum);
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Total {
    double milliseconds = 0, flops = 0, bytes = 0, predicted = 0;
    std::int64_t calls = 0;
  };

  // An event precedes its kernel: the time up to the next one belongs to it.
  void see(const RuntimeEvent& event) {
    if (event.kind != RuntimeEvent::Kind::step) return;
    close();
    const OpId op = program_.schedule.steps[static_cast<std::size_t>(index(event.step))].op;
    const OpShape shape = shape_of(program_.graph, op, event.samples.size(), runtime_.plan().device);
    const OpCost cost = registry_.cost(program_.graph.ops[op].kind, shape);
    current_ = &totals_[program_.graph.ops[op].kind];
    current_->flops += cost.flops;
    current_->bytes += cost.bytes;
    current_->predicted += op_seconds(program_.graph.ops[op].kind, shape, registry_, table_);
    ++current_->calls;
    since_ = Clock::now();
  }

  void close() {
    if (current_ != nullptr)
      current_->milliseconds += std::chrono::duration<double, std::milli>(Clock::now() - since_).count();
    current_ = nullptr;
  }

  Runtime& runtime_;
  const OpRegistry& registry_;
  const Program& program_;
  const CalibrationTable* table_;
  std::map<std::string, Total> totals_;
  Total* current_ = nullptr;
  Clock::time_point since_;
  int steps_ = 1;
  double milliseconds_ = 0;
};

}  // namespace thimble
