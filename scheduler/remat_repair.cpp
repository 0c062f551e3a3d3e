#include "remat_repair.h"

#include <algorithm>
#include <cmath>

namespace thimble::remat {
namespace {

constexpr int kDeepest = 64;          // ops that one given-up tensor may make run again in a row
constexpr std::size_t kLongest = 96;  // ops of one plan

}  // namespace

Mover::Mover(const Graph& graph, std::int64_t budget, std::uint64_t seed, std::int64_t effort_limit)
    : graph_(graph),
      budget_(budget),
      timeline_(graph, budget),
      dice_(seed),
      effort_limit_(effort_limit),
      in_plan_(graph.bytes.size(), 0),
      last_use_(graph.bytes.size(), -1) {}

bool Mover::is_held(std::int32_t tensor, std::int32_t at) const {
  if (in_plan_[static_cast<std::size_t>(tensor)]) return true;
  const std::int32_t hold = timeline_.hold_before(tensor, at);
  return hold >= 0 && timeline_.holds()[static_cast<std::size_t>(hold)].last >= at;
}

// The producer that needs the least besides what is held.
std::int32_t Mover::producer_for(std::int32_t tensor, std::int32_t at) const {
  const auto& producers = graph_.producers[static_cast<std::size_t>(tensor)];
  if (producers.size() == 1) return producers[0];
  std::int32_t best = graph_.chosen[static_cast<std::size_t>(tensor)];
  Cost least = INT64_MAX;
  for (std::int32_t p : producers) {
    Cost cost = graph_.cost[static_cast<std::size_t>(p)];
    for (std::int32_t x : graph_.in[static_cast<std::size_t>(p)])
      if (!is_held(x, at))
        cost += graph_.cost[static_cast<std::size_t>(graph_.chosen[static_cast<std::size_t>(x)])] + 1;
    if (cost < least) {
      least = cost;
      best = p;
    }
  }
  return best;
}

// Appends what has to run right before position `at` so that `tensor` is there.
bool Mover::make(std::int32_t tensor, std::int32_t at, int depth, Sequence& ops) {
  if (depth > kDeepest || ops.size() > kLongest) return false;
  const std::int32_t op = producer_for(tensor, at);
  for (std::int32_t x : graph_.in[static_cast<std::size_t>(op)]) {
    if (x == given_up_) return false;
    if (is_held(x, at)) continue;
    const std::int32_t hold = timeline_.hold_before(x, at);
    if (hold >= 0) {
      const Hold& h = timeline_.holds()[static_cast<std::size_t>(hold)];
      const std::int32_t free_from = std::max(h.last, h.made) + 1;
      effort_ += at - free_from;
      if (timeline_.has_room(free_from, at, graph_.bytes[static_cast<std::size_t>(x)])) {
        in_plan_[static_cast<std::size_t>(x)] = 2;  // held on
        extended_.push_back(x);
        continue;
      }
    }
    if (!make(x, at, depth + 1, ops)) return false;
  }
  ops.push_back(op);
  for (std::int32_t t : graph_.out[static_cast<std::size_t>(op)]) in_plan_[static_cast<std::size_t>(t)] = 1;
  return true;
}

// Bytes above the budget while the plan's ops run.
std::int64_t Mover::overflow_of(const Plan& plan, std::int32_t dropped) {
  std::int64_t held = timeline_.held_before(plan.before) - graph_.bytes[static_cast<std::size_t>(dropped)];
  for (std::int32_t x : extended_) held += graph_.bytes[static_cast<std::size_t>(x)];
  for (std::size_t i = 0; i < plan.ops.size(); ++i)
    for (std::int32_t t : graph_.in[static_cast<std::size_t>(plan.ops[i])])
      last_use_[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(i);
  std::int64_t overflow = 0;
  for (std::size_t i = 0; i < plan.ops.size(); ++i) {
    const auto op = static_cast<std::size_t>(plan.ops[i]);
    for (std::int32_t t : graph_.out[op]) held += graph_.bytes[static_cast<std::size_t>(t)];
    overflow += std::max<std::int64_t>(0, held + graph_.workspace[op] - budget_);
    // Freed again: what later steps of the plan do not read, unless it is the tensor asked for.
    for (std::int32_t t : graph_.out[op])
      if (last_use_[static_cast<std::size_t>(t)] < 0 && t != dropped) held -= graph_.bytes[static_cast<std::size_t>(t)];
    for (std::int32_t t : graph_.in[op])
      if (in_plan_[static_cast<std::size_t>(t)] && t != dropped &&
          last_use_[static_cast<std::size_t>(t)] == static_cast<std::int32_t>(i))
        held -= graph_.bytes[static_cast<std::size_t>(t)];
  }
  for (std::int32_t op : plan.ops)
    for (std::int32_t t : graph_.in[static_cast<std::size_t>(op)]) last_use_[static_cast<std::size_t>(t)] = -1;
  return overflow;
}

// Where an op of the plan runs once more later and holding its outputs until then fits, that later run is spared.
void Mover::spare_later_runs(Plan& plan) {
  for (std::int32_t op : plan.ops) {
    const auto& out = graph_.out[static_cast<std::size_t>(op)];
    if (out.size() != 1) continue;
    const std::int32_t t = out[0];
    const std::int32_t hold = timeline_.hold_before(t, plan.before);
    if (hold < 0) continue;
    const std::int32_t next = timeline_.holds()[static_cast<std::size_t>(hold)].next;
    if (next < 0) continue;
    const std::int32_t made = timeline_.holds()[static_cast<std::size_t>(next)].made;
    if (graph_.out[static_cast<std::size_t>(timeline_.sequence()[static_cast<std::size_t>(made)])].size() != 1)
      continue;
    effort_ += made - plan.before;
    if (!timeline_.has_room(plan.before, made, graph_.bytes[static_cast<std::size_t>(t)])) continue;
    plan.removed.push_back(made);
    plan.cost -= graph_.cost[static_cast<std::size_t>(timeline_.sequence()[static_cast<std::size_t>(made)])];
  }
}

// A tensor given up right after it was made, with nobody else reading what its op makes: the op just runs later.
bool Mover::spare_first_run(const Gap& gap, Plan& plan) const {
  const Hold& hold = timeline_.holds()[static_cast<std::size_t>(gap.hold)];
  if (hold.made != gap.from) return false;
  const std::int32_t op = timeline_.sequence()[static_cast<std::size_t>(gap.from)];
  const auto& out = graph_.out[static_cast<std::size_t>(op)];
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int32_t index = timeline_.hold_at(gap.from, i);
    if (index != gap.hold && timeline_.holds()[static_cast<std::size_t>(index)].last >= 0) return false;
  }
  plan.cost -= graph_.cost[static_cast<std::size_t>(op)];
  return true;
}

std::optional<Mover::Plan> Mover::plan(const Gap& gap, const RepairStyle& style) {
  const std::int64_t bytes = graph_.bytes[static_cast<std::size_t>(gap.tensor)];
  if (bytes == 0) return std::nullopt;
  Plan plan;
  plan.before = gap.to;
  plan.bytes = bytes;
  effort_ += 40;
  extended_.clear();
  given_up_ = gap.tensor;
  const bool is_made = make(gap.tensor, gap.to, 0, plan.ops);
  if (is_made) {
    for (std::int32_t op : plan.ops) plan.cost += graph_.cost[static_cast<std::size_t>(op)];
    if (style.peak_only)
      plan.gain = static_cast<double>(timeline_.relief(timeline_.peak_at(), timeline_.peak_at() + 1, bytes));
    else
      plan.gain = static_cast<double>(timeline_.relief(gap.from + 1, gap.to, bytes));
    effort_ += gap.to - gap.from + static_cast<std::int32_t>(plan.ops.size());
    plan.gain -= static_cast<double>(overflow_of(plan, gap.tensor));
  }
  // in_plan_ marks what make() touched, also where it failed half way.
  for (std::int32_t op : plan.ops)
    for (std::int32_t t : graph_.out[static_cast<std::size_t>(op)]) in_plan_[static_cast<std::size_t>(t)] = 0;
  for (std::int32_t x : extended_) in_plan_[static_cast<std::size_t>(x)] = 0;
  if (!is_made || plan.gain <= 0) return std::nullopt;
  spare_first_run(gap, plan);
  spare_later_runs(plan);
  return plan;
}

// The last reader of a tensor held over the worst step runs before that step instead, if all it reads is there: what it
// reads for the last time goes, what it makes comes.
std::optional<Mover::Plan> Mover::plan_earlier_read(const Gap& gap) {
  const std::int32_t worst = timeline_.peak_at();
  if (gap.to >= timeline_.length() || timeline_.holds()[static_cast<std::size_t>(gap.hold)].last != gap.to)
    return std::nullopt;
  const std::int32_t op = timeline_.sequence()[static_cast<std::size_t>(gap.to)];
  std::int64_t saved = 0, made = 0;
  for (std::int32_t x : graph_.in[static_cast<std::size_t>(op)]) {
    const std::int32_t hold = timeline_.hold_before(x, gap.to);
    if (timeline_.holds()[static_cast<std::size_t>(hold)].made >= worst) return std::nullopt;
    if (timeline_.holds()[static_cast<std::size_t>(hold)].last == gap.to)
      saved += graph_.bytes[static_cast<std::size_t>(x)];
  }
  for (std::int32_t t : graph_.out[static_cast<std::size_t>(op)]) made += graph_.bytes[static_cast<std::size_t>(t)];
  if (saved <= made) return std::nullopt;
  Plan plan;
  plan.before = worst;
  plan.ops = {op};
  plan.removed = {gap.to};
  plan.bytes = saved - made;
  const std::int64_t meanwhile = timeline_.held_before(worst) + made + graph_.workspace[static_cast<std::size_t>(op)];
  effort_ += gap.to - worst + 40;
  plan.gain = static_cast<double>(timeline_.relief(worst, gap.to, saved - made)) -
              static_cast<double>(std::max<std::int64_t>(0, meanwhile - budget_));
  if (plan.gain <= 0) return std::nullopt;
  return plan;
}

// Plans drawn up for the same sequence can be carried out together: a read always finds the tensor, if perhaps held
// for longer than its plan hoped.
void Mover::apply(const std::vector<Plan>& plans) {
  const Sequence& old = timeline_.sequence();
  std::vector<std::vector<std::int32_t>> inserted(old.size() + 1);
  std::vector<char> removed(old.size() + 1, 0);
  for (std::size_t i = 0; i < plans.size(); ++i) {
    inserted[static_cast<std::size_t>(plans[i].before)].push_back(static_cast<std::int32_t>(i));
    for (std::int32_t p : plans[i].removed) removed[static_cast<std::size_t>(p)] = 1;
  }
  Sequence next;
  for (std::size_t p = 0; p <= old.size(); ++p) {
    for (std::int32_t i : inserted[p]) {
      const Sequence& ops = plans[static_cast<std::size_t>(i)].ops;
      next.insert(next.end(), ops.begin(), ops.end());
    }
    if (p < old.size() && !removed[p]) next.push_back(old[p]);
  }
  timeline_.set(std::move(next));
  effort_ += timeline_.length();
}

// Among the gaps over the worst step, those that take away most per cost: one, or about half of what is too much.
bool Mover::repair_once(const RepairStyle& style) {
  const std::int32_t worst = timeline_.peak_at();
  std::vector<Plan> plans;
  for (const Gap& gap : timeline_.gaps()) {
    if (gap.from >= worst || gap.to <= worst) continue;
    std::optional<Plan> candidate = plan_earlier_read(gap);
    if (!candidate) candidate = plan(gap, style);
    if (!candidate) continue;
    const double cost = static_cast<double>(std::max<Cost>(candidate->cost, 0)) + 1e-3;
    candidate->score = std::pow(candidate->gain, style.relief_exponent) / cost;
    if (style.noise > 0) candidate->score *= 1 + style.noise * (2 * dice_.real() - 1);
    if (!style.many && !plans.empty()) {
      if (candidate->score > plans.front().score) plans.front() = std::move(*candidate);
      continue;
    }
    plans.push_back(std::move(*candidate));
  }
  if (plans.empty()) return false;
  if (style.many) {
    std::stable_sort(plans.begin(), plans.end(), [](const Plan& a, const Plan& b) { return a.score > b.score; });
    std::int64_t excess = (timeline_.peak() - budget_) / 2;
    std::size_t count = 0;
    while (count < plans.size() && excess >= 0) excess -= plans[count++].bytes;
    plans.resize(count);
  }
  apply(plans);
  return true;
}

bool Mover::repair(const RepairStyle& style, std::int32_t most_steps, Cost give_up_at) {
  for (std::int32_t step = 0; !timeline_.fits(); ++step)
    if (step >= most_steps || is_spent() || timeline_.cost() >= give_up_at || !repair_once(style)) return false;
  return timeline_.cost() < give_up_at;
}

// Its outputs have to be there already, and holding them until its readers has to fit.
bool Mover::can_let_go(std::int32_t position) {
  const std::int32_t op = timeline_.sequence()[static_cast<std::size_t>(position)];
  const auto& out = graph_.out[static_cast<std::size_t>(op)];
  std::int64_t sum = 0;
  std::int32_t from = position;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (timeline_.holds()[static_cast<std::size_t>(timeline_.hold_at(position, i))].last < 0) continue;
    const std::int32_t before = timeline_.hold_before(out[i], position);
    if (before < 0) return false;
    const Hold& hold = timeline_.holds()[static_cast<std::size_t>(before)];
    from = std::min(from, std::max(hold.last, hold.made) + 1);
    sum += graph_.bytes[static_cast<std::size_t>(out[i])];
  }
  effort_ += position - from + 8;
  return timeline_.has_room(from, position, sum);
}

