// Content-defined chunking as restic's (github.com/restic/chunker): where a Rabin fingerprint of the last 64 bytes ends in 20 zero bits, a chunk ends.
#pragma once
#include <napi.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace daybook {

class Chunker {
 public:
  static constexpr size_t kWindow = 64;
  static constexpr size_t kMinLength = 512 << 10;
  static constexpr size_t kMaxLength = 8 << 20;

  // Nothing unless the polynomial's degree is 8 to 53.
  static std::optional<Chunker> Make(uint64_t polynomial);

  // Any thread. Length of the chunk at the front of `data`; 0 if none ends within `length` bytes.
  // `searched`: of these bytes at the front it is known that none ends there (they were given to an earlier call).
  size_t Cut(const uint8_t* data, size_t length, size_t searched = 0) const;

 private:
  Chunker() = default;
  size_t FirstHit(const uint8_t* data, size_t from, size_t to) const;

  int shift_ = 0;
  std::array<uint64_t, 256> out_{};
  std::array<uint64_t, 256> mod_{};
};

// The Chunker in a JavaScript object made with new native.Chunker(polynomial). JS thread; throws TypeError if it is none.
std::shared_ptr<const Chunker> ChunkerOf(const Napi::Value& value);

void RegisterChunker(Napi::Env env, Napi::Object exports);

}  // namespace daybook
