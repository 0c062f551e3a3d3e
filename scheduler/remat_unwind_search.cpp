// The beam: states by how many ops are pending, most first. Of those with as many, the best ones are kept.
#include <algorithm>
#include <tuple>
#include <unordered_set>

#include "remat_unwind.h"

namespace thimble::remat {
namespace {

constexpr std::size_t kChildrenPerState = 4;  // that are made of those kept; shedding reorders them
constexpr std::int64_t kEffortPerState = 10;

std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }

}  // namespace

// A path that costs less than `cap`. Where all is shed that may be, the first path there is.
std::optional<Unwinder::Path> Unwinder::search(const Set& goal, std::int64_t room, const Style& style, double cap) {
  room_ = room;
  style_ = style;
  cap_ = cap;
  steps_.clear();
  end_ = -1;
  for (std::int32_t t = 0; t < graph_.tensors(); ++t) {
    const auto& makings = table_[index(t)];
    const auto m =
        std::find_if(makings.begin(), makings.end(), [&](const Making& making) { return making.cost <= style.most; });
    beside_[index(t)] = m == makings.end() ? INT64_MAX / 2 : m->room - size(t);
  }
  State first = state_of(goal);
  if (first.held > room) return std::nullopt;
  const std::size_t top = first.left;
  buckets_[top].states.push_back(first);
  for (std::size_t pending = top + 1; pending-- > 0;) {
    Bucket& bucket = buckets_[pending];
    if (!(style.sheds_all() && end_ >= 0) && !is_spent()) {
      grow(bucket, pending);
      keep_best(bucket.states);
      if (pending > 0) spread(bucket, buckets_[pending - 1]);
    }
    bucket.states.clear();
    bucket.parents.clear();
    bucket.children.clear();
  }
  if (end_ < 0) return std::nullopt;
  Path path;
  for (std::int32_t i = end_; i >= 0; i = steps_[index(i)].before) path.push_back(steps_[index(i)].step);
  std::reverse(path.begin(), path.end());
  return path;
}

double Unwinder::key_of(double cost, std::int64_t held) const {
  return style_.sheds_all() ? static_cast<double>(held) : cost + style_.byte_price * static_cast<double>(held);
}

// Makes the children, the best first.
void Unwinder::grow(Bucket& bucket, std::size_t pending) {
  std::sort(bucket.children.begin(), bucket.children.end(), [](const Child& a, const Child& b) {
    return std::tie(a.key, a.from, a.op) < std::tie(b.key, b.from, b.op);
  });
  std::unordered_set<std::uint64_t> seen;
  std::size_t made = 0;
  for (const Child& child : bucket.children) {
    if (made >= kChildrenPerState * style_.width) return;
    State s = bucket.parents[index(child.from)];
    if (!make_room(s, child.op)) continue;
    undo(child.op, s);
    if (s.cost >= cap_ || !seen.insert(s.hash).second) continue;
    ++made;
    effort_ += kEffortPerState;
    if (style_.sheds_all()) {
      shed_all(s);
    } else {
      const auto limit = static_cast<std::int64_t>(style_.threshold * static_cast<double>(room_));
      while (s.held > limit && shed_one(s, {})) {
      }
    }
    if (s.cost >= cap_) continue;
    if (s.required.empty()) {
      end_ = s.last;
      cap_ = s.cost;
      if (style_.sheds_all()) return;
      continue;
    }
    s.key = key_of(s.cost, s.held);
    (s.left < pending ? buckets_[s.left] : bucket).states.push_back(s);
  }
}

void Unwinder::keep_best(std::vector<State>& states) const {
  std::stable_sort(states.begin(), states.end(),
                   [](const State& a, const State& b) { return std::tie(a.key, a.cost) < std::tie(b.key, b.cost); });
  std::unordered_set<std::uint64_t> seen;
  std::size_t kept = 0;
  for (const State& s : states) {
    if (kept == style_.width) break;
    if (s.cost >= cap_ || !seen.insert(s.hash).second) continue;
    states[kept++] = s;
  }
  states.resize(kept);
}

// Every state by every op that nobody pending waits for.
void Unwinder::spread(Bucket& bucket, Bucket& next) {
  for (std::size_t i = 0; i < bucket.states.size(); ++i) {
    const State& s = bucket.states[i];
    Set ops;
    s.required.for_each([&](std::int32_t t) { ops.add(maker(t)); });
    ops.for_each([&](std::int32_t op) {
      if (is_awaited(op, s.pending)) return;
      if (style_.sheds_all() && held_while(op, s) > room_) return;
      const std::int64_t held = s.held + added(op, s.required) - gone(op, s.required);
      next.children.push_back({key_of(s.cost + cost_of(op), held), static_cast<std::int32_t>(i), op});
    });
  }
  next.parents.swap(bucket.states);
}

// Sheds until an op fits.
bool Unwinder::make_room(State& s, std::int32_t op) {
  Set spared;
  for (const auto* list : {&graph_.in[index(op)], &graph_.out[index(op)]})
    for (const std::int32_t t : *list) spared.add(t);
  while (held_while(op, s) > room_)
    if (style_.sheds_all() || !shed_one(s, spared)) return false;
  return true;
}

void Unwinder::shed_all(State& s) {
  for (bool again = true; again;) {
    again = false;
    const Set required = s.required;
    required.for_each([&](std::int32_t t) {
      const std::int64_t free = room_ - s.held;
      if (beside_[index(t)] > free) return;
      shed(t, alone(t, free + size(t)), s);
      again = true;
    });
    if (again) continue;
    again = required.any_of([&](std::int32_t t) {
      const std::int32_t op = maker(t);
      if (gain(op, s.required) == 0 || held_while(op, s) > room_) return false;
      undo(op, s);
      return true;
    });
  }
}

// Many bytes, for long, at little cost; nothing of `spared`. How long: levels down to the next reader. Undoing one op
// is looked at first: it is often better than all that making the whole tensor takes, and then there is no need to know
// that.
bool Unwinder::shed_one(State& s, const Set& spared) {
  std::int32_t top = 0;
  s.required.for_each([&](std::int32_t t) { top = std::max(top, level_[index(maker(t))]); });
  const Set choices = s.required - spared;
  const auto levels = [&](std::int32_t t) {
    const auto& readers = readers_[index(t)];
    const auto reader =
        std::find_if(readers.begin(), readers.end(), [&](std::int32_t op) { return s.pending.has(op); });
    return static_cast<double>(std::max(1, top - level_[index(reader == readers.end() ? maker(t) : *reader)] + 1));
  };
  double best = 0, cost = 0;
  Step step{Step::undo, -1};
  choices.for_each([&](std::int32_t t) {
    const std::int32_t op = maker(t);
    const std::int64_t less = gain(op, s.required);
    if (less == 0 || held_while(op, s) > room_) return;
    const double score = static_cast<double>(less) * levels(t) / cost_of(op);
    if (score <= best) return;
    best = score;
    step = {Step::undo, op};
  });
  choices.for_each([&](std::int32_t t) {
    const double worth = static_cast<double>(size(t)) * levels(t);
    const double again = price(t, s.required, s.held, best > 0 ? worth / best : HUGE_VAL);
    if (worth / again <= best || s.cost + again >= cap_) return;
    best = worth / again;
    cost = again;
    step = {Step::shed, t};
  });
  if (step.id < 0) return false;
  step.kind == Step::undo ? undo(step.id, s) : shed(step.id, cost, s);
  return true;
}

}  // namespace thimble::remat
