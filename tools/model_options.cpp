#include "model_options.h"

#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "thimble/error.h"
#include "thimble/ops.h"

namespace thimble {
namespace {

std::int64_t parse_chunk(const std::string& text, std::int64_t max_tokens) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value <= 0 || value > max_tokens)
    throw InvalidArgument("--chunk: '" + text + "' is not auto or from 1 to the batch's " + std::to_string(max_tokens) +
                          " tokens");
  return value;
}

void refuse_given(const std::vector<std::string>& given, const ModelOptions& options, const char* kind) {
  if (!given.empty())
    throw InvalidArgument(given.front() + " does nothing for '" + options.model + "': it is for " + kind);
}

std::vector<std::int64_t> parse_list(const char* option, const std::string& text, const char* what) {
  std::vector<std::int64_t> values;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc{} || end != part.data() + part.size() || value <= 0)
      throw InvalidArgument(std::string(option) + ": '" + part + "' is not a positive number of " + what);
    values.push_back(value);
  }
  return values;
}

// `N` cuts evenly; `a,b,c` is the cut itself.
std::vector<std::int64_t> parse_cut(const std::string& text, std::int64_t batch) {
  std::vector<std::int64_t> parts = parse_list("--microbatch", text, "samples");
  if (parts.size() != 1) return parts;
  if (parts.front() > batch)
    throw InvalidArgument("--microbatch: " + text + " samples are more than the batch of " + std::to_string(batch));
  return cut_evenly(batch, parts.front());
}

CalibrationTable measure(const std::vector<PlanRequest>& requests) {
  expect_device_here(requests.front().device);
  const std::unique_ptr<Device> device = open_device(requests.front().device);
  const auto start = std::chrono::steady_clock::now();
  CalibrationTable table = calibrate(requests, registry(), device.get());
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  std::fprintf(stderr, "calibration: %zu ops measured in %.1f s\n", table.entries().size(), taken.count());
  return table;
}

CalibrationTable read_table(const std::string& path, const std::vector<PlanRequest>& requests) {
  CalibrationTable table = read_calibration(read_file(path), path, this_place(requests.front().device, registry()));
  if (const std::size_t count = count_unmeasured(table, requests, registry()); count > 0)
    std::fprintf(stderr, "calibration: %zu ops are not in '%s' and priced by the roofline; --calibrate measures them\n",
                 count, path.c_str());
  return table;
}

LoopOrder loop_order_of(const ModelOptions& options) {
  if (options.loops == "auto") return LoopOrder::either;
  return options.loops == "block" ? LoopOrder::block : LoopOrder::microbatch;
}

// Measures or reads what the options ask for, and has every request planned with it.
Calibration give_calibration(const ModelOptions& options, const std::string& table_path,
                             std::vector<PlanRequest>& requests) {
  if (!options.calibrate && options.calibration.empty()) return nullptr;
  const auto table = std::make_shared<const CalibrationTable>(
      options.calibrate ? measure(requests) : read_table(options.calibration, requests));
  const std::string& path = options.calibration.empty() ? table_path : options.calibration;
  if (options.calibrate && !path.empty()) write_file(path, write_calibration(*table));
  for (PlanRequest& request : requests) request.calibration = table;
  return table;
}

}  // namespace

