// How fast the CUDA kernels are, one by one: bytes and FLOPs of the op's cost over its time, beside the device's copy.
//   kernel_speed [--part memory,wrn,fused,translation] [--mib 256] [--batch 100] [--math fp32|tf32] [--seconds 45]
//                [--json] [--emulated --tiny]
// `memory` is ops on tensors of --mib; `wrn`, `fused` and `translation` are all ops of a training step of WRN-28-2, of
// the same with normalisations inside its convolutions, and of DynamicConv (4,000 + 4,000 tokens of sentences of 25),
// each shape once, and what a step's kernels take together. What sums over the batch make an op read twice counts
// twice.
// --json ends the output with a line of JSON.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kernel_timer.h"
#include "thimble/calibration.h"
#include "thimble/cuda.h"
#include "thimble/error.h"
#include "thimble/ops.h"
#include "thimble/training_plan.h"
#include "thimble/translation_plan.h"

namespace {

using namespace thimble;
using namespace thimble::literals;

struct Options {
  std::vector<std::string> parts{"memory", "wrn", "fused", "translation"};
  std::int64_t mib = 256, batch = 100;
  std::string math = "fp32";
  double seconds = 45;
  bool json = false, emulated = false, tiny = false;
};

struct Case {
  std::string part, kind;
  OpShape shape;
  int count = 1;  // in a step
};

TensorType rows(std::vector<std::int64_t> shape) { return {DType::f32, std::move(shape), true}; }
TensorType plain(std::vector<std::int64_t> shape) { return {DType::f32, std::move(shape), false}; }

class Speed {
 public:
  Speed(const Options& options, OpRegistry& registry, Device& device, DeviceDescription description)
      : options_(options),
        registry_(registry),
        description_(std::move(description)),
        timer_(registry, device, description_, options.tiny ? 64_MiB : Bytes{options.mib * 6 << 20}) {}

  void run() {
    const Bytes size = options_.tiny ? 64_KiB : Bytes{options_.mib << 20};
    const auto copied = timer_.copy_seconds(size);
    const double bytes = static_cast<double>(size.value);
    if (copied) {
      copy_ = 2 * bytes / *copied / 1e9;
      std::printf("%s: the driver's copy of %.0f MiB runs at %.0f GB/s, read and written\n", description_.name.c_str(),
                  bytes / 1048576, copy_);
    }
    json_ = {{"device", description_.name}, {"math", description_.math}, {"copy_gb_per_s", copy_}};
    std::printf("%-12s %-30s %5s %10s %9s %6s %8s %9s  %s\n", "part", "kind", "times", "us", "GB/s", "% copy",
                "TFLOP/s", "work KiB", "inputs");
    for (const std::string& part : options_.parts) {
      try {
        if (part == "memory") memory_cases();
        if (part == "wrn" || part == "fused") wrn_cases(part);
        if (part == "translation") translation_cases();
      } catch (const std::exception& error) {  // the other parts are worth having
        std::printf("%s: %s\n", part.c_str(), error.what());
        json_["errors"][part] = error.what();
        cases_.clear();
      }
      totals(part);
    }
  }

  const nlohmann::json& json() const { return json_; }

