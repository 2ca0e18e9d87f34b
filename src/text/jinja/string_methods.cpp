// Methods of str.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "machine.hpp"
#include "unicode_text.hpp"

namespace switchyard::text::jinja {
namespace {

Value strip(Machine& machine, const Value& self, Arguments& arguments, std::string_view name, bool left, bool right) {
  const auto given = bind(arguments, name, {"chars"});
  const bool space = given[0] == nullptr || given[0]->is_none();
  machine.budget().work_on(self.text().size());
  return machine.string(trimmed(self.text(), space ? nullptr : &to_string(*given[0], "chars").bytes(), left, right));
}
Value strip_method(Machine& machine, const Value& self, Arguments& a) {
  return strip(machine, self, a, "strip", true, true);
}
Value lstrip_method(Machine& machine, const Value& self, Arguments& a) {
  return strip(machine, self, a, "lstrip", true, false);
}
Value rstrip_method(Machine& machine, const Value& self, Arguments& a) {
  return strip(machine, self, a, "rstrip", false, true);
}

// The words between white space, at most `most` cuts.
std::vector<std::pair<std::size_t, std::size_t>> words(std::string_view text, std::int64_t most, bool from_right) {
  std::vector<std::pair<std::size_t, std::size_t>> parts;
  const auto space = [&](std::size_t i) { return is_space(character_at(text, i)); };
  if (!from_right) {
    for (std::size_t i = 0; true; --most) {
      while (i < text.size() && space(i)) i = next_character(text, i);
      if (i == text.size()) return parts;
      std::size_t end = i;
      if (most == 0) {
        end = text.size();
      } else {
        while (end < text.size() && !space(end)) end = next_character(text, end);
      }
      parts.emplace_back(i, end);
      if (most == 0) return parts;
      i = end;
    }
  }
  for (std::size_t i = text.size(); true; --most) {
    while (i > 0 && space(previous_character(text, i))) i = previous_character(text, i);
    if (i == 0) break;
    std::size_t begin = i;
    if (most == 0) {
      begin = 0;
    } else {
      while (begin > 0 && !space(previous_character(text, begin))) begin = previous_character(text, begin);
    }
    parts.emplace_back(begin, i);
    if (most == 0) break;
    i = begin;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

// Where the separator stands, at most `most` times, from the left or the right.
std::vector<std::size_t> places(Machine& machine, std::string_view text, std::string_view separator, std::int64_t most,
                                bool from_right) {
  machine.budget().search(text.size(), separator.size());
  std::vector<std::size_t> found;
  if (!from_right) {
    const Searcher searcher(separator);
    for (std::size_t i = searcher.find(text); i != std::string_view::npos && most != 0; --most) {
      found.push_back(i);
      i = searcher.find(text, i + separator.size());
    }
    return found;
  }
  // From the right is from the left in a mirror.
  const std::string text_back(text.rbegin(), text.rend()), separator_back(separator.rbegin(), separator.rend());
  for (const std::size_t at : places(machine, text_back, separator_back, most, false)) {
    found.push_back(text.size() - at - separator.size());
  }
  std::reverse(found.begin(), found.end());
  return found;
}

Value split(Machine& machine, const Value& self, Arguments& arguments, bool from_right) {
  const auto given = bind(arguments, from_right ? "rsplit" : "split", {"sep", "maxsplit"});
  const std::int64_t most = integer_or(given[1], -1, "maxsplit");
  const MarkedText& text = self.text();
  machine.budget().work_on(text.size());
  std::vector<Value> parts;
  if (given[0] == nullptr || given[0]->is_none()) {
    for (const auto& [begin, end] : words(text.view(), most, from_right))
      parts.push_back(machine.string(text.part(begin, end)));
    return machine.list(std::move(parts));
  }
  const std::string_view separator = to_string(*given[0], "the separator").view();
  if (separator.empty()) throw Failure("the separator is empty");
  std::size_t done = 0;
  for (const std::size_t at : places(machine, text.view(), separator, most, from_right)) {
    parts.push_back(machine.string(text.part(done, at)));
    done = at + separator.size();
  }
  parts.push_back(machine.string(text.part(done, text.size())));
  return machine.list(std::move(parts));
}
Value split_method(Machine& machine, const Value& self, Arguments& a) { return split(machine, self, a, false); }
Value rsplit_method(Machine& machine, const Value& self, Arguments& a) { return split(machine, self, a, true); }

Value partition(Machine& machine, const Value& self, Arguments& arguments, bool from_right) {
  const auto given = bind(arguments, "partition", {"sep"}, 1);
  const MarkedText &text = self.text(), &separator = to_string(*given[0], "the separator");
  if (separator.empty()) throw Failure("the separator is empty");
  machine.budget().work_on(text.size());
  const auto found = places(machine, text.view(), separator.view(), 1, from_right);
  const Value nothing = machine.string(std::string());
  if (found.empty()) {
    return machine.list(
        from_right ? std::vector<Value>{nothing, nothing, self} : std::vector<Value>{self, nothing, nothing},
        List::Kind::kTuple);
  }
  return machine.list({machine.string(text.part(0, found[0])), *given[0],
                       machine.string(text.part(found[0] + separator.size(), text.size()))},
                      List::Kind::kTuple);
}
Value partition_method(Machine& machine, const Value& self, Arguments& a) { return partition(machine, self, a, false); }
Value rpartition_method(Machine& machine, const Value& self, Arguments& a) { return partition(machine, self, a, true); }

Value splitlines_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "splitlines", {"keepends"});
  const bool keep = truth_or(given[0], false);
  const MarkedText& text = self.text();
  std::vector<Value> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = begin, next = begin;
    while (end < text.size()) {
      const char32_t c = character_at(text.view(), end);
      next = next_character(text.view(), end);
      const bool breaks =
          (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
      if (breaks) {
        if (c == U'\r' && next < text.size() && text.bytes()[next] == '\n') ++next;
        break;
      }
      end = next;
    }
    lines.push_back(machine.string(text.part(begin, keep ? next : end)));
    begin = next;
  }
  return machine.list(std::move(lines));
}

// The part of a text that start and end choose, in bytes.
std::pair<std::size_t, std::size_t> chosen_part(Machine& machine, const String& text, const Value* start,
                                                const Value* end) {
  machine.budget().work_on(text.text.size());
  const auto length = static_cast<std::int64_t>(text.length());
  const auto place = [&](const Value* value, std::int64_t otherwise) {
    std::int64_t index = integer_or(value, otherwise, "a bound");
    if (index < 0) index = index < -length ? 0 : index + length;
    if (index > length) return text.text.size() + 1;  // behind everything, where not even nothing is found
    return byte_of_character(text.text.view(), static_cast<std::size_t>(index));
  };
  return {place(start, 0), std::min(place(end, length), text.text.size())};
}

Value affix(Machine& machine, const Value& self, Arguments& arguments, bool at_end) {
  const auto given = bind(arguments, at_end ? "endswith" : "startswith", {"prefix", "start", "end"}, 1);
  const auto [begin, end] = chosen_part(machine, self.string(), given[1], given[2]);
  if (begin > end) return Value(false);
  const std::string_view part = self.view().substr(begin, end - begin);
  const auto fits = [&](const Value& value) {
    const std::string_view wanted = to_string(value, at_end ? "what endswith tries" : "what startswith tries").view();
    return part.size() >= wanted.size() &&
           (at_end ? part.substr(part.size() - wanted.size()) : part.substr(0, wanted.size())) == wanted;
  };
  require_defined(*given[0]);
  if (given[0]->is_list() && given[0]->list().kind == List::Kind::kTuple) {
    const auto& items = given[0]->list().items;
    machine.budget().step(items.size());
    return Value(std::any_of(items.begin(), items.end(), fits));
  }
  return Value(fits(*given[0]));
}
Value startswith_method(Machine& machine, const Value& self, Arguments& a) { return affix(machine, self, a, false); }
Value endswith_method(Machine& machine, const Value& self, Arguments& a) { return affix(machine, self, a, true); }

// The character where it stands; -1 where it does not.
std::int64_t found_at(Machine& machine, const Value& self, Arguments& arguments, std::string_view name, bool last) {
  const auto given = bind(arguments, name, {"sub", "start", "end"}, 1);
  const std::string_view wanted = to_string(*given[0], "what is looked for").view();
  const auto [begin, end] = chosen_part(machine, self.string(), given[1], given[2]);
  if (begin > end) return -1;
  const std::string_view part = self.view().substr(begin, end - begin);
  std::size_t at = 0;
  if (wanted.empty()) {
    at = last ? part.size() : 0;
  } else {
    const auto found = places(machine, part, wanted, 1, last);
    if (found.empty()) return -1;
    at = found[0];
  }
  return static_cast<std::int64_t>(count_characters(self.view().substr(0, begin + at)));
}
Value find_method_(Machine& machine, const Value& self, Arguments& a) {
  return Value(found_at(machine, self, a, "find", false));
}
Value rfind_method(Machine& machine, const Value& self, Arguments& a) {
  return Value(found_at(machine, self, a, "rfind", true));
}
Value must_find(std::int64_t at) {
  if (at < 0) throw Failure("the text that is looked for is not there");
  return Value(at);
}
Value index_method(Machine& machine, const Value& self, Arguments& a) {
  return must_find(found_at(machine, self, a, "index", false));
}
Value rindex_method(Machine& machine, const Value& self, Arguments& a) {
  return must_find(found_at(machine, self, a, "rindex", true));
}

Value count_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "count", {"sub", "start", "end"}, 1);
  const std::string_view wanted = to_string(*given[0], "what is counted").view();
  const auto [begin, end] = chosen_part(machine, self.string(), given[1], given[2]);
  if (begin > end) return Value(std::int64_t{0});
  const std::string_view part = self.view().substr(begin, end - begin);
  if (wanted.empty()) return Value(static_cast<std::int64_t>(count_characters(part)) + 1);
  return Value(static_cast<std::int64_t>(places(machine, part, wanted, -1, false).size()));
}

