// Rows: a directory in compact form. The layout is documented in src/format/tree-rows.ts. Everything here may be called on any thread
// and with any bytes: a damaged offset gives an empty answer, never a read out of bounds.
#pragma once
#include <sys/stat.h>
#include <sys/types.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace Napi {
class Env;
class Object;
}  // namespace Napi

namespace daybook {

static_assert(std::endian::native == std::endian::little, "rows are read in place");

constexpr uint32_t kRowsMagic = 0x31524244;
constexpr size_t kRowsHeader = 64;
constexpr size_t kRowsRecord = 112;
constexpr size_t kIdLength = 32;
constexpr uint32_t kNoOrdinal = 0xffffffff;

// Header flags (RowsFlag in tree-rows.ts).
constexpr uint32_t kRowsXattr = 1, kRowsAcl = 2, kRowsSelinux = 4;
// Record flags (RowFlag in tree-rows.ts).
constexpr uint16_t kRowDirectory = 1, kRowXattr = 2, kRowSymlink = 4, kRowRegular = 8, kRowDamaged = 16;

struct RowsHeader {
  uint32_t magic, total;
  uint64_t checksum;
  uint32_t count, directories, flags, skipped, replacement, reserved[7];
};
static_assert(sizeof(RowsHeader) == kRowsHeader);

struct Record {
  uint64_t ino, size, blocks;
  int64_t mtime, atime, ctime;
  uint32_t mtime_ns, atime_ns, ctime_ns;
  uint32_t mode, nlink, uid, gid, rdev;
  uint32_t name_offset;
  uint16_t name_length, flags;
  uint32_t ordinal;
  uint32_t data_offset, data_count;
  uint32_t xattr_offset, xattr_length;
  uint32_t reserved;

  bool IsDirectory() const { return flags & kRowDirectory; }
  bool HasXattrs() const { return flags & kRowXattr; }
};
static_assert(sizeof(Record) == kRowsRecord);

// Does not own its bytes, which need no alignment.
class RowsView {
 public:
  // Nothing if the header does not describe exactly `size` bytes with room for its records. The checksum is not looked at.
  static std::optional<RowsView> Parse(const void* data, size_t size);

  uint32_t count() const { return header_.count; }
  uint32_t directories() const { return header_.directories; }
  uint32_t flags() const { return header_.flags; }
  const RowsHeader& header() const { return header_; }

  // All zeros if position is not below count().
  Record At(uint32_t position) const;
  // Empty if out of bounds; callers leave out entries without a name.
  std::string_view Name(const Record& record) const { return Slice(record.name_offset, record.name_length); }
  std::string_view Name(uint32_t position) const { return Name(At(position)); }
  std::string_view Target(const Record& record) const;
  std::string_view Subtree(const Record& record) const;
  // A multiple of 32 bytes.
  std::string_view Content(const Record& record) const;
  std::string_view Xattrs(const Record& record) const { return Slice(record.xattr_offset, record.xattr_length); }
  // Position of a name by binary search, -1 if absent.
  int64_t Find(std::string_view name) const;
  bool ChecksumFits() const;

 private:
  RowsView(const uint8_t* data, const RowsHeader& header) : data_(data), header_(header) {}
  std::string_view Slice(uint64_t offset, uint64_t length) const;

  const uint8_t* data_;
  RowsHeader header_;
};

// What the checksum field holds: a hash of everything behind byte 16. Not cryptographic: it finds damage, not intent.
uint64_t HashRows(const void* rows, size_t size);
// Writes magic, total and checksum into rows of at least kRowsHeader bytes.
void SealRows(void* rows, size_t size);

struct Owner {
  uid_t uid;
  gid_t gid;
};
// Everything of struct stat that a row knows; st_dev is 0. `owner`, where given, is shown instead of the row's.
void FillStat(const Record& record, struct stat* stat, const Owner* owner);

// Inode number of the directory at `position` of the directory whose number is `parent`: a hash of the parent above 20 bits of position,
// so it ascends with the position as long as there are fewer than 2^20 entries. Never 0 or 1.
uint64_t DirectoryIno(uint64_t parent, uint32_t position);

// JS thread.
void RegisterTreeRows(Napi::Env env, Napi::Object exports);

}  // namespace daybook
