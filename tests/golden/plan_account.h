// What lies in the arena at the peak step of a plan, nothing recomputed: each tensor with its bytes, the ops that made
// it and the one that reads it last, from the plan's schedule. Beside it the tape of a framework for the same step.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "../models/all_ops.h"
#include "../models/temporary_folder.h"
#include "framework_tape.h"
#include "thimble/training_plan.h"

namespace thimble {

inline constexpr const char* kActivationGradient = "act.gradient";
inline constexpr const char* kRoles[] = {"weight",     "optimizer",         "statistic", "input",
                                         "activation", kActivationGradient, "gradient",  "workspace"};

inline std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// The arguments of `thimble plan`: model and batch. Workspaces are oneDNN's, and a peak step may have one: under SSE4.1
// and AVX another step is WRN-28-2's peak, 9 MB higher. So the goldens fix the instruction set to AVX2, which all our
// machines have. oneDNN takes such a limit before its first use only, and another test of this executable may have come
// first: so the command makes the plan, in a process of its own.
inline Plan make_plan_for_avx2(const std::string& arguments) {
  const TemporaryFolder folder;
  const std::string path = folder.file("plan.json");
  const std::string command = "ONEDNN_MAX_CPU_ISA=AVX2 '" THIMBLE_COMMAND "' plan " + arguments +
                              " --threads 2 --remat off -o '" + path + "' > '" + folder.file("table") + "'";
  if (std::system(command.c_str()) != 0) throw EnvironmentError("failed: " + command);
  return read_plan(text_of(path), path);
}

// A tensor in the arena at the peak step. The role of reports, but with the gradients of activations apart.
struct Held {
  std::string name, role, made_by, read_by;
  Bytes exact, padded;
  int last_read = 0;  // step; one past the program where the caller reads it
};

// Small tensors that the lines from tape to arena sum up.
struct Kind {
  std::string text;
  bool (*holds)(const Held&);
};

// Everything a test looks at, for one plan.
struct Account {
  Account(Plan made, Tape counted, std::vector<Kind> small)
      : plan(std::move(made)), program(peak_program(plan)), tape(std::move(counted)), kinds(std::move(small)) {
    for (const PersistentTensor& tensor : plan.persistent) {
      const Bytes exact = bytes_of(tensor.type);
      held.push_back({tensor.name, std::string(to_string(tensor.role)), "", "", exact, align_up(exact, kAlignment), 0});
    }
    persistent = held.size();
    add_live();
  }
  Account(const Account&) = delete;  // `program` is inside `plan`
  Account& operator=(const Account&) = delete;

  std::string op_at(int step) const {
    return program.graph.ops[program.schedule.steps.at(static_cast<std::size_t>(step)).op].name;
  }

  // The last step that reads a tensor; -1 where none does.
  int last_reader(TensorId tensor) const {
    for (auto i = static_cast<int>(program.schedule.steps.size()); i-- > 0;)
      for (InstanceId input : program.schedule.steps[static_cast<std::size_t>(i)].inputs)
        if (program.schedule.instances[input].tensor == tensor) return i;
    return -1;
  }

  // Of each storage that lives at the peak the value it holds then, and the ops that wrote into it so far, the later
  // ones in place of what the earlier ones wrote.
  void add_live() {
    const Schedule& schedule = program.schedule;
    IdVector<StorageId, TensorId> value(schedule.storages.size(), kNoTensor);
    IdVector<StorageId, std::string> makers(schedule.storages.size());
    for (const Instance& instance : schedule.instances)
      if (program.graph.tensors[instance.tensor].producer == kNoOp) value[instance.storage] = instance.tensor;
    for (int i = 0; i <= index(program.peak_step); ++i)
      for (InstanceId output : schedule.steps[static_cast<std::size_t>(i)].outputs) {
        const Instance& instance = schedule.instances[output];
        value[instance.storage] = instance.tensor;
        makers[instance.storage] += (makers[instance.storage].empty() ? "" : ", ") + op_at(i);
      }
    for (std::size_t i = 0; i < schedule.storages.size(); ++i) {
      const auto id = static_cast<StorageId>(i);
      const Storage& storage = schedule.storages[id];
      const Lifetime life = storage.lifetime;
      if (storage.persistent || program.peak_step < life.begin || life.end <= program.peak_step) continue;
      const int peak = index(program.peak_step);  // the step of the workspace, which holds no tensor
      Held live{storage.name, "workspace", op_at(peak), op_at(peak), storage.size, storage.size, peak};
      if (value[id] != kNoTensor) live = describe(value[id], makers[id], storage);
      held.push_back(live);
    }
  }

  Held describe(TensorId id, const std::string& makers, const Storage& storage) const {
    const Tensor& tensor = program.graph.tensors[id];
    const bool backward = tensor.producer != kNoOp && program.graph.ops[tensor.producer].phase == Phase::backward;
    const bool gradient = backward && tensor.role == Role::activation;
    return {.name = tensor.name,
            .role = gradient ? kActivationGradient : std::string(to_string(tensor.role)),
            .made_by = makers.empty() ? "the caller" : makers,
            .read_by = tensor.is_output ? "the caller" : op_at(last_reader(id)),
            .exact = bytes_of(tensor.type),
            .padded = storage.size,
            .last_read = tensor.is_output ? static_cast<int>(program.schedule.steps.size()) : last_reader(id)};
  }

  Bytes sum(std::string_view role = "", std::string_view group = "") const {
    Bytes total;
    for (const Held& tensor : held)
      if ((role.empty() || tensor.role == role) && (group.empty() || group_of(tensor.name) == group))
        total += tensor.padded;
    return total;
  }
  // Up to the first dot, and of what belongs to an encoder or a decoder up to the second.
  static std::string group_of(const std::string& name) {
    const bool of_side = name.starts_with("encoder.") || name.starts_with("decoder.");
    return name.substr(0, name.find('.', of_side ? name.find('.') + 1 : 0));
  }

  Plan plan;
  const Program& program;
  Tape tape;
  std::vector<Kind> kinds;
  std::vector<Held> held;  // the persistent ones, then those that live at the peak
  std::size_t persistent = 0;
};

}  // namespace thimble
