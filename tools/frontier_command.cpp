// `frontier`: the best plan for every budget.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "model_options.h"
#include "plan_report.h"
#include "training_data.h"

namespace thimble {
namespace {

struct FrontierOptions {
  ModelOptions model;
  std::size_t points = 30;
  std::string picture;
  bool json = false;
};

// Both axes from zero, so that what is saved can be seen for what it is.
std::string draw(const nlohmann::ordered_json& points, const std::string& title) {
  constexpr double kWidth = 720, kHeight = 420, kLeft = 70, kBottom = 50, kTop = 40;
  double most_bytes = 1, most_ms = 1;
  for (const auto& point : points) {
    most_bytes = std::max(most_bytes, point.at("arena_bytes").get<double>());
    most_ms = std::max(most_ms, point.at("predicted_ms").get<double>());
  }
  const auto number = [](double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", value);
    return std::string(text);
  };
  const auto x = [&](double bytes) { return number(kLeft + (kWidth - kLeft - 20) * bytes / most_bytes); };
  const auto y = [&](double ms) { return number(kHeight - kBottom - (kHeight - kBottom - kTop) * ms / most_ms); };
  std::string svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 420\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"720\" height=\"420\" fill=\"white\"/>\n<text x=\"70\" y=\"22\" font-size=\"14\">" +
      title + "</text>\n";
  const auto text = [&](const std::string& at_x, const std::string& at_y, const char* anchor,
                        const std::string& label) {
    svg += "<text x=\"" + at_x + "\" y=\"" + at_y + "\" text-anchor=\"" + anchor + "\" fill=\"#444\">" + label +
           "</text>\n";
  };
  for (int i = 0; i <= 4; ++i) {
    const double bytes = most_bytes * i / 4, ms = most_ms * i / 4;
    svg += "<path d=\"M" + x(bytes) + " " + y(0) + "V" + y(most_ms) + "M" + x(0) + " " + y(ms) + "H" + x(most_bytes) +
           "\" stroke=\"#ddd\"/>\n";
    text(x(bytes), number(kHeight - kBottom + 18), "middle", number(bytes / 1e6));
    text(number(kLeft - 8), y(ms), "end", number(ms));
  }
  text(number(kWidth / 2), number(kHeight - 12), "middle", "arena, MB");
  text(number(kLeft - 8), number(kTop - 6), "end", "ms a step");
  std::string line;
  for (const auto& point : points)
    line += x(point.at("arena_bytes").get<double>()) + "," + y(point.at("predicted_ms").get<double>()) + " ";
  svg += "<polyline fill=\"none\" stroke=\"#06c\" stroke-width=\"1.5\" points=\"" + line + "\"/>\n";
  for (const auto& point : points)
    svg += "<circle r=\"3\" fill=\"#06c\" cx=\"" + x(point.at("arena_bytes").get<double>()) + "\" cy=\"" +
           y(point.at("predicted_ms").get<double>()) + "\"><title>" +
           number(point.at("arena_bytes").get<double>() / 1e6) + " MB, microbatch " +
           std::to_string(point.at("microbatch").get<std::int64_t>()) + ", " +
           number(point.at("recompute_percent").get<double>()) + " % recomputed</title></circle>\n";
  return svg + "</svg>\n";
}

nlohmann::ordered_json point_of(const nlohmann::ordered_json& report) {
  const double flops = report.at("flops").get<double>();
  return {{"arena_bytes", report.at("arena_bytes")},
          {"lower_bound_bytes", report.at("lower_bound_bytes")},
          {"predicted_ms", report.at("predicted_ms")},
          {"microbatch", report.at("microbatch")},
          {"loops", report.at("loops")},
          {"loop_count", report.at("loop_count")},
          {"recompute_flops", report.at("recompute_flops")},
          {"recompute_percent", flops > 0 ? 100 * report.at("recompute_flops").get<double>() / flops : 0.0},
          {"recomputed_steps", report.at("recomputed_steps")},
          {"arithmetic_hash", report.at("arithmetic_hash")}};
}

int run_frontier(FrontierOptions options) {
  if (!options.model.data.empty()) load_training_data(options.model);
  auto points = nlohmann::ordered_json::array();
  std::string model;
  std::int64_t batch = 0;
  const TrainingFrontier all = training_frontier(options.model, training_requests(options.model), "");
  for (const Plan& plan : all.frontier.curve(options.points)) {
    points.push_back(point_of(plan_report(plan, registry(), all.calibration.get())));
    model = plan.model;
    batch = plan.batch;
  }
  const bool is_text = is_translation(options.model);
  const std::string title = model +
                            (is_text ? ", " + std::to_string(options.model.max_tokens) + " tokens a side, "
                                     : ", batch " + std::to_string(batch) + ", norm " + options.model.norm + ", ") +
                            options.model.device.name;
  if (!options.picture.empty()) write_file(options.picture, draw(points, title));
  if (options.json) {
    const nlohmann::ordered_json hash = all.calibration ? nlohmann::ordered_json(all.calibration->hash()) : nullptr;
    std::cout << nlohmann::ordered_json{{"model", model},
                                        {"batch", batch},
                                        {"norm", is_text ? "" : options.model.norm},
                                        {"calibration", hash},
                                        {"points", points}}
                     .dump(2)
              << '\n';
    return kDone;
  }
  std::printf("%s\n%14s %10s %12s %12s %12s %12s\n", title.c_str(), "arena bytes", "ms a step", "microbatch", "loops",
              "recomputed %", "ops again");
  for (const auto& point : points) {
    std::string loops = point.at("loops").get<std::string>();
    if (const auto count = point.at("loop_count").get<long long>(); count > 1) loops += " x " + std::to_string(count);
    const auto milliseconds = point.at("predicted_ms").get<double>();
    std::printf("%14lld %10.*f %12lld %12s %12.1f %12lld\n", point.at("arena_bytes").get<long long>(),
                milliseconds < 100 ? 2 : 1, milliseconds, point.at("microbatch").get<long long>(), loops.c_str(),
                point.at("recompute_percent").get<double>(), point.at("recomputed_steps").get<long long>());
  }
  return kDone;
}

}  // namespace

Command add_frontier_command(CLI::App& app) {
  auto options = std::make_shared<FrontierOptions>();
  CLI::App* command = app.add_subcommand("frontier", "the best plan for every budget: bytes against time");
  command->footer("example: thimble frontier wrn-28-2 --batch 100 --svg frontier.svg");
  command
      ->add_option("model", options->model.model,
                   "wrn-28-2, wrn with --depth and --width, dynamicconv-iwslt or lightconv-iwslt")
      ->required();
  add_model_options(*command, options->model);
  command->add_option("--points", options->points, "plans to show at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command->add_option("--svg", options->picture, "draw the curve into this file");
  command->add_flag("--json", options->json, "one JSON document instead of a table");
  return [options] { return run_frontier(*options); };
}

}  // namespace thimble
