#include "remat_baselines.h"

#include <algorithm>
#include <cmath>

#include "thimble/error.h"

namespace thimble::remat_baselines {
namespace {

using Ids = std::vector<std::int32_t>;

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

// Ops that the kept tensors need, in the file's order.
Ids needed_ops(const RematProblem& problem) {
  std::vector<char> wanted;
  for (const RematTensor& tensor : problem.tensors) wanted.push_back(tensor.keep);
  Ids ops;
  for (std::size_t o = problem.ops.size(); o-- > 0;) {
    const RematOp& op = problem.ops[o];
    if (std::none_of(op.outputs.begin(), op.outputs.end(), [&](std::int32_t t) { return wanted[at(t)]; })) continue;
    ops.push_back(static_cast<std::int32_t>(o));
    for (std::int32_t t : op.inputs) wanted[at(t)] = 1;
  }
  std::reverse(ops.begin(), ops.end());
  return ops;
}

// Ops in the order in which they run, some again, with every value freed after its last reader.
std::vector<RematStep> with_frees(const RematProblem& problem, const Ids& ops) {
  std::vector<Ids> freed(ops.size());
  std::vector<char> wanted;
  for (const RematTensor& tensor : problem.tensors) wanted.push_back(tensor.keep);
  for (std::size_t p = ops.size(); p-- > 0;) {
    const RematOp& op = problem.ops[at(ops[p])];
    for (std::int32_t t : op.outputs) {
      if (!wanted[at(t)]) freed[p].push_back(t);
      wanted[at(t)] = 0;
    }
    for (std::int32_t t : op.inputs) {
      if (!wanted[at(t)] && !problem.tensors[at(t)].constant) freed[p].push_back(t);
      wanted[at(t)] = 1;
    }
  }
  std::vector<RematStep> steps;
  for (std::size_t p = 0; p < ops.size(); ++p) {
    steps.push_back({RematStep::Kind::compute, ops[p]});
    for (std::int32_t t : freed[p]) steps.push_back({RematStep::Kind::free, t});
  }
  return steps;
}

Measured measure(const RematProblem& problem, const Ids& ops) {
  const RematReplay replay = replay_remat(problem, Bytes{std::int64_t{1} << 52}, with_frees(problem, ops));
  if (!replay.findings.empty()) throw Error("baseline: " + replay.findings.front());
  return {replay.cost, replay.peak};
}

class Checkpoints {
 public:
  Checkpoints(const RematProblem& problem, const Ids& ops, std::size_t forward)
      : problem_(problem), ops_(ops), forward_(std::min(forward, ops.size())) {
    producer_.assign(problem.tensors.size(), -1);
    last_read_.assign(problem.tensors.size(), 0);
    for (std::size_t p = 0; p < ops.size(); ++p)
      for (std::int32_t t : problem.ops[at(ops[p])].outputs) producer_[at(t)] = static_cast<std::int32_t>(p);
    for (std::size_t p = 0; p < forward_; ++p)
      for (std::int32_t t : problem.ops[at(ops[p])].inputs) last_read_[at(t)] = p;
  }

  // Bytes that the op at a position makes.
  double bytes(std::size_t p) const {
    double sum = 0;
    for (std::int32_t t : op(p).outputs) sum += static_cast<double>(problem_.tensors[at(t)].size.value);
    return sum;
  }
  std::size_t forward() const { return forward_; }

  // Positions after which nothing but the op's own outputs is read by later forward ops.
  std::vector<char> articulations() const {
    std::vector<char> is_cut(forward_, 1);
    for (std::size_t p = 0; p < forward_; ++p)
      for (std::int32_t t : op(p).outputs)
        for (std::size_t q = p + 1; q < last_read_[at(t)]; ++q) is_cut[q] = 0;
    return is_cut;
  }

  // A segment ends at the first candidate where its weight exceeds the limit; the last one is held as a whole.
  template <class Weight>
  Ids cut(const std::vector<char>& candidates, double limit, bool holds_crossing, Weight weight) const {
    std::vector<std::size_t> segment(forward_);
    std::vector<char> is_dropped(forward_, 1);
    double sum = 0;
    std::size_t count = 0;
    for (std::size_t p = 0; p < forward_; ++p) {
      segment[p] = count;
      sum += weight(p);
      if (!candidates[p] || sum <= limit) continue;
      is_dropped[p] = 0;
      sum = 0;
      ++count;
    }
    for (std::size_t p = 0; p < forward_; ++p) {
      if (segment[p] == count) is_dropped[p] = 0;
      for (std::int32_t t : op(p).outputs)
        if (holds_crossing && last_read_[at(t)] > p && segment[last_read_[at(t)]] != segment[p]) is_dropped[p] = 0;
    }
    return run(is_dropped);
  }

