// A program of its own: lets everybody go who waits for a daybook process that was killed.
//
// A thread that pushes into the page cache sleeps uninterruptibly on a page whose READ is unanswered. Killed in that moment, the process keeps that
// thread, and with it the descriptor of /dev/fuse: the kernel waits for an answer, the thread for the kernel, readers for both, for ever.
// Only an abort from outside ends it. This process gives it as soon as its parent's main thread is dead.
//
//   daybook-guard PARENT    A child of PARENT's main thread. Standard input: lines "add N" and "remove N", N a connection (the minor of st_dev).
//                           Ends with the parent; or with its input, when no connection is held. SIGKILL alone ends it earlier.
//   daybook-guard --check   Exits with 0 if connections can be aborted from here.
//
// It holds neither the mounts nor their connections. libc alone, and no memory to speak of: it is there once for each process that mounts.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace {

constexpr long kFusectlMagic = 0x65735543;  // FUSE_CTL_SUPER_MAGIC
constexpr int kFsconfigCreate = 6;          // FSCONFIG_CMD_CREATE

struct Connection {
  unsigned long number;
  // Belongs to this connection only, not to the next one of its number: written to afterwards, nothing happens.
  int abort;
};
Connection* held = nullptr;  // oldest first
size_t count = 0;

// The directory of connections, -1 without. Where nobody mounted fusectl, root sees it through a mount of its own, which is in nobody's tree.
// By number, as glibc has these since 2.36 only; the kernel since 5.2.
int OpenConnections() {
  int directory = open("/sys/fs/fuse/connections", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct statfs found;
  if (directory >= 0 && fstatfs(directory, &found) == 0 && found.f_type == kFusectlMagic) return directory;
  if (directory >= 0) close(directory);
  directory = -1;
#ifdef SYS_fsopen
  int context = static_cast<int>(syscall(SYS_fsopen, "fusectl", 1 /* FSOPEN_CLOEXEC */));
  if (context < 0) return -1;
  if (syscall(SYS_fsconfig, context, kFsconfigCreate, nullptr, nullptr, 0) == 0) {
    directory = static_cast<int>(syscall(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, 0));
  }
  close(context);
#endif
  return directory;
}

void Add(unsigned long number) {
  int directory = OpenConnections();
  if (directory < 0) return;
  char name[32];
  snprintf(name, sizeof name, "%lu/abort", number);
  int file = openat(directory, name, O_WRONLY | O_CLOEXEC);
  close(directory);
  if (file < 0) return;
  auto* more = static_cast<Connection*>(realloc(held, (count + 1) * sizeof *held));
  if (!more) abort();
  held = more;
  held[count++] = {number, file};
}

// The oldest of that number: the kernel may have given it away again before the parent took notice.
void Remove(unsigned long number) {
  for (size_t i = 0; i < count; i++) {
    if (held[i].number != number) continue;
    close(held[i].abort);
    memmove(held + i, held + i + 1, (--count - i) * sizeof *held);
    return;
  }
}

void Obey(const char* line) {
  unsigned long number;
  if (sscanf(line, "add %lu", &number) == 1) Add(number);
  else if (sscanf(line, "remove %lu", &number) == 1) Remove(number);
}

// false: the input is at its end
bool ReadOrders() {
  static char line[64];
  static size_t length = 0;
  char bytes[4096];
  ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
  for (ssize_t i = 0; i < n; i++) {
    if (bytes[i] == '\n') {
      line[length] = 0;
      Obey(line);
      length = 0;
    } else if (length < sizeof line - 1) {
      line[length++] = bytes[i];
    }
  }
  return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

// Another thread that outlives the main one would go on being the parent; the dead one is then a zombie.
bool IsGone(pid_t parent) {
  if (getppid() != parent) return true;
  char text[512];
  snprintf(text, sizeof text, "/proc/%d/stat", static_cast<int>(parent));
  int file = open(text, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;  // hidden (hidepid)
  ssize_t n = read(file, text, sizeof text - 1);
  close(file);
  text[n > 0 ? n : 0] = 0;
  const char* name_end = strrchr(text, ')');
  return name_end && name_end[1] == ' ' && strchr("ZX", name_end[2]);
}

void CloseInherited() {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, 3, ~0U, 0) == 0) return;
#endif
  for (int fd = 3; fd < 1024; fd++) close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  if (strcmp(argv[1], "--check") == 0) return OpenConnections() >= 0 ? 0 : 1;
  const pid_t parent = atoi(argv[1]);

  // What ends the parent in an orderly way (a service manager's SIGTERM, a terminal's SIGHUP) must not end its guard before it.
  sigset_t all, one;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  CloseInherited();
  if (chdir("/") != 0) return 1;
  const int parent_died = SIGRTMAX;  // nobody sends it
  sigemptyset(&one);
  sigaddset(&one, parent_died);
  const int signals = signalfd(-1, &one, SFD_CLOEXEC);
  // Sent when the thread that forked dies, whatever becomes of the others.
  if (signals < 0 || prctl(PR_SET_PDEATHSIG, parent_died) != 0) return 1;

  bool gone = IsGone(parent);  // before prctl, nobody said so
  bool ended = false;
  while (true) {
    pollfd watched[] = {{ended ? -1 : STDIN_FILENO, POLLIN, 0}, {signals, POLLIN, 0}};
    if (poll(watched, 2, gone ? 0 : -1) < 0) continue;
    // All that the parent still said comes before its end.
    if (watched[0].revents) ended = !ReadOrders();
    else if (gone) break;
    else if (watched[1].revents) {
      signalfd_siginfo info;
      if (read(signals, &info, sizeof info) == sizeof info) gone = info.ssi_pid == static_cast<uint32_t>(parent) || IsGone(parent);
    }
    if (ended && count == 0) return 0;
  }
  int code = 0;
  for (size_t i = 0; i < count; i++) {
    if (write(held[i].abort, "1", 1) != 1) code = 1;
  }
  return code;
}
