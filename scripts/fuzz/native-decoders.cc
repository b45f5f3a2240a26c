// Mutates trees, rows, index files and sealed blobs and feeds them to the addon's decoders, to be run under sanitizers (native-decoders.sh).
// usage: native-decoders ROUNDS SEED FILE...   the files are tree JSON
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "../../native/blob_codec.h"
#include "../../native/index_json.h"
#include "../../native/tree_json.h"
#include "../../native/tree_rows.h"

using namespace daybook;
using Bytes = std::vector<uint8_t>;

static std::mt19937_64 random_bits;
static size_t Below(size_t limit) { return limit == 0 ? 0 : random_bits() % limit; }

static uint8_t SomeByte() {
  static const char kTelling[] = "\"\\{}[],:0123456789-+.eEunfrtTZ/ \n";
  return random_bits() % 10 < 7 ? static_cast<uint8_t>(kTelling[Below(sizeof kTelling)]) : static_cast<uint8_t>(random_bits());
}

static Bytes Mutate(Bytes bytes) {
  for (size_t times = 1 + Below(4); times > 0; times--) {
    const size_t at = Below(bytes.size() + 1);
    const size_t length = std::min(bytes.size() - at, 1 + Below(random_bits() % 2 ? 4 : 200));
    const auto place = bytes.begin() + static_cast<ptrdiff_t>(at);
    const Bytes range(place, place + static_cast<ptrdiff_t>(length));
    switch (Below(6)) {
      case 0: if (at < bytes.size()) bytes[at] = SomeByte(); break;
      case 1: if (at < bytes.size()) bytes[at] ^= static_cast<uint8_t>(1 << Below(8)); break;
      case 2: bytes.erase(place, place + static_cast<ptrdiff_t>(length)); break;
      case 3: bytes.insert(place, range.begin(), range.end()); break;
      case 4: bytes.insert(place, SomeByte()); break;
      default: if (random_bits() % 10 == 0) bytes.resize(at); else bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(Below(bytes.size() + 1)), range.begin(), range.end());
    }
  }
  return bytes;
}

// A copy that ends where its memory ends, so that a read behind it is seen.
struct Exact {
  explicit Exact(const Bytes& bytes) : data(static_cast<uint8_t*>(malloc(bytes.size() + (bytes.empty() ? 1 : 0)))), size(bytes.size()) {
    if (size > 0) memcpy(data, bytes.data(), size);
  }
  ~Exact() { free(data); }
  uint8_t* data;
  size_t size;
};

static uint64_t sink = 0;

static void ReadRows(const uint8_t* data, size_t size) {
  const auto view = RowsView::Parse(data, size);
  if (!view) return;
  for (uint32_t position = 0; position < std::min<uint32_t>(view->count() + 1, 5000); position++) {
    const Record record = view->At(position);
    for (const std::string_view part : {view->Name(record), view->Target(record), view->Subtree(record), view->Content(record), view->Xattrs(record)}) {
      for (const char byte : part) sink += static_cast<uint8_t>(byte);
    }
    struct stat stat;
    FillStat(record, &stat, nullptr);
    sink += static_cast<uint64_t>(stat.st_size) + DirectoryIno(record.ino, position);
  }
  sink += static_cast<uint64_t>(view->Find("name")) + view->ChecksumFits();
}

static std::string SomeIndex() {
  std::string json = "{\"supersedes\":[\"x\"],\"packs\":[";
  char text[256];
  const auto id = [](unsigned number) { return std::string(62, 'a') + "0123456789abcdef"[number / 16 % 16] + "0123456789abcdef"[number % 16]; };
  for (unsigned pack = 0; pack < 3; pack++) {
    if (pack == 2) json += "],\"packs_to_delete\":[";
    json += std::string(pack == 1 ? "," : "") + "{\"id\":\"" + id(pack) + "\",\"blobs\":[";
    for (unsigned blob = 0; blob < 4; blob++) {
      snprintf(text, sizeof text, "%s{\"id\":\"%s\",\"type\":\"%s\",\"offset\":%u,\"length\":%u,\"uncompressed_length\":%u}", blob > 0 ? "," : "",
               id(static_cast<unsigned>(random_bits() % 256)).c_str(), blob % 3 == 0 ? "tr\\u0065e" : "data", blob * 100, 100 + blob, blob * 7);
      json += text;
    }
    json += "]}";
  }
  return json + "]}";
}

