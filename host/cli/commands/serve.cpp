// The serve command: a page to draw digits on, at an address of this machine.
#include <fmt/format.h>

#include <cstdlib>
#include <string>

#include "host/cli/commands/commands.h"
#include "host/cli/parser.h"
#include "host/cli/setup.h"
#include "host/cli/signals.h"
#include "host/recognition/recognizer.h"
#include "host/serve/server.h"

namespace mnist::cli {

ExitCode run_serve(int argc, char** argv, Results& results) {
  Parser parser("serve", "A page to draw digits on, for the browser on this machine.",
                {"cuda-mnist serve", "cuda-mnist serve --model run1.h5 --report report.html",
                 "cuda-mnist serve --port 8080"});
  std::string model = "mnist.h5", report;
  ServeOptions options;
  DeviceOptions device;
  bool json = false;
  parser.add_option("--model", model, "Model file")->type_name("FILE.h5")->capture_default_str();
  parser.add_option("--report", report, "A report to show beside it, read anew at each look")
      ->type_name("FILE.html");
  parser.add("--port", options.port, whole_number(1, 65535), "Port")
      ->default_str("one that is free");
  parser
      .add_option("--host", options.host,
                  "Address to listen on; 0.0.0.0: all of them, for others too")
      ->type_name("ADDRESS")
      ->capture_default_str();
  add_device_options(parser, device);
  add_backend_option(parser, device);
  add_math_option(parser, device);
  add_json_flag(parser, json, "The address as a JSON object");
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const StopSignals signals;
  const ModelFile file = load_digit_model(model);
  Recognizer recognizer(inference_engine(file, choose_target(device), device));
  options.model = model;
  options.report = report;
  Server server(recognizer, options);

  if (!is_loopback(options.host))
    message(
        fmt::format("Warning: whoever can reach {} can use this server{}; nothing is encrypted. "
                    "Without --host only this machine can.",
                    options.host, report.empty() ? "" : " and see the report"));
  if (json) {
    results.json({{"url", server.url()}, {"model", model}, {"device", recognizer.device().name}});
  } else {
    results.text(server.url() + "\n");
  }
  message("Ctrl-C ends it.");
  const bool idle = server.run([] { return StopSignals::received() != 0; });
  if (!idle) std::_Exit(int(StopSignals::exit_code()));  // nothing is lost with that picture
  return StopSignals::exit_code();
}

}  // namespace mnist::cli
