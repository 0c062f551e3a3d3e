#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "commands.h"
#include "model_options.h"
#include "thimble/error.h"
#include "thimble/placement.h"
#include "thimble/problem_csv.h"

namespace thimble {
namespace {

struct PlaceOptions {
  std::string problem;
  std::string output;
  std::string capacity;
  std::int64_t alignment = 1;
  bool minimize = false;  // the default without a capacity, spelled out
  bool json = false;
};

int run_place(const PlaceOptions& options) {
  PlacementProblem problem = read_problem_csv(read_file(options.problem), options.problem).problem;
  problem.alignment = Bytes{options.alignment};
  const Placement placement = place_buffers(problem);
  std::optional<Bytes> capacity;
  if (!options.capacity.empty()) capacity = parse_bytes(options.capacity);
  if (const auto findings = check_placement(problem, placement.offsets); !findings.empty())
    throw Error("place: the independent check refuses the placement: " + findings.front());
  const bool fits = !capacity || placement.peak <= *capacity;
  const double gap = placement.lower_bound == Bytes{} ? 0
                                                      : 100.0 * static_cast<double>((placement.peak - placement.lower_bound).value) /
                                                            static_cast<double>(placement.lower_bound.value);
  const nlohmann::ordered_json report{
      {"buffers", problem.buffers.size()},
      {"peak_bytes", placement.peak.value},
      {"lower_bound_bytes", placement.lower_bound.value},
      {"gap_percent", gap},
      {"made_by", placement.made_by},
      {"capacity_bytes", capacity ? nlohmann::ordered_json(capacity->value) : nlohmann::ordered_json(nullptr)},
      {"fits", fits}};
  if (options.json)
    std::cout << report.dump(2) << '\n';
  else
    std::cout << problem.buffers.size() << " buffers, peak " << placement.peak.value << " bytes, max live "
              << placement.lower_bound.value << " bytes (" << gap << " % over), by " << placement.made_by << '\n'
              << (fits ? "" : "does not fit " + std::to_string(capacity->value) + " bytes; nothing fits below max live\n");
  if (!fits) return kHonestNo;
  if (!options.output.empty()) {
    std::ostringstream csv;
    write_problem_csv(csv, problem, placement.offsets);
    write_file(options.output, csv.str());
  }
  return kDone;
}

}  // namespace

Command add_place_command(CLI::App& app) {
  auto options = std::make_shared<PlaceOptions>();
  CLI::App* command = app.add_subcommand("place", "the offset planner alone: CSV in, offsets out");
  command->footer("example: thimble place problem.csv --capacity 1048576 -o solution.csv");
  command->add_option("problem", options->problem, "id,lower,upper,size; lifetimes are half-open")->required();
  command->add_option("-o,--output", options->output, "write the problem with its offsets");
  command->add_option("--capacity", options->capacity, "bytes it has to fit in; exit 3 where it does not");
  command->add_flag("--minimize", options->minimize, "smallest peak (the default without --capacity)");
  command->add_option("--alignment", options->alignment)->capture_default_str()->check(CLI::Range(1, 1 << 20));
  command->add_flag("--json", options->json, "one JSON document instead of a line");
  return [options] { return run_place(*options); };
}

}  // namespace thimble
