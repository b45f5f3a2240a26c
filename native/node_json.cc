#include "node_json.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <mutex>
#include <unordered_map>

#include "go_json.h"

namespace daybook {
namespace {

// Go's os.FileMode, which is not st_mode.
uint32_t GoMode(mode_t mode) {
  uint32_t result = mode & 0777;
  switch (mode & S_IFMT) {
    case S_IFDIR: result |= 1u << 31; break;
    case S_IFLNK: result |= 1u << 27; break;
    case S_IFBLK: result |= 1u << 26; break;
    case S_IFCHR: result |= 1u << 26 | 1u << 21; break;
    case S_IFIFO: result |= 1u << 25; break;
    default: break;
  }
  if (mode & S_ISUID) result |= 1u << 23;
  if (mode & S_ISGID) result |= 1u << 22;
  if (mode & S_ISVTX) result |= 1u << 20;
  return result;
}

const char* TypeOf(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "dir";
    case S_IFLNK: return "symlink";
    case S_IFBLK: return "dev";
    case S_IFCHR: return "chardev";
    case S_IFIFO: return "fifo";
    default: return nullptr;
  }
}

// Names of users and groups, asked for once: behind them may be a directory service.
class AccountNames {
 public:
  static AccountNames& Get() {
    static AccountNames* names = new AccountNames;
    return *names;
  }
  std::string User(uid_t uid) {
    return Look(&users_, uid, [uid](char* buffer, size_t size, std::string* name) {
      struct passwd entry, *found = nullptr;
      const int error = getpwuid_r(uid, &entry, buffer, size, &found);
      if (found != nullptr) *name = found->pw_name;
      return error;
    });
  }
  std::string Group(gid_t gid) {
    return Look(&groups_, gid, [gid](char* buffer, size_t size, std::string* name) {
      struct group entry, *found = nullptr;
      const int error = getgrgid_r(gid, &entry, buffer, size, &found);
      if (found != nullptr) *name = found->gr_name;
      return error;
    });
  }

 private:
  template <typename Ask>
  std::string Look(std::unordered_map<uint32_t, std::string>* known, uint32_t id, Ask ask) {
    {
      std::lock_guard lock(mutex_);
      const auto found = known->find(id);
      if (found != known->end()) return found->second;
    }
    std::string name;
    std::string buffer(4096, '\0');
    while (ask(buffer.data(), buffer.size(), &name) == ERANGE && buffer.size() < (1 << 20)) buffer.resize(buffer.size() * 4);
    std::lock_guard lock(mutex_);
    (*known)[id] = name;
    return name;
  }

  std::mutex mutex_;
  std::unordered_map<uint32_t, std::string> users_, groups_;
};

void AppendField(const char* name, uint64_t value, std::string* out) {
  *out += name;
  *out += std::to_string(value);
}

void AppendXattrs(const std::vector<ScanXattr>& xattrs, std::string* out) {
  *out += ",\"extended_attributes\":[";
  for (size_t i = 0; i < xattrs.size(); i++) {
    *out += i == 0 ? "{\"name\":" : ",{\"name\":";
    AppendJsonString(xattrs[i].name, out);
    *out += ",\"value\":";
    if (xattrs[i].null) *out += "null";
    else AppendBase64(xattrs[i].value, out);
    *out += '}';
  }
  *out += ']';
}

void AppendNode(const ScanEntry& entry, const char* type, std::string* out) {
  const struct stat& stat = entry.stat;
  const mode_t format = stat.st_mode & S_IFMT;
  std::string quoted;
  AppendQuoted(entry.name, &quoted);
  *out += "{\"name\":";
  AppendJsonString(quoted, out);
  *out += ",\"type\":\"";
  *out += type;
  *out += '"';
  const uint32_t mode = GoMode(stat.st_mode);
  if (mode != 0) AppendField(",\"mode\":", mode, out);
  const auto mtime_ns = static_cast<uint32_t>(stat.st_mtim.tv_nsec);
  *out += ",\"mtime\":";
  AppendTime(stat.st_mtim.tv_sec, mtime_ns, out);
  // restic does not record when a file was last read unless told to: each reading would make a new tree.
  *out += ",\"atime\":";
  AppendTime(stat.st_mtim.tv_sec, mtime_ns, out);
  *out += ",\"ctime\":";
  AppendTime(stat.st_ctim.tv_sec, static_cast<uint32_t>(stat.st_ctim.tv_nsec), out);
  AppendField(",\"uid\":", stat.st_uid, out);
  AppendField(",\"gid\":", stat.st_gid, out);
  const std::string user = AccountNames::Get().User(stat.st_uid);
  const std::string group = AccountNames::Get().Group(stat.st_gid);
  if (!user.empty()) *out += ",\"user\":", AppendJsonString(user, out);
  if (!group.empty()) *out += ",\"group\":", AppendJsonString(group, out);
  if (stat.st_ino != 0) AppendField(",\"inode\":", stat.st_ino, out);
  if (stat.st_dev != 0) AppendField(",\"device_id\":", stat.st_dev, out);
  if (format == S_IFREG && stat.st_size != 0) AppendField(",\"size\":", static_cast<uint64_t>(stat.st_size), out);
  const bool counts_links = format == S_IFREG || format == S_IFLNK || format == S_IFBLK || format == S_IFCHR;
  if (counts_links && stat.st_nlink != 0) AppendField(",\"links\":", stat.st_nlink, out);
  if (!entry.target.empty()) {
    *out += ",\"linktarget\":";
    AppendJsonString(entry.target, out);
    if (!IsUtf8(entry.target)) {
      *out += ",\"linktarget_raw\":";
      AppendBase64(entry.target, out);
    }
  }
  if (!entry.xattrs.empty()) AppendXattrs(entry.xattrs, out);
  if ((format == S_IFBLK || format == S_IFCHR) && stat.st_rdev != 0) AppendField(",\"device\":", stat.st_rdev, out);
  *out += ",\"content\":";
  if (format == S_IFREG) {
    *out += '[';
    for (size_t at = 0; at + kIdLength <= entry.content.size(); at += kIdLength) {
      if (at > 0) *out += ',';
      AppendId(entry.content.data() + at, out);
    }
    *out += ']';
  } else {
    *out += "null";
  }
  if (entry.has_subtree) {
    *out += ",\"subtree\":";
    AppendId(entry.subtree.data(), out);
  }
  *out += '}';
}

}  // namespace

std::string TreeJson(const ScanData& data) {
  std::string json = "{\"nodes\":[";
  bool first = true;
  for (const ScanEntry& entry : data.entries) {
    const char* const type = TypeOf(entry.stat.st_mode);
    if (entry.left_out || type == nullptr || ((entry.stat.st_mode & S_IFMT) == S_IFDIR && !entry.has_subtree)) continue;
    if (!first) json += ',';
    first = false;
    AppendNode(entry, type, &json);
  }
  // What Go's encoder ends each value with.
  return json += "]}\n";
}

}  // namespace daybook
