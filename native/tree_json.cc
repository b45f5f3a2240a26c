// The OpenSSL of Node's binary: the one-shot SHA-256 of OpenSSL 3 looks its algorithm up in each call, which costs more than the hash of a node.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "tree_json.h"

#include <openssl/sha.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string>
#include <unordered_set>
#include <vector>

#include "json_reader.h"
#include "restic_values.h"
#include "tree_rows.h"

namespace daybook {
namespace {

constexpr size_t kMaxJson = 256u << 20;
constexpr size_t kMaxRows = 1u << 30;
constexpr size_t kMaxCount = 1u << 24;  // positions have 24 bits in a node id
constexpr size_t kMaxName = 255;
constexpr size_t kMaxTarget = 4095;     // PATH_MAX without its NUL
constexpr size_t kMaxXattrValue = 65536;
constexpr size_t kMaxXattrNames = 65536;
constexpr uint32_t kNobody = 65534;
constexpr size_t kZeroChunk = 512 << 10;  // restic's chunker cuts runs of zeros at its smallest size, 512 KiB

using Id = std::array<uint8_t, kIdLength>;
using Text = JsonText;

enum Field {
  kName, kType, kMode, kMtime, kAtime, kCtime, kUid, kGid, kInode, kDeviceId, kSize, kLinks, kLinkTarget, kLinkTargetRaw, kXattrs, kDevice, kContent,
  kSubtree, kError, kFields
};

Field FieldOfKey(std::string_view key) {
  const auto is = [key](std::string_view name, Field field) { return key == name ? field : kFields; };
  switch (key.size()) {
    case 3: return key == "uid" ? kUid : is("gid", kGid);
    case 4: return key == "name" ? kName : key == "type" ? kType : key == "mode" ? kMode : is("size", kSize);
    case 5:
      if (key == "mtime") return kMtime;
      if (key == "atime") return kAtime;
      if (key == "ctime") return kCtime;
      return key == "inode" ? kInode : key == "links" ? kLinks : is("error", kError);
    case 6: return is("device", kDevice);
    case 7: return key == "content" ? kContent : is("subtree", kSubtree);
    case 9: return is("device_id", kDeviceId);
    case 10: return is("linktarget", kLinkTarget);
    case 14: return is("linktarget_raw", kLinkTargetRaw);
    case 19: return is("extended_attributes", kXattrs);
    default: return kFields;
  }
}

uint32_t FormatOfType(std::string_view type) {
  if (type == "file") return S_IFREG;
  if (type == "dir") return S_IFDIR;
  if (type == "symlink") return S_IFLNK;
  if (type == "dev") return S_IFBLK;
  if (type == "chardev") return S_IFCHR;
  if (type == "fifo") return S_IFIFO;
  if (type == "socket") return S_IFSOCK;
  return 0;
}

const Id& IdOfZeroChunk() {
  static const Id id = [] {
    Id zero;
    const std::vector<uint8_t> chunk(kZeroChunk);
    SHA256(chunk.data(), chunk.size(), zero.data());
    return zero;
  }();
  return id;
}

bool ReadId(std::string_view raw, Id* id) { return raw.size() == 66 && raw.front() == '"' && DecodeId(raw.substr(1, 64), id->data()); }

template <typename T>
void Put(uint8_t** at, T value) {
  memcpy(*at, &value, sizeof value);
  *at += sizeof value;
}

uint64_t InoOfDigest(SHA256_CTX* sha) {
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256_Final(digest, sha);
  uint64_t ino;
  memcpy(&ino, digest, sizeof ino);
  return ino < 2 ? ino + 2 : ino;
}

}  // namespace

uint64_t InoOfNode(uint64_t device, uint64_t inode, uint32_t format, const Record& record, const uint8_t* content, size_t length) {
  SHA256_CTX sha;
  SHA256_Init(&sha);
  uint8_t fixed[49];
  uint8_t* at = fixed;
  Put(&at, device);
  Put(&at, inode);
  Put(&at, static_cast<uint8_t>(format >> 12));
  Put(&at, record.mtime);
  Put(&at, record.mtime_ns);
  Put(&at, record.ctime);
  Put(&at, record.ctime_ns);
  Put(&at, record.size);
  SHA256_Update(&sha, fixed, sizeof fixed);
  if (length > 0) SHA256_Update(&sha, content, length);
  return InoOfDigest(&sha);
}

namespace {

// One parse. Offsets in records count from the start of the heap until Finish() knows where it lies.
class TreeBuilder {
 public:
  TreeBuilder(const uint8_t* id, size_t json_length) : tree_id_(id) {
    // Nodes have 300 to 500 bytes, names and ids a sixth of them. What is not used of a big reserve is never touched.
    records_.reserve(json_length / 300 + 1);
    heap_.reserve(json_length / 5 + 256);
  }

