// SHA-256 by OpenSSL's EVP interface.
#include "host/os/sha256.h"

#include <openssl/evp.h>

#include "host/error.h"

namespace mnist {
namespace {

void check(int result) {
  if (result != 1) throw Error(ExitCode::kInternal, "OpenSSL cannot compute SHA-256");
}

}  // namespace

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  check(context_->md != nullptr);
  check(EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr));
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(context_->md, bytes.data(), bytes.size()));
}

std::string Sha256::hex() {
  unsigned char digest[32];
  unsigned int length = 0;
  check(EVP_DigestFinal_ex(context_->md, digest, &length));
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  Sha256 sha;
  sha.update(bytes);
  return sha.hex();
}

}  // namespace mnist