 private:
  void memory_cases() {
    const std::int64_t values = options_.tiny ? 1 << 16 : options_.mib << 18;
    const TensorType flat = rows({16, values / 16}), picture = rows({values / 32768, 32, 32, 32}),
                     deep = rows({values / 8192, 8, 8, 128}), tokens = rows({values / 512 / 32, 32, 512}),
                     scores = rows({values / 8192, 8192}), weights = plain({values});
    const auto channels = [](std::int64_t n) { return plain({n}); };
    const TensorType label{DType::i32, {scores.shape[0]}, true};
    const Attributes drop{{"rate", 0.3}, {"stream", std::int64_t{1}}}, epsilon{{"epsilon", 1e-5}};
    const auto norm = [](std::int64_t relu) { return Attributes{{"relu", relu}, {"epsilon", 1e-5}}; };
    add("memory", kAccumulateKind, {weights});
    add("memory", "add", {flat, flat});
    add("memory", "relu", {flat});
    add("memory", "relu", {flat}, {{"mask", std::int64_t{1}}});
    add("memory", "relu_backward", {flat, flat});
    add("memory", "relu_backward", {flat, {DType::bit, flat.shape, true}}, {{"use_mask", std::int64_t{1}}});
    add("memory", "dropout", {flat}, drop);
    for (const TensorType& x : {picture, deep}) {
      const TensorType c = channels(x.shape[3]);
      add("memory", "batch_norm", {x, c, c}, norm(0));
      add("memory", "batch_norm", {x, c, c}, norm(1));
      add("memory", "batch_norm_inference", {x, c, c, c, c}, norm(1));
      add("memory", "batch_norm_backward", {x, x, c, c, c}, norm(0));
      add_gradient_of("batch_norm", {x, c, c}, norm(1));
    }
    Attributes groups = norm(1);
    groups["groups"] = std::int64_t{16};
    add("memory", "group_norm", {picture, channels(32), channels(32)}, groups);
    add("memory", "global_average_pool", {deep});
    add("memory", "layer_norm", {tokens, channels(512), channels(512)}, epsilon);
    add("memory", "layer_norm_backward", {tokens, tokens, channels(512)}, epsilon);
    add("memory", "softmax_cross_entropy", {scores, label});
    add("memory", "softmax_cross_entropy_backward", {scores, label});
    add("memory", "sgd_update", {weights, weights, weights},
        {{"momentum", 0.9}, {"weight_decay", 5e-4}, {"nesterov", std::int64_t{1}}});
    add("memory", "adam_update", {weights, weights, weights, weights},
        {{"beta1", 0.9}, {"beta2", 0.98}, {"epsilon", 1e-8}, {"weight_decay", 1e-4}});
    const TensorType lengths{DType::i32, {tokens.shape[0]}, true};
    for (std::int64_t kernel : {3, 31}) {
      const Attributes taps{{"heads", std::int64_t{4}},
                            {"kernel", kernel},
                            {"causal", std::int64_t{0}},
                            {"rate", 0.1},
                            {"stream", std::int64_t{2}}};
      const TensorType logits = rows({tokens.shape[0], tokens.shape[1], 4 * kernel});
      add("memory", "dynamic_conv", {tokens, logits, lengths}, taps);
      add("memory", "dynamic_conv_backward", {tokens, tokens, logits, lengths}, taps);
      add("memory", "light_conv", {tokens, plain({4, kernel}), lengths}, taps);
      add("memory", "light_conv_backward", {tokens, tokens, plain({4, kernel}), lengths}, taps);
    }
    measure();
  }

  void wrn_cases(const std::string& part) {
    TrainingChoices choices;
    choices.fuse_convolutions = part == "fused";
    if (options_.tiny) choices.model.depth = 10, choices.model.width = 1;
    choices.batch = options_.tiny ? 4 : options_.batch;
    choices.device = description_;
    const PlanRequest request = request_training(choices, registry_);
    add_step(part, request, kTrainProgram);
  }

  void translation_cases() {
    TranslationChoices choices;
    const std::int64_t room = options_.tiny ? 5 : 25;
    choices.buckets = {{room, options_.tiny ? 2 : 160}};
    choices.max_tokens = choices.buckets[0].room * choices.buckets[0].sentences;
    choices.device = description_;
    if (options_.tiny) choices.model.channels = 64, choices.model.hidden = 96;
    const PlanRequest request = request_translation(choices, registry_);
    add_step("translation", request, bucket_program("train", room));
  }

  void add(const std::string& part, const std::string& kind, std::vector<TensorType> inputs,
           Attributes attributes = {}) {
    OpShape shape{std::move(inputs), {}, std::move(attributes), description_};
    for (const OutputSpec& spec : registry_.at(kind).infer(shape.inputs, shape.attributes))
      shape.outputs.push_back(spec.type);
    cases_.push_back({part, kind, std::move(shape)});
  }

  // The gradient of a normalisation with its ReLU, whose gate is a mask.
  void add_gradient_of(const std::string& kind, const std::vector<TensorType>& in, Attributes attributes) {
    attributes["relu"] = std::int64_t{1};
    attributes["use_mask"] = std::int64_t{1};
    const TensorType &x = in[0], &c = in[1];
    add("memory", kind + "_backward", {x, x, c, c, c, {DType::bit, x.shape, true}}, attributes);
  }

  void add_step(const std::string& part, const PlanRequest& request, const std::string& name) {
    for (const ProgramRequest& program : request.programs)
      if (program.name == name) {
        const ScheduledProgram made = schedule_program(request, program, registry_);
        for (const auto& step : made.schedule.steps) {
          const std::string& kind = made.graph.ops[step.op].kind;
          if (!registry_.at(kind).view)
            add_or_count({part, kind, shape_of(made.graph, step.op, request.batch, description_)});
        }
      }
    measure();
  }

  void add_or_count(Case one) {
    // Dropped values come from streams, which do not change a time.
    if (one.shape.attributes.count("stream") != 0) one.shape.attributes["stream"] = std::int64_t{1};
    for (Case& other : cases_)
      if (other.kind == one.kind && other.shape.inputs == one.shape.inputs &&
          other.shape.attributes == one.shape.attributes) {
        ++other.count;
        return;
      }
    cases_.push_back(std::move(one));
  }

