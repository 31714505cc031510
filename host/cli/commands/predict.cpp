// The predict command: the digits that pictures show.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "host/cli/commands/commands.h"
#include "host/cli/parser.h"
#include "host/cli/picture_list.h"
#include "host/cli/picture_text.h"
#include "host/cli/setup.h"
#include "host/data/pictures/picture_digits.h"
#include "host/os/atomic_file.h"
#include "host/os/file_bytes.h"
#include "host/recognition/reading_json.h"
#include "host/recognition/recognizer.h"

namespace mnist::cli {
namespace {

namespace fs = std::filesystem;

constexpr Word<Ink> kInverted[] = {{"auto", Ink::kAuto}, {"yes", Ink::kLight}, {"no", Ink::kDark}};

struct PredictOptions {
  FindOptions find;
  std::string annotate, save_digits;  // "": neither
  bool show = false, json = false;
};

// Where the annotated pictures go.
class AnnotatedPlace {
 public:
  // Throws Error(kUsage or kCannotCreate).
  AnnotatedPlace(const fs::path& out, bool several) : out_(out) {
    if (out.empty()) return;
    several_ = several || fs::is_directory(out);
    if (several_) {
      make_directory(out);
      return;
    }
    if (out.extension() != ".png")
      throw Error(
          ExitCode::kUsage,
          fmt::format("--annotate {}: the file is a PNG; let its name end in .png", out.string()));
    check_writable(out);
  }
  std::optional<fs::path> of(const ListedPicture& picture) const {
    if (out_.empty()) return {};
    return several_ ? out_ / (picture.stem + ".png") : out_;
  }

 private:
  fs::path out_;
  bool several_ = false;
};

std::vector<PictureLabel> labels(const PictureReading& reading) {
  std::vector<PictureLabel> labels;
  for (const Reading& digit : reading.digits)
    labels.push_back(
        {digit.box, fmt::format("{}{}", digit.digit, digit.unsure ? "?" : ""), digit.unsure});
  return labels;
}

// What `work` gives; its errors speak of the picture.
auto about(const ListedPicture& picture, const auto& work) try {
  return work();
} catch (const Error& error) {
  throw Error(error.code(), fmt::format("{}: {}", picture.name, error.what()));
}

}  // namespace

ExitCode run_predict(int argc, char** argv, Results& results) {
  Parser parser("predict",
                "Read the handwritten digits in pictures: PNG, JPEG, GIF, WebP, TIFF, BMP, PNM.",
                {"cuda-mnist predict seven.jpg", "cuda-mnist predict --json scans/",
                 "cuda-mnist predict page.png --annotate page-read.png --show"});
  std::string model = "mnist.h5";
  std::vector<std::string> arguments;
  PredictOptions options;
  DeviceOptions device;
  parser.add_option("IMAGE", arguments, "Picture files; directories of them; - for standard input")
      ->required()
      ->type_name("")
      ->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  parser.add_option("--model", model, "Model file")->type_name("FILE.h5")->capture_default_str();
  parser.add("--invert", options.find.ink, one_of(kInverted),
             "Light ink on something dark (chalk); auto: the picture decides");
  parser.add_flag("--single", options.find.single,
                  "The picture shows exactly one digit, however many strokes it has");
  parser
      .add_option("--annotate", options.annotate,
                  "Draw what was read on a copy; for several: a directory")
      ->type_name("OUT.png");
  parser
      .add_option("--save-digits", options.save_digits,
                  "Save each digit as the network saw it, 28x28 pixels")
      ->type_name("DIR");
  CLI::Option* show =
      parser.add_flag("--show", options.show, "Print each digit as the network saw it");
  add_device_options(parser, device);
  add_backend_option(parser, device);
  add_math_option(parser, device);
  add_json_flag(parser, options.json, "A JSON list with one object per picture");
  parser.get_option("--json")->excludes(show);
  if (!parser.parse(argc, argv, results)) return ExitCode::kOk;

  const ModelFile file = load_digit_model(model);
  const PictureList list = list_pictures(arguments);
  const AnnotatedPlace annotated(options.annotate, list.several);
  if (!options.save_digits.empty()) make_directory(options.save_digits);
  PictureWriter writer(list);
  Recognizer recognizer(inference_engine(file, choose_target(device), device));

  Json answers = Json::array();
  const auto answer = [&](const ListedPicture& picture) {
    const std::vector<uint8_t> bytes = read_stream_bytes(picture.name, kMaxPictureBytes);
    const PictureReading reading = about(picture, [&] {
      PictureReading read = recognizer.read(find_picture_digits(bytes, options.find));
      if (options.find.single && read.digits.empty())
        throw Error(ExitCode::kBadInput, "no digit: " + read.why_none);
      return read;
    });
    if (options.json) {
      Json object = {{"file", picture.name}};
      object.update(reading_json(reading));
      answers.push_back(std::move(object));
    } else {
      results.text(reading_text(picture.name, reading));
      if (options.show) results.text(images_text(reading));
    }
    if (const auto place = annotated.of(picture))
      writer.write(*place,
                   about(picture, [&] { return annotate_picture(bytes, labels(reading)); }));
    if (!options.save_digits.empty())
      for (size_t i = 0; i < reading.digits.size(); ++i)
        writer.write(
            fs::path(options.save_digits) / fmt::format("{}-{:02}.png", picture.stem, i + 1),
            png_of_digit(reading.digits[i].image));
  };

  ExitCode worst = ExitCode::kOk;
  const auto failed = [&](ExitCode code, const std::string& why) {
    message("cuda-mnist: " + visible(why));
    worst = std::max(worst, code);
  };
  for (const std::string& problem : list.problems) failed(ExitCode::kMissingInput, problem);
  for (const ListedPicture& picture : list.pictures) {
    try {
      answer(picture);
    } catch (const Error& error) {  // the other pictures are still worth doing
      failed(error.code(), error.what());
    }
  }
  if (options.json) results.json(answers);
  return worst;
}

}  // namespace mnist::cli