Value replace_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "replace", {"old", "new", "count"}, 2);
  return machine.string(replaced(machine, self.text(), to_string(*given[0], "what is replaced"),
                                 to_string(*given[1], "the replacement"), integer_or(given[2], -1, "count")));
}

Value join_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "join", {"iterable"}, 1);
  require_defined(*given[0]);
  const auto items = machine.iterate(*given[0]);
  for (const Value& item : items->items) to_string(item, "an item of join");
  return machine.string(joined(machine, items->items, self.text()));
}

Value format_method(Machine& machine, const Value& self, Arguments& arguments) {
  return machine.string(format_text(machine, self.text(), arguments));
}

template <std::string (*kMap)(std::string_view)>
Value map_method(Machine& machine, const Value& self, Arguments& arguments) {
  bind(arguments, "the method", {});
  machine.budget().work_on(self.text().size() * 4);
  return machine.string(kMap(self.view()), self.text().origin());
}

template <CharacterClass kClass>
Value class_method(Machine& machine, const Value& self, Arguments& arguments) {
  bind(arguments, "the method", {});
  machine.budget().work_on(self.text().size() * 4);
  return Value(all_of_class(self.view(), kClass));
}

Value removeprefix_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "removeprefix", {"prefix"}, 1);
  const std::string_view prefix = to_string(*given[0], "the prefix").view();
  const bool fits = self.view().substr(0, prefix.size()) == prefix;
  return machine.string(self.text().part(fits ? prefix.size() : 0, self.text().size()));
}
Value removesuffix_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "removesuffix", {"suffix"}, 1);
  const std::string_view suffix = to_string(*given[0], "the suffix").view();
  const std::size_t size = self.text().size();
  const bool fits = size >= suffix.size() && self.view().substr(size - suffix.size()) == suffix;
  return machine.string(self.text().part(0, size - (fits ? suffix.size() : 0)));
}

