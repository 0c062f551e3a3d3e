// Says which allocations belong to libraries: code between the two scopes is theirs, not ours.
#pragma once

namespace thimble {

/// How many library calls the calling thread is inside of.
inline int& library_depth() {
  thread_local int depth = 0;
  return depth;
}

class LibraryScope {
 public:
  LibraryScope() { ++library_depth(); }
  ~LibraryScope() { --library_depth(); }
  LibraryScope(const LibraryScope&) = delete;
  LibraryScope& operator=(const LibraryScope&) = delete;
};

/// Our code again, called back by a library.
class OwnScope {
 public:
  OwnScope() : outer_(library_depth()) { library_depth() = 0; }
  ~OwnScope() { library_depth() = outer_; }
  OwnScope(const OwnScope&) = delete;
  OwnScope& operator=(const OwnScope&) = delete;

 private:
  int outer_;
};

}  // namespace thimble
