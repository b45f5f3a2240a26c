// Mounting and unmounting, apart from libfuse: its own functions report no errno, print to stderr, and let fusermount3 print there too.
#pragma once
#include <string>
#include <vector>

namespace daybook {

struct MountPoint {
  int fd = -1;        // of /dev/fuse, close-on-exec
  std::string path;   // canonical
  unsigned major = 0; // st_dev of what is mounted
  unsigned minor = 0;
};

struct MountError {
  int error;            // errno
  std::string message;  // what the kernel or fusermount3 said
};

// Mount a new FUSE connection on `path`: by mount(2) where that is allowed, else through fusermount3. `options` as behind -o, one each,
// commas in values allowed. The file system is not asked anything, so this may run on the thread that serves it. Throws MountError.
MountPoint Mount(const std::string& path, const std::vector<std::string>& options);

// Detach it (MNT_DETACH, or fusermount3 -u -z), unless something else is mounted there by now or nothing is.
// The descriptor must be closed before: fusermount3 may look at the mount, and this thread could not answer it.
// What is still mounted when the process exits is taken away then.
void Unmount(const MountPoint& mount_point);

}  // namespace daybook
