// What rows of the op table are written with.
#pragma once

#include "op_table.h"
#include "thimble/op_registry.h"

namespace thimble::testing {

using Shape = std::vector<std::int64_t>;

inline RowInput samples(Shape shape) { return {std::move(shape), true, Fill::normal}; }
inline RowInput weights(Shape shape) { return {std::move(shape), false, Fill::normal}; }
inline RowInput positive(Shape shape) { return {std::move(shape), false, Fill::positive}; }
inline RowInput planes(Shape shape) { return {std::move(shape), true, Fill::bytes}; }
inline RowInput shifts(std::int64_t count, std::int64_t padding) { return {{count, 3}, true, Fill::shifts, padding}; }
inline RowInput labels(std::int64_t count) { return {{count}, true, Fill::labels}; }

inline RowInput ids(Shape shape, std::int64_t limit, int lengths) {
  return {std::move(shape), true, Fill::labels, limit, lengths};
}
inline RowInput lengths(std::int64_t count, std::int64_t room) { return {{count}, true, Fill::lengths, room}; }
inline RowInput tokens(Shape shape, int lengths) { return {std::move(shape), true, Fill::normal, 3, lengths}; }
inline RowInput position(std::int64_t value) { return {{1}, false, Fill::constant, value}; }

inline constexpr const char* kSums = "float sums of up to some thousand products, each rounded to 6e-8";
inline constexpr const char* kFewRoundings = "a handful of float roundings of 6e-8";
inline constexpr const char* kLargeMean = "x - mean loses what the mean rounds away: 6e-8 of 100 deviations";
inline constexpr const char* kExact = "one rounding, or none";

/// Rows of ops on sentences.
void add_token_rows(std::vector<Row>& rows);
/// Rows of ops of a decoder's step.
void add_decoding_rows(std::vector<Row>& rows);
/// Rows that fill vectors and blocks, or do not.
void add_vector_rows(std::vector<Row>& rows);

}  // namespace thimble::testing
