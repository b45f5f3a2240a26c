// A JSON reader over bytes in memory that yields raw values as spans of the input. It checks the grammar of everything it passes
// (RFC 8259; UTF-8 is not checked), allocates nothing and may be used on any thread.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace daybook {

class JsonReader {
 public:
  explicit JsonReader(std::string_view json) : at_(json.data()), end_(json.data() + json.size()) {}

  // The next byte that is not white space, 0 at the end.
  char Peek() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) at_++;
    return at_ < end_ ? *at_ : '\0';
  }
  bool Take(char expected) {
    if (Peek() != expected || at_ == end_) return false;
    at_++;
    return true;
  }
  // The very bytes of `text`, white space included.
  bool TakeText(std::string_view text) {
    if (left() < text.size() || memcmp(at_, text.data(), text.size()) != 0) return false;
    at_ += text.size();
    return true;
  }
  // The next `length` bytes, whatever they are; fewer at the end.
  std::string_view TakeBytes(size_t length) {
    const std::string_view bytes(at_, std::min(length, left()));
    at_ += bytes.size();
    return bytes;
  }
  // Decimal digits without a leading zero, as far as they go. False if there are none, or more than 16.
  bool TakeCount(uint64_t* count) {
    const char* const start = at_;
    uint64_t value = 0;
    while (at_ < end_ && *at_ >= '0' && *at_ <= '9') value = value * 10 + static_cast<uint64_t>(*at_++ - '0');
    *count = value;
    return at_ > start && at_ - start <= 16 && (*start != '0' || at_ - start == 1);
  }
  bool AtEnd() { return Peek() == '\0' && at_ == end_; }
  // Bytes not read yet: behind a false answer, those from the fault on.
  size_t left() const { return static_cast<size_t>(end_ - at_); }

  // A string with its quotes.
  bool ReadString(std::string_view* raw) {
    if (Peek() != '"') return false;
    const char* const start = at_;
    if (!SkipString()) return false;
    *raw = {start, static_cast<size_t>(at_ - start)};
    return true;
  }

  // Any value. `depth`: how many levels of objects and arrays are allowed.
  bool ReadValue(std::string_view* raw, int depth = kMaxDepth) {
    Peek();
    const char* const start = at_;
    if (!SkipValue(depth)) return false;
    *raw = {start, static_cast<size_t>(at_ - start)};
    return true;
  }

  // Calls member(key, value), both raw, for each member of an object. False if the grammar is broken or member() says so.
  template <typename Member>
  bool ReadObject(Member member) {
    if (!Take('{')) return false;
    if (Take('}')) return true;
    do {
      std::string_view key;
      if (!ReadString(&key) || !Take(':') || !member(key)) return false;
    } while (Take(','));
    return Take('}');
  }

  // Calls element() with the reader before each element, which it must read.
  template <typename Element>
  bool ReadArray(Element element) {
    if (!Take('[')) return false;
    if (Take(']')) return true;
    do {
      if (!element()) return false;
    } while (Take(','));
    return Take(']');
  }

  // The bytes a raw string stands for; a lone surrogate becomes U+FFFD, as in Go.
  static void Decode(std::string_view raw, std::string* text);

  // -1 if it is none.
  static int HexDigit(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
  }

 private:
  static constexpr int kMaxDepth = 100;

  bool SkipString() {
    at_++;
    while (true) {
      // Eight bytes at a time while none of them is a quote, a backslash or a control character.
      while (end_ - at_ >= 8) {
        uint64_t word;
        memcpy(&word, at_, 8);
        const uint64_t special = HasZero(word ^ Repeat('"')) | HasZero(word ^ Repeat('\\')) | HasBelowSpace(word);
        if (special != 0) {
          // The lowest mark is exact; higher ones may be false by a borrow.
          at_ += __builtin_ctzll(special) / 8;
          break;
        }
        at_ += 8;
      }
      if (at_ >= end_) return false;
      const unsigned char byte = static_cast<unsigned char>(*at_);
      if (byte == '"') {
        at_++;
        return true;
      }
      if (byte < 0x20) return false;
      if (byte == '\\') {
        if (!SkipEscape()) return false;
      } else {
        at_++;
      }
    }
  }

  bool SkipEscape() {
    if (end_ - at_ < 2) return false;
    const char kind = at_[1];
    at_ += 2;
    if (kind != 'u') return kind != '\0' && strchr("\"\\/bfnrt", kind) != nullptr;
    if (end_ - at_ < 4) return false;
    for (int i = 0; i < 4; i++) {
      if (HexDigit(at_[i]) < 0) return false;
    }
    at_ += 4;
    return true;
  }

  bool SkipValue(int depth) {
    switch (Peek()) {
      case '"': return SkipString();
      case '{':
        return depth > 0 && ReadObject([&](std::string_view) { return SkipValue(depth - 1); });
      case '[': return depth > 0 && ReadArray([&] { return SkipValue(depth - 1); });
      case 't': return SkipWord("true");
      case 'f': return SkipWord("false");
      case 'n': return SkipWord("null");
      default: return SkipNumber();
    }
  }

  bool SkipWord(std::string_view word) {
    return TakeText(word);
  }

  bool SkipDigits() {
    const char* const start = at_;
    while (at_ < end_ && *at_ >= '0' && *at_ <= '9') at_++;
    return at_ > start;
  }

  bool SkipNumber() {
    if (at_ < end_ && *at_ == '-') at_++;
    if (at_ < end_ && *at_ == '0') {
      at_++;
    } else if (!SkipDigits()) {
      return false;
    }
    if (at_ < end_ && *at_ == '.') {
      at_++;
      if (!SkipDigits()) return false;
    }
    if (at_ < end_ && (*at_ == 'e' || *at_ == 'E')) {
      at_++;
      if (at_ < end_ && (*at_ == '+' || *at_ == '-')) at_++;
      if (!SkipDigits()) return false;
    }
    return true;
  }

  static constexpr uint64_t Repeat(char byte) { return 0x0101010101010101u * static_cast<unsigned char>(byte); }
  static uint64_t HasZero(uint64_t word) { return (word - Repeat(1)) & ~word & Repeat('\x80'); }
  static uint64_t HasBelowSpace(uint64_t word) { return (word - Repeat(' ')) & ~word & Repeat('\x80'); }

  const char* at_;
  const char* end_;
};

