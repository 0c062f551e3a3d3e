#include "thimble/op_registry.h"

#include <algorithm>

#include "thimble/error.h"

namespace thimble {

double predicted_seconds(const OpCost& cost, const DeviceDescription& device) {
  const double computing = (cost.flops + cost.idle_flops) / (device.flops_per_second * device.threads);
  return std::max(computing, cost.bytes / device.bytes_per_second) + device.seconds_per_launch;
}

void OpRegistry::add(OpDefinition definition) {
  if (!definition.infer) throw InvalidArgument("registry: op kind '" + definition.kind + "' has no infer function");
  const std::string kind = definition.kind;
  if (!definitions_.emplace(kind, std::move(definition)).second)
    throw InvalidArgument("registry: op kind '" + kind + "' is registered already");
}

const OpDefinition& OpRegistry::at(const std::string& kind) const {
  auto found = definitions_.find(kind);
  if (found == definitions_.end())
    throw InvalidArgument("registry: op kind '" + kind + "' is unknown; register it before planning");
  return found->second;
}

std::vector<std::string> OpRegistry::kinds() const {
  std::vector<std::string> names;
  for (const auto& [kind, definition] : definitions_) names.push_back(kind);
  std::sort(names.begin(), names.end());
  return names;
}

void OpRegistry::add_rewrite(GraphRewrite rewrite) {
  if (!rewrite.apply) throw InvalidArgument("registry: graph rewrite '" + rewrite.name + "' has no function");
  for (const GraphRewrite& other : rewrites_)
    if (other.name == rewrite.name)
      throw InvalidArgument("registry: graph rewrite '" + rewrite.name + "' is registered already");
  rewrites_.push_back(std::move(rewrite));
}

const GraphRewrite& OpRegistry::rewrite(const std::string& name) const {
  std::string known;
  for (const GraphRewrite& rewrite : rewrites_) {
    if (rewrite.name == name) return rewrite;
    known += (known.empty() ? "'" : ", '") + rewrite.name + "'";
  }
  throw InvalidArgument("registry: graph rewrite '" + name + "' is unknown; there is " +
                        (known.empty() ? "none" : known));
}

bool OpRegistry::accumulates(const Op& op) const {
  const OpDefinition& definition = at(op.kind);
  return definition.accumulates || (definition.may_accumulate && op.attributes.count(kAccumulates) != 0);
}

bool OpRegistry::accumulates(const Op& op, std::size_t output) const {
  return accumulates(op) && static_cast<std::size_t>(at(op.kind).accumulated_output) == output;
}

OpCost OpRegistry::cost(const std::string& kind, const OpShape& shape) const {
  if (const auto& cost = at(kind).cost) return cost(shape);
  OpCost moved;
  for (const TensorType& type : shape.inputs) moved.bytes += static_cast<double>(bytes_of(type).value);
  for (const TensorType& type : shape.outputs) moved.bytes += static_cast<double>(bytes_of(type).value);
  return moved;
}

Bytes OpRegistry::workspace(const std::string& kind, const OpShape& shape) const {
  const auto& workspace = at(kind).workspace;
  return workspace ? workspace(shape) : Bytes{};
}

std::vector<OutputSpec> outputs_like(TensorType type) { return {OutputSpec{"", std::move(type)}}; }

}  // namespace thimble
