// The account of `dynamicconv-iwslt` at 4,000 padded tokens a side, Adam, in all its buckets, and the text of its
// golden file.
#pragma once

#include "plan_text.h"
#include "thimble/translation_plan.h"

namespace thimble {

inline Tape translation_tape(const SentenceShape& shape, Convolution convolution = Convolution::band) {
  return TapeCounter(build_dynamic_conv({}, registry(), shape, Mode::train), convolution).count(2);
}

/// Of the bucket that a training program is for.
inline Tape tape_of(const Program& program, Convolution convolution = Convolution::band) {
  const std::vector<std::int64_t>& ids = program.graph.tensors[program.graph.find("source")].type.shape;
  return translation_tape({ids[0], ids[1], ids[1]}, convolution);
}

inline Account translation_account() {
  Plan plan = make_plan_for_avx2("dynamicconv-iwslt --max-tokens 4000");
  Tape tape = tape_of(peak_program(plan));
  return {std::move(plan),
          std::move(tape),
          {{"log-sum-exp of every row of attention", [](const Held& held) { return held.name.ends_with(".sums"); }}}};
}

// What is kept of a value is held by the plan, or its last reader has been.
inline Line line_of(const Account& a, const Saved& saved) {
  Line line{saved.bytes.value, saved.name, saved.kept_as};
  if (saved.is_value) line.text += ": " + ops_of(saved);
  if (!saved.is_value) line.text += "; here: " + saved.instead;
  for (const Held& held : a.held)
    if (saved.is_value && held.name == saved.name) line.held = held.exact.value;
  if (saved.is_value && line.held == 0)
    line.text += "; here dead since " + a.op_at(a.last_reader(a.program.graph.find(saved.name)));
  return line;
}

inline void write_translation_tape(Text& text, const Account& a) {
  text.title(
      "5. What a framework's tape keeps of the forward pass, and what of it is held here at the peak\n"
      "(fairseq's form: band matrices, attention's probabilities and all logits materialised, masks of one byte)");
  std::vector<Line> lines;
  for (const Saved& saved : a.tape.saved) lines.push_back(line_of(a, saved));
  lines = folded(lines);
  const int width = name_width(lines, 0);
  Line sum;
  for (const Line& line : lines) {
    text.row(line.bytes) << std::right << std::setw(14) << line.held << "  " << std::left << std::setw(width)
                         << line.full_name() << line.text << "\n";
    sum.bytes += line.bytes;
    sum.held += line.held;
  }
  text.row(sum.bytes) << std::right << std::setw(14) << sum.held << std::left << "  the tape\n";
  for (const char* what : {"weights", "gradients", "exp_avg", "exp_avg_sq"}) {
    const bool is_held = what != std::string("gradients");
    text.row(a.tape.weights.value) << std::right << std::setw(14) << (is_held ? a.tape.weights.value : 0) << std::left
                                   << "  " << what << "\n";
  }
  text.row(a.tape.counted().value) << "sum\n";
}

// A line a bucket: the tape alone, with the first gradients, and our plan.
inline void write_buckets(Text& text, const Plan& plan) {
  text.out << "\nEvery bucket: ids of a sentence, sentences; the framework between the passes, with the first two "
              "gradients, with\nunfolded inputs between the passes; ours\n";
  for (const Program& program : plan.programs) {
    if (!program.name.starts_with("train")) continue;
    const std::vector<std::int64_t>& ids = program.graph.tensors[program.graph.find("source")].type.shape;
    const Tape band = tape_of(program), unfolded = tape_of(program, Convolution::unfolded);
    text.out << std::right << std::setw(5) << ids[1] << std::setw(5) << ids[0];
    for (Bytes bytes : {band.counted(), band.counted() + band.first_gradients, unfolded.counted(), program.planned})
      text.out << std::setw(15) << bytes.value;
    text.out << std::left << "\n";
  }
}

inline std::string translation_text(const Account& a) {
  Text text(a);
  const auto& options = a.plan.options;
  text.out
      << "A row of several layers is their sum. Names of its own layer begin with a dot, of the one behind it with "
         "\"next.\".\n\ndynamicconv-iwslt, "
      << options.at("max_tokens") << " padded tokens a side, Adam, kernels of " << options.at("encoder_kernels")
      << " and " << options.at("decoder_kernels");
  text.arena();
  write_translation_tape(text, a);
  text.lines();
  text.row((a.tape.counted() + a.tape.first_gradients).value)
      << "the framework with the two gradients its backward pass begins with, of log-probabilities and logits\n";
  write_buckets(text, a.plan);
  return text.out.str();
}

}  // namespace thimble
