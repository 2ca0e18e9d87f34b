#pragma once
// Characters that PCRE2 does not know yet.
// Debian 12's PCRE2 knows Unicode 14, the tokenizers library's regular expressions Unicode 16. Where a text is cut
// depends on what is a letter, so characters that came in between are searched as a known character of the same kind:
// general category, length in UTF-8, and whether it is Han, the only script that published expressions name.

#include <string>
#include <string_view>

namespace switchyard::text {

class KnownCharacters {
 public:
  // `text` is valid UTF-8 and must outlive this.
  explicit KnownCharacters(std::string_view text);
  KnownCharacters(const KnownCharacters&) = delete;
  KnownCharacters& operator=(const KnownCharacters&) = delete;
  // The same text with the same offsets.
  std::string_view view() const { return view_; }

 private:
  std::string copy_;
  std::string_view view_;
};

}  // namespace switchyard::text
