// Fetching one file from the first of several mirrors that delivers it whole.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace mnist {

// Takes one line of text for the user.
using Message = std::function<void(const std::string&)>;
// Bytes so far and in all (0: unknown) of the file being fetched; false cancels.
using DownloadProgress = std::function<bool(const std::string& file, int64_t done, int64_t total)>;

struct Download {
  std::string file;                  // its name, appended to each mirror's URL
  std::vector<std::string> mirrors;  // URLs that end in '/', tried in order
  int64_t max_bytes = 0;             // a mirror that sends more is given up
  long connect_seconds = 15;         // longest wait for a connection
  long stall_seconds = 20;           // longest time below 1 kB/s
};

// Throws Error if the bytes are not the file that is wanted.
using AcceptBytes = std::function<void(std::span<const uint8_t>)>;

// The file's bytes, once `accept` has passed them. HTTPS only, redirects included; plain HTTP is
// left to mirrors on this machine (127.0.0.1, [::1], localhost). A transfer that breaks off is
// continued at the next mirror. Nothing touches the disk. One `message` per mirror that failed.
// Throws Error: kUsage (a URL of another kind), kUnavailable (no mirror had the file),
// kInterrupted (`progress` said false).
std::vector<uint8_t> download(const Download& wanted, const AcceptBytes& accept,
                              const Message& message, const DownloadProgress& progress);

// `known`, or the space-separated URLs of the environment variable CUDA_MNIST_MIRRORS instead.
std::vector<std::string> choose_mirrors(const std::vector<std::string>& known);

}  // namespace mnist
