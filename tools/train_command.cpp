#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "allocation_probe.h"
#include "commands.h"
#include "metrics_file.h"
#include "model_options.h"
#include "plan_report.h"
#include "thimble/error.h"
#include "thimble/replay.h"
#include "thimble/translation_trainer.h"
#include "training_job.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct TrainOptions {
  ModelOptions model;
  std::string out;
  std::string initial;
  std::string trace;
  std::int64_t epochs = 1;
  std::int64_t steps = 0;
  std::int64_t save_every = 0;
  std::uint64_t seed = 0;
  std::int64_t keep_epochs = 0;
  std::optional<double> learning_rate;  // 0.1 for pictures, 5e-4 for text
  std::string schedule;                 // empty: step for pictures, inverse_sqrt for text
  std::optional<std::int64_t> warmup_steps;
  bool resume = false;
  bool poison = false;
  bool canaries = false;
  bool no_augment = false;
  bool json = false;
};

volatile sig_atomic_t interrupted = 0;
void on_signal(int) { interrupted = 1; }

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Progress {
 public:
  void show(TrainingJob& job, double items_per_second) const {
    if (!is_terminal_) return;
    constexpr int kWidth = 30;
    const std::int64_t step = job.run().steps_done(), total = job.run().total_steps();
    const auto filled = static_cast<int>(kWidth * step / total);
    std::fprintf(stderr, "\r[%s%s] %lld/%lld  epoch %.2f  loss %.4f  %.1f %s/s ",
                 std::string(static_cast<std::size_t>(filled), '#').c_str(),
                 std::string(static_cast<std::size_t>(kWidth - filled), '.').c_str(), static_cast<long long>(step),
                 static_cast<long long>(total),
                 static_cast<double>(step) / static_cast<double>(job.run().steps_per_epoch()), job.loss(),
                 items_per_second, job.unit());
  }
  void end() const {
    if (is_terminal_) std::fputc('\n', stderr);
  }

 private:
  bool is_terminal_ = isatty(STDERR_FILENO) != 0;
};

struct Measured {
  std::int64_t items = 0;
  double step_seconds = 0;
  std::int64_t counted_steps = 0;  // from the second on
  AllocationCounts allocations{};
  std::int64_t resident_at_3 = 0;
  std::int64_t resident_now = 0;
};

// The table is kept with the run's plan, so not yet.
PlannedTraining plan_for(const TrainOptions& options, TrainingData& data) {
  ModelOptions model = options.model;
  if (fs::exists(model.model)) {
    if (model.calibrate || !model.calibration.empty())
      throw InvalidArgument("'" + model.model + "' is planned already; give --calibrate and --calibration to `plan`");
    Plan plan = load_plan(model.model);
    data = load_training_data(plan, model.data);
    return {std::move(plan)};
  }
  data = load_training_data(model);
  // What is gone on with was planned by its own table: times measured again may choose another plan.
  const std::string table = calibration_beside(options.out + "/plan.json");
  if (model.calibrate && options.resume && !options.out.empty() && fs::exists(table)) {
    model.calibrate = false;
    model.calibration = table;
  }
  return plan_training(model, training_requests(model), "");
}

nlohmann::ordered_json step_line(const TrainingJob& job, double items_per_second) {
  nlohmann::ordered_json line = job.step_report();
  line[job.unit() + std::string("_per_second")] = items_per_second;
  return line;
}

nlohmann::ordered_json last_line(TrainingJob& job, const Plan& plan, const Measured& measured, Bytes high_water) {
  const double library = measured.counted_steps == 0 ? 0
                                                     : static_cast<double>(measured.allocations.library) /
                                                           static_cast<double>(measured.counted_steps);
  nlohmann::ordered_json line{
      {"steps", job.run().steps_done()},
      {job.unit() + std::string("_per_second"),
       measured.step_seconds > 0 ? static_cast<double>(measured.items) / measured.step_seconds : 0.0},
      {"arena_bytes", plan.arena.value},
      {"arena_high_water_bytes", high_water.value},
      {"allocations_during_steps", measured.allocations.own},
      {"library_allocations_per_step", library},
      {"library_largest_allocation_bytes", measured.allocations.largest_library},
      {"library_bytes", measured.allocations.library_live_bytes},
      {"rss_growth_bytes", measured.resident_at_3 == 0 ? 0 : measured.resident_now - measured.resident_at_3}};
  line.update(job.evaluate());
  line.update(job.evaluated_on());
  line["allocations_counted"] = allocation_probe_works();
  return line;
}

std::string epoch_checkpoint(const std::string& folder, std::int64_t epoch) {
  return folder + "/checkpoint.epoch" + std::to_string(epoch) + ".safetensors";
}

