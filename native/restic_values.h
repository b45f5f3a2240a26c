// How restic (that is, Go's standard library) writes names, times, ids, bytes and numbers as JSON text. Pure; any thread.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "json_reader.h"

namespace daybook {

// Names are written by Go's strconv.Quote without the quotes around them. False, with `name` undefined, where that is not what `quoted` is.
inline bool Unquote(std::string_view quoted, std::string* name) {
  name->clear();
  size_t at = 0;
  const auto number = [&](size_t digits, int base, uint32_t* value) {
    *value = 0;
    if (quoted.size() - at < digits) return false;
    for (size_t i = 0; i < digits; i++) {
      const int digit = JsonReader::HexDigit(quoted[at++]);
      if (digit < 0 || digit >= base) return false;
      *value = *value * static_cast<uint32_t>(base) + static_cast<uint32_t>(digit);
    }
    return true;
  };
  while (at < quoted.size()) {
    const char byte = quoted[at++];
    if (byte == '"' || byte == '\n') return false;
    if (byte != '\\') {
      *name += byte;
      continue;
    }
    if (at == quoted.size()) return false;
    const char kind = quoted[at++];
    uint32_t value = 0;
    switch (kind) {
      case 'a': *name += '\a'; break;
      case 'b': *name += '\b'; break;
      case 'f': *name += '\f'; break;
      case 'n': *name += '\n'; break;
      case 'r': *name += '\r'; break;
      case 't': *name += '\t'; break;
      case 'v': *name += '\v'; break;
      case '\\': case '\'': case '"': *name += kind; break;
      case 'x':
        if (!number(2, 16, &value)) return false;
        *name += static_cast<char>(value);
        break;
      case 'u': case 'U':
        if (!number(kind == 'u' ? 4 : 8, 16, &value)) return false;
        if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return false;
        AppendUtf8(value, name);
        break;
      default:
        at--;
        if (!number(3, 8, &value) || value > 255) return false;
        *name += static_cast<char>(value);
    }
  }
  return true;
}

// Standard alphabet with padding; line breaks are passed over, as Go does.
inline bool DecodeBase64(std::string_view text, std::vector<uint8_t>* bytes) {
  uint32_t bits = 0;
  size_t digits = 0;
  size_t padding = 0;
  for (const char byte : text) {
    if (byte == '\n' || byte == '\r') continue;
    if (byte == '=') {
      if (++padding > 2 || (digits + padding) % 4 == 1 || digits % 4 < 2) return false;
      continue;
    }
    uint32_t value;
    if (byte >= 'A' && byte <= 'Z') {
      value = static_cast<uint32_t>(byte - 'A');
    } else if (byte >= 'a' && byte <= 'z') {
      value = static_cast<uint32_t>(byte - 'a' + 26);
    } else if (byte >= '0' && byte <= '9') {
      value = static_cast<uint32_t>(byte - '0' + 52);
    } else if (byte == '+') {
      value = 62;
    } else if (byte == '/') {
      value = 63;
    } else {
      return false;
    }
    if (padding > 0) return false;
    bits = bits << 6 | value;
    if (digits++ % 4 != 0) bytes->push_back(static_cast<uint8_t>(bits >> (6 - 2 * ((digits - 1) % 4))));
  }
  return (digits + padding) % 4 == 0;
}

// 64 hexadecimal digits, eight at a time: ids are the greater part of index files and of the trees of big files. False, with `id` undefined, for others.
inline bool DecodeId(std::string_view hex, uint8_t* id) {
  if (hex.size() != 64) return false;
  constexpr uint64_t kOnes = 0x0101010101010101, kHigh = 0x80 * kOnes;
  // The high bit of each byte: is it at least `least`? For bytes below 0x80.
  const auto from = [](uint64_t bytes, uint64_t least) { return bytes + (0x80 - least) * kOnes; };
  uint64_t bad = 0;
  for (size_t i = 0; i < 8; i++) {
    uint64_t text;
    memcpy(&text, hex.data() + 8 * i, 8);
    const uint64_t lower = text | 0x20 * kOnes;
    const uint64_t digit = from(text, '0') & ~from(text, '9' + 1);
    const uint64_t letter = from(lower, 'a') & ~from(lower, 'f' + 1) & kHigh;
    bad |= (text | ~(digit | letter)) & kHigh;
    uint64_t value = (text & 0x0f * kOnes) + 9 * (letter >> 7);
    // Two digits to a byte, then every second byte to the front; the first digit is in the lowest byte.
    value = (value << 4 | value >> 8) & 0x00ff00ff00ff00ff;
    value = (value | value >> 8) & 0x0000ffff0000ffff;
    const uint32_t bytes = static_cast<uint32_t>(value | value >> 16);
    memcpy(id + 4 * i, &bytes, 4);
  }
  return bad == 0;
}

// An unsigned integer below 2^64 and nothing else.
inline bool DecodeUnsigned(std::string_view raw, uint64_t* value) {
  uint64_t result = 0;
  if (raw.empty() || raw.size() > 20) return false;
  for (const char byte : raw) {
    if (byte < '0' || byte > '9') return false;
    const bool overflows = __builtin_mul_overflow(result, uint64_t{10}, &result) || __builtin_add_overflow(result, static_cast<uint64_t>(byte - '0'), &result);
    if (overflows) return false;
  }
  *value = result;
  return true;
}

struct Time {
  int64_t seconds = 0;  // since 1970, rounded down
  uint32_t nanoseconds = 0;
};

// RFC 3339 with any number of digits of a second, years 0000 to 9999. Days before 1970 have negative seconds and positive nanoseconds.
inline bool DecodeTime(std::string_view text, Time* time) {
  bool good = true;
  const auto digits = [&](size_t at, size_t count) {
    int value = 0;
    for (size_t i = at; i < at + count; i++) {
      const int digit = i < text.size() ? text[i] - '0' : -1;
      if (digit < 0 || digit > 9) {
        good = false;
        return 0;
      }
      value = value * 10 + digit;
    }
    return value;
  };
  const auto mark = [&](size_t at, char expected) {
    if (at >= text.size() || text[at] != expected) good = false;
  };
  const int year = digits(0, 4), month = digits(5, 2), day = digits(8, 2);
  const int hour = digits(11, 2), minute = digits(14, 2), second = digits(17, 2);
  mark(4, '-'), mark(7, '-'), mark(10, 'T'), mark(13, ':'), mark(16, ':');
  if (!good || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59) return false;
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  if (day < 1 || day > kDays[month - 1] + (month == 2 && leap ? 1 : 0)) return false;

  size_t at = 19;
  uint32_t nanoseconds = 0;
  if (at < text.size() && text[at] == '.') {
    uint32_t unit = 100000000;
    const size_t start = ++at;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; at++, unit /= 10) nanoseconds += unit * static_cast<uint32_t>(text[at] - '0');
    if (at == start) return false;
  }
  int64_t offset = 0;
  if (at + 1 == text.size() && text[at] == 'Z') {
    // UTC
  } else if (at + 6 == text.size() && (text[at] == '+' || text[at] == '-')) {
    const int hours = digits(at + 1, 2), minutes = digits(at + 4, 2);
    mark(at + 3, ':');
    if (!good || hours > 24 || minutes > 59) return false;
    offset = (hours * 60 + minutes) * 60 * (text[at] == '-' ? -1 : 1);
  } else {
    return false;
  }

  // Days since 1970-01-01 with the year beginning in March, so that the leap day comes last.
  const int64_t shifted = year - (month <= 2 ? 1 : 0) + 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  const int64_t days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719468 - 146097;
  time->seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset;
  time->nanoseconds = nanoseconds;
  return true;
}

// Go's FileMode has its own places for the set-id and sticky bits.
inline uint32_t PermissionsOfGoMode(uint32_t mode) {
  return (mode & 0777) | (mode & 1u << 23 ? 04000 : 0) | (mode & 1u << 22 ? 02000 : 0) | (mode & 1u << 20 ? 01000 : 0);
}

// st_rdev as glibc's makedev() makes it, 12 + 20 bits of major and 24 + 8 of minor, to the kernel's 32 bits with 12 of major and 20 of minor.
// False if it does not fit.
inline bool EncodeDevice(uint64_t device, uint32_t* encoded) {
  const uint32_t major = static_cast<uint32_t>((device >> 8 & 0xfff) | (device >> 32 & 0xfffff000));
  const uint32_t minor = static_cast<uint32_t>((device & 0xff) | (device >> 12 & 0xffffff00));
  *encoded = (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xfff00) << 12;
  return major <= 0xfff && minor <= 0xfffff;
}

}  // namespace daybook
