// The text of a golden file: what an account holds, and the way from the tape of a framework to it, line by line. Lines
// that differ by the number of their layer only are given once.
#pragma once

#include <algorithm>
#include <iomanip>
#include <locale>
#include <sstream>

#include "plan_account.h"

namespace thimble {

struct Line {
  std::int64_t bytes = 0;
  std::string name, text;
  std::string role{};
  std::int64_t held = 0;  // of the bytes of a tape, those that the plan holds too
  std::string layers{};   // "encoder.layer" where the name has a layer; name and text are then without it
  int first_layer = 0, layer_count = 1;

  std::string full_name() const {
    if (layers.empty()) return name;
    const std::string last = "-" + std::to_string(first_layer + layer_count - 1);
    return layers + std::to_string(first_layer) + (layer_count > 1 ? last : "") + name;
  }
  bool continues(const Line& other) const {
    return !layers.empty() && layers == other.layers && first_layer == other.first_layer + other.layer_count &&
           name == other.name && text == other.text && role == other.role && other.bytes == bytes * other.layer_count &&
           other.held == held * other.layer_count;
  }
};

inline void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

// In the text names of the own layer begin with a dot, those of the one behind it with "next.".
inline Line without_layer(Line line) {
  const std::size_t word = line.name.find("layer"), digits = word + 5;
  if (word == std::string::npos) return line;
  const std::size_t end = line.name.find('.', digits);
  line.layers = line.name.substr(0, digits);
  line.first_layer = std::stoi(line.name.substr(digits, end - digits));
  line.name = line.name.substr(end);
  replace_all(line.text, line.layers + std::to_string(line.first_layer) + ".", ".");
  replace_all(line.text, line.layers + std::to_string(line.first_layer + 1) + ".", "next.");
  return line;
}

inline std::vector<Line> folded(const std::vector<Line>& lines) {
  std::vector<Line> result;
  for (const Line& whole : lines) {
    const Line line = without_layer(whole);
    const auto same = std::find_if(result.begin(), result.end(), [&](const Line& l) { return line.continues(l); });
    if (same == result.end()) {
      result.push_back(line);
    } else {
      ++same->layer_count;
      same->bytes += line.bytes;
      same->held += line.held;
    }
  }
  return result;
}

inline std::string ops_of(const Saved& saved) {
  constexpr std::size_t kMost = 3;
  std::string text = saved.ops.at(0);
  if (saved.ops.size() > kMost) return text + " and " + std::to_string(saved.ops.size() - 1) + " more";
  for (std::size_t i = 1; i < saved.ops.size(); ++i) text += ", " + saved.ops[i];
  return text;
}

inline std::string phrase(const Held& held) {
  if (held.role == kActivationGradient) return ": gradient of an activation, read last by " + held.read_by;
  if (held.role == "gradient") return ": the gradient that waits for " + held.read_by;
  return ": " + held.role + ", read last by " + held.read_by;
}

// From the tape to the arena. Every line is counted by itself; none is what the others leave.
inline std::vector<Line> lines_from_tape(const Account& a) {
  std::vector<Line> lines{
      {-a.tape.weights.value, "", "gradients of all weights, which the tape's step has to its end"}};
  std::vector<Line> ours, kinds;
  for (const Kind& kind : a.kinds) kinds.push_back({0, "", kind.text});
  Line padding{0, "", "padding to multiples of 64 bytes"}, both{0, "", ""};
  std::int64_t values = 0;
  std::map<std::string, std::int64_t> only_tape, others;
  for (const Saved& saved : a.tape.saved) {
    if (saved.is_value) only_tape[saved.name] = saved.bytes.value;
    if (!saved.is_value) others[saved.kept_as + ": " + saved.instead] -= saved.bytes.value;
  }
  for (const Held& held : a.held) {
    const std::int64_t exact = held.exact.value;
    padding.bytes += held.padded.value - exact;
    const auto kind = std::find_if(a.kinds.begin(), a.kinds.end(), [&](const Kind& k) { return k.holds(held); });
    if (const auto found = only_tape.find(held.name); found != only_tape.end()) {
      const std::int64_t difference = exact - found->second;
      if (held.role == "input") ours.push_back({difference, held.name, ": input, on both sides"});
      if (held.role != "input") both.bytes += difference;
      values += held.role != "input";
      only_tape.erase(found);
    } else if (kind != a.kinds.end()) {
      kinds[static_cast<std::size_t>(kind - a.kinds.begin())].bytes += exact;
    } else if (held.role != "weight" && held.role != "optimizer") {
      ours.push_back({exact, held.name, phrase(held)});
    }
  }
  both.text = std::to_string(values) + " maps that are on both sides";
  if (!a.tape.counts_values_only)
    for (const auto& [text, bytes] : others) lines.push_back({bytes, "", text});
  for (const auto& [name, bytes] : only_tape) {
    const int step = a.last_reader(a.program.graph.find(name));
    lines.push_back({-bytes, name, ": here dead since step " + std::to_string(step) + ", " + a.op_at(step)});
  }
  lines.insert(lines.end(), ours.begin(), ours.end());
  lines.insert(lines.end(), kinds.begin(), kinds.end());
  lines.insert(lines.end(), {both, padding});
  return lines;
}

// For a column of names, with a space behind the longest.
inline int name_width(const std::vector<Line>& lines, std::size_t least) {
  for (const Line& line : lines) least = std::max(least, line.full_name().size());
  return static_cast<int>(least) + 1;
}

struct Thousands : std::numpunct<char> {
  char do_thousands_sep() const override { return ','; }
  std::string do_grouping() const override { return "\3"; }
};

class Text {
 public:
  explicit Text(const Account& account) : a_(account) {
    out.imbue(std::locale(std::locale::classic(), new Thousands));
    out << std::left;
  }