  void measure() {
    for (const Case& one : cases_) measure(one);
    cases_.clear();
  }

  void measure(const Case& one) {
    nlohmann::json line{{"part", one.part},
                        {"kind", one.kind},
                        {"times", one.count},
                        {"inputs", words(one)},
                        {"predicted", op_seconds(one.kind, one.shape, registry_, nullptr)}};
    std::printf("%-12s %-30s %5d ", one.part.c_str(), one.kind.c_str(), one.count);
    try {
      if (std::chrono::duration<double>(Clock::now() - start_).count() > options_.seconds)
        throw Error("the time is used up");
      const KernelTime time = timer_.measure(one.kind, one.shape);
      const double gigabytes = time.gigabytes_per_second(), teraflops = time.teraflops_per_second();
      std::printf("%10.2f %9.1f %6.1f %8.2f %9.1f  %s\n", time.seconds * 1e6, gigabytes,
                  copy_ > 0 ? 100 * gigabytes / copy_ : 0, teraflops, static_cast<double>(time.workspace.value) / 1024,
                  words(one).c_str());
      line.update({{"seconds", time.seconds},
                   {"bytes", time.cost.bytes},
                   {"flops", time.cost.flops},
                   {"gb_per_s", gigabytes},
                   {"tflop_per_s", teraflops},
                   {"workspace", time.workspace.value}});
      by_kind_[one.kind] += one.count * time.seconds;
    } catch (const std::exception& error) {
      std::printf("%s\n", error.what());
      line["error"] = error.what();
    }
    std::fflush(stdout);
    json_["kernels"].push_back(line);
  }

  // What the kernels of a step take together.
  void totals(const std::string& part) {
    if (part != "memory") {
      double sum = 0;
      for (const auto& [kind, seconds] : by_kind_) sum += seconds;
      std::vector<std::pair<double, std::string>> most;
      for (const auto& [kind, seconds] : by_kind_) most.emplace_back(seconds, kind);
      std::sort(most.rbegin(), most.rend());
      std::printf("%s: the kernels of a step take %.3f ms together\n", part.c_str(), 1000 * sum);
      for (const auto& [seconds, kind] : most)
        std::printf("  %-30s %9.3f ms %5.1f %%\n", kind.c_str(), 1000 * seconds, 100 * seconds / sum);
      json_["steps"][part] = {{"seconds", sum}, {"by_kind", by_kind_}};
    }
    by_kind_.clear();
  }

  static std::string words(const Case& one) {
    std::ostringstream out;
    for (const TensorType& type : one.shape.inputs) {
      for (std::size_t i = 0; i < type.shape.size(); ++i) out << (i == 0 ? "" : "x") << type.shape[i];
      out << ' ';
    }
    for (const auto& [name, value] : one.shape.attributes)
      if (const auto* whole = std::get_if<std::int64_t>(&value); whole != nullptr && name != "stream")
        out << name << '=' << *whole << ' ';
    return out.str();
  }

  using Clock = std::chrono::steady_clock;

  const Options& options_;
  OpRegistry& registry_;
  DeviceDescription description_;
  KernelTimer timer_;
  std::vector<Case> cases_;
  std::map<std::string, double> by_kind_;
  nlohmann::json json_;
  double copy_ = 0;
  Clock::time_point start_ = Clock::now();
};

void run(const Options& options) {
  const CudaSearch found = options.emulated ? CudaSearch{emulated_cuda(cuda_description("h200")), ""} : find_cuda();
  if (!found.backend) throw EnvironmentError(found.reason);
  OpRegistry registry;
  register_ops(registry);
  found.backend->register_kernels(registry);
  DeviceDescription description = found.backend->description();
  description = with_math(std::move(description), options.math);
  const std::unique_ptr<Device> device = found.backend->open();
  Speed speed(options, registry, *device, description);
  speed.run();
  if (options.json) std::printf("%s\n", speed.json().dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("how fast the CUDA kernels are, one by one");
  app.add_option("--part", options.parts)
      ->delimiter(',')
      ->check(CLI::IsMember(std::vector<std::string>{"memory", "wrn", "fused", "translation"}));
  app.add_option("--mib", options.mib)->check(CLI::Range(1, 4096));
  app.add_option("--batch", options.batch)->check(CLI::Range(1, 100000));
  app.add_option("--math", options.math)->check(CLI::IsMember(std::vector<std::string>{"fp32", "tf32"}));
  app.add_option("--seconds", options.seconds);
  app.add_flag("--json", options.json);
  app.add_flag("--emulated", options.emulated);
  app.add_flag("--tiny", options.tiny);
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
