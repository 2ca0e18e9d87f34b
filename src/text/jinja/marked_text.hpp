#pragma once
// A string that knows of every byte whether the template wrote it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text::jinja {

// Who wrote a byte, from the most to the least trusted.
enum class Origin : std::uint8_t { kTemplate, kGenerated, kUser };

class MarkedText {
 public:
  struct Span {
    std::size_t begin, end;
    Origin origin;
  };

  MarkedText() = default;
  explicit MarkedText(std::string bytes, Origin origin = Origin::kTemplate);

  const std::string& bytes() const { return bytes_; }
  std::string_view view() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // What is not the template's own, ascending and apart.
  const std::vector<Span>& spans() const { return spans_; }
  // The least trusted origin of any byte.
  Origin origin() const;

  void append(std::string_view bytes, Origin origin = Origin::kTemplate);
  void append(const MarkedText& other) { append(other, 0, other.size()); }
  void append(const MarkedText& other, std::size_t begin, std::size_t end);
  MarkedText part(std::size_t begin, std::size_t end) const;
  std::size_t memory() const { return bytes_.size() + spans_.size() * sizeof(Span); }

 private:
  void mark(std::size_t begin, std::size_t end, Origin origin);
  std::string bytes_;
  std::vector<Span> spans_;
};

}  // namespace switchyard::text::jinja