// What an epoch leaves behind: its figures and, where they are kept, its weights.
void end_epoch(TrainingJob& job, const TrainOptions& options, MetricsFile& metrics) {
  const std::int64_t epoch = job.run().steps_done() / job.run().steps_per_epoch();
  nlohmann::ordered_json line{{"epoch_end", epoch}};
  line.update(job.evaluate());
  metrics.write(line);
  if (options.keep_epochs == 0) return;
  job.run().save(epoch_checkpoint(options.out, epoch));
  fs::remove(epoch_checkpoint(options.out, epoch - options.keep_epochs));
}

void train_steps(TrainingJob& job, const TrainOptions& options, const std::string& checkpoint, MetricsFile& metrics,
                 Measured& measured, Bytes& high_water, Runtime& runtime) {
  const Progress progress;
  TrainingRun& run = job.run();
  std::int64_t here = 0;
  while (!run.is_done() && interrupted == 0) {
    if (here == 1) reset_allocation_counts();
    const auto start = Clock::now();
    const AllocationCounts before = allocation_counts();
    job.step();
    const AllocationCounts after = allocation_counts();
    const double seconds = seconds_since(start);
    ++here;
    high_water = std::max(high_water, runtime.last_high_water());
    if (here > 1) {
      measured.items += job.items();
      measured.step_seconds += seconds;
      ++measured.counted_steps;
      measured.allocations.own += after.own - before.own;
      measured.allocations.library += after.library - before.library;
      measured.allocations.largest_library = after.largest_library;
    }
    measured.allocations.library_live_bytes = after.library_live_bytes;
    const double speed = static_cast<double>(job.items()) / seconds;
    metrics.write(step_line(job, speed));
    progress.show(job, speed);
    if (here == 3) measured.resident_at_3 = resident_bytes();
    measured.resident_now = resident_bytes();
    if (run.steps_done() % run.steps_per_epoch() == 0 && (!run.is_done() || options.keep_epochs > 0))
      end_epoch(job, options, metrics);
    // After the metrics, so that a run killed in between lists what its checkpoint has done.
    if (!checkpoint.empty() && options.save_every > 0 && run.steps_done() % options.save_every == 0)
      run.save(checkpoint);
  }
  progress.end();
}

void start_weights(TrainingRun& trainer, const TrainOptions& options, const std::string& checkpoint) {
  if (options.resume && !checkpoint.empty() && fs::exists(checkpoint)) return trainer.load(checkpoint);
  if (!options.initial.empty()) return trainer.load_initial(options.initial);
  trainer.initialize();
}

// What a killed process was writing under a temporary name: nobody will rename it any more. A run that begins anew also
// removes the epochs of the one before it, which `average` would take for its own.
void remove_leftovers(const std::string& folder, bool begins) {
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string file = entry.path().filename().string();
    for (const char* name : {"plan.json", "plan.calibration.json", "metrics.jsonl", "checkpoint."})
      if (file.starts_with(name) && file.find(".tmp.") != std::string::npos) leftovers.push_back(entry.path());
    if (begins && file.starts_with("checkpoint.epoch")) leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) fs::remove(path);
}

LearningRateSchedule schedule_of(const TrainOptions& options, bool is_text) {
  LearningRateSchedule schedule = is_text ? recipe_schedule() : LearningRateSchedule{};
  schedule.base = options.learning_rate.value_or(schedule.base);
  if (!options.schedule.empty()) schedule.kind = parse_schedule(options.schedule);
  if (options.warmup_steps && schedule.kind != ScheduleKind::inverse_sqrt)
    throw InvalidArgument("--warmup does nothing for this schedule: it is for inverse_sqrt");
  schedule.warmup_steps = options.warmup_steps.value_or(schedule.warmup_steps);
  return schedule;
}

// The first training step's requests, as `replay` compares them.
void record_trace(Runtime& runtime, const std::string& program, std::ofstream& out, const std::string& path) {
  out.open(path);
  if (!out) throw EnvironmentError("cannot write '" + path + "'");
  out << kTraceHeader << '\n';
  runtime.set_event_listener([&out, program](const RuntimeEvent& event) { write_trace_event(out, program, event); });
}

