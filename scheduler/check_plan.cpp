// The independent checker. It knows what a plan has to satisfy, nothing of how one is made. Here: the plan's header,
// and the order in which a program's parts are checked (program_check.h).
#include <algorithm>
#include <exception>

#include "program_check.h"

namespace thimble {
namespace {

constexpr std::size_t kMostPrograms = 64;

bool has_sane_header(const Plan& plan) {
  return plan.programs.size() <= kMostPrograms && has_sane_size(plan.arena) &&
         std::all_of(plan.persistent.begin(), plan.persistent.end(), [](const PersistentTensor& tensor) {
           return has_sane_shape(tensor.type) && has_sane_offset(tensor.offset);
         });
}

void check_names(const Plan& plan, std::vector<std::string>& findings) {
  std::set<std::string_view> programs, tensors;
  for (const Program& program : plan.programs)
    if (!programs.insert(program.name).second)
      findings.push_back("plan: two programs are named '" + program.name + "'");
  if (!has_sane_header(plan))
    findings.push_back("plan: its arena or a persistent tensor has an impossible size, or it has more than " +
                       std::to_string(kMostPrograms) + " programs");
  for (const PersistentTensor& tensor : plan.persistent)
    if (!tensors.insert(tensor.name).second)
      findings.push_back("plan: two persistent tensors are named '" + tensor.name + "'");
}

void check_engines(const Plan& plan, const OpRegistry& registry, std::vector<std::string>& findings) {
  const auto& engines = registry.engines(plan.device);
  for (const auto& [name, version] : plan.engines) {
    const auto found = engines.find(name);
    const std::string here = found == engines.end() ? "absent" : found->second;
    if (here != version)
      findings.push_back("plan: made for " + name + " '" + version + "', here it is '" + here + "'; plan again here");
  }
}

void check_header(const Plan& plan, const OpRegistry& registry, std::vector<std::string>& findings) {
  check_names(plan, findings);
  Bytes largest;
  for (const Program& program : plan.programs) largest = std::max(largest, program.planned);
  if (plan.programs.empty()) findings.push_back("plan: has no program");
  if (plan.arena != largest)
    findings.push_back("plan: states an arena of " + to_string(plan.arena) + ", its programs need " +
                       to_string(largest));
  check_engines(plan, registry, findings);
  if (const std::string hash = arithmetic_hash(plan); plan.arithmetic_hash != hash)
    findings.push_back("plan: its arithmetic hash is " + plan.arithmetic_hash + ", the section gives " + hash);
}

// Each part relies on those above it; past the first two a finding ends nothing, so that all are told at once.
void check_run(ProgramCheck& check) {
  check_order(check);
  check_graph(check);
  if (check.failed) return;
  check_steps(check);
  check_borders(check);
  check_values(check);
  check_storages(check);
  check_workspaces(check);
  check_overlaps(check);
}

// Without a step nobody grants, fills or releases anything.
void check_idle(ProgramCheck& check) {
  for (const Storage& storage : check.schedule.storages)
    if (!storage.persistent) check.report("has no step, but storage '" + storage.name + "' does not persist");
}

void check_program(ProgramCheck& check) try {
  if (check.schedule.steps.empty() && !check.graph.ops.empty()) return check.report("has no step");
  check_ids(check);
  if (check.failed) return;
  check.schedule.steps.empty() ? check_idle(check) : check_run(check);
  if (check.failed) return;
  check_persistent(check);
  if (!check.failed) check_claims(check);
} catch (const std::exception& error) {  // of a registered function
  check.report(error.what());
}

}  // namespace

std::vector<std::string> check_plan(const Plan& plan, const OpRegistry& registry) {
  std::vector<std::string> findings;
  check_header(plan, registry, findings);
  if (!findings.empty() && !has_sane_header(plan)) return findings;
  for (const Program& program : plan.programs) {
    ProgramCheck check{.plan = plan, .program = program, .registry = registry, .findings = findings};
    check_program(check);
  }
  if (findings.size() > kMostFindings) findings.resize(kMostFindings);
  return findings;
}

}  // namespace thimble