inline void AppendUtf8(uint32_t rune, std::string* text) {
  if (rune < 0x80) {
    *text += static_cast<char>(rune);
  } else if (rune < 0x800) {
    *text += static_cast<char>(0xc0 | rune >> 6);
    *text += static_cast<char>(0x80 | (rune & 0x3f));
  } else if (rune < 0x10000) {
    *text += static_cast<char>(0xe0 | rune >> 12);
    *text += static_cast<char>(0x80 | (rune >> 6 & 0x3f));
    *text += static_cast<char>(0x80 | (rune & 0x3f));
  } else {
    *text += static_cast<char>(0xf0 | rune >> 18);
    *text += static_cast<char>(0x80 | (rune >> 12 & 0x3f));
    *text += static_cast<char>(0x80 | (rune >> 6 & 0x3f));
    *text += static_cast<char>(0x80 | (rune & 0x3f));
  }
}

inline void JsonReader::Decode(std::string_view raw, std::string* text) {
  text->clear();
  const char* at = raw.data() + 1;
  const char* const end = raw.data() + raw.size() - 1;
  // The reader has checked the escapes, so that only surrogates need a look at the end.
  const auto unit = [](const char* digits) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value = value << 4 | static_cast<uint32_t>(HexDigit(digits[i]));
    return value;
  };
  while (at < end) {
    const char* escape = static_cast<const char*>(memchr(at, '\\', static_cast<size_t>(end - at)));
    text->append(at, escape == nullptr ? end : escape);
    if (escape == nullptr) return;
    at = escape + 2;
    switch (escape[1]) {
      case 'b': *text += '\b'; break;
      case 'f': *text += '\f'; break;
      case 'n': *text += '\n'; break;
      case 'r': *text += '\r'; break;
      case 't': *text += '\t'; break;
      case 'u': {
        uint32_t rune = unit(at);
        at += 4;
        if (rune >= 0xd800 && rune < 0xe000) {
          uint32_t low = 0;
          if (rune < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') low = unit(at + 2);
          if (low >= 0xdc00 && low < 0xe000) {
            rune = 0x10000 + ((rune - 0xd800) << 10) + (low - 0xdc00);
            at += 6;
          } else {
            rune = 0xfffd;
          }
        }
        AppendUtf8(rune, text);
        break;
      }
      default: *text += escape[1];
    }
  }
}

// Text of a raw string: a view of the JSON itself if nothing in it is escaped. Empty and false if it is no string.
class JsonText {
 public:
  explicit JsonText(std::string_view raw) {
    if (raw.size() < 2 || raw.front() != '"') return;
    good_ = true;
    view_ = raw.substr(1, raw.size() - 2);
    if (memchr(view_.data(), '\\', view_.size()) == nullptr) return;
    JsonReader::Decode(raw, &decoded_);
    view_ = decoded_;
  }
  JsonText(const JsonText&) = delete;
  JsonText& operator=(const JsonText&) = delete;
  explicit operator bool() const { return good_; }
  std::string_view view() const { return view_; }
  // Does the view outlive this?
  bool in_place() const { return view_.data() != decoded_.data(); }

 private:
  bool good_ = false;
  std::string_view view_;
  std::string decoded_;
};

}  // namespace daybook
