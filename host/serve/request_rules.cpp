#include "host/serve/request_rules.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <cstdint>
#include <utility>

#include "host/os/file_bytes.h"
#include "host/serve/server.h"
#include "host/text.h"

namespace mnist {
namespace {

bool is_ip4(const std::string& text) {
  in_addr address;
  return ::inet_pton(AF_INET, text.c_str(), &address) == 1;
}

bool is_ip6(const std::string& text) {
  in6_addr address;
  return ::inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

bool is_every_address(const std::string& host) {
  in6_addr address;
  return host == "0.0.0.0" ||
         (::inet_pton(AF_INET6, host.c_str(), &address) == 1 && IN6_IS_ADDR_UNSPECIFIED(&address));
}

// HTTP's names are ASCII.
std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  return text;
}

// The value of a header that may be there once; nothing if it is not there.
std::optional<std::string> value(const httplib::Request& request, const char* name) {
  if (!request.has_header(name)) return std::nullopt;
  return request.get_header_value(name);
}

}  // namespace

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || (is_ip4(host) && host.starts_with("127."));
}

std::string authority(const std::string& host, int port) {
  return is_ip6(host) ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

RequestRules::RequestRules(std::string host, int port)
    : host_(lower_case(std::move(host))), port_(port) {}

bool RequestRules::names_this_server(std::string name) const {
  const std::string port = fmt::format(":{}", port_);
  if (name.ends_with(port)) {
    name.resize(name.size() - port.size());
  } else if (port_ != 80) {
    return false;
  }
  const bool bracketed = name.starts_with('[') && name.ends_with(']');
  if (bracketed) name = name.substr(1, name.size() - 2);
  if (bracketed != is_ip6(name)) return false;
  if (name == host_ || name == "localhost" || name == "127.0.0.1" || name == "::1") return true;
  return is_every_address(host_) && (is_ip4(name) || is_ip6(name));
}

std::optional<Refusal> RequestRules::refuse_host(const httplib::Request& request) const {
  if (request.get_header_value_count("Host") != 1)
    return Refusal{400, "The request needs one Host header."};
  if (names_this_server(lower_case(request.get_header_value("Host")))) return std::nullopt;
  if (is_every_address(host_))
    return Refusal{421, fmt::format("This server answers to addresses in numbers alone. Open it by "
                                    "this machine's, with :{} after it.",
                                    port_)};
  return Refusal{421, fmt::format("This server answers as {} alone. Open it by that address; "
                                  "--host and --port choose another.",
                                  authority(host_, port_))};
}

std::optional<Refusal> RequestRules::refuse_upload(const httplib::Request& request,
                                                   size_t max_bytes) {
  const auto origin = value(request, "Origin"), site = value(request, "Sec-Fetch-Site");
  const std::string own = "http://" + request.get_header_value("Host");
  if ((origin && lower_case(*origin) != lower_case(own)) || (site && *site != "same-origin"))
    return Refusal{403, "Pages of other origins may not use this server."};

  const auto type = value(request, "Content-Type");
  if (!type || !(type->starts_with("image/") || *type == "application/octet-stream"))
    return Refusal{415, "Send the bytes of a picture file as application/octet-stream or image/*."};
  if (value(request, "Content-Encoding"))
    return Refusal{415, "Send the picture's bytes as they are, without a Content-Encoding."};

  const auto length = value(request, "Content-Length");
  if (value(request, "Transfer-Encoding") || !length)
    return Refusal{411, "Send the picture in one piece, with a Content-Length."};
  const auto bytes = parse_number<uint64_t>(*length);
  if (request.get_header_value_count("Content-Length") != 1 || !bytes || *bytes == 0)
    return Refusal{400, "The Content-Length must be the picture's number of bytes."};
  if (*bytes > max_bytes)
    return Refusal{413, fmt::format("The picture has {}; at most {} are read. Save it smaller.",
                                    describe_size(*bytes), describe_size(max_bytes))};
  return std::nullopt;
}

}  // namespace mnist
