// Which requests are answered: those of people at this machine, and of their own pages.
#pragma once

#include <httplib.h>

#include <cstddef>
#include <optional>
#include <string>

namespace mnist {

struct Refusal {
  int status;
  std::string error;  // what is wrong, and what to do about it
};

// Any web page can send requests to 127.0.0.1 from the browser of whoever looks at it. The names
// in the Host header keep out pages whose own name leads here (DNS rebinding); Origin,
// Sec-Fetch-Site and Content-Type those that post across origins.
class RequestRules {
 public:
  // `host`, a name or an address, is what the server listens on.
  RequestRules(std::string host, int port);

  // Whether the Host header names this server: "localhost", a loopback address or `host`, with the
  // port. Where `host` means every address of this machine, any address does, but no name.
  std::optional<Refusal> refuse_host(const httplib::Request& request) const;

  // Whether the request brings a picture as the page does, of at most `max_bytes`.
  static std::optional<Refusal> refuse_upload(const httplib::Request& request, size_t max_bytes);

 private:
  bool names_this_server(std::string name) const;

  std::string host_;
  int port_;
};

// "127.0.0.1:8080", "[::1]:8080"
std::string authority(const std::string& host, int port);

}  // namespace mnist
