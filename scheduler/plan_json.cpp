// Plans as JSON. Writing is a straight walk; reading trusts nothing: every id, length and size is checked here, what
// they mean together in check_plan.cpp.
#include "json_file.h"
#include "thimble/error.h"
#include "thimble/plan.h"

namespace thimble {
namespace {

using namespace json_file;

constexpr int kDeepestNesting = 8;

template <class Id>
Json ids_to_json(const std::vector<Id>& ids) {
  Json json = Json::array();
  for (Id id : ids) json.push_back(static_cast<std::int32_t>(id));
  return json;
}

Json to_json(const Graph& graph) {
  Json tensors = Json::array(), ops = Json::array();
  for (const Tensor& t : graph.tensors)
    tensors.push_back({{"name", t.name},
                       {"type", json_of(t.type)},
                       {"role", to_string(t.role)},
                       {"version_of", static_cast<std::int32_t>(t.version_of)},
                       {"output", t.is_output}});
  for (const Op& op : graph.ops)
    ops.push_back({{"name", op.name},
                   {"kind", op.kind},
                   {"phase", to_string(op.phase)},
                   {"inputs", ids_to_json(op.inputs)},
                   {"outputs", ids_to_json(op.outputs)},
                   {"attributes", json_of(op.attributes)}});
  return {{"batch", graph.batch}, {"tensors", tensors}, {"ops", ops}};
}

Json to_json(const std::vector<ScheduleNode>& nodes) {
  Json json = Json::array();
  for (const ScheduleNode& node : nodes) {
    if (node.kind == ScheduleNode::Kind::step) json.push_back(index(node.step));
    if (node.kind == ScheduleNode::Kind::barrier) json.push_back("barrier");
    if (node.kind != ScheduleNode::Kind::repeat) continue;
    Json ranges = Json::array();
    for (HalfOpen range : node.ranges) ranges.push_back({range.begin, range.end});
    json.push_back({{"repeat", ranges}, {"body", to_json(node.body)}});
  }
  return json;
}

Json to_json(const Schedule& schedule) {
  Json steps = Json::array(), instances = Json::array(), storages = Json::array();
  for (const ScheduledStep& step : schedule.steps)
    steps.push_back({{"op", static_cast<std::int32_t>(step.op)},
                     {"recomputation", step.is_recomputation},
                     {"inputs", ids_to_json(step.inputs)},
                     {"outputs", ids_to_json(step.outputs)},
                     {"workspace", static_cast<std::int32_t>(step.workspace)}});
  for (const Instance& instance : schedule.instances)
    instances.push_back({{"tensor", static_cast<std::int32_t>(instance.tensor)},
                         {"storage", static_cast<std::int32_t>(instance.storage)},
                         {"whole_batch", instance.whole_batch}});
  for (const Storage& storage : schedule.storages)
    storages.push_back({{"name", storage.name},
                        {"role", to_string(storage.role)},
                        {"bytes", storage.size.value},
                        {"begin", index(storage.lifetime.begin)},
                        {"end", index(storage.lifetime.end)},
                        {"persistent", storage.persistent},
                        {"offset", storage.offset.value}});
  return {{"order", to_json(schedule.order)}, {"steps", steps}, {"instances", instances}, {"storages", storages}};
}

// ---- reading ----

template <class Id>
std::vector<Id> read_ids(const Json& json, const char* name, const std::string& where, std::size_t count) {
  std::vector<Id> ids;
  for (const Json& id : array(json, name, where))
    ids.push_back(static_cast<Id>(integer(id, where + "." + name, 0, static_cast<std::int64_t>(count) - 1)));
  return ids;
}

Tensor read_tensor(const Json& json, const std::string& where, std::size_t count) {
  Tensor tensor;
  tensor.name = text(json, "name", where);
  tensor.type = read_type(field(json, "type", where), where + ".type");
  tensor.role = parse_role(text(json, "role", where));
  tensor.version_of =
      static_cast<TensorId>(integer(json, "version_of", where, -1, static_cast<std::int64_t>(count) - 1));
  tensor.is_output = boolean(json, "output", where);
  return tensor;
}

Graph read_graph(const Json& json, const std::string& where) {
  Graph graph;
  graph.batch = integer(json, "batch", where, 0, 1 << 30);
  const Json& tensors = array(json, "tensors", where);
  for (const Json& tensor : tensors)
    graph.tensors.push_back(
        read_tensor(tensor, where + ".tensors[" + std::to_string(graph.tensors.size()) + "]", tensors.size()));
  for (const Json& json_op : array(json, "ops", where)) {
    const auto id = static_cast<OpId>(graph.ops.size());
    const std::string op_where = where + ".ops[" + std::to_string(graph.ops.size()) + "]";
    Op op{.name = text(json_op, "name", op_where),
          .kind = text(json_op, "kind", op_where),
          .phase = parse_phase(text(json_op, "phase", op_where)),
          .inputs = read_ids<TensorId>(json_op, "inputs", op_where, graph.tensors.size()),
          .outputs = read_ids<TensorId>(json_op, "outputs", op_where, graph.tensors.size()),
          .attributes = read_attributes(json_op, op_where)};
    for (TensorId output : op.outputs) {
      if (graph.tensors[output].producer != kNoOp)
        fail(op_where, "tensor '" + graph.tensors[output].name + "' has two producers");
      graph.tensors[output].producer = id;
    }
    for (TensorId input : op.inputs) {
      std::vector<OpId>& consumers = graph.tensors[input].consumers;
      if (consumers.empty() || consumers.back() != id) consumers.push_back(id);
    }
    graph.ops.push_back(std::move(op));
  }
  return graph;
}

std::vector<ScheduleNode> read_order(const Json& json, const std::string& where, std::size_t steps, int depth) {
  if (!json.is_array()) fail(where, "is not an array");
  if (depth > kDeepestNesting) fail(where, "repeats are nested deeper than " + std::to_string(kDeepestNesting));
  std::vector<ScheduleNode> nodes;
  for (const Json& entry : json) {
    ScheduleNode node;
    if (entry.is_object()) {
      node.kind = ScheduleNode::Kind::repeat;
      for (const Json& range : array(entry, "repeat", where)) {
        if (!range.is_array() || range.size() != 2) fail(where, "a range is not [begin, end]");
        node.ranges.push_back({integer(range[0], where, 0, 1 << 30), integer(range[1], where, 0, 1 << 30)});
      }
      node.body = read_order(field(entry, "body", where), where + ".body", steps, depth + 1);
    } else if (entry.is_string() && entry.get<std::string>() == "barrier") {
      node.kind = ScheduleNode::Kind::barrier;
    } else {
      node.step = Step{static_cast<std::int32_t>(integer(entry, where, 0, static_cast<std::int64_t>(steps) - 1))};
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

Schedule read_schedule(const Json& json, const Graph& graph, const std::string& where) {
  Schedule schedule;
  const auto step_limit = static_cast<std::int64_t>(array(json, "steps", where).size());
  for (const Json& storage : array(json, "storages", where)) {
    const std::string at = where + ".storages[" + std::to_string(schedule.storages.size()) + "]";
    schedule.storages.push_back(
        {.name = text(storage, "name", at),
         .role = parse_role(text(storage, "role", at)),
         .size = Bytes{integer(storage, "bytes", at, 0, kLargest)},
         .lifetime = {Step{static_cast<std::int32_t>(integer(storage, "begin", at, 0, step_limit))},
                      Step{static_cast<std::int32_t>(integer(storage, "end", at, 0, step_limit))}},
         .persistent = boolean(storage, "persistent", at),
         .offset = Offset{integer(storage, "offset", at, 0, kLargest)}});
  }
  const auto storage_limit = static_cast<std::int64_t>(schedule.storages.size()) - 1;
  for (const Json& instance : array(json, "instances", where)) {
    const std::string at = where + ".instances[" + std::to_string(schedule.instances.size()) + "]";
    schedule.instances.push_back(
        {static_cast<TensorId>(integer(instance, "tensor", at, 0, static_cast<std::int64_t>(graph.tensors.size()) - 1)),
         static_cast<StorageId>(integer(instance, "storage", at, 0, storage_limit)),
         boolean(instance, "whole_batch", at)});
  }
  for (const Json& step : array(json, "steps", where)) {
    const std::string at = where + ".steps[" + std::to_string(schedule.steps.size()) + "]";
    schedule.steps.push_back(
        {static_cast<OpId>(integer(step, "op", at, 0, static_cast<std::int64_t>(graph.ops.size()) - 1)),
         boolean(step, "recomputation", at), read_ids<InstanceId>(step, "inputs", at, schedule.instances.size()),
         read_ids<InstanceId>(step, "outputs", at, schedule.instances.size()),
         static_cast<StorageId>(integer(step, "workspace", at, -1, storage_limit))});
  }
  schedule.order = read_order(field(json, "order", where), where + ".order", schedule.steps.size(), 0);
  return schedule;
}

Program read_program(const Json& json, const std::string& where) {
  Program program;
  program.name = text(json, "name", where);
  program.graph = read_graph(field(json, "graph", where), where + ".graph");
  for (const Json& part : array(json, "microbatches", where))
    program.microbatches.push_back(integer(part, where + ".microbatches", 0, 1 << 30));
  program.schedule = read_schedule(field(json, "schedule", where), program.graph, where + ".schedule");
  program.planned = Bytes{integer(json, "planned_bytes", where, 0, kLargest)};
  program.lower_bound = Bytes{integer(json, "lower_bound_bytes", where, 0, kLargest)};
  program.peak_step = Step{static_cast<std::int32_t>(integer(json, "peak_step", where, 0, INT32_MAX))};
  program.made_by = text(json, "made_by", where);
  return program;
}

Plan plan_from_json(const Json& json) {
  if (text(json, "format", "top level") != "thimble-plan") fail("format", "is not 'thimble-plan'");
  if (const std::int64_t version = integer(json, "version", "top level", 0, INT64_MAX); version != Plan::kVersion)
    fail("version",
         "is " + std::to_string(version) + ", this build reads " + std::to_string(Plan::kVersion) + "; plan again");
  Plan plan;
  plan.model = text(json, "model", "top level");
  plan.options = read_strings(json, "options");
  plan.batch = integer(json, "batch", "top level", 1, 1 << 30);
  const Json& device = field(json, "device", "top level");
  plan.device = {text(device, "name", "device"),
                 text(device, "backend", "device"),
                 static_cast<int>(integer(device, "threads", "device", 1, 4096)),
                 positive(device, "flops_per_second", "device"),
                 positive(device, "bytes_per_second", "device"),
                 positive(device, "seconds_per_launch", "device"),
                 text(device, "math", "device")};
  plan.planner_seed = static_cast<std::uint64_t>(integer(json, "planner_seed", "top level", 0, INT64_MAX));
  if (const Json& budget = field(json, "budget_bytes", "top level"); !budget.is_null())
    plan.budget = Bytes{integer(budget, "budget_bytes", 0, kLargest)};
  plan.engines = read_strings(json, "engines");
  if (const Json& hash = field(json, "calibration", "top level"); !hash.is_null()) {
    plan.calibration = text(json, "calibration", "top level");
    if (plan.calibration->size() != 32 || plan.calibration->find_first_not_of("0123456789abcdef") != std::string::npos)
      fail("calibration", "is neither null nor a hash of 32 hexadecimal digits");
  }
  plan.arena = Bytes{integer(json, "arena_bytes", "top level", 0, kLargest)};
  plan.arithmetic_hash = text(json, "arithmetic_hash", "top level");
  for (const Json& tensor : array(json, "persistent", "top level")) {
    const std::string where = "persistent[" + std::to_string(plan.persistent.size()) + "]";
    plan.persistent.push_back({text(tensor, "name", where), read_type(field(tensor, "type", where), where + ".type"),
                               parse_role(text(tensor, "role", where)),
                               Offset{integer(tensor, "offset", where, 0, kLargest)}});
  }
  for (const Json& program : array(json, "programs", "top level"))
    plan.programs.push_back(read_program(program, "programs[" + std::to_string(plan.programs.size()) + "]"));
  return plan;
}

}  // namespace

std::string write_plan(const Plan& plan) {
  Json persistent = Json::array(), programs = Json::array();
  for (const PersistentTensor& tensor : plan.persistent)
    persistent.push_back({{"name", tensor.name},
                          {"type", json_of(tensor.type)},
                          {"role", to_string(tensor.role)},
                          {"offset", tensor.offset.value}});
  for (const Program& program : plan.programs)
    programs.push_back({{"name", program.name},
                        {"microbatches", program.microbatches},
                        {"planned_bytes", program.planned.value},
                        {"lower_bound_bytes", program.lower_bound.value},
                        {"peak_step", index(program.peak_step)},
                        {"made_by", program.made_by},
                        {"graph", to_json(program.graph)},
                        {"schedule", to_json(program.schedule)}});
  const Json json{{"format", "thimble-plan"},
                  {"version", Plan::kVersion},
                  {"model", plan.model},
                  {"options", plan.options},
                  {"batch", plan.batch},
                  {"device",
                   {{"name", plan.device.name},
                    {"backend", plan.device.backend},
                    {"threads", plan.device.threads},
                    {"flops_per_second", plan.device.flops_per_second},
                    {"bytes_per_second", plan.device.bytes_per_second},
                    {"seconds_per_launch", plan.device.seconds_per_launch},
                    {"math", plan.device.math}}},
                  {"planner_seed", plan.planner_seed},
                  {"budget_bytes", plan.budget ? Json(plan.budget->value) : Json(nullptr)},
                  {"engines", plan.engines},
                  {"calibration", plan.calibration ? Json(*plan.calibration) : Json(nullptr)},
                  {"arena_bytes", plan.arena.value},
                  {"arithmetic_hash", plan.arithmetic_hash},
                  {"persistent", persistent},
                  {"programs", programs}};
  return dump(json) + "\n";
}

Plan read_plan(std::string_view input, std::string_view name) {
  const Json json = parse(input, name);
  try {
    return plan_from_json(json);
  } catch (const BadInput& error) {
    throw BadInput(std::string("plan: ") + error.what());
  } catch (const nlohmann::json::exception& error) {
    throw BadInput(std::string(name) + ": " + error.what());
  }
}

std::string arithmetic_hash(const Plan& plan) {
  Json programs = Json::array();
  for (const Program& program : plan.programs)
    programs.push_back(
        {{"name", program.name}, {"microbatches", program.microbatches}, {"graph", to_json(program.graph)}});
  const Json section{
      {"device", plan.device.name}, {"math", plan.device.math}, {"engines", plan.engines}, {"programs", programs}};
  return hash_of(section);
}

}  // namespace thimble
