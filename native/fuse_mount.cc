#include "fuse_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <mutex>
#include <string_view>

extern char** environ;

namespace daybook {
namespace {

struct Descriptor {
  int fd = -1;
  Descriptor() = default;
  explicit Descriptor(int number) : fd(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { Close(); }
  void Close() {
    if (fd >= 0) close(fd);
    fd = -1;
  }
  int Release() {
    int number = fd;
    fd = -1;
    return number;
  }
};

[[noreturn]] void Fail(int error, const std::string& what) { throw MountError{error, what + ": " + strerror(error)}; }

struct FlagOption {
  std::string_view name;
  unsigned long flag;
  bool on;
};
constexpr FlagOption kFlags[] = {
    {"rw", MS_RDONLY, false},     {"ro", MS_RDONLY, true},       {"suid", MS_NOSUID, false},         {"nosuid", MS_NOSUID, true},
    {"dev", MS_NODEV, false},     {"nodev", MS_NODEV, true},     {"exec", MS_NOEXEC, false},         {"noexec", MS_NOEXEC, true},
    {"atime", MS_NOATIME, false}, {"noatime", MS_NOATIME, true}, {"nodiratime", MS_NODIRATIME, true}, {"relatime", MS_RELATIME, true},
};

// Octal escapes of /proc/self/mountinfo: space, tab, newline and backslash.
std::string Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// What is mounted on top at `path`. Not stat(2): it would ask the file system, which this thread serves.
bool DeviceAt(const std::string& path, unsigned* major, unsigned* minor) {
  std::ifstream table("/proc/self/mountinfo");
  bool found = false;
  for (std::string line; std::getline(table, line);) {
    // id parent major:minor root mountpoint options ...
    size_t field[6] = {0};
    size_t at = 0;
    for (int i = 0; i < 5 && at != std::string::npos; i++) {
      at = line.find(' ', at);
      if (at != std::string::npos) field[i + 1] = ++at;
    }
    if (at == std::string::npos) continue;
    if (Unescape(std::string_view(line).substr(field[4], field[5] - field[4] - 1)) != path) continue;
    if (sscanf(line.c_str() + field[2], "%u:%u", major, minor) == 2) found = true;  // later lines are mounted over earlier ones
  }
  return found;
}

// Run fusermount3. Returns its exit code (128 + signal), with what it printed in `said`; -errno if it could not be started.
int RunHelper(std::vector<std::string> arguments, int command_socket, std::string* said) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
  Descriptor out(ends[0]), in(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
  posix_spawn_file_actions_adddup2(&actions, 0, 1);
  posix_spawn_file_actions_adddup2(&actions, in.fd, 2);
  if (command_socket >= 0) posix_spawn_file_actions_adddup2(&actions, command_socket, 3);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);

  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::vector<char*> envp;
  char descriptor[] = "_FUSE_COMMFD=3";
  char language[] = "LC_ALL=C";  // the message is turned into an errno below
  for (char** variable = environ; *variable; variable++) {
    if (strncmp(*variable, "_FUSE_COMMFD=", 13) != 0 && strncmp(*variable, "LC_ALL=", 7) != 0) envp.push_back(*variable);
  }
  if (command_socket >= 0) envp.push_back(descriptor);
  envp.push_back(language);
  envp.push_back(nullptr);

  pid_t pid;
  int failure = posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  in.Close();
  if (failure != 0) return -failure;

