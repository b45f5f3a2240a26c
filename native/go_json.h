// Values as Go's encoding/json writes them, byte for byte: a tree's id is the hash of this text, so restic finds its own trees again only if nothing differs.
// Pure; any thread.
#pragma once
#include <time.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "go_printable.h"

namespace daybook {

// The rune at the front of `bytes`, and how many bytes it takes; 0xfffd and 1 where they are not UTF-8, as Go's utf8.DecodeRune.
struct Rune {
  uint32_t value;
  size_t length;
  bool valid() const { return value != 0xfffd || length == 3; }
};

inline Rune DecodeRune(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t first = at(0);
  if (first < 0x80) return {first, 1};
  const size_t length = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  if (length == 0 || bytes.size() < length) return {0xfffd, 1};
  uint32_t value = first & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; i++) {
    if ((at(i) & 0xc0) != 0x80) return {0xfffd, 1};
    value = value << 6 | (at(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  if (overlong || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return {0xfffd, 1};
  return {value, length};
}

inline bool IsUtf8(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const Rune rune = DecodeRune(bytes.substr(at));
    if (!rune.valid()) return false;
    at += rune.length;
  }
  return true;
}

inline void AppendHex(uint32_t value, int digits, std::string* out) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) *out += "0123456789abcdef"[value >> shift & 15];
}

// strconv.Quote without the quotes.
inline void AppendQuoted(std::string_view name, std::string* out) {
  for (size_t at = 0; at < name.size();) {
    const Rune rune = DecodeRune(name.substr(at));
    const std::string_view bytes = name.substr(at, rune.length);
    at += rune.length;
    if (!rune.valid()) {
      *out += "\\x";
      AppendHex(static_cast<uint8_t>(bytes[0]), 2, out);
      continue;
    }
    switch (rune.value) {
      case '"': case '\\': *out += '\\'; *out += bytes; continue;
      case '\a': *out += "\\a"; continue;
      case '\b': *out += "\\b"; continue;
      case '\f': *out += "\\f"; continue;
      case '\n': *out += "\\n"; continue;
      case '\r': *out += "\\r"; continue;
      case '\t': *out += "\\t"; continue;
      case '\v': *out += "\\v"; continue;
      default: break;
    }
    if (IsGoPrintable(rune.value)) {
      *out += bytes;
    } else if (rune.value < ' ' || rune.value == 0x7f) {
      *out += "\\x";
      AppendHex(rune.value, 2, out);
    } else if (rune.value < 0x10000) {
      *out += "\\u";
      AppendHex(rune.value, 4, out);
    } else {
      *out += "\\U";
      AppendHex(rune.value, 8, out);
    }
  }
}

// A string, as json.Marshal writes it: with HTML's own characters escaped, and U+FFFD for what is not UTF-8.
inline void AppendJsonString(std::string_view text, std::string* out) {
  *out += '"';
  for (size_t at = 0; at < text.size();) {
    const Rune rune = DecodeRune(text.substr(at));
    const std::string_view bytes = text.substr(at, rune.length);
    at += rune.length;
    if (!rune.valid()) {
      *out += "\\ufffd";
      continue;
    }
    switch (rune.value) {
      case '"': *out += "\\\""; continue;
      case '\\': *out += "\\\\"; continue;
      case '\b': *out += "\\b"; continue;
      case '\f': *out += "\\f"; continue;
      case '\n': *out += "\\n"; continue;
      case '\r': *out += "\\r"; continue;
      case '\t': *out += "\\t"; continue;
      default: break;
    }
    const bool html = rune.value == '<' || rune.value == '>' || rune.value == '&';
    if (rune.value < ' ' || html || rune.value == 0x2028 || rune.value == 0x2029) {
      *out += "\\u";
      AppendHex(rune.value, 4, out);
    } else {
      *out += bytes;
    }
  }
  *out += '"';
}

// []byte: standard base64 with padding.
inline void AppendBase64(std::string_view bytes, std::string* out) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  *out += '"';
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const size_t left = bytes.size() - at;
    const auto byte = [&](size_t i) { return i < left ? static_cast<uint32_t>(static_cast<uint8_t>(bytes[at + i])) : 0u; };
    const uint32_t bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    for (size_t digit = 0; digit < 4; digit++) *out += digit <= left ? kDigits[bits >> (18 - 6 * digit) & 63] : '=';
  }
  *out += '"';
}

inline void AppendId(const uint8_t* id, std::string* out) {
  *out += '"';
  for (size_t i = 0; i < 32; i++) {
    *out += "0123456789abcdef"[id[i] >> 4];
    *out += "0123456789abcdef"[id[i] & 15];
  }
  *out += '"';
}

// time.Time in the zone of this process (RFC 3339, no more digits of a second than needed). Years that JSON cannot hold become 0 or 9999, as restic has it.
inline void AppendTime(int64_t seconds, uint32_t nanoseconds, std::string* out) {
  const time_t moment = seconds;
  struct tm local;
  if (localtime_r(&moment, &local) == nullptr) local = {};
  int64_t year = int64_t{local.tm_year} + 1900;
  if (year < 0 || year > 9999) {
    year = year < 0 ? 0 : 9999;
    local.tm_year = static_cast<int>(year - 1900);
    // Go adds years to the date, so 29 February becomes 1 March in a common year.
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (local.tm_mon == 1 && local.tm_mday == 29 && !leap) local.tm_mon = 2, local.tm_mday = 1;
  }
  const auto digits = [&](int64_t value, int count) {
    char text[20];
    for (int i = count - 1; i >= 0; i--, value /= 10) text[i] = static_cast<char>('0' + value % 10);
    out->append(text, static_cast<size_t>(count));
  };
  *out += '"';
  digits(year, 4), *out += '-', digits(local.tm_mon + 1, 2), *out += '-', digits(local.tm_mday, 2), *out += 'T';
  digits(local.tm_hour, 2), *out += ':', digits(local.tm_min, 2), *out += ':', digits(local.tm_sec, 2);
  if (nanoseconds > 0) {
    int count = 9;
    while (nanoseconds % 10 == 0) nanoseconds /= 10, count--;
    *out += '.';
    digits(nanoseconds, count);
  }
  long zone = local.tm_gmtoff / 60;
  if (zone == 0) {
    // Go tells UTC from others by the offset in seconds: a part of a minute is a zone of its own.
    if (local.tm_gmtoff == 0) *out += 'Z';
    else *out += "+00:00";
  } else {
    *out += zone < 0 ? '-' : '+';
    if (zone < 0) zone = -zone;
    digits(zone / 60, 2), *out += ':', digits(zone % 60, 2);
  }
  *out += '"';
}

}  // namespace daybook
