// The text of a golden file: what an account holds, and the way from the tape of a framework to it, line by line.
#pragma once

#include <algorithm>
#include <iomanip>
#include <locale>
#include <sstream>

#include "plan_account.h"

namespace thimble {

struct Line {
  std::int64_t bytes = 0;
  std::string text;
};

inline std::string phrase(const Held& held) {
  if (held.role == kActivationGradient) return held.name + ": gradient of an activation, read last by " + held.read_by;
  if (held.role == "gradient") return held.name + ": the gradient that waits for " + held.read_by;
  return held.name + ": " + held.role + ", read last by " + held.read_by;
}

// From the tape to the arena. Every line is counted by itself; none is what the others leave.
inline std::vector<Line> lines_from_tape(const Account& a) {
  std::vector<Line> lines{{-a.tape.weights.value, "gradients of all weights, which the tape's step has to its end"}};
  std::vector<Line> ours;
  Line statistics{0, "running statistics, buffers of the model"},
      vectors{0, "mean and variance of every batch norm whose backward is to come"};
  Line masks{0, "masks of one bit per element"}, padding{0, "padding to multiples of 64 bytes"}, both{0, ""};
  std::int64_t maps = 0;
  std::map<std::string, std::int64_t> only_tape;
  for (const Saved& saved : a.tape.maps) only_tape[saved.name] = 4 * kBatch * saved.per_image;
  for (const Held& held : a.held) {
    const std::int64_t exact = held.exact.value;
    const bool is_vector = held.name.ends_with(".mean") || held.name.ends_with(".variance");
    padding.bytes += held.padded.value - exact;
    if (const auto found = only_tape.find(held.name); found != only_tape.end()) {
      const std::int64_t difference = exact - found->second;
      if (held.role == "input") ours.push_back({difference, held.name + ": input, on both sides"});
      if (held.role != "input") both.bytes += difference;
      maps += held.role != "input";
      only_tape.erase(found);
    } else if (held.role == "statistic" || is_vector) {
      (held.role == "statistic" ? statistics : vectors).bytes += exact;
    } else if (held.name.ends_with(".mask")) {
      masks.bytes += exact;
    } else if (held.role != "weight" && held.role != "optimizer") {
      ours.push_back({exact, phrase(held)});
    }
  }
  both.text = std::to_string(maps) + " maps that are on both sides";
  for (const auto& [name, bytes] : only_tape) {
    const int step = a.last_reader(a.program.graph.find(name));
    lines.push_back({-bytes, name + ": here dead since step " + std::to_string(step) + ", " + a.op_at(step)});
  }
  lines.insert(lines.end(), ours.begin(), ours.end());
  for (const Line& line : {vectors, statistics, masks, both, padding}) lines.push_back(line);
  return lines;
}

struct Thousands : std::numpunct<char> {
  char do_thousands_sep() const override { return ','; }
  std::string do_grouping() const override { return "\3"; }
};

class Text {
 public:
  explicit Text(const Account& account) : a_(account) {
    out_.imbue(std::locale(std::locale::classic(), new Thousands));
    out_ << std::left;
  }

  std::string write() {
    out_ << a_.plan.model << ", batch " << kBatch << " in one microbatch, fuse=" << a_.plan.options.at("fuse")
         << ", nothing recomputed; " << a_.plan.device.threads << " threads, " << a_.plan.engines.at("isa")
         << ". All figures are bytes.\nThe peak is step " << index(a_.program.peak_step) << " of '" << a_.program.name
         << "': " << a_.op_at(index(a_.program.peak_step)) << ".\n\n1. Persistent\n";
    for (std::size_t i = 0; i < a_.held.size(); ++i) {
      const Held& held = a_.held[i];
      if (i == a_.persistent)
        out_ << "\n2. Live at the peak: made by the ops of its line (the later ones in place), read last by\n";
      row(held.padded.value) << std::setw(13) << held.role << std::setw(i < a_.persistent ? 0 : 33) << held.name;
      if (i >= a_.persistent) out_ << held.made_by << "; " << held.read_by;
      out_ << "\n";
    }
    out_ << "\n3. By role\n";
    for (const char* role : kRoles) row(a_.sum(role).value) << role << "\n";
    row(a_.sum().value) << "sum = live at the peak\n";
    row(a_.program.lower_bound.value) << "lower bound\n";
    row(a_.plan.arena.value) << "arena\n";
    groups();
    tape();
    return out_.str();
  }

 private:
  std::ostream& row(std::int64_t bytes) { return out_ << std::right << std::setw(14) << bytes << std::left << "  "; }

  void groups() {
    out_ << "\n4. By group of names\n" << std::setw(12) << "";
    for (const char* role : kRoles) out_ << std::right << std::setw(13) << role;
    out_ << std::setw(13) << "sum" << '\n';
    std::vector<std::string> names;
    for (const Held& held : a_.held)
      if (std::count(names.begin(), names.end(), a_.group_of(held)) == 0) names.push_back(a_.group_of(held));
    names.emplace_back();  // all of them
    for (const std::string& name : names) {
      out_ << std::left << std::setw(12) << (name.empty() ? "sum" : name) << std::right;
      for (const char* role : kRoles) out_ << std::setw(13) << a_.sum(role, name).value;
      out_ << std::setw(13) << a_.sum("", name).value << "\n" << std::left;
    }
  }

  void tape() {
    const Tape& tape = a_.tape;
    out_ << "\n5. What a framework's tape keeps of the forward pass (ReLU in place): elements per image, as what, by "
            "which ops\n";
    std::map<std::string, std::int64_t> kinds;
    for (const Saved& saved : tape.maps) {
      row(saved.per_image) << std::setw(16) << saved.name << saved.kept_as << ": " << saved.ops << "\n";
      kinds[saved.kept_as] += saved.per_image;
    }
    row(tape.per_image) << "sum, of which\n";
    for (const auto& [kind, elements] : kinds) row(elements) << kind << "\n";
    out_ << "in bytes\n";
    row(tape.maps_bytes.value) << "the tape: " << tape.per_image << " elements of 4 bytes for " << kBatch
                               << " images\n";
    for (const char* what : {"weights", "gradients", "momentum"}) row(tape.weights.value) << what << "\n";
    row(tape.counted().value) << "sum, as reference/remat.md counts (399.0 MB)\n\n6. From there to the arena\n";
    out_ << std::showpos;
    for (const Line& line : lines_from_tape(a_)) row(line.bytes) << line.text << "\n";
    out_ << std::noshowpos;
    row(a_.plan.arena.value) << "arena\n\n7. Beside it\n";
    row(a_.most_without_workspace().value) << "this plan were there no workspaces (an independent count: 393.7 MB)\n";
    row((tape.normalisation + tape.loss).value)
        << "kept by the tape and not counted above: of batch norms " << tape.normalisation.value << ", of the loss "
        << tape.loss.value << "\n";
    row((tape.counted() + 2 * tape.last_map).value)
        << "the tape and the first two gradients of maps (405.5 MB in reference/remat.md)\n";
  }

  const Account& a_;
  std::ostringstream out_;
};

}  // namespace thimble