  // The helper sends the descriptor before it exits, the socket buffers it, and stderr is closed at exit: so read until then.
  char text[512];
  for (ssize_t n; (n = read(out.fd, text, sizeof text)) > 0 || (n < 0 && errno == EINTR);) {
    if (n > 0 && said->size() < 4096) said->append(text, static_cast<size_t>(n));
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  while (!said->empty() && said->back() == '\n') said->pop_back();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int ReceiveDescriptor(int socket) {
  char byte;
  iovec part = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n;
  do n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  cmsghdr* header = n > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int))) return -1;
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

int MountThroughHelper(const std::string& path, const std::vector<std::string>& options) {
  std::string joined;
  for (const std::string& option : options) {
    if (!joined.empty()) joined += ',';
    for (char c : option) {
      if (c == ',' || c == '\\') joined += '\\';
      joined += c;
    }
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) Fail(errno, "socketpair");
  Descriptor ours(ends[0]), theirs(ends[1]);
  std::string said;
  int code = RunHelper({"fusermount3", "-o", joined, "--", path}, theirs.fd, &said);
  theirs.Close();
  if (code < 0) throw MountError{-code, std::string("fusermount3 cannot be run: ") + strerror(-code)};
  int fd = ReceiveDescriptor(ours.fd);
  if (fd >= 0) return fd;
  // It reports no number, only strerror's words at the end of its message.
  int error = EPERM;
  for (int candidate : {EACCES, ENOENT, ENOTDIR, ENODEV, EBUSY, EINVAL, ENOTCONN, ENOMEM, ELOOP, ENAMETOOLONG}) {
    if (said.ends_with(strerror(candidate))) error = candidate;
  }
  throw MountError{error, said.empty() ? "fusermount3 ended with code " + std::to_string(code) : said};
}

// -1 with errno EPERM: not allowed here, the helper may be.
int MountDirectly(const std::string& path, const struct stat& root, const std::vector<std::string>& options) {
  Descriptor device(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (device.fd < 0) {
    if (errno == EACCES || errno == EPERM) return errno = EPERM, -1;
    Fail(errno, "/dev/fuse");
  }
  char start[128];
  snprintf(start, sizeof start, "fd=%d,rootmode=%o,user_id=%u,group_id=%u", device.fd, root.st_mode & S_IFMT, getuid(), getgid());
  std::string data = start, source = "daybook", type = "fuse";
  unsigned long flags = MS_NOSUID | MS_NODEV;
  for (const std::string& option : options) {
    bool known = false;
    for (const FlagOption& entry : kFlags) {
      if (entry.name != option) continue;
      flags = entry.on ? flags | entry.flag : flags & ~entry.flag;
      known = true;
    }
    if (known) continue;
    if (option.starts_with("fsname=")) source = option.substr(7);
    else if (option.starts_with("subtype=")) type = "fuse." + option.substr(8);
    else data += "," + option;
  }
  if (mount(source.c_str(), path.c_str(), type.c_str(), flags, data.c_str()) != 0) {
    if (errno == EPERM) return -1;
    Fail(errno, path);
  }
  return device.Release();
}

// Mounts of this process. process.exit() on the main thread runs no cleanup hooks of the environment, only atexit handlers.
std::mutex live_mutex;
std::vector<MountPoint>& Live() {
  static auto* live = new std::vector<MountPoint>;  // never destroyed, as threads may outlive static objects
  return *live;
}

void Detach(const MountPoint& mount_point) {
  unsigned major, minor;
  if (!DeviceAt(mount_point.path, &major, &minor) || major != mount_point.major || minor != mount_point.minor) return;
  if (umount2(mount_point.path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno != EPERM) return;
  std::string said;
  RunHelper({"fusermount3", "-u", "-q", "-z", "--", mount_point.path}, -1, &said);
}

void DetachAll() {
  std::lock_guard lock(live_mutex);
  for (const MountPoint& mount_point : Live()) {
    close(mount_point.fd);  // ends the connection; see Unmount()
    Detach(mount_point);
  }
  Live().clear();
}

}  // namespace

MountPoint Mount(const std::string& path, const std::vector<std::string>& options) {
  MountPoint result;
  char canonical[PATH_MAX];
  if (!realpath(path.c_str(), canonical)) Fail(errno, path);
  result.path = canonical;
  struct stat root;
  if (stat(canonical, &root) != 0) Fail(errno, path);
  result.fd = MountDirectly(result.path, root, options);
  if (result.fd < 0) result.fd = MountThroughHelper(result.path, options);
  if (!DeviceAt(result.path, &result.major, &result.minor)) {
    close(result.fd);
    umount2(canonical, MNT_DETACH | UMOUNT_NOFOLLOW);
    Fail(EIO, path + ": not in /proc/self/mountinfo");
  }
  static const int registered = atexit(DetachAll);
  (void)registered;
  std::lock_guard lock(live_mutex);
  Live().push_back(result);
  return result;
}

void Unmount(const MountPoint& mount_point) {
  {
    std::lock_guard lock(live_mutex);
    std::erase_if(Live(), [&](const MountPoint& live) { return live.major == mount_point.major && live.minor == mount_point.minor; });
  }
  Detach(mount_point);
}

}  // namespace daybook