  bool ReadTree(JsonReader* json) {
    bool found = false;
    const bool whole = json->ReadObject([&](std::string_view raw) {
      if (Text(raw).view() != "nodes") return json->ReadValue(&raw);
      Reset();
      found = json->Peek() == '[';
      if (found) return json->ReadArray([&] { return ReadNode(json); });
      const bool read = json->ReadValue(&raw);
      found = raw == "null";
      return read;
    });
    return whole && found && json->AtEnd();
  }

  bool too_big() const { return too_big_; }
  bool Finish(RowsBuffer* rows);

 private:
  bool Absent(Field field) const { return fields_[field].empty() || fields_[field] == "null"; }

  void Reset() {
    records_.clear();
    heap_.clear();
    skipped_ = 0;
    flags_ = 0;
    replacement_.reset();
  }

  bool ReadNode(JsonReader* json) {
    std::string_view raw;
    if (json->Peek() != '{') {
      if (!json->ReadValue(&raw)) return false;
      skipped_++;
      return true;
    }
    fields_.fill({});
    const bool read = json->ReadObject([&](std::string_view key) {
      Field field = FieldOfKey(key.substr(1, key.size() - 2));
      if (field == kFields && key.find('\\') != std::string_view::npos) field = FieldOfKey(Text(key).view());
      return json->ReadValue(field == kFields ? &raw : &fields_[field]);
    });
    if (!read) return false;
    AddNode();
    if (records_.size() >= kMaxCount || heap_.size() + records_.size() * kRowsRecord > kMaxRows) too_big_ = true;
    return !too_big_;
  }

  // A node that cannot be shown leaves nothing behind but its count.
  void AddNode() {
    const size_t mark = heap_.size();
    record_ = Record{};
    record_.ordinal = kNoOrdinal;
    record_flags_ = 0;
    if (TakeName() && TakeType()) {
      TakeAttributes();
      if (TakeData()) {
        TakeXattrs();
        NumberNode();
        record_.flags |= record_flags_;
        records_.push_back(record_);
        return;
      }
    }
    heap_.resize(mark);
    if (replaced_) {
      replaced_ = false;
    } else {
      skipped_++;
    }
  }

  bool TakeName() {
    const Text quoted(fields_[kName]);
    if (!quoted) return false;
    name_ = quoted.view();
    // Most names are written as they are.
    if (name_.find_first_of("\\\"\n") != std::string_view::npos && Unquote(name_, &unquoted_)) {
      name_ = unquoted_;
    } else if (!quoted.in_place()) {
      unquoted_.assign(name_);
      name_ = unquoted_;
    }
    if (name_ == "." || name_ == "/") {
      TakeReplacement();
      return false;
    }
    if (name_.empty() || name_.size() > kMaxName || name_ == "..") return false;
    if (memchr(name_.data(), '/', name_.size()) != nullptr || memchr(name_.data(), '\0', name_.size()) != nullptr) return false;
    record_.name_offset = static_cast<uint32_t>(heap_.size());
    record_.name_length = static_cast<uint16_t>(name_.size());
    heap_.insert(heap_.end(), name_.begin(), name_.end());
    return true;
  }

  // Old versions of restic stored a directory given as "." or "/" as a node of that name, whose content is what was meant.
  void TakeReplacement() {
    Id id;
    if (Text(fields_[kType]).view() != "dir" || !ReadId(fields_[kSubtree], &id)) return;
    replaced_ = true;
    if (!replacement_) replacement_ = std::make_unique<Id>(id);
  }