void Mover::tidy() {
  for (bool changed = true; changed && !is_spent();) {
    changed = false;
    std::vector<std::int32_t> repeated;
    for (std::int32_t p = 0; p < timeline_.length(); ++p)
      if (timeline_.is_repeated(p)) repeated.push_back(p);
    const auto cost_at = [&](std::int32_t p) {
      return graph_.cost[static_cast<std::size_t>(timeline_.sequence()[static_cast<std::size_t>(p)])];
    };
    std::stable_sort(repeated.begin(), repeated.end(),
                     [&](std::int32_t a, std::int32_t b) { return cost_at(a) > cost_at(b); });
    for (std::int32_t p : repeated) {
      if (!can_let_go(p)) continue;
      let_go(p);
      changed = true;
      break;
    }
  }
}

bool Mover::let_go(std::int32_t position) {
  const auto& out = graph_.out[static_cast<std::size_t>(timeline_.sequence()[static_cast<std::size_t>(position)])];
  for (std::size_t i = 0; i < out.size(); ++i)
    if (timeline_.holds()[static_cast<std::size_t>(timeline_.hold_at(position, i))].last >= 0 &&
        timeline_.hold_before(out[i], position) < 0)
      return false;
  Sequence next = timeline_.sequence();
  next.erase(next.begin() + position);
  timeline_.set(std::move(next));
  effort_ += timeline_.length();
  return true;
}

}  // namespace thimble::remat