// What is found must be in order and within its counts.
static bool IsSound(const IndexRecords& index) {
  if (index.to_delete.size() != index.packs.size() || index.trees > index.blobs.size()) return false;
  for (size_t i = 0; i < index.blobs.size(); i++) {
    const IndexRecord& blob = index.blobs[i];
    if (blob.type != (i < index.trees ? 1u : 0u) || blob.pack >= index.packs.size() || blob.length < kCryptoOverhead || !(blob.offset >= 0)) return false;
    if (i > 0 && i != index.trees && memcmp(index.blobs[i - 1].id, blob.id, kIdLength) > 0) return false;
  }
  return true;
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const size_t rounds = strtoull(argv[1], nullptr, 10);
  random_bits.seed(strtoull(argv[2], nullptr, 10));
  std::vector<Bytes> trees;
  for (int i = 3; i < argc; i++) {
    std::ifstream file(argv[i], std::ios::binary);
    trees.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  const uint8_t id[kIdLength] = {1, 2, 3};
  uint8_t keys[kKeysLength];
  for (size_t i = 0; i < kKeysLength; i++) keys[i] = static_cast<uint8_t>(i * 7);
  size_t understood = 0, indexes = 0;
  for (size_t round = 0; round < rounds; round++) {
    const Bytes& tree = trees[Below(trees.size())];
    const Exact json(Mutate(tree));
    RowsBuffer rows;
    if (TreeToRows(id, json.data, json.size, &rows) == TreeResult::kOk) {
      understood++;
      const auto view = RowsView::Parse(rows.data.get(), rows.size);
      if (!view || !view->ChecksumFits()) return fprintf(stderr, "unsound rows in round %zu\n", round), 1;
      for (uint32_t position = 0; position < view->count(); position++) {
        if (view->Name(position).empty() || (position > 0 && !(view->Name(position - 1) < view->Name(position)))) return fprintf(stderr, "bad order in round %zu\n", round), 1;
      }
      Bytes damaged(rows.data.get(), rows.data.get() + rows.size);
      damaged = Mutate(damaged);
      if (round % 4 != 0) damaged.resize(rows.size);
      const Exact exact(damaged);
      ReadRows(exact.data, exact.size);
    }
    const std::string index = SomeIndex();
    const Exact index_json(Mutate(Bytes(index.begin(), index.end())));
    size_t fault = SIZE_MAX;
    if (const auto records = DecodeIndex(index_json.data, index_json.size, &fault)) {
      indexes++;
      if (!IsSound(*records)) return fprintf(stderr, "unsound index in round %zu\n", round), 1;
    } else if (fault > index_json.size) {
      return fprintf(stderr, "a fault outside of the index in round %zu\n", round), 1;
    }
    // A good MAC over a mutated frame, and a mutated MAC.
    static const uint8_t kFrame[] = {2, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 80, 1 | 8 << 3, 0, 0, 'd', 'a', 'y', 'b', 'o', 'o', 'k', '!'};
    Bytes plain(kFrame, kFrame + sizeof kFrame);
    if (round % 2) plain = Mutate(plain);
    Bytes sealed(plain.size() + kCryptoOverhead);
    if (!Encrypt(keys, plain.data(), plain.size(), sealed.data())) return 1;
    const bool touched = round % 3 == 0;
    const Bytes whole = sealed;
    if (touched) sealed = Mutate(sealed);
    const Exact stored(sealed);
    std::shared_ptr<Chunk> opened;
    const DecodeError error = DecryptFile(keys, stored.data, stored.size, true, 100000, &opened);
    if (touched && sealed != whole && error == DecodeError::kNone) return fprintf(stderr, "a forgery passed in round %zu\n", round), 1;
    if (error == DecodeError::kNone) sink += opened->size;
    DecodeBlob(keys, stored.data, stored.size, static_cast<uint32_t>(Below(3) * 100), id, &opened);
  }
  printf("%zu rounds, %zu trees and %zu index files understood, %llu\n", rounds, understood, indexes, static_cast<unsigned long long>(sink & 1));
}