int run_train(const TrainOptions& options) {
  if (options.keep_epochs > 0 && options.out.empty()) throw InvalidArgument("--keep-epochs needs a folder: --out RUN");
  TrainingData data;
  const auto [answer, calibration] = plan_for(options, data);
  if (options.no_augment && data.text) throw InvalidArgument("--no-augment does nothing for text: it is for pictures");
  if (std::holds_alternative<DoesNotFit>(answer)) {
    std::cout << plan_table(plan_report(answer, registry(), calibration.get()));
    return kHonestNo;
  }
  const Plan& plan = std::get<Plan>(answer);
  if (!options.out.empty()) fs::create_directories(options.out);
  const auto in_run = [&](const char* file) { return options.out.empty() ? std::string() : options.out + "/" + file; };
  const std::string checkpoint = in_run("checkpoint.safetensors");

  OpenRuntime open(plan, {.poison = options.poison, .canaries = options.canaries});
  Runtime& runtime = open.runtime();
  const auto job = make_training_job(runtime, data,
                                     {.epochs = options.epochs,
                                      .steps = options.steps,
                                      .seed = options.seed,
                                      .learning_rate = schedule_of(options, data.text != nullptr)},
                                     !options.no_augment);
  TrainingRun& run = job->run();
  start_weights(run, options, checkpoint);
  // Only now that nothing refused: a run that is gone on with by mistake stays as it was.
  if (!options.out.empty()) write_file(in_run("plan.json"), write_plan(plan));
  if (!options.out.empty() && calibration)
    write_file(calibration_beside(in_run("plan.json")), write_calibration(*calibration));
  if (!options.out.empty()) remove_leftovers(options.out, run.steps_done() == 0);
  if (data.text) {
    report_text(*data.text);
    if (!options.out.empty()) data.text->folder.copy_rules(options.out);
  }
  MetricsFile metrics(in_run("metrics.jsonl"), run.steps_done(), run.steps_per_epoch());
  signal(SIGINT, on_signal);
  signal(SIGTERM, on_signal);
  std::ofstream trace;
  if (!options.trace.empty() && !run.is_done()) {
    record_trace(runtime, run.next_program(), trace, options.trace);
    job->step();
    metrics.write(step_line(*job, 0));
    runtime.set_event_listener(nullptr);
    trace.close();
  }
  Measured measured;
  Bytes high_water;
  train_steps(*job, options, checkpoint, metrics, measured, high_water, runtime);
  if (!checkpoint.empty()) run.save(checkpoint);
  if (interrupted != 0) {
    std::cerr << "interrupted after step " << run.steps_done()
              << (checkpoint.empty() ? "" : "; saved, go on with --resume") << '\n';
    return kInterrupted;
  }
  const auto last = last_line(*job, plan, measured, high_water);
  if (!metrics.is_complete()) metrics.write(last);
  std::cout << last.dump(options.json ? 2 : -1) << '\n';
  return kDone;
}

}  // namespace

Command add_train_command(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* train = app.add_subcommand("train", "train in exactly the bytes that were planned");
  train->footer("example: thimble train wrn-28-2 --batch 100 --data synthetic --steps 20 --out run");
  train
      ->add_option("model", options->model.model,
                   "a plan file, wrn-28-2, wrn with --depth and --width, dynamicconv-iwslt, lightconv-iwslt")
      ->required();
  add_model_options(*train, options->model);
  train->add_option("--epochs", options->epochs)->capture_default_str()->check(CLI::Range(1, 1000000));
  train->add_option("--steps", options->steps, "length of the run; overrides --epochs")->check(CLI::NonNegativeNumber);
  train->add_option("--seed", options->seed)->capture_default_str();
  train->add_option("--lr", options->learning_rate, "base learning rate; 0.1 by default for pictures, 5e-4 for text")
      ->check(CLI::Range(0.0, 1e6));
  train
      ->add_option("--schedule", options->schedule,
                   "step (default for pictures): x0.2 at 30, 60 and 80 %; cosine; one_cycle: up for a quarter, then "
                   "cosine; constant; inverse_sqrt (default for text): up for --warmup steps, then 1 / sqrt(step)")
      ->check(CLI::IsMember({"step", "cosine", "one_cycle", "constant", "inverse_sqrt"}));
  train->add_option("--warmup", options->warmup_steps, "steps that inverse_sqrt rises for, 4000 by default")
      ->check(CLI::NonNegativeNumber);
  train->add_option("--save-every", options->save_every, "steps between checkpoints")->check(CLI::NonNegativeNumber);
  train->add_option("--keep-epochs", options->keep_epochs, "keep the checkpoints of so many last epochs, for `average`")
      ->check(CLI::NonNegativeNumber);
  train->add_option("--init", options->initial, "weights to start from (safetensors)");
  train->add_option("--out", options->out, "folder for plan.json, metrics.jsonl, checkpoint.safetensors");
  train->add_option("--trace", options->trace, "record the first step's requests for `replay`");
  train->add_flag("--resume", options->resume, "go on from the checkpoint in --out, where there is one");
  train->add_flag("--poison", options->poison, "freed bytes become NaN");
  train->add_flag("--canaries", options->canaries, "watch the free bytes beside every span");
  train->add_flag("--no-augment", options->no_augment, "no crop, no flip");
  train->add_flag("--json", options->json, "pretty-print the last line");
  return [options] { return run_train(*options); };
}

}  // namespace thimble
