// An index file's JSON -> records, without a copy of the JSON in the JavaScript heap.
#pragma once
#include <napi.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "tree_rows.h"

namespace daybook {

// One blob; layout shared with src/format/index-file.ts.
struct IndexRecord {
  uint8_t id[kIdLength];
  uint32_t pack;  // ordinal in IndexRecords::packs
  uint32_t type;  // 0 data, 1 tree
  uint32_t length;
  uint32_t plain_length;
  double offset;
};
static_assert(sizeof(IndexRecord) == 56);

struct IndexRecords {
  std::vector<std::array<uint8_t, kIdLength>> packs;  // in the order of the file
  std::vector<uint8_t> to_delete;                     // one per pack
  std::vector<IndexRecord> blobs;                     // trees, then data; each by id, then in the order of the file
  size_t trees = 0;
  size_t skipped = 0;
};

// Any thread. Nothing if it is not the JSON of an index file; `fault` is then the byte at which it stops to be. Throws std::bad_alloc.
std::optional<IndexRecords> DecodeIndex(const uint8_t* json, size_t length, size_t* fault);

// JS thread.
void RegisterIndexJson(Napi::Env env, Napi::Object exports);

}  // namespace daybook
