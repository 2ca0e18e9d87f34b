#include "marked_text.hpp"

#include <algorithm>

namespace switchyard::text::jinja {

MarkedText::MarkedText(std::string bytes, Origin origin) : bytes_(std::move(bytes)) { mark(0, bytes_.size(), origin); }

void MarkedText::mark(std::size_t begin, std::size_t end, Origin origin) {
  if (begin == end || origin == Origin::kTemplate) return;
  if (!spans_.empty() && spans_.back().end == begin && spans_.back().origin == origin) {
    spans_.back().end = end;
  } else {
    spans_.push_back({begin, end, origin});
  }
}

Origin MarkedText::origin() const {
  Origin worst = Origin::kTemplate;
  for (const Span& span : spans_) worst = std::max(worst, span.origin);
  return worst;
}

void MarkedText::append(std::string_view bytes, Origin origin) {
  const std::size_t begin = bytes_.size();
  bytes_ += bytes;
  mark(begin, bytes_.size(), origin);
}

void MarkedText::append(const MarkedText& other, std::size_t begin, std::size_t end) {
  const std::size_t base = bytes_.size();
  bytes_.append(other.bytes_, begin, end - begin);
  const auto first = std::partition_point(other.spans_.begin(), other.spans_.end(),
                                          [begin](const Span& span) { return span.end <= begin; });
  for (auto span = first; span != other.spans_.end() && span->begin < end; ++span) {
    mark(base + std::max(span->begin, begin) - begin, base + std::min(span->end, end) - begin, span->origin);
  }
}

MarkedText MarkedText::part(std::size_t begin, std::size_t end) const {
  MarkedText result;
  result.append(*this, begin, end);
  return result;
}

}  // namespace switchyard::text::jinja