  bool TakeType() {
    format_ = FormatOfType(Text(fields_[kType]).view());
    if (format_ == 0) return false;
    if (format_ == S_IFDIR) record_.flags |= kRowDirectory;
    if (format_ == S_IFREG) record_.flags |= kRowRegular;
    if (format_ == S_IFLNK) record_.flags |= kRowSymlink;
    return true;
  }

  // A number below `limit`; what is absent is 0, what is no such number is repaired to `repaired`.
  uint64_t Number(Field field, uint64_t limit, uint64_t repaired) {
    if (Absent(field)) return 0;
    uint64_t value = 0;
    if (DecodeUnsigned(fields_[field], &value) && value <= limit) return value;
    record_flags_ |= kRowDamaged;
    return repaired;
  }

  Time TimeOf(Field field) {
    Time time;
    if (Absent(field)) return time;
    const Text text(fields_[field]);
    if (!text || !DecodeTime(text.view(), &time)) {
      record_flags_ |= kRowDamaged;
      return Time();
    }
    return time;
  }

  void TakeAttributes() {
    const Time mtime = TimeOf(kMtime), atime = TimeOf(kAtime), ctime = TimeOf(kCtime);
    record_.mtime = mtime.seconds, record_.mtime_ns = mtime.nanoseconds;
    record_.atime = atime.seconds, record_.atime_ns = atime.nanoseconds;
    record_.ctime = ctime.seconds, record_.ctime_ns = ctime.nanoseconds;
    record_.mode = format_ | PermissionsOfGoMode(static_cast<uint32_t>(Number(kMode, UINT32_MAX, 0)));
    record_.uid = static_cast<uint32_t>(Number(kUid, UINT32_MAX, kNobody));
    record_.gid = static_cast<uint32_t>(Number(kGid, UINT32_MAX, kNobody));
    // The number of subdirectories is not known here, and 1 tells find and fts not to count on it.
    const uint64_t links = format_ == S_IFDIR ? 1 : Number(kLinks, UINT64_MAX, 1);
    record_.nlink = static_cast<uint32_t>(std::clamp<uint64_t>(links, 1, UINT32_MAX));
    if (!Absent(kError) && fields_[kError] != "\"\"") record_flags_ |= kRowDamaged;
  }

  bool TakeData() {
    switch (format_) {
      case S_IFREG: return TakeContent();
      case S_IFDIR: TakeSubtree(); return true;
      case S_IFLNK: return TakeTarget();
      case S_IFBLK: case S_IFCHR:
        if (!EncodeDevice(Number(kDevice, UINT64_MAX, 0), &record_.rdev)) record_flags_ |= kRowDamaged;
        return true;
      default: return true;
    }
  }

  // An id less would put the rest of the file in a wrong place, so one bad id or an impossible size takes the whole file away.
  bool TakeContent() {
    if (!Absent(kSize) && (!DecodeUnsigned(fields_[kSize], &record_.size) || record_.size > INT64_MAX)) return false;
    record_.data_offset = static_cast<uint32_t>(heap_.size());
    const Id& zero = IdOfZeroChunk();
    uint64_t holes = 0;
    if (!Absent(kContent)) {
      JsonReader ids(fields_[kContent]);
      const bool read = ids.ReadArray([&] {
        std::string_view raw;
        Id id;
        if (!ids.ReadString(&raw) || !ReadId(raw, &id)) return false;
        heap_.insert(heap_.end(), id.begin(), id.end());
        if (id == zero) holes++;
        record_.data_count++;
        return true;
      });
      if (!read) return false;
    }
    if (record_.size > 0 && record_.data_count == 0) record_flags_ |= kRowDamaged;
    const uint64_t blocks = record_.size / 512 + (record_.size % 512 != 0 ? 1 : 0);
    record_.blocks = blocks - std::min(blocks, holes * (kZeroChunk / 512));
    return true;
  }

  void TakeSubtree() {
    record_.size = 4096;
    record_.blocks = 8;
    Id id;
    if (!ReadId(fields_[kSubtree], &id)) {
      record_flags_ |= kRowDamaged;
      return;
    }
    record_.data_offset = static_cast<uint32_t>(heap_.size());
    record_.data_count = 1;
    heap_.insert(heap_.end(), id.begin(), id.end());
  }

