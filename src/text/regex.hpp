#pragma once
// Regular expressions over UTF-8, by PCRE2 with its compiler to machine code.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "regex_syntax.hpp"

namespace switchyard::text {

struct RegexMatch {
  std::size_t begin, end;
};

// What a search needs besides the expression. One a thread; made cheaply.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

class Regex {
 public:
  // `where` names file and key for messages. Throws kUnsupported where the pattern cannot be used.
  Regex(std::string_view pattern, RegexDialect dialect, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // The first match at `from` or later; the search sees what stands before. `text` is valid UTF-8. Throws kBadInput
  // where the expression needs more steps or memory than a sane one would.
  std::optional<RegexMatch> find(std::string_view text, std::size_t from, RegexScratch& scratch) const;

  // All matches, one after the other; an empty one directly behind another match is skipped.
  template <class Found>
  void for_each(std::string_view text, RegexScratch& scratch, Found&& found) const {
    std::size_t from = 0;
    std::optional<std::size_t> last_end;
    while (from <= text.size()) {
      const std::optional<RegexMatch> match = find(text, from, scratch);
      if (!match) return;
      if (match->begin == match->end && last_end == match->end) {
        from = next_character(text, match->end);
        continue;
      }
      from = match->end;
      last_end = match->end;
      found(*match);
    }
  }

 private:
  static std::size_t next_character(std::string_view text, std::size_t at);

  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace switchyard::text
