// Plaintext -> the stored form of a blob, the inverse of blob_codec.h.
#pragma once
#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "blob.h"

namespace daybook {

constexpr int kStorePlain = -1000;

// Any thread. `level` of zstd, or kStorePlain. With `verify` the result is decoded again and compared with `id` before it is given out: memory and
// processors fail, too. Null if that, the random generator or the compressor fails.
std::shared_ptr<Chunk> EncodeBlob(const uint8_t* keys, const uint8_t* plain, size_t length, const uint8_t* id, int level, bool verify);

// JS thread.
void RegisterBlobEncoder(Napi::Env env, Napi::Object exports);

}  // namespace daybook