  bool TakeTarget() {
    const size_t start = heap_.size();
    bool raw = false;
    if (!Absent(kLinkTargetRaw)) {
      const Text base64(fields_[kLinkTargetRaw]);
      raw = base64 && DecodeBase64(base64.view(), &heap_);
      if (!raw) {
        heap_.resize(start);
        record_flags_ |= kRowDamaged;
      }
    }
    if (!raw) {
      const Text target(fields_[kLinkTarget]);
      heap_.insert(heap_.end(), target.view().begin(), target.view().end());
    }
    // The kernel reads a target up to its first NUL, and lstat must give the same length.
    const size_t length = static_cast<size_t>(std::find(heap_.begin() + static_cast<ptrdiff_t>(start), heap_.end(), 0) - heap_.begin()) - start;
    if (length == 0 || start + length != heap_.size()) record_flags_ |= kRowDamaged;
    heap_.resize(start + length);
    if (length > kMaxTarget) return false;
    record_.data_offset = static_cast<uint32_t>(start);
    record_.data_count = static_cast<uint32_t>(length);
    record_.size = length;
    return true;
  }

  void TakeXattrs() {
    if (Absent(kXattrs)) return;
    const size_t start = heap_.size();
    std::unordered_set<std::string> seen;
    size_t names = 0;
    JsonReader list(fields_[kXattrs]);
    const bool read = list.ReadArray([&] {
      std::string_view raw_name, raw_value;
      if (list.Peek() != '{') {
        record_flags_ |= kRowDamaged;
        return list.ReadValue(&raw_name);
      }
      const bool object = list.ReadObject([&](std::string_view key) {
        const Text text(key);
        std::string_view other;
        return list.ReadValue(text.view() == "name" ? &raw_name : text.view() == "value" ? &raw_value : &other);
      });
      if (!object || !AddXattr(raw_name, raw_value, &names, &seen)) record_flags_ |= kRowDamaged;
      return object;
    });
    if (!read) record_flags_ |= kRowDamaged;
    if (heap_.size() == start) return;
    record_.xattr_offset = static_cast<uint32_t>(start);
    record_.xattr_length = static_cast<uint32_t>(heap_.size() - start);
    record_.flags |= kRowXattr;
  }

  // False for an attribute that Linux could not hold; it is left out.
  bool AddXattr(std::string_view raw_name, std::string_view raw_value, size_t* names, std::unordered_set<std::string>* seen) {
    const Text name(raw_name);
    const size_t length = name.view().size();
    if (!name || length == 0 || length > kMaxName || name.view().find('\0') != std::string_view::npos) return false;
    const std::string key(name.view());
    if (*names + length + 1 > kMaxXattrNames || seen->contains(key)) return false;
    const size_t start = heap_.size();
    heap_.resize(start + 6);
    heap_.insert(heap_.end(), name.view().begin(), name.view().end());
    const size_t value_start = heap_.size();
    if (!raw_value.empty() && raw_value != "null") {
      const Text base64(raw_value);
      if (!base64 || !DecodeBase64(base64.view(), &heap_) || heap_.size() - value_start > kMaxXattrValue) {
        heap_.resize(start);
        return false;
      }
    }
    uint8_t* lengths = heap_.data() + start;
    Put(&lengths, static_cast<uint16_t>(length));
    Put(&lengths, static_cast<uint32_t>(heap_.size() - value_start));
    *names += length + 1;
    seen->insert(key);
    flags_ |= kRowsXattr;
    if (name.view() == "system.posix_acl_access" || name.view() == "system.posix_acl_default") flags_ |= kRowsAcl;
    if (name.view() == "security.selinux") flags_ |= kRowsSelinux;
    return true;
  }

