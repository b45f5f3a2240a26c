#include "tree_rows.h"

#include <napi.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "js_bytes.h"
#include "tree_json.h"

namespace daybook {
namespace {

constexpr size_t kHashedFrom = 16;
// Odd, with as many ones as zeros, from the digits of sqrt(2), sqrt(3), sqrt(5), sqrt(7).
constexpr uint64_t kLane[4] = {0x6a09e667f3bcc909, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1};
constexpr uint64_t kFinish = 0x9b05688c2b3e6c1f;

template <typename T>
T Load(const void* from) {
  T value;
  memcpy(&value, from, sizeof value);
  return value;
}

// For a given word a bijection of the lane, and the other way round: no single change is ever lost.
uint64_t Step(uint64_t lane, uint64_t word, uint64_t multiplier) { return std::rotl(lane ^ word, 29) * multiplier; }

uint64_t Avalanche(uint64_t value) {
  value = (value ^ value >> 32) * kFinish;
  value = (value ^ value >> 29) * kLane[0];
  return value ^ value >> 32;
}

}  // namespace

std::optional<RowsView> RowsView::Parse(const void* data, size_t size) {
  if (size < kRowsHeader) return std::nullopt;
  const auto header = Load<RowsHeader>(data);
  if (header.magic != kRowsMagic || header.total != size) return std::nullopt;
  if (header.count > (size - kRowsHeader) / kRowsRecord || header.directories > header.count) return std::nullopt;
  if (header.replacement > size - kIdLength) return std::nullopt;
  return RowsView(static_cast<const uint8_t*>(data), header);
}

Record RowsView::At(uint32_t position) const {
  if (position >= header_.count) return Record{};
  return Load<Record>(data_ + kRowsHeader + size_t{position} * kRowsRecord);
}

std::string_view RowsView::Slice(uint64_t offset, uint64_t length) const {
  if (offset > header_.total || length > header_.total - offset) return {};
  return {reinterpret_cast<const char*>(data_) + offset, length};
}

std::string_view RowsView::Target(const Record& record) const {
  return record.flags & kRowSymlink ? Slice(record.data_offset, record.data_count) : std::string_view();
}

std::string_view RowsView::Subtree(const Record& record) const {
  return record.IsDirectory() && record.data_count == 1 ? Slice(record.data_offset, kIdLength) : std::string_view();
}

std::string_view RowsView::Content(const Record& record) const {
  return record.flags & kRowRegular ? Slice(record.data_offset, uint64_t{record.data_count} * kIdLength) : std::string_view();
}

int64_t RowsView::Find(std::string_view name) const {
  uint32_t low = 0;
  uint32_t high = header_.count;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const int order = Name(middle).compare(name);
    if (order == 0) return middle;
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return -1;
}

bool RowsView::ChecksumFits() const { return HashRows(data_, header_.total) == header_.checksum; }

uint64_t HashRows(const void* rows, size_t size) {
  if (size <= kHashedFrom) return 0;
  const uint8_t* at = static_cast<const uint8_t*>(rows) + kHashedFrom;
  const uint8_t* const end = static_cast<const uint8_t*>(rows) + size;
  uint64_t lanes[4] = {kLane[3], kLane[2], kLane[1], kLane[0]};
  for (; end - at >= 32; at += 32) {
    for (int i = 0; i < 4; i++) lanes[i] = Step(lanes[i], Load<uint64_t>(at + 8 * i), kLane[i]);
  }
  uint64_t hash = size;
  for (int i = 0; i < 4; i++) hash = Step(hash, Avalanche(lanes[i]), kLane[i]);
  for (; end - at >= 8; at += 8) hash = Step(hash, Load<uint64_t>(at), kLane[1]);
  for (; at < end; at++) hash = Step(hash, *at, kLane[2]);
  return Avalanche(hash);
}

void SealRows(void* rows, size_t size) {
  const uint32_t words[2] = {kRowsMagic, static_cast<uint32_t>(size)};
  memcpy(rows, words, sizeof words);
  const uint64_t checksum = HashRows(rows, size);
  memcpy(static_cast<uint8_t*>(rows) + 8, &checksum, sizeof checksum);
}

void FillStat(const Record& record, struct stat* stat, const Owner* owner) {
  memset(stat, 0, sizeof *stat);
  stat->st_ino = record.ino;
  stat->st_mode = record.mode;
  stat->st_nlink = record.nlink;
  stat->st_uid = owner != nullptr ? owner->uid : record.uid;
  stat->st_gid = owner != nullptr ? owner->gid : record.gid;
  stat->st_rdev = record.rdev;
  // The kernel refuses a whole listing for one size above LLONG_MAX.
  stat->st_size = static_cast<off_t>(std::min<uint64_t>(record.size, INT64_MAX));
  stat->st_blksize = 4096;
  stat->st_blocks = static_cast<blkcnt_t>(std::min<uint64_t>(record.blocks, INT64_MAX));
  stat->st_atim = {record.atime, static_cast<long>(std::min(record.atime_ns, 999999999u))};
  stat->st_mtim = {record.mtime, static_cast<long>(std::min(record.mtime_ns, 999999999u))};
  stat->st_ctim = {record.ctime, static_cast<long>(std::min(record.ctime_ns, 999999999u))};
}

uint64_t DirectoryIno(uint64_t parent, uint32_t position) {
  const uint64_t above = Avalanche(Step(kFinish, parent, kLane[2])) >> 20;
  return std::max<uint64_t>(above, 1) << 20 | (position & 0xfffff);
}

namespace {

Napi::Value JsTreeToRows(const Napi::CallbackInfo& info) {
  const JsBytes id = BytesOf(info[0], "id");
  const JsBytes json = BytesOf(info[1], "json");
  if (id.size != kIdLength) throw Napi::TypeError::New(info.Env(), "a tree id has 32 bytes");
  RowsBuffer rows;
  switch (TreeToRows(id.data, json.data, json.size, &rows)) {
    case TreeResult::kTree: return Napi::Number::New(info.Env(), 5);
    case TreeResult::kMemory: return Napi::Number::New(info.Env(), 6);
    case TreeResult::kOk: break;
  }
  return Napi::Buffer<uint8_t>::Copy(info.Env(), rows.data.get(), rows.size);
}

Napi::Value VerifyRows(const Napi::CallbackInfo& info) {
  const JsBytes rows = BytesOf(info[0], "rows");
  const auto view = RowsView::Parse(rows.data, rows.size);
  return Napi::Boolean::New(info.Env(), view && view->ChecksumFits());
}

void JsSealRows(const Napi::CallbackInfo& info) {
  const JsBytes rows = BytesOf(info[0], "rows");
  if (rows.size < kRowsHeader || rows.size > UINT32_MAX) throw Napi::RangeError::New(info.Env(), "not the length of rows");
  SealRows(rows.data, rows.size);
}

Napi::Value FindRow(const Napi::CallbackInfo& info) {
  const JsBytes rows = BytesOf(info[0], "rows");
  const JsBytes name = BytesOf(info[1], "name");
  const auto view = RowsView::Parse(rows.data, rows.size);
  const int64_t position = view ? view->Find({reinterpret_cast<const char*>(name.data), name.size}) : -1;
  return Napi::Number::New(info.Env(), static_cast<double>(position));
}

Napi::Value JsDirectoryIno(const Napi::CallbackInfo& info) {
  if (!info[0].IsBigInt() || !info[1].IsNumber()) throw Napi::TypeError::New(info.Env(), "expected a bigint and a number");
  bool lossless = false;
  const uint64_t parent = info[0].As<Napi::BigInt>().Uint64Value(&lossless);
  return Napi::BigInt::New(info.Env(), DirectoryIno(parent, info[1].As<Napi::Number>().Uint32Value()));
}

}  // namespace

void RegisterTreeRows(Napi::Env env, Napi::Object exports) {
  exports.Set("treeToRows", Napi::Function::New(env, JsTreeToRows, "treeToRows"));
  exports.Set("verifyRows", Napi::Function::New(env, VerifyRows, "verifyRows"));
  exports.Set("sealRows", Napi::Function::New(env, JsSealRows, "sealRows"));
  exports.Set("findRow", Napi::Function::New(env, FindRow, "findRow"));
  exports.Set("directoryIno", Napi::Function::New(env, JsDirectoryIno, "directoryIno"));
}

}  // namespace daybook
