#include "host/os/sha256.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "host/error.h"
#include "host/os/posix_io.h"

namespace mnist {
namespace {

void check(bool ok) {
  if (!ok) throw Error(ExitCode::kInternal, "OpenSSL cannot compute SHA-256");
}

}  // namespace

void Sha256::Free::operator()(EVP_MD_CTX* context) const {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  check(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}

void Sha256::update(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

std::string Sha256::hex() {
  std::array<unsigned char, 32> digest;
  check(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1);
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

std::string file_sha256(const std::filesystem::path& path) {
  const auto check_read = [&](bool ok) {
    if (!ok)
      throw Error(ExitCode::kIoError,
                  fmt::format("cannot read back {}: {}", path.string(), why_unreadable(errno)));
  };
  const FileDescriptor file(
      uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  check_read(bool(file));
  Sha256 sha;
  std::vector<std::byte> buffer(1 << 16);
  for (;;) {
    const ssize_t got =
        uninterrupted([&] { return ::read(file.get(), buffer.data(), buffer.size()); });
    check_read(got >= 0);
    if (got == 0) return sha.hex();
    sha.update(std::span(buffer).first(size_t(got)));
  }
}

}  // namespace mnist