void add_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--depth", options.depth, "layers of `wrn`: 6n + 4")->capture_default_str();
  app.add_option("--width", options.width, "width factor of `wrn`")->capture_default_str();
  app.add_option("--batch", options.batch, "samples of one step")->capture_default_str()->check(CLI::Range(1, 1 << 20));
  app.add_option("--microbatch", options.microbatch, "auto, N, or a cut a,b,c that sums to the batch")
      ->capture_default_str();
  app.add_option("--min-microbatch", options.least_microbatch,
                 "samples that an auto microbatch has at least; 8 where they share statistics, else 1")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option(
         "--norm", options.norm,
         "batch: statistics of a microbatch; group: of every sample, in 16 groups of channels, whatever the cut")
      ->capture_default_str()
      ->check(CLI::IsMember({"batch", "group"}));
  app.add_option("--remat", options.remat, "auto: recompute what a budget does not leave room for; off: never")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "off"}));
  app.add_option("--budget", options.budget, "bytes the whole arena may have: 500000, 640MB, 8MiB, 1.5GiB");
  app.add_option("--optimizer", options.optimizer, "nesterov (default) or momentum for pictures, adam for text")
      ->check(CLI::IsMember({"nesterov", "momentum", "adam"}));
  app.add_option("--accumulate", options.accumulate,
                 "where microbatches sum: gradient, or momentum (heavy ball only; other rounding, fewer bytes)")
      ->capture_default_str()
      ->check(CLI::IsMember({"gradient", "momentum"}));
  app.add_option("--loops", options.loops,
                 "where the batch is cut: microbatch (each through the whole net), block (all through a block before "
                 "the next), auto: a budget tries both")
      ->capture_default_str()
      ->check(CLI::IsMember({"microbatch", "block", "auto"}));
  app.add_option("--dropout", options.dropout,
                 "wide resnets: rate behind each block's first convolution, 0 by default; translation: 0.3")
      ->check(CLI::Range(0.0, 0.99));
  app.add_option("--weight-decay", options.weight_decay, "5e-4 by default for pictures, 1e-4 for text")
      ->check(CLI::Range(0.0, 1e6));
  app.add_option(
      "--data", options.data,
      "what the plan is for: a folder with CIFAR-10's binary files, or `synthetic`; for translation a folder "
      "that `prepare` made");
  app.add_option("--channels", options.channels, "translation: of embeddings and convolutions, 512 by default")
      ->check(CLI::Range(4, 1 << 16));
  app.add_option("--hidden", options.hidden, "translation: of the feed-forward part, 1024 by default")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--heads", options.heads, "translation: of convolutions and attention, 4 by default")
      ->check(CLI::Range(1, 1 << 10));
  app.add_option("--encoder-kernels", options.encoder_kernels, "translation: a layer each; 3,7,15,31,31,31,31");
  app.add_option("--decoder-kernels", options.decoder_kernels, "translation: a layer each; 3,7,15,31,31,31");
  app.add_option("--attention-dropout", options.attention_dropout, "translation: 0.1 by default")
      ->check(CLI::Range(0.0, 0.99));
  app.add_option("--tap-dropout", options.tap_dropout, "translation: of the convolutions' taps, 0.1 by default")
      ->check(CLI::Range(0.0, 0.99));
  app.add_option("--smoothing", options.smoothing, "translation: of labels, 0.1 by default")
      ->check(CLI::Range(0.0, 0.99));
  app.add_option("--longest", options.longest,
                 "translation: ids of a sentence, its end included; longer pairs are not trained on")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{2}, kLongestSentence));
  app.add_option("--max-tokens", options.max_tokens, "translation: padded tokens a side in a batch, instead of --batch")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--chunk", options.chunk, "translation: padded tokens a side in a microbatch, or auto")
      ->capture_default_str();
  app.add_option("--min-chunk", options.least_chunk, "translation: tokens that an auto microbatch has at least")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 24));
  app.add_option(
         "--fuse", options.fuse,
         "off, auto: normalisation and ReLU as one op, conv: the convolution behind them too; a budget tries both")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "conv", "off"}));
  app.add_flag(
      "--calibrate", options.calibrate,
      "measure the ops on this machine or its device first; predicted times are then measured ones, not a roofline's");
  app.add_option("--calibration", options.calibration,
                 "the table of measured ops: read, or with --calibrate written (else beside the plan)");
  add_device_options(app, options.device);
  app.add_option("--planner-seed", options.planner_seed)->capture_default_str();
  const auto note = [&](const char* name, std::vector<std::string>& given) {
    app.get_option(name)->each([&given, name](const std::string&) { given.emplace_back(name); });
  };
  for (const char* name :
       {"--depth", "--width", "--batch", "--microbatch", "--min-microbatch", "--norm", "--accumulate", "--fuse"})
    note(name, options.of_pictures);
  for (const char* name :
       {"--max-tokens", "--chunk", "--min-chunk", "--channels", "--hidden", "--heads", "--encoder-kernels",
        "--decoder-kernels", "--attention-dropout", "--tap-dropout", "--smoothing", "--longest"})
    note(name, options.of_text);
}

std::int64_t least_microbatch(const ModelOptions& options) {
  constexpr std::int64_t kLeastOfBatchStatistics = 8;
  return options.least_microbatch.value_or(options.norm == "group" ? 1 : kLeastOfBatchStatistics);
}

bool is_translation(const ModelOptions& options) {
  return options.model.starts_with("dynamicconv") || options.model.starts_with("lightconv");
}

TrainingChoices training_choices(const ModelOptions& options) {
  refuse_given(options.of_text, options, "translation models");
  TrainingChoices choices;
  if (options.model == "wrn")
    choices.model = parse_wide_resnet("wrn-" + std::to_string(options.depth) + "-" + std::to_string(options.width));
  else
    choices.model = parse_wide_resnet(options.model);
  if (options.optimizer == "adam")
    throw InvalidArgument("--optimizer adam is for translation models; wide resnets take nesterov or momentum");
  choices.model.dropout = options.dropout.value_or(0);
  choices.model.fuse = options.fuse != "off";
  choices.model.norm = options.norm == "group" ? Norm::group : Norm::batch;
  choices.fuse_convolutions = options.fuse == "conv";
  choices.batch = options.batch;
  if (options.microbatch != "auto") choices.microbatches = parse_cut(options.microbatch, options.batch);
  choices.sgd.nesterov = options.optimizer.empty() || options.optimizer == "nesterov";
  choices.sgd.weight_decay = options.weight_decay.value_or(choices.sgd.weight_decay);
  choices.sgd.accumulate_in_momentum = options.accumulate == "momentum";
  choices.device = describe(options.device);
  add_kernels_for(choices.device);
  choices.planner_seed = options.planner_seed;
  if (options.sizes) {
    choices.train_samples = options.sizes->train_samples;
    choices.test_samples = options.sizes->test_samples;
  }
  return choices;
}

