// Recomputation graphs and schedules as JSON. Reading trusts nothing: ids, sizes and sums are checked before use.
#include <nlohmann/json.hpp>

#include "thimble/error.h"
#include "thimble/remat.h"

namespace thimble {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostEntries = 1'000'000;     // of one array
constexpr std::size_t kMostReferences = 8'000'000;  // inputs and outputs of all ops
constexpr int kDeepestNesting = 16;

class Reader {
 public:
  explicit Reader(std::string name) : name_(std::move(name)) {}

  RematProblem read(std::string_view text) {
    const Json json = parse(text);
    const Json& format = field(json, "format", "top level");
    if (format != "remat-exact/1" && format != "remat-graph/1")
      fail("format", "is " + format.dump().substr(0, 60) + ", known are 'remat-exact/1' and 'remat-graph/1'");
    is_exact_ = format == "remat-exact/1";
    RematProblem problem;
    for (const Json& tensor : array(json, "tensors", "top level"))
      problem.tensors.push_back(read_tensor(tensor, problem.tensors.size()));
    for (const Json& op : array(json, "ops", "top level"))
      problem.ops.push_back(read_op(op, problem.ops.size(), problem.tensors.size()));
    if (const auto findings = check_remat_problem(problem); !findings.empty())
      throw BadInput(name_ + ": " + findings.front());
    return problem;
  }

 private:
  [[noreturn]] void fail(const std::string& where, const std::string& what) const {
    throw BadInput(name_ + ": " + where + ": " + what);
  }

  Json parse(std::string_view text) const {
    try {
      const auto too_deep = [this](int depth, Json::parse_event_t, Json&) {
        if (depth > kDeepestNesting) fail("top level", "nests deeper than " + std::to_string(kDeepestNesting));
        return true;
      };
      return Json::parse(text, too_deep);
    } catch (const Json::exception& error) {
      fail("top level", std::string("is not JSON: ") + error.what());
    }
  }

  const Json& field(const Json& json, const char* name, const std::string& where) const {
    if (!json.is_object()) fail(where, "is not an object");
    const auto found = json.find(name);
    if (found == json.end()) fail(where, std::string("field '") + name + "' is missing");
    return *found;
  }

  const Json& array(const Json& json, const char* name, const std::string& where) const {
    const Json& value = field(json, name, where);
    if (!value.is_array()) fail(where + "." + name, "is not an array");
    if (value.size() > kMostEntries)
      fail(where + "." + name, "has " + std::to_string(value.size()) + " entries, limit 1000000");
    return value;
  }

  std::int64_t whole(const Json& value, const std::string& where, std::int64_t most) const {
    if (!value.is_number_integer()) fail(where, "is not a whole number");
    const bool too_large = value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(most);
    if (too_large || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() > most)
      fail(where, "is " + value.dump() + ", outside [0, " + std::to_string(most) + "]");
    return value.get<std::int64_t>();
  }

  void check_id(const Json& json, std::size_t index, const std::string& where) const {
    if (json.contains("id") && (!json["id"].is_number_integer() || json["id"] != index))
      fail(where, "has id " + json["id"].dump().substr(0, 40) + "; ids count from 0 in the order of the file");
  }

  RematTensor read_tensor(const Json& json, std::size_t index) const {
    const std::string where = "tensors[" + std::to_string(index) + "]";
    RematTensor tensor;
    tensor.size = Bytes{whole(field(json, "bytes", where), where + ".bytes", kLargest)};
    check_id(json, index, where);
    const Json& keep = field(json, "keep", where);
    if (!keep.is_boolean()) fail(where + ".keep", "is not true or false");
    tensor.keep = keep.get<bool>();
    if (is_exact_) return tensor;
    const Json& kind = field(json, "kind", where);
    if (kind != "const" && kind != "act") fail(where + ".kind", "is neither 'const' nor 'act'");
    tensor.constant = kind == "const";
    return tensor;
  }

  std::vector<std::int32_t> read_ids(const Json& values, const std::string& where, std::size_t count) {
    references_ += values.size();
    if (references_ > kMostReferences) fail(where, "more than 8000000 inputs and outputs in all");
    if (count == 0 && !values.empty()) fail(where, "names a tensor, there are none");
    std::vector<std::int32_t> ids;
    for (const Json& id : values)
      ids.push_back(static_cast<std::int32_t>(whole(id, where, static_cast<std::int64_t>(count) - 1)));
    return ids;
  }

  RematOp read_op(const Json& json, std::size_t index, std::size_t tensors) {
    const std::string where = "ops[" + std::to_string(index) + "]";
    RematOp op;
    op.cost = whole(field(json, "cost", where), where + ".cost", kLargest);
    check_id(json, index, where);
    if (json.contains("workspace")) op.workspace = Bytes{whole(json["workspace"], where + ".workspace", kLargest)};
    op.inputs = read_ids(array(json, "in", where), where + ".in", tensors);
    if (is_exact_)
      op.outputs = read_ids(Json::array({field(json, "out", where)}), where + ".out", tensors);
    else
      op.outputs = read_ids(array(json, "out", where), where + ".out", tensors);
    return op;
  }

  static constexpr std::int64_t kLargest = std::int64_t{1} << 52;  // bytes or cost of anything

  std::string name_;
  bool is_exact_ = false;
  std::size_t references_ = 0;
};

}  // namespace

RematProblem read_remat_problem(std::string_view text, const std::string& name) { return Reader(name).read(text); }

// The schedule goes into the text straight away: under the tightest budgets it has millions of steps.
std::string write_remat_result(const RematResult& result, Bytes budget) {
  const bool is_there = result.cost.has_value();
  const Json json{{"status", to_string(result.status)},
                  {"cost", is_there ? Json(*result.cost) : Json(nullptr)},
                  {"peak_bytes", is_there ? Json(result.peak.value) : Json(nullptr)},
                  {"cost_lower_bound", result.cost_lower_bound},
                  {"budget_bytes", budget.value},
                  {"budget_lower_bound_bytes", result.budget_lower_bound.value},
                  {"made_by", result.made_by}};
  std::string text = json.dump();
  text.back() = ',';
  text += "\"schedule\":[";
  for (const RematStep& step : result.schedule) {
    text += step.kind == RematStep::Kind::compute ? "\"c" : "\"e";
    text += std::to_string(step.id);
    text += "\",";
  }
  if (!result.schedule.empty()) text.pop_back();
  return text + "]}\n";
}

}  // namespace thimble
