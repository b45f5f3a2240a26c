{
  "targets": [{
    "target_name": "daybook",
    "sources": [
      "native/binding.cc", "native/blob.cc", "native/blob_codec.cc", "native/tree_rows.cc", "native/tree_json.cc", "native/index_json.cc",
      "native/chunker.cc", "native/blob_encoder.cc", "native/pieces.cc", "native/scan.cc", "native/file_stream.cc", "native/node_json.cc",
      "native/session.cc", "native/notifier.cc", "native/fuse_mount.cc", "native/posix.cc", "native/read_ranges.cc"
    ],
    "include_dirs": ["<!@(node -p \"require('node-addon-api').include\")"],
    "cflags!": ["-fno-exceptions"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti"],
    "cflags_cc": ["-std=c++20", "-O3", "-Wall", "-Wextra", "-fexceptions", "<!@(pkg-config --cflags fuse3 libzstd)"],
    "libraries": ["<!@(pkg-config --libs fuse3 libzstd)"],
    "defines": ["NAPI_VERSION=9", "FUSE_USE_VERSION=314", "_FILE_OFFSET_BITS=64", "NODE_ADDON_API_CPP_EXCEPTIONS"]
  }, {
    "target_name": "daybook-guard",
    "type": "executable",
    "product_extension": "",
    "sources": ["native/guard.cc"],
    "cflags_cc": ["-std=c++20", "-Wall", "-Wextra"],
    "ldflags": ["-Wl,--as-needed"]
  }]
}
