#include "regex_properties.hpp"

#include <array>

namespace switchyard::text {
namespace {

struct NamedProperty {
  std::string_view name;   // small letters only, without spaces, '_' and '-'
  std::string_view items;  // in a class of PCRE2
};
constexpr std::array kProperties = {
    NamedProperty{"any", R"(\x{0}-\x{10FFFF})"},
    NamedProperty{"assigned", R"(\P{Cn})"},
    NamedProperty{"ascii", R"(\x{0}-\x{7F})"},
    NamedProperty{"alphabetic", R"(\p{Alphabetic})"},
    NamedProperty{"alpha", R"(\p{Alphabetic})"},
    NamedProperty{"uppercase", R"(\p{Uppercase})"},
    NamedProperty{"upper", R"(\p{Uppercase})"},
    NamedProperty{"lowercase", R"(\p{Lowercase})"},
    NamedProperty{"lower", R"(\p{Lowercase})"},
    NamedProperty{"whitespace", R"(\p{White_Space})"},
    NamedProperty{"space", R"(\p{White_Space})"},
    NamedProperty{"digit", R"(\p{Nd})"},
    NamedProperty{"alnum", R"(\p{Alphabetic}\p{Nd})"},
    NamedProperty{"word", kWordItems},
    NamedProperty{"punct", R"(\p{P})"},
    NamedProperty{"posixpunct", R"(\p{P}\p{S})"},
    NamedProperty{"cntrl", R"(\p{Cc})"},
    NamedProperty{"xdigit", "0-9A-Fa-f"},
    NamedProperty{"blank", R"(\p{Zs}\x{9})"},
    NamedProperty{"letter", R"(\p{L})"},
    NamedProperty{"casedletter", R"(\p{Lu}\p{Ll}\p{Lt})"},
    NamedProperty{"lc", R"(\p{Lu}\p{Ll}\p{Lt})"},
    NamedProperty{"uppercaseletter", R"(\p{Lu})"},
    NamedProperty{"lowercaseletter", R"(\p{Ll})"},
    NamedProperty{"titlecaseletter", R"(\p{Lt})"},
    NamedProperty{"modifierletter", R"(\p{Lm})"},
    NamedProperty{"otherletter", R"(\p{Lo})"},
    NamedProperty{"mark", R"(\p{M})"},
    NamedProperty{"combiningmark", R"(\p{M})"},
    NamedProperty{"nonspacingmark", R"(\p{Mn})"},
    NamedProperty{"spacingmark", R"(\p{Mc})"},
    NamedProperty{"enclosingmark", R"(\p{Me})"},
    NamedProperty{"number", R"(\p{N})"},
    NamedProperty{"decimalnumber", R"(\p{Nd})"},
    NamedProperty{"letternumber", R"(\p{Nl})"},
    NamedProperty{"othernumber", R"(\p{No})"},
    NamedProperty{"punctuation", R"(\p{P})"},
    NamedProperty{"connectorpunctuation", R"(\p{Pc})"},
    NamedProperty{"dashpunctuation", R"(\p{Pd})"},
    NamedProperty{"openpunctuation", R"(\p{Ps})"},
    NamedProperty{"closepunctuation", R"(\p{Pe})"},
    NamedProperty{"initialpunctuation", R"(\p{Pi})"},
    NamedProperty{"finalpunctuation", R"(\p{Pf})"},
    NamedProperty{"otherpunctuation", R"(\p{Po})"},
    NamedProperty{"symbol", R"(\p{S})"},
    NamedProperty{"mathsymbol", R"(\p{Sm})"},
    NamedProperty{"currencysymbol", R"(\p{Sc})"},
    NamedProperty{"modifiersymbol", R"(\p{Sk})"},
    NamedProperty{"othersymbol", R"(\p{So})"},
    NamedProperty{"separator", R"(\p{Z})"},
    NamedProperty{"spaceseparator", R"(\p{Zs})"},
    NamedProperty{"lineseparator", R"(\p{Zl})"},
    NamedProperty{"paragraphseparator", R"(\p{Zp})"},
    NamedProperty{"other", R"(\p{C})"},
    NamedProperty{"control", R"(\p{Cc})"},
    NamedProperty{"format", R"(\p{Cf})"},
    NamedProperty{"unassigned", R"(\p{Cn})"},
    NamedProperty{"privateuse", R"(\p{Co})"},
};
constexpr std::string_view kCategories =
    " c cc cf cn co cs l ll lm lo lt lu m mc me mn n nd nl no p pc pd pe pf pi po ps s sc sk sm so z zl zp zs ";

// Properties of yes and no that PCRE2 knows by the same name.
constexpr std::string_view kFlags =
    " emoji emojipresentation emojimodifier emojimodifierbase emojicomponent extendedpictographic ideographic "
    "unifiedideograph radical math dash hexdigit asciihexdigit cased caseignorable idstart idcontinue xidstart "
    "xidcontinue "
    "joincontrol defaultignorablecodepoint diacritic extender quotationmark patternwhitespace patternsyntax "
    "variationselector regionalindicator graphemeextend graphemebase softdotted sentenceterminal terminalpunctuation "
    "noncharactercodepoint ";

// Whether a list of words between spaces has this one.
bool lists(std::string_view list, std::string_view word) {
  std::string between = " ";
  between += word;
  between += ' ';
  return list.find(between) != std::string_view::npos;
}

}  // namespace

std::string property_items(std::string_view key) {
  std::string name(key);
  if (lists(kCategories, key)) {
    name[0] = static_cast<char>(name[0] - ('a' - 'A'));
    return "\\p{" + name + "}";
  }
  if (lists(kFlags, key)) return "\\p{" + name + "}";
  for (const NamedProperty& property : kProperties) {
    if (property.name == key) return std::string(property.items);
  }
  return {};
}

}  // namespace switchyard::text