  std::ostream& row(std::int64_t bytes) { return out << std::right << std::setw(14) << bytes << std::left << "  "; }
  void title(const std::string& text) { out << "\n" << text << "\n"; }

  // Sections 1 to 4, behind the words that name the plan.
  void arena() {
    out << ", nothing recomputed; " << a_.plan.device.threads << " threads, " << a_.plan.engines.at("isa")
        << ". All figures are bytes.\nThe peak is step " << index(a_.program.peak_step) << " of '" << a_.program.name
        << "': " << a_.op_at(index(a_.program.peak_step)) << ".\n";
    title("1. Persistent");
    held(0, a_.persistent);
    title("2. Live at the peak: made by the ops of its line (the later ones in place), read last by");
    held(a_.persistent, a_.held.size());
    title("3. By role");
    for (const char* role : kRoles) row(a_.sum(role).value) << role << "\n";
    row(a_.sum().value) << "sum = live at the peak\n";
    row(a_.program.lower_bound.value) << "lower bound\n";
    row(a_.plan.arena.value) << "arena\n";
    groups();
  }

  // Section 6 and the title of the last one.
  void lines() {
    title("6. From there to the arena");
    out << std::showpos;
    for (const Line& line : folded(lines_from_tape(a_))) row(line.bytes) << line.full_name() << line.text << "\n";
    out << std::noshowpos;
    row(a_.plan.arena.value) << "arena\n";
    title("7. Beside it");
  }

  std::ostringstream out;

 private:
  void held(std::size_t begin, std::size_t end) {
    const bool is_live = begin != 0;
    std::vector<Line> lines;
    for (std::size_t i = begin; i < end; ++i) {
      const Held& held = a_.held[i];
      lines.push_back({held.padded.value, held.name, is_live ? held.made_by + "; " + held.read_by : "", held.role});
    }
    lines = folded(lines);
    const int width = is_live ? name_width(lines, 32) : 0;
    for (const Line& line : lines)
      row(line.bytes) << std::setw(13) << line.role << std::setw(width) << line.full_name() << line.text << "\n";
  }

  void groups() {
    std::vector<std::string> names;
    std::size_t width = 0;
    const int column = a_.plan.arena < Bytes{1'000'000'000} ? 13 : 15;
    for (const Held& held : a_.held) {
      const std::string name = a_.group_of(held.name);
      if (std::count(names.begin(), names.end(), name) == 0) names.push_back(name);
      width = std::max(width, name.size() + 2);
    }
    names.emplace_back();  // all of them
    title("4. By group of names");
    out << std::setw(static_cast<int>(width)) << "";
    for (const char* role : kRoles) out << std::right << std::setw(column) << role;
    out << std::setw(column) << "sum" << '\n';
    for (const std::string& name : names) {
      out << std::left << std::setw(static_cast<int>(width)) << (name.empty() ? "sum" : name) << std::right;
      for (const char* role : kRoles) out << std::setw(column) << a_.sum(role, name).value;
      out << std::setw(column) << a_.sum("", name).value << "\n" << std::left;
    }
  }

  const Account& a_;
};

}  // namespace thimble