Value justified(Machine& machine, const Value& self, Arguments& arguments, char side) {
  const auto given = bind(arguments, "the method", {"width", "fillchar"}, 1);
  const std::int64_t width = to_integer(*given[0], "the width");
  const std::int64_t space = width - static_cast<std::int64_t>(self.string().length());
  if (space <= 0) return machine.string(self.text());
  const MarkedText fill = given[1] == nullptr ? MarkedText(" ") : to_string(*given[1], "the fill character");
  if (count_characters(fill.view()) != 1) throw Failure("the fill character must be one character");
  machine.budget().need(static_cast<std::size_t>(space) * fill.memory());
  machine.budget().work_on(static_cast<std::size_t>(space));
  const std::int64_t left = side == 'l' ? 0 : side == 'r' ? space : space / 2 + (space & width & 1);
  MarkedText result;
  for (std::int64_t i = 0; i < left; ++i) result.append(fill);
  result.append(self.text());
  for (std::int64_t i = left; i < space; ++i) result.append(fill);
  return machine.string(std::move(result));
}
Value ljust_method(Machine& machine, const Value& self, Arguments& a) { return justified(machine, self, a, 'l'); }
Value rjust_method(Machine& machine, const Value& self, Arguments& a) { return justified(machine, self, a, 'r'); }
Value center_method(Machine& machine, const Value& self, Arguments& a) { return justified(machine, self, a, 'c'); }