TranslationChoices translation_choices(const ModelOptions& options) {
  refuse_given(options.of_pictures, options, "wide resnets");
  TranslationChoices choices{.model = parse_dynamic_conv(options.model)};
  if (!options.optimizer.empty() && options.optimizer != "adam")
    throw InvalidArgument("--optimizer " + options.optimizer + " is for wide resnets; translation models take adam");
  DynamicConv& model = choices.model;
  model.channels = options.channels.value_or(model.channels);
  model.hidden = options.hidden.value_or(model.hidden);
  model.heads = options.heads.value_or(model.heads);
  if (!options.encoder_kernels.empty())
    model.encoder_kernels = parse_list("--encoder-kernels", options.encoder_kernels, "taps");
  if (!options.decoder_kernels.empty())
    model.decoder_kernels = parse_list("--decoder-kernels", options.decoder_kernels, "taps");
  model.dropout = options.dropout.value_or(model.dropout);
  model.attention_dropout = options.attention_dropout.value_or(model.attention_dropout);
  model.tap_dropout = options.tap_dropout.value_or(model.tap_dropout);
  model.smoothing = options.smoothing.value_or(model.smoothing);
  if (options.sizes) {
    model.source_vocabulary = options.sizes->source_vocabulary;
    model.target_vocabulary = options.sizes->target_vocabulary;
  }
  choices.max_tokens = options.max_tokens;
  choices.buckets =
      make_buckets(options.sizes ? options.sizes->rooms : usual_rooms(options.longest), options.max_tokens);
  if (options.chunk != "auto") choices.chunk = parse_chunk(options.chunk, options.max_tokens);
  choices.adam.weight_decay = options.weight_decay.value_or(choices.adam.weight_decay);
  choices.device = describe(options.device);
  add_kernels_for(choices.device);
  choices.planner_seed = options.planner_seed;
  return choices;
}

TrainingRequests training_requests(const ModelOptions& options) {
  if (!is_translation(options)) {
    const TrainingChoices choices = training_choices(options);
    const auto variants = [options, choices] {
      std::vector<PlanRequest> all = training_variants(choices, registry(), least_microbatch(options));
      if (options.fuse != "auto") return all;
      TrainingChoices fused = choices;
      fused.fuse_convolutions = true;
      for (PlanRequest& variant : training_variants(fused, registry(), least_microbatch(options)))
        all.push_back(std::move(variant));
      return all;
    };
    return {[choices] { return request_training(choices, registry()); }, variants};
  }
  const TranslationChoices choices = translation_choices(options);
  return {[choices] { return request_translation(choices, registry()); },
          [options, choices] { return translation_variants(choices, registry(), options.least_chunk); }};
}

std::string calibration_beside(const std::string& plan_path) {
  constexpr std::string_view kEnding = ".json";
  const bool has_ending = plan_path.ends_with(kEnding) && plan_path.size() > kEnding.size();
  return (has_ending ? plan_path.substr(0, plan_path.size() - kEnding.size()) : plan_path) + ".calibration.json";
}

TrainingFrontier training_frontier(const ModelOptions& options, const TrainingRequests& requests,
                                   const std::string& table_path, int most_evaluations) {
  std::vector<PlanRequest> variants = requests.variants();
  Calibration calibration = give_calibration(options, table_path, variants);
  return {Frontier(std::move(variants), registry(),
                   {.recompute = options.remat == "auto",
                    .most_evaluations = most_evaluations,
                    .loops = loop_order_of(options)}),
          std::move(calibration)};
}

PlannedTraining plan_training(const ModelOptions& options, const TrainingRequests& requests,
                              const std::string& table_path, int most_evaluations) {
  if (const auto budget = budget_bytes(options)) {
    const TrainingFrontier all = training_frontier(options, requests, table_path, most_evaluations);
    return {all.frontier.within(*budget), all.calibration};
  }
  std::vector<PlanRequest> only{requests.plain()};
  Calibration calibration = give_calibration(options, table_path, only);
  if (loop_order_of(options) != LoopOrder::block) return {make_plan(only.front(), registry()), std::move(calibration)};
  const Frontier block(std::move(only), registry(), {.recompute = false, .loops = LoopOrder::block});
  return {block.plan(block.candidates().front()), std::move(calibration)};
}

std::optional<Bytes> budget_bytes(const ModelOptions& options) {
  if (options.budget.empty()) return std::nullopt;
  return parse_bytes(options.budget);
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw EnvironmentError("cannot read '" + path + "': no such file, or no right to");
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

void write_file(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp." + std::to_string(getpid());
  std::ofstream out(temporary, std::ios::binary);
  out << text;
  out.close();
  if (!out || std::rename(temporary.c_str(), path.c_str()) != 0) {
    std::remove(temporary.c_str());
    throw EnvironmentError("cannot write '" + path + "'; is the folder there, is the disk full?");
  }
}

Plan load_plan(const std::string& path) {
  Plan plan = read_plan(read_file(path), path);
  add_kernels_for(plan.device);
  return plan;
}

}  // namespace thimble
