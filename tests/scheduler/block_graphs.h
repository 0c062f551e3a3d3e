// A net of blocks for tests of block-major order, and plans of it.
#pragma once

#include "tiny_ops.h"

namespace thimble::testing {

/// `blocks` residual blocks x + dense(scale(x)), each with a count of the samples seen, a dense layer to 4 columns, a
/// view of it and a loss. The blocks' outputs are b0, b1, ...
inline Graph tower(const OpRegistry& registry, int blocks) {
  auto [g, x] = start();
  for (int i = 0; i < blocks; ++i) {
    const std::string name = "b" + std::to_string(i);
    const TensorId w = weight(g, (name + ".w").c_str(), 3, 3);
    const TensorId seen = g.add_input(name + ".seen", {DType::f32, {1}}, Role::statistic);
    const TensorId s = g.add_op(registry, "scale", name + ".s", {x}, {{"factor", 0.5}}).front();
    g.add_op(registry, "counter", name + ".count", {s, seen});
    const TensorId h = g.add_op(registry, "dense", name + ".h", {s, w}).front();
    x = g.add_op(registry, "add", name, {h, x}).front();
  }
  const TensorId w = weight(g, "last.w", 4, 3);
  const TensorId y = g.add_op(registry, "dense", "last", {x, w}).front();
  const TensorId tall = g.add_op(registry, "reshape", "tall", {y}, {{"columns", std::int64_t{2}}}).front();
  return finish(registry, std::move(g), tall);
}

/// An encoder of two dense layers, e0 and e1, and a decoder of `layers` layers d0, d1, ... that all read
/// what it made, twice.
inline Graph translator(const OpRegistry& registry, int layers) {
  auto [g, x] = start();
  const auto dense = [&g, &registry](const std::string& name, TensorId from) {
    return g.add_op(registry, "dense", name, {from, weight(g, (name + ".w").c_str(), 3, 3)}).front();
  };
  const TensorId encoded = dense("e1", dense("e0", x));
  TensorId y = dense("begin", x);
  for (int i = 0; i < layers; ++i) {
    const std::string name = "d" + std::to_string(i);
    const TensorId key = dense(name + ".key", encoded), value = dense(name + ".value", encoded);
    const TensorId read = g.add_op(registry, "add", name + ".read", {key, value}).front();
    y = g.add_op(registry, "add", name, {dense(name + ".own", y), read}).front();
  }
  return finish(registry, std::move(g), y);
}

/// One training step of a graph; `splits` by name.
inline PlanRequest tower_request(const Graph& step, Cut cut, const std::vector<const char*>& splits) {
  PlanRequest request{
      .model = "tiny", .options = {}, .batch = kBatch, .device = {}, .planner_seed = 0, .budget = {}, .programs = {}};
  request.programs.push_back({.name = "train", .graph = step, .microbatches = std::move(cut)});
  for (const char* split : splits) request.programs[0].splits.push_back({.value = step.find(split)});
  return request;
}

inline Plan tower_plan(const OpRegistry& registry, const Graph& step, Cut cut, const std::vector<const char*>& splits) {
  return make_plan(tower_request(step, std::move(cut), splits), registry);
}

}  // namespace thimble::testing