  // The ino of src/format/tree-rows.ts.
  void NumberNode() {
    if (format_ == S_IFDIR) return;
    const uint64_t inode = Number(kInode, UINT64_MAX, 0);
    const uint64_t device = Number(kDeviceId, UINT64_MAX, 0);
    if (inode == 0) {
      SHA256_CTX sha;
      SHA256_Init(&sha);
      SHA256_Update(&sha, tree_id_, kIdLength);
      SHA256_Update(&sha, name_.data(), name_.size());
      record_.ino = InoOfDigest(&sha);
    } else {
      const size_t count = format_ == S_IFREG ? record_.data_count : 0;
      record_.ino = InoOfNode(device, inode, format_, record_, heap_.data() + record_.data_offset, count * kIdLength);
    }
  }

  std::string_view NameOf(const Record& record) const {
    return {reinterpret_cast<const char*>(heap_.data()) + record.name_offset, record.name_length};
  }

  // Ascending without duplicates; of two nodes with one name the first stays.
  void Order() {
    const auto ascending = [this](const Record& a, const Record& b) { return NameOf(a) < NameOf(b); };
    const auto not_ascending = [&](const Record& a, const Record& b) { return !ascending(a, b); };
    if (std::adjacent_find(records_.begin(), records_.end(), not_ascending) == records_.end()) return;
    std::stable_sort(records_.begin(), records_.end(), ascending);
    const size_t before = records_.size();
    const auto same = [this](const Record& a, const Record& b) { return NameOf(a) == NameOf(b); };
    records_.erase(std::unique(records_.begin(), records_.end(), same), records_.end());
    skipped_ += static_cast<uint32_t>(before - records_.size());
  }

  const uint8_t* tree_id_;
  std::vector<Record> records_;
  std::vector<uint8_t> heap_;
  std::unique_ptr<Id> replacement_;
  uint32_t skipped_ = 0;
  uint32_t flags_ = 0;
  bool too_big_ = false;

  // The node being read.
  std::array<std::string_view, kFields> fields_;
  Record record_;
  std::string_view name_;
  std::string unquoted_;
  uint32_t format_ = 0;
  uint16_t record_flags_ = 0;
  bool replaced_ = false;
};

bool TreeBuilder::Finish(RowsBuffer* rows) {
  Order();
  const size_t heap_start = kRowsHeader + records_.size() * kRowsRecord;
  const size_t replacement_length = replacement_ ? kIdLength : 0;
  rows->size = heap_start + heap_.size() + replacement_length;
  rows->data.reset(static_cast<uint8_t*>(malloc(rows->size)));
  if (rows->data == nullptr) return false;

  RowsHeader header{};
  header.count = static_cast<uint32_t>(records_.size());
  header.flags = flags_;
  header.skipped = skipped_;
  const uint32_t shift = static_cast<uint32_t>(heap_start);
  for (Record& record : records_) {
    record.name_offset += shift;
    if (record.data_count > 0) record.data_offset += shift;
    if (record.data_count == 0) record.data_offset = 0;
    if (record.xattr_length > 0) record.xattr_offset += shift;
    if (record.IsDirectory()) record.ordinal = header.directories++;
  }
  if (replacement_) {
    header.replacement = static_cast<uint32_t>(heap_start + heap_.size());
    memcpy(rows->data.get() + header.replacement, replacement_->data(), kIdLength);
  }
  memcpy(rows->data.get(), &header, sizeof header);
  if (!records_.empty()) memcpy(rows->data.get() + kRowsHeader, records_.data(), records_.size() * kRowsRecord);
  if (!heap_.empty()) memcpy(rows->data.get() + heap_start, heap_.data(), heap_.size());
  SealRows(rows->data.get(), rows->size);
  return true;
}

}  // namespace

TreeResult TreeToRows(const uint8_t* id, const uint8_t* json, size_t length, RowsBuffer* rows) {
  if (length > kMaxJson) return TreeResult::kMemory;
  try {
    TreeBuilder builder(id, length);
    JsonReader reader({reinterpret_cast<const char*>(json), length});
    if (!builder.ReadTree(&reader)) return builder.too_big() ? TreeResult::kMemory : TreeResult::kTree;
    return builder.Finish(rows) ? TreeResult::kOk : TreeResult::kMemory;
  } catch (const std::bad_alloc&) {
    return TreeResult::kMemory;
  }
}

}  // namespace daybook
