// A tree's JSON -> rows, without a copy of the JSON in the JavaScript heap.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "tree_rows.h"

namespace daybook {

struct FreeMemory {
  void operator()(uint8_t* data) const { free(data); }
};
struct RowsBuffer {
  std::unique_ptr<uint8_t, FreeMemory> data;
  size_t size = 0;
};

enum class TreeResult { kOk, kTree, kMemory };

// Any thread. `id`: the tree's id, 32 bytes, which numbers nodes that have no inode number. Rows are sealed.
// kTree only if the JSON is not an object with an array "nodes"; a bad node is left out and counted.
TreeResult TreeToRows(const uint8_t* id, const uint8_t* json, size_t length, RowsBuffer* rows);

// Any thread. The ino that rows give a node with an inode number (src/format/tree-rows.ts); of `record`, the size and the times of change count.
// `content`: ids of a file, nothing for others.
uint64_t InoOfNode(uint64_t device, uint64_t inode, uint32_t format, const Record& record, const uint8_t* content, size_t length);

}  // namespace daybook
