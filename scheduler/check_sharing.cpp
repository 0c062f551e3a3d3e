// An output shares bytes with what its own step touches only where its op says that it may (in place), or must (views
// and new versions).
#include <algorithm>

#include "program_check.h"

namespace thimble {
namespace {

class OutputCheck {
 public:
  OutputCheck(ProgramCheck& check, std::int32_t step, std::size_t k)
      : check_(check), number_(step), k_(k), step_(check.step(step)), output_(step_.outputs[k]) {
    for (std::size_t j = 0; j < step_.inputs.size(); ++j)
      if (storage_of(step_.inputs[j]) == storage_of(output_)) shared_.push_back(j);
  }

  void check() {
    check_other_outputs();
    check_workspace();
    const OpDefinition& definition = check_.definition_of(number_);
    if (definition.view && k_ == 0) return check_view();
    if (check_.tensor_of(output_).version_of != kNoTensor) return check_version();
    if (!shared_.empty()) check_in_place(definition);
  }

 private:
  void check_other_outputs() {
    for (std::size_t j = 0; j < k_; ++j)
      if (storage_of(step_.outputs[j]) == storage_of(output_)) report("in the storage of another output");
  }

  void check_workspace() {
    if (step_.workspace == storage_of(output_)) report("in its workspace");
    if (k_ != 0) return;  // inputs: once per step
    for (InstanceId input : step_.inputs)
      if (step_.workspace == storage_of(input))
        check_.report("step " + std::to_string(number_) + " reads '" + check_.tensor_of(input).name +
                      "' from its workspace");
  }

  void check_view() {
    if (step_.inputs.empty() || storage_of(step_.inputs[0]) != storage_of(output_))
      return report("a view, in another storage than what it looks at");
    if (!has_samples_of(0)) report("a view of other samples than what it looks at");
  }

  void check_version() {
    const TensorId old = check_.tensor_of(output_).version_of;
    if (shared_.size() != 1 || tensor_of_input(shared_[0]) != old || !has_samples_of(shared_[0]))
      report("a new version, elsewhere than the old one");
  }

  void check_in_place(const OpDefinition& definition) {
    const bool is_allowed = std::any_of(definition.in_place.begin(), definition.in_place.end(), [&](InPlacePair pair) {
      return pair.output >= 0 && static_cast<std::size_t>(pair.output) == k_ && pair.input >= 0 &&
             static_cast<std::size_t>(pair.input) == shared_[0];
    });
    const TensorType& over = check_.graph.tensors[tensor_of_input(shared_[0])].type;
    const bool is_as_large = bytes_of(over) == bytes_of(check_.tensor_of(output_).type);
    if (!is_allowed || !is_as_large || shared_.size() > 1 || !has_samples_of(shared_[0]))
      report("over its input '" + check_.graph.tensors[tensor_of_input(shared_[0])].name +
             "', which its kind does not allow");
  }

  // Inside a repeat a whole batch and one microbatch begin at different bytes.
  bool has_samples_of(std::size_t input) const {
    return !check_.in_loop(number_) || check_.is_whole(step_.inputs[input]) == check_.is_whole(output_);
  }

  StorageId storage_of(InstanceId id) const { return check_.storage_of(id); }
  TensorId tensor_of_input(std::size_t j) const { return check_.schedule.instances[step_.inputs[j]].tensor; }

  void report(const std::string& how) {
    check_.report("step " + std::to_string(number_) + " ('" + check_.op_of(number_).name + "') makes '" +
                  check_.tensor_of(output_).name + "' " + how);
  }

  ProgramCheck& check_;
  std::int32_t number_;
  std::size_t k_;
  const ScheduledStep& step_;
  InstanceId output_;
  std::vector<std::size_t> shared_;  // inputs in the output's storage
};

}  // namespace

void check_sharing(ProgramCheck& check, std::int32_t step, std::size_t k) { OutputCheck(check, step, k).check(); }

}  // namespace thimble
