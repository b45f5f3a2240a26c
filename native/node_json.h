// Trees as restic writes them: the fields of its internal/data/node.go in their order, left out where Go's omitempty leaves them out.
#pragma once
#include <string>

#include "scan.h"

namespace daybook {

// Pool thread or JS thread. Entries in the order of their names; those without a place in a tree (left out, sockets, directories without subtree) are passed over.
std::string TreeJson(const ScanData& data);

}  // namespace daybook
