#include "thimble/op_registry.h"

#include <algorithm>

#include "thimble/error.h"

namespace thimble {

double predicted_seconds(const OpCost& cost, const DeviceDescription& device) {
  const double computing = (cost.flops + cost.idle_flops) / (device.flops_per_second * device.threads);
  return std::max(computing, cost.bytes / device.bytes_per_second) + cost.launches * device.seconds_per_launch;
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

void OpRegistry::add_kernels(const std::string& kind, const std::string& backend, OpKernels kernels) {
  at(kind);
  if (backend == "cpu") throw InvalidArgument("registry: the CPU's kernels of '" + kind + "' belong to its definition");
  if (!kernels.make_kernel) throw InvalidArgument("registry: '" + kind + "' of " + backend + " has no make_kernel");
  if (!kernels_[backend].emplace(kind, std::move(kernels)).second)
    throw InvalidArgument("registry: '" + kind + "' of " + backend + " is registered already");
}

bool OpRegistry::has_kernels(const std::string& kind, const std::string& backend) const {
  if (backend == "cpu") return at(kind).view || at(kind).make_kernel != nullptr;
  const auto found = kernels_.find(backend);
  return at(kind).view || (found != kernels_.end() && found->second.count(kind) != 0);
}

const OpKernels& OpRegistry::kernels_of(const std::string& kind, const DeviceDescription& device) const {
  const auto backend = kernels_.find(device.backend);
  if (backend != kernels_.end())
    if (const auto found = backend->second.find(kind); found != backend->second.end()) return found->second;
  throw InvalidArgument("registry: there are no kernels of '" + kind + "' for " + device.backend + " (device '" +
                        device.name + "')");
}

const std::map<std::string, std::string>& OpRegistry::engines(const DeviceDescription& device) const {
  static const std::map<std::string, std::string> none;
  const auto found = engines_.find(device.backend);
  return found == engines_.end() ? none : found->second;
}

OpCost OpRegistry::cost(const std::string& kind, const OpShape& shape) const {
  const OpDefinition& definition = at(kind);
  if (shape.device.backend != "cpu" && !definition.view)
    if (const auto& cost = kernels_of(kind, shape.device).cost) return cost(shape);
  if (definition.cost) return definition.cost(shape);
  OpCost moved;
  for (const TensorType& type : shape.inputs) moved.bytes += static_cast<double>(bytes_of(type).value);
  for (const TensorType& type : shape.outputs) moved.bytes += static_cast<double>(bytes_of(type).value);
  return moved;
}

Bytes OpRegistry::workspace(const std::string& kind, const OpShape& shape) const {
  const OpDefinition& definition = at(kind);
  if (definition.view) return {};
  const auto& workspace =
      shape.device.backend == "cpu" ? definition.workspace : kernels_of(kind, shape.device).workspace;
  return workspace ? workspace(shape) : Bytes{};
}

std::vector<Attributes> OpRegistry::faster(const std::string& kind, const OpShape& shape) const {
  const OpDefinition& definition = at(kind);
  if (definition.view) return {};
  const auto& faster = shape.device.backend == "cpu" ? definition.faster : kernels_of(kind, shape.device).faster;
  return faster ? faster(shape) : std::vector<Attributes>{};
}

std::unique_ptr<Kernel> OpRegistry::make_kernel(const std::string& kind, const OpShape& shape) const {
  if (shape.device.backend != "cpu") return kernels_of(kind, shape.device).make_kernel(shape);
  const OpDefinition& definition = at(kind);
  if (!definition.make_kernel) throw InvalidArgument("registry: op kind '" + kind + "' has no kernel");
  return definition.make_kernel(shape);
}

std::vector<OutputSpec> outputs_like(TensorType type) { return {OutputSpec{"", std::move(type)}}; }

}  // namespace thimble
