// A plan's options: numbers and words as text, written and read back.
#pragma once

#include <charconv>
#include <string>
#include <vector>

#include "thimble/error.h"
#include "thimble/plan.h"

namespace thimble {

/// The shortest text that reads back as the same number.
inline std::string number_text(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

/// Throws BadInput where it is missing.
inline const std::string& plan_option(const Plan& plan, const char* name) {
  const auto found = plan.options.find(name);
  if (found == plan.options.end())
    throw BadInput(std::string("plan: option '") + name + "' of a training plan is missing");
  return found->second;
}

/// Throws BadInput, naming option, text and range, where it is no number from `least` to `most`.
template <class T>
T parse_option(const char* name, std::string_view text, T least, T most) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
    throw BadInput(std::string("plan: option '") + name + "' is '" + std::string(text) + "', not a number from " +
                   std::to_string(least) + " to " + std::to_string(most));
  return value;
}

template <class T>
T plan_number(const Plan& plan, const char* name, T least, T most) {
  return parse_option<T>(name, plan_option(plan, name), least, most);
}

/// "3,7,15".
inline std::string list_text(const std::vector<std::int64_t>& values) {
  std::string text;
  for (std::int64_t value : values) text += (text.empty() ? "" : ",") + std::to_string(value);
  return text;
}

/// Throws BadInput as plan_number does, and for an empty list.
inline std::vector<std::int64_t> plan_list(const Plan& plan, const char* name, std::int64_t least, std::int64_t most) {
  const std::string& text = plan_option(plan, name);
  std::vector<std::int64_t> values;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(parse_option<std::int64_t>(name, std::string_view(text).substr(begin, end - begin), least, most));
    begin = end + 1;
  }
  return values;
}

}  // namespace thimble