 private:
  const RematOp& op(std::size_t p) const { return problem_.ops[at(ops_[p])]; }

  // What was dropped runs once more, when it is first asked for.
  Ids run(std::vector<char> is_dropped) const {
    Ids result(ops_.begin(), ops_.begin() + static_cast<std::ptrdiff_t>(forward_));
    for (std::size_t p = forward_; p < ops_.size(); ++p) {
      restore_inputs(p, is_dropped, result);
      result.push_back(ops_[p]);
    }
    return result;
  }

  void restore_inputs(std::size_t p, std::vector<char>& is_dropped, Ids& result) const {
    for (std::int32_t t : op(p).inputs) {
      if (problem_.tensors[at(t)].constant || at(producer_[at(t)]) >= forward_) continue;
      const std::size_t maker = at(producer_[at(t)]);
      if (!is_dropped[maker] || problem_.tensors[at(t)].keep) continue;
      is_dropped[maker] = 0;
      restore_inputs(maker, is_dropped, result);
      result.push_back(ops_[maker]);
    }
  }

  const RematProblem& problem_;
  const Ids& ops_;
  std::size_t forward_;
  Ids producer_;                        // by tensor: position
  std::vector<std::size_t> last_read_;  // by tensor: position in the forward pass
};

// Ops up to the one that sees the most bytes when nothing is recomputed.
std::size_t up_to_fullest(const RematProblem& problem, const Ids& ops) {
  Bytes held, most;
  std::size_t runs = 0, fullest = 0;
  for (const RematStep& step : with_frees(problem, ops)) {
    if (step.kind == RematStep::Kind::free) {
      held -= problem.tensors[at(step.id)].size;
      continue;
    }
    ++runs;
    for (std::int32_t t : problem.ops[at(step.id)].outputs) held += problem.tensors[at(t)].size;
    if (held + problem.ops[at(step.id)].workspace <= most) continue;
    most = held + problem.ops[at(step.id)].workspace;
    fullest = runs;
  }
  return fullest;
}

void add_plans(const RematProblem& problem, const Checkpoints& checkpoints, Baselines& all) {
  double total = 0;
  for (std::size_t p = 0; p < checkpoints.forward(); ++p) total += checkpoints.bytes(p);
  const double root = std::sqrt(static_cast<double>(checkpoints.forward()));
  const auto count_one = [](std::size_t) { return 1.0; };
  const auto count_bytes = [&](std::size_t p) { return checkpoints.bytes(p); };
  for (const auto& candidates : {std::vector<char>(checkpoints.forward(), 1), checkpoints.articulations()})
    for (const bool holds_crossing : {false, true}) {
      for (const double limit : {std::ceil(root) - 1, std::floor(root) - 1})
        all.sqrt_n.push_back(measure(problem, checkpoints.cut(candidates, limit, holds_crossing, count_one)));
      for (double limit = total; limit * 1024 > total; limit /= 1.19)
        all.greedy.push_back(measure(problem, checkpoints.cut(candidates, limit, holds_crossing, count_bytes)));
    }
}

}  // namespace

Baselines measure_baselines(const RematProblem& problem, std::size_t forward_ops) {
  const Ids ops = needed_ops(problem);
  const auto is_forward = [&](std::int32_t o) { return at(o) < forward_ops; };
  const auto forward = static_cast<std::size_t>(std::count_if(ops.begin(), ops.end(), is_forward));
  Baselines all;
  all.sqrt_n = all.greedy = {measure(problem, ops)};
  for (const std::size_t end : {forward, up_to_fullest(problem, ops)})
    add_plans(problem, Checkpoints(problem, ops, end), all);
  return all;
}

std::optional<std::int64_t> cheapest_within(const std::vector<Measured>& plans, Bytes budget) {
  std::optional<std::int64_t> least;
  for (const Measured& plan : plans)
    if (plan.peak <= budget && (!least || plan.cost < *least)) least = plan.cost;
  return least;
}

TimeRatios recorded_dtr(const nlohmann::json& peer, const std::string& graph) {
  TimeRatios rows;
  for (const auto& entry : peer.at("entries")) {
    if (entry.at("name") != graph) continue;
    for (const auto& result : entry.at("results")) {
      if (result.at("status") != "ok") continue;
      const double ratio = result.at("time_ratio");
      const auto row = rows.emplace(result.at("budget_bytes_nonconst").get<std::int64_t>(), ratio).first;
      row->second = std::min(row->second, ratio);
    }
  }
  return rows;
}

std::optional<double> lowest_within(const TimeRatios& ratios, Bytes budget) {
  std::optional<double> least;
  for (const auto& row : ratios)
    if (row.first <= budget.value && (!least || row.second < *least)) least = row.second;
  return least;
}

}  // namespace thimble::remat_baselines
