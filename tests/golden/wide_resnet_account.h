// The account of WRN-28-2 at batch 100, and the text of its golden files.
#pragma once

#include "plan_text.h"

namespace thimble {

inline constexpr std::int64_t kBatch = 100;

inline Tape wide_resnet_tape(bool fuse, std::int64_t batch) {
  const Graph forward = build_wide_resnet({.fuse = fuse}, registry(), batch, Mode::train);
  Tape tape = TapeCounter(forward).count(1);
  tape.counts_values_only = true;
  return tape;
}

inline Account wide_resnet_account(bool fuse) {
  const std::string batch = std::to_string(kBatch);
  return {
      make_plan_for_avx2("wrn-28-2 --batch " + batch + " --microbatch " + batch + " --fuse " + (fuse ? "auto" : "off")),
      wide_resnet_tape(fuse, kBatch),
      {{"mean and variance of every batch norm whose backward is to come",
        [](const Held& held) { return held.name.ends_with(".mean") || held.name.ends_with(".variance"); }},
       {"running statistics, buffers of the model", [](const Held& held) { return held.role == "statistic"; }},
       {"masks of one bit per element", [](const Held& held) { return held.name.ends_with(".mask"); }}}};
}

inline Bytes most_without_workspace(const Account& a) {
  Bytes most;
  for (int i = 0; i < static_cast<int>(a.program.schedule.steps.size()); ++i) {
    const std::vector<Bytes> roles = bytes_by_role(a.plan, a.program, Step{i});
    Bytes live;
    for (std::size_t role = 0; role < roles.size(); ++role)
      if (static_cast<Role>(role) != Role::workspace) live += roles[role];
    most = std::max(most, live);
  }
  return most;
}

inline void write_wide_resnet_tape(Text& text, const Tape& tape) {
  text.title(
      "5. What a framework's tape keeps of the forward pass (ReLU in place): elements per image, as what, by "
      "which ops");
  std::int64_t per_image = 0;
  std::map<std::string, std::int64_t> kinds;
  for (const Saved& saved : tape.saved) {
    if (!saved.is_value) continue;
    text.row(saved.per_sample) << std::setw(16) << saved.name << saved.kept_as << ": " << ops_of(saved) << "\n";
    kinds[saved.kept_as] += saved.per_sample;
    per_image += saved.per_sample;
  }
  text.row(per_image) << "sum, of which\n";
  for (const auto& [kind, elements] : kinds) text.row(elements) << kind << "\n";
  text.out << "in bytes\n";
  text.row(tape.values().value) << "the tape: " << per_image << " elements of 4 bytes for " << kBatch << " images\n";
  for (const char* what : {"weights", "gradients", "momentum"}) text.row(tape.weights.value) << what << "\n";
  text.row(tape.counted().value) << "sum, as reference/remat.md counts (399.0 MB)\n";
}

inline std::string wide_resnet_text(const Account& a) {
  Text text(a);
  text.out << a.plan.model << ", batch " << kBatch << " in one microbatch, fuse=" << a.plan.options.at("fuse");
  text.arena();
  write_wide_resnet_tape(text, a.tape);
  text.lines();
  const Tape& tape = a.tape;
  text.row(most_without_workspace(a).value) << "this plan were there no workspaces (an independent count: 393.7 MB)\n";
  text.row(tape.others().value) << "kept by the tape and not counted above: of batch norms "
                                << tape.others(TapeCounter::kMoments).value << ", of the loss "
                                << tape.others(TapeCounter::kLoss).value << "\n";
  text.row((tape.counted() + tape.first_gradients).value)
      << "the tape and the first two gradients of maps (405.5 MB in reference/remat.md)\n";
  return text.out.str();
}

}  // namespace thimble