Value zfill_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "zfill", {"width"}, 1);
  const std::int64_t space = to_integer(*given[0], "the width") - static_cast<std::int64_t>(self.string().length());
  if (space <= 0) return machine.string(self.text());
  machine.budget().need(static_cast<std::size_t>(space));
  const bool sign = !self.text().empty() && (self.view()[0] == '+' || self.view()[0] == '-');
  MarkedText result = self.text().part(0, sign ? 1 : 0);
  result.append(std::string(static_cast<std::size_t>(space), '0'));
  result.append(self.text(), sign ? 1 : 0, self.text().size());
  return machine.string(std::move(result));
}

constexpr std::array kMethods = {
    NamedFilter{"capitalize", map_method<title_first>},
    NamedFilter{"casefold", map_method<lower>},
    NamedFilter{"center", center_method},
    NamedFilter{"count", count_method},
    NamedFilter{"endswith", endswith_method},
    NamedFilter{"find", find_method_},
    NamedFilter{"format", format_method},
    NamedFilter{"index", index_method},
    NamedFilter{"isalnum", class_method<CharacterClass::kAlnum>},
    NamedFilter{"isalpha", class_method<CharacterClass::kAlpha>},
    NamedFilter{"isdecimal", class_method<CharacterClass::kDecimal>},
    NamedFilter{"isdigit", class_method<CharacterClass::kDigit>},
    NamedFilter{"islower", class_method<CharacterClass::kLower>},
    NamedFilter{"isnumeric", class_method<CharacterClass::kNumeric>},
    NamedFilter{"isspace", class_method<CharacterClass::kSpace>},
    NamedFilter{"isupper", class_method<CharacterClass::kUpper>},
    NamedFilter{"join", join_method},
    NamedFilter{"ljust", ljust_method},
    NamedFilter{"lower", map_method<lower>},
    NamedFilter{"lstrip", lstrip_method},
    NamedFilter{"partition", partition_method},
    NamedFilter{"removeprefix", removeprefix_method},
    NamedFilter{"removesuffix", removesuffix_method},
    NamedFilter{"replace", replace_method},
    NamedFilter{"rfind", rfind_method},
    NamedFilter{"rindex", rindex_method},
    NamedFilter{"rjust", rjust_method},
    NamedFilter{"rpartition", rpartition_method},
    NamedFilter{"rsplit", rsplit_method},
    NamedFilter{"rstrip", rstrip_method},
    NamedFilter{"split", split_method},
    NamedFilter{"splitlines", splitlines_method},
    NamedFilter{"startswith", startswith_method},
    NamedFilter{"strip", strip_method},
    NamedFilter{"swapcase", map_method<swap_case>},
    NamedFilter{"title", map_method<title_words>},
    NamedFilter{"upper", map_method<upper>},
    NamedFilter{"zfill", zfill_method},
};

}  // namespace

Filter find_string_method(std::string_view name) { return find_named(kMethods, name); }

}  // namespace switchyard::text::jinja
