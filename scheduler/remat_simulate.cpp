// The judge of schedules: memory model M0, step by step. Shares no code with what it judges.
#include <algorithm>
#include <iterator>

#include "thimble/error.h"
#include "thimble/remat.h"

namespace thimble {
namespace {

constexpr std::size_t kMostFindings = 20;
constexpr std::int64_t kLargestSum = std::int64_t{1} << 52;  // of all sizes, and of all costs: room to add

class Findings {
 public:
  void add(const std::string& what) {
    if (messages_.size() < kMostFindings) messages_.push_back(what);
  }
  std::vector<std::string> take() { return std::move(messages_); }

 private:
  std::vector<std::string> messages_;
};

std::string tensor_name(std::int32_t t) { return "tensor " + std::to_string(t); }

void check_ids(const std::vector<std::int32_t>& ids, std::size_t count, const std::string& where, Findings& findings) {
  for (std::int32_t id : ids)
    if (id < 0 || static_cast<std::size_t>(id) >= count)
      findings.add(where + " names tensor " + std::to_string(id) + ", there are " + std::to_string(count));
}

void add_to(std::int64_t& sum, std::int64_t value, const std::string& where, Findings& findings) {
  if (value < 0)
    findings.add(where + " is negative: " + std::to_string(value));
  else if (value > kLargestSum - sum)
    findings.add(where + ": the sum over the problem exceeds 2^52");
  else
    sum += value;
}

class Replay {
 public:
  Replay(const RematProblem& problem, Bytes budget)
      : problem_(problem), budget_(budget), resident_(problem.tensors.size(), false) {}

  void compute(std::int32_t id, std::size_t step) {
    const auto where = [&] { return "step " + std::to_string(step) + " (c" + std::to_string(id) + ")"; };
    if (id < 0 || static_cast<std::size_t>(id) >= problem_.ops.size())
      return findings_.add(where() + ": there is no such op");
    const RematOp& op = problem_.ops[static_cast<std::size_t>(id)];
    for (std::int32_t t : op.inputs)
      if (!is_there(t)) findings_.add(where() + " reads " + tensor_name(t) + ", which is not resident");
    bool makes_something = false;
    for (std::int32_t t : op.outputs) {
      if (is_there(t)) continue;
      makes_something = true;
      resident_[static_cast<std::size_t>(t)] = true;
      held_ += problem_.tensors[static_cast<std::size_t>(t)].size;
    }
    if (!makes_something) findings_.add(where() + " runs although all its outputs are resident");
    const Bytes now = held_ + op.workspace;
    if (now > result_.peak) result_.peak = now;
    if (now > budget_)
      findings_.add(where() + " needs " + std::to_string(now.value) + " bytes, the budget is " +
                    std::to_string(budget_.value));
    if (op.cost > INT64_MAX - result_.cost) return findings_.add(where() + ": the cost of the schedule exceeds 2^63");
    result_.cost += op.cost;
  }

  void free(std::int32_t id, std::size_t step) {
    const auto where = [&] { return "step " + std::to_string(step) + " (e" + std::to_string(id) + ")"; };
    if (id < 0 || static_cast<std::size_t>(id) >= problem_.tensors.size())
      return findings_.add(where() + ": there is no such tensor");
    if (problem_.tensors[static_cast<std::size_t>(id)].constant || !is_there(id))
      return findings_.add(where() + ": it is not resident");
    resident_[static_cast<std::size_t>(id)] = false;
    held_ -= problem_.tensors[static_cast<std::size_t>(id)].size;
  }

  RematReplay finish() {
    for (std::size_t t = 0; t < problem_.tensors.size(); ++t)
      if (problem_.tensors[t].keep && !is_there(static_cast<std::int32_t>(t)))
        findings_.add("at the end " + tensor_name(static_cast<std::int32_t>(t)) + " is not resident");
    result_.findings = findings_.take();
    return result_;
  }

 private:
  bool is_there(std::int32_t t) const {
    return problem_.tensors[static_cast<std::size_t>(t)].constant || resident_[static_cast<std::size_t>(t)];
  }

  const RematProblem& problem_;
  Bytes budget_;
  std::vector<bool> resident_;
  Bytes held_;
  RematReplay result_;
  Findings findings_;
};

}  // namespace

std::vector<std::string> check_remat_problem(const RematProblem& problem) {
  Findings findings;
  std::int64_t bytes = 0, cost = 0;
  const std::size_t count = problem.tensors.size();
  for (std::size_t t = 0; t < count; ++t)
    add_to(bytes, problem.tensors[t].size.value, tensor_name(static_cast<std::int32_t>(t)) + ": size", findings);
  for (std::size_t o = 0; o < problem.ops.size(); ++o) {
    const RematOp& op = problem.ops[o];
    const std::string where = "op " + std::to_string(o);
    add_to(cost, op.cost, where + ": cost", findings);
    add_to(bytes, op.workspace.value, where + ": workspace", findings);
    check_ids(op.inputs, count, where, findings);
    check_ids(op.outputs, count, where, findings);
    for (std::int32_t t : op.outputs)
      if (t >= 0 && static_cast<std::size_t>(t) < count && problem.tensors[static_cast<std::size_t>(t)].constant)
        findings.add(where + " writes the constant " + tensor_name(t));
    std::vector<std::int32_t> in = op.inputs, out = op.outputs, both;
    std::sort(in.begin(), in.end());
    std::sort(out.begin(), out.end());
    std::set_intersection(in.begin(), in.end(), out.begin(), out.end(), std::back_inserter(both));
    if (!both.empty()) findings.add(where + " reads its own output, " + tensor_name(both.front()));
    if (const auto twice = std::adjacent_find(out.begin(), out.end()); twice != out.end())
      findings.add(where + " lists its output " + tensor_name(*twice) + " twice");
  }
  return findings.take();
}

RematReplay replay_remat(const RematProblem& problem, Bytes budget, const std::vector<RematStep>& schedule) {
  if (const auto findings = check_remat_problem(problem); !findings.empty())
    throw InvalidArgument("remat: " + findings.front());
  Replay replay(problem, budget);
  for (std::size_t i = 0; i < schedule.size(); ++i)
    if (schedule[i].kind == RematStep::Kind::compute)
      replay.compute(schedule[i].id, i);
    else
      replay.free(schedule[i].id, i);
  return replay.finish();
}

}  // namespace thimble
