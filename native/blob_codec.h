// restic's stored form of bytes: IV (16) | AES-256-CTR ciphertext | Poly1305-AES MAC (16), inside of it zstd or not, named by SHA-256.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "blob.h"

namespace daybook {

// Numbers shared with DecodeError in src/native.ts; 0 is success.
enum class DecodeError : uint32_t { kNone = 0, kMac = 1, kZstd = 2, kHash = 3, kRange = 4, kTree = 5, kMemory = 6 };

constexpr size_t kKeysLength = 64;    // AES-256 key (32), Poly1305 k (16), Poly1305 r (16)
constexpr size_t kCryptoOverhead = 32;  // IV and MAC
constexpr uint32_t kMaxPlainLength = 256u << 20;

// Any thread. `stored` with IV and MAC; `plain_length` 0 if not compressed; `id` 32 bytes.
DecodeError DecodeBlob(const uint8_t* keys, const uint8_t* stored, size_t length, uint32_t plain_length, const uint8_t* id,
                       std::shared_ptr<Chunk>* plain);

// Any thread. As the native decryptFile: with `zstd`, a plaintext that begins with 0x02 is a zstd frame behind that byte.
DecodeError DecryptFile(const uint8_t* keys, const uint8_t* stored, size_t length, bool zstd, size_t max_length,
                        std::shared_ptr<Chunk>* plain);

// Any thread. `stored` has room for length + kCryptoOverhead. False if the random generator fails.
bool Encrypt(const uint8_t* keys, const uint8_t* plain, size_t length, uint8_t* stored);

// JS thread.
void RegisterBlobCodec(Napi::Env env, Napi::Object exports);

}  // namespace daybook
