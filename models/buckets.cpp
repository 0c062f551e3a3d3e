#include "thimble/buckets.h"

#include <algorithm>
#include <limits>
#include <string>

#include "thimble/error.h"

namespace thimble {
namespace {

constexpr std::int64_t kMultiple = 8;

}  // namespace

std::vector<Bucket> make_buckets(std::span<const std::int64_t> rooms, std::int64_t max_tokens) {
  std::vector<Bucket> buckets;
  for (std::int64_t room : rooms) {
    if (room < 1 || (!buckets.empty() && room <= buckets.back().room))
      throw InvalidArgument("buckets: a room of " + std::to_string(room) + " ids; rooms ascend from 1");
    if (room > max_tokens)
      throw InvalidArgument("buckets: a sentence of " + std::to_string(room) + " ids does not fit " +
                            std::to_string(max_tokens) + " tokens; raise --max-tokens");
    const std::int64_t sentences = max_tokens / room;
    buckets.push_back({room, sentences < kMultiple ? sentences : sentences / kMultiple * kMultiple});
  }
  return buckets;
}

std::vector<std::int64_t> choose_rooms(std::span<const std::int64_t> lengths, std::int64_t most) {
  if (lengths.empty() || most < 1)
    throw InvalidArgument("buckets: " + std::to_string(lengths.size()) + " sentence pairs for " + std::to_string(most) +
                          " rooms");
  std::vector<std::int64_t> count(kLongestSentence + 1, 0);
  for (std::int64_t length : lengths) {
    if (length < 1 || length > kLongestSentence)
      throw InvalidArgument("buckets: a sentence of " + std::to_string(length) + " ids; it has from 1 to " +
                            std::to_string(kLongestSentence));
    ++count[static_cast<std::size_t>(length)];
  }
  std::vector<std::int64_t> there, up_to;  // lengths there are, and pairs no longer than each
  for (std::int64_t length = 1; length <= kLongestSentence; ++length)
    if (const std::int64_t pairs = count[static_cast<std::size_t>(length)]; pairs > 0) {
      there.push_back(length);
      up_to.push_back((up_to.empty() ? 0 : up_to.back()) + pairs);
    }
  // least[k][i]: padded ids of the pairs up to length i in k + 1 rooms, the last of them that length.
  const std::size_t n = there.size(), rooms = std::min(n, static_cast<std::size_t>(most));
  const auto padded = [&](std::size_t from, std::size_t to) {
    return (up_to[to] - (from == 0 ? 0 : up_to[from - 1])) * there[to];
  };
  std::vector<std::vector<std::int64_t>> least(rooms, std::vector<std::int64_t>(n));
  std::vector<std::vector<std::size_t>> from(rooms, std::vector<std::size_t>(n, 0));
  for (std::size_t i = 0; i < n; ++i) least[0][i] = padded(0, i);
  for (std::size_t k = 1; k < rooms; ++k)
    for (std::size_t i = 0; i < n; ++i) {
      least[k][i] = least[k - 1][i];
      from[k][i] = n;  // as many rooms as before
      for (std::size_t j = 1; j <= i; ++j)
        if (const std::int64_t ids = least[k - 1][j - 1] + padded(j, i); ids < least[k][i]) {
          least[k][i] = ids;
          from[k][i] = j;
        }
    }
  std::vector<std::int64_t> chosen;
  std::size_t i = n - 1;
  for (std::size_t k = rooms; k-- > 0;) {
    if (from[k][i] == n) continue;
    chosen.push_back(there[i]);
    if (from[k][i] == 0) break;
    i = from[k][i] - 1;
  }
  std::reverse(chosen.begin(), chosen.end());
  return chosen;
}

std::vector<std::int64_t> usual_rooms(std::int64_t longest) {
  if (longest < 1 || longest > kLongestSentence)
    throw InvalidArgument("buckets: a longest sentence of " + std::to_string(longest) + " ids; it has from 1 to " +
                          std::to_string(kLongestSentence));
  std::vector<std::int64_t> rooms{8,  11,  15,  20,  26,  34,  44,  57,  74,
                                  98, 131, 176, 235, 313, 417, 556, 741, kLongestSentence};
  std::erase_if(rooms, [&](std::int64_t room) { return room >= longest; });
  rooms.push_back(longest);
  return rooms;
}

std::string bucket_program(const char* what, std::int64_t room) { return what + ("_" + std::to_string(room)); }

}  // namespace thimble
