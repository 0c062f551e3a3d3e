// What Thimble throws. Answers ("does not fit") are values; exceptions are for misuse and environment.
#pragma once

#include <stdexcept>
#include <string>

namespace thimble {

/// Base of everything the library throws. Messages name the thing, the value, the limit and the fix.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller asked for something that makes no sense (an unknown op, a batch of zero).
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// An input file is damaged, truncated, of another version, or lies about itself.
class BadInput : public Error {
 public:
  using Error::Error;
};

/// Memory, a file or a device could not be had.
class EnvironmentError : public Error {
 public:
  using Error::Error;
};

}  // namespace thimble
