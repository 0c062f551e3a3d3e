#include "remat_graph.h"

#include <algorithm>
#include <limits>
#include <queue>

namespace thimble::remat {
namespace {

constexpr Cost kNever = std::numeric_limits<Cost>::max() / 4;

std::vector<std::int32_t> unique(std::vector<std::int32_t> ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// Cheapest way to make each tensor from nothing, sharing not counted (Knuth's generalisation of Dijkstra), and thereby
// what can be made at all, in an order in which it can.
struct Derivation {
  std::vector<Cost> tensor_cost;
  std::vector<std::int32_t> producer;  // cheapest op of the problem, -1: cannot be made
  std::vector<char> op_can_run;
};

Derivation derive(const RematProblem& problem) {
  const std::size_t n = problem.tensors.size(), m = problem.ops.size();
  Derivation d{std::vector<Cost>(n, kNever), std::vector<std::int32_t>(n, -1), std::vector<char>(m, 0)};
  std::vector<std::vector<std::int32_t>> readers(n);
  std::vector<std::int32_t> missing(m, 0);
  std::vector<Cost> op_cost(m);
  using Entry = std::pair<Cost, std::int32_t>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open;
  for (std::size_t o = 0; o < m; ++o) {
    op_cost[o] = problem.ops[o].cost;
    for (std::int32_t t : unique(problem.ops[o].inputs))
      if (!problem.tensors[static_cast<std::size_t>(t)].constant) {
        readers[static_cast<std::size_t>(t)].push_back(static_cast<std::int32_t>(o));
        ++missing[o];
      }
    if (missing[o] == 0) open.emplace(op_cost[o], static_cast<std::int32_t>(o));
  }
  while (!open.empty()) {
    const auto [cost, op] = open.top();
    open.pop();
    d.op_can_run[static_cast<std::size_t>(op)] = 1;
    for (std::int32_t t : unique(problem.ops[static_cast<std::size_t>(op)].outputs)) {
      const auto i = static_cast<std::size_t>(t);
      if (d.tensor_cost[i] != kNever) continue;
      d.tensor_cost[i] = cost;
      d.producer[i] = op;
      for (std::int32_t reader : readers[i]) {
        const auto r = static_cast<std::size_t>(reader);
        op_cost[r] = std::min(kNever - 1, op_cost[r] + cost);
        if (--missing[r] == 0) open.emplace(op_cost[r], reader);
      }
    }
  }
  return d;
}

// Ops that the goal needs with the cheapest producers, each once, always the first of the problem that is ready.
Sequence natural_order(const RematProblem& problem, const Derivation& d) {
  std::vector<char> needed(problem.ops.size(), 0);
  std::vector<std::int32_t> pending;
  const auto want = [&](std::int32_t t) {
    const std::int32_t op = d.producer[static_cast<std::size_t>(t)];
    if (problem.tensors[static_cast<std::size_t>(t)].constant || op < 0 || needed[static_cast<std::size_t>(op)]) return;
    needed[static_cast<std::size_t>(op)] = 1;
    pending.push_back(op);
  };
  for (std::size_t t = 0; t < problem.tensors.size(); ++t)
    if (problem.tensors[t].keep) want(static_cast<std::int32_t>(t));
  while (!pending.empty()) {
    const std::int32_t op = pending.back();
    pending.pop_back();
    for (std::int32_t t : problem.ops[static_cast<std::size_t>(op)].inputs) want(t);
  }
  std::vector<std::int32_t> missing(problem.ops.size(), 0);
  std::vector<std::vector<std::int32_t>> readers(problem.tensors.size());
  std::priority_queue<std::int32_t, std::vector<std::int32_t>, std::greater<>> ready;
  for (std::size_t o = 0; o < problem.ops.size(); ++o) {
    if (!needed[o]) continue;
    for (std::int32_t t : unique(problem.ops[o].inputs))
      if (!problem.tensors[static_cast<std::size_t>(t)].constant) {
        readers[static_cast<std::size_t>(t)].push_back(static_cast<std::int32_t>(o));
        ++missing[o];
      }
    if (missing[o] == 0) ready.push(static_cast<std::int32_t>(o));
  }
  Sequence order;
  std::vector<char> made(problem.tensors.size(), 0);
  while (!ready.empty()) {
    const std::int32_t op = ready.top();
    ready.pop();
    order.push_back(op);
    for (std::int32_t t : unique(problem.ops[static_cast<std::size_t>(op)].outputs)) {
      if (made[static_cast<std::size_t>(t)]) continue;
      made[static_cast<std::size_t>(t)] = 1;
      for (std::int32_t reader : readers[static_cast<std::size_t>(t)])
        if (--missing[static_cast<std::size_t>(reader)] == 0) ready.push(reader);
    }
  }
  return order;
}

// Position of each tensor in the Graph, -1 for constants and what cannot be made: first those of the natural order,
// then by what they cost to make.
std::vector<std::int32_t> number_tensors(const RematProblem& problem, const Derivation& d, const Sequence& order) {
  std::vector<std::int32_t> number(problem.tensors.size(), -1), rest;
  std::int32_t next = 0;
  for (std::int32_t op : order)
    for (std::int32_t t : problem.ops[static_cast<std::size_t>(op)].outputs)
      if (number[static_cast<std::size_t>(t)] < 0) number[static_cast<std::size_t>(t)] = next++;
  for (std::size_t t = 0; t < problem.tensors.size(); ++t)
    if (number[t] < 0 && !problem.tensors[t].constant && d.producer[t] >= 0)
      rest.push_back(static_cast<std::int32_t>(t));
  std::stable_sort(rest.begin(), rest.end(), [&](std::int32_t a, std::int32_t b) {
    return d.tensor_cost[static_cast<std::size_t>(a)] < d.tensor_cost[static_cast<std::size_t>(b)];
  });
  for (std::int32_t t : rest) number[static_cast<std::size_t>(t)] = next++;
  return number;
}

void add_tensors(Graph& graph, const RematProblem& problem, const std::vector<std::int32_t>& number) {
  for (std::size_t t = 0; t < problem.tensors.size(); ++t)
    if (number[t] >= 0) graph.tensor_id.push_back(static_cast<std::int32_t>(t));
  std::sort(graph.tensor_id.begin(), graph.tensor_id.end(), [&](std::int32_t a, std::int32_t b) {
    return number[static_cast<std::size_t>(a)] < number[static_cast<std::size_t>(b)];
  });
  for (std::int32_t id : graph.tensor_id) {
    graph.bytes.push_back(problem.tensors[static_cast<std::size_t>(id)].size.value);
    graph.keep.push_back(problem.tensors[static_cast<std::size_t>(id)].keep);
  }
  graph.producers.resize(graph.bytes.size());
  graph.consumers.resize(graph.bytes.size());
}

void add_op(Graph& graph, const RematOp& op, std::int32_t id, const std::vector<std::int32_t>& number) {
  const auto index = static_cast<std::int32_t>(graph.cost.size());
  std::vector<std::int32_t> in, out;
  for (std::int32_t t : op.inputs)
    if (number[static_cast<std::size_t>(t)] >= 0) in.push_back(number[static_cast<std::size_t>(t)]);
  for (std::int32_t t : op.outputs) out.push_back(number[static_cast<std::size_t>(t)]);
  in = unique(in);
  out = unique(out);
  std::int64_t need = op.workspace.value;
  for (std::int32_t t : in) {
    graph.consumers[static_cast<std::size_t>(t)].push_back(index);
    need += graph.bytes[static_cast<std::size_t>(t)];
  }
  for (std::int32_t t : out) {
    graph.producers[static_cast<std::size_t>(t)].push_back(index);
    need += graph.bytes[static_cast<std::size_t>(t)];
  }
  graph.cost.push_back(op.cost);
  graph.workspace.push_back(op.workspace.value);
  graph.need.push_back(need);
  graph.in.push_back(std::move(in));
  graph.out.push_back(std::move(out));
  graph.op_id.push_back(id);
}

}  // namespace

Graph make_graph(const RematProblem& problem) {
  const Derivation d = derive(problem);
  const Sequence order = natural_order(problem, d);
  const std::vector<std::int32_t> number = number_tensors(problem, d, order);
  Graph graph;
  add_tensors(graph, problem, number);
  std::vector<std::int32_t> op_number(problem.ops.size(), -1);
  for (std::size_t o = 0; o < problem.ops.size(); ++o) {
    if (!d.op_can_run[o] || problem.ops[o].outputs.empty()) continue;
    op_number[o] = graph.ops();
    add_op(graph, problem.ops[o], static_cast<std::int32_t>(o), number);
  }
  for (std::int32_t op : order) graph.order.push_back(op_number[static_cast<std::size_t>(op)]);
  for (std::int32_t id : graph.tensor_id)
    graph.chosen.push_back(op_number[static_cast<std::size_t>(d.producer[static_cast<std::size_t>(id)])]);
  for (std::size_t t = 0; t < problem.tensors.size(); ++t)
    if (problem.tensors[t].keep && !problem.tensors[t].constant && number[t] < 0) graph.can_make_goal = false;
  for (const auto& producers : graph.producers) graph.has_alternatives |= producers.size() > 1;
  return graph;
}

}  // namespace thimble::remat
